"""What a fit to a table knows of its columns, and what rows are given that: NumPy alone, no program to compile.

A value is a part of its column's own plus the product of K functions of the row and K of the column, plus noise. With
the columns' functions held as they are believed to be, a row's are normal given what is observed of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from probtensor.engines.sweep import State
from probtensor.errors import ModelError
from probtensor.likelihoods.gaussian import BoundGaussian
from probtensor.priors.base import Belief
from probtensor.priors.categorical import Categorical
from probtensor.terms.base import AbstractBoundTerm, Block, Sum
from probtensor.terms.cp import CP
from probtensor.terms.offset import BoundOffset, Offset
from probtensor.typing import Bool, Float

#: The modes of a table.
ROW, COLUMN = "row", "column"
#: Numbers in the matrices of some rows at a time, about.
_AT_ONCE = 2**22


class Part(NamedTuple):
    """Of p columns: means (p,) of what does not depend on the row, and (p, K) of the functions that rows are read with.

    offset_variance: (p,); spread: (p, K, K) covariances of those functions; mean, variance: (K,) of a row's functions
    before anything is observed of it.
    """

    offset: Float[np.ndarray, "p"]
    offset_variance: Float[np.ndarray, "p"]
    loading: Float[np.ndarray, "p K"]
    spread: Float[np.ndarray, "p K K"]
    mean: Float[np.ndarray, "K"]
    variance: Float[np.ndarray, "K"]


class Columns(NamedTuple):
    """All parts together, as in `Part`, with the (p,) variances of the noise and what an observation counts for."""

    part: Part
    noise: Float[np.ndarray, "p"]
    power: float = 1.0

    def rows(
        self, values: Float[np.ndarray, "n p"]
    ) -> Iterator[tuple[slice, Float[np.ndarray, "m K"], Float[np.ndarray, "m K K"]]]:
        """Mean and covariance of the functions of some rows after the other, given what is not NaN of each.

        With a for the column's functions, weights w = power / noise and prior N(m, V), the precision is
        V^-1 + sum of w E[a a'] and the mean that times V^-1 m + sum of w (y - offset) E[a].
        """
        part = self.part
        p, K = part.loading.shape
        second = (part.spread + part.loading[:, :, None] * part.loading[:, None, :]).reshape(p, K * K)
        step = max(_AT_ONCE // max(K * K, p, 1), 1)
        for begin in range(0, len(values), step):
            some = slice(begin, begin + step)
            seen = np.isfinite(values[some])
            weights = np.where(seen, self.power / self.noise, 0.0)
            residual = np.where(seen, values[some] - part.offset, 0.0)
            precision = (weights @ second).reshape(len(seen), K, K) + np.diag(1 / part.variance)
            cov = np.linalg.inv(precision)
            eta = (weights * residual) @ part.loading + part.mean / part.variance
            yield some, np.einsum("nkl,nl->nk", cov, eta), 0.5 * (cov + np.swapaxes(cov, 1, 2))

    def predict(self, values: Float[np.ndarray, "n p"]) -> tuple[Float[np.ndarray, "n p"], Float[np.ndarray, "n p"]]:
        """Mean and variance of a new value, noise included, in each place of rows of which some values are known."""
        part = self.part
        mean, variance = np.empty(values.shape), np.empty(values.shape)
        for some, own, cov in self.rows(values):
            mean[some] = part.offset + own @ part.loading.T
            second = cov + own[:, :, None] * own[:, None, :]
            # E[u' S u] + a' C a for a row's u ~ (own, cov) and a column's functions ~ (a, S): no part is negative.
            within = np.einsum("nkl,pkl->np", second, part.spread) + np.einsum(
                "pk,nkl,pl->np", part.loading, cov, part.loading, optimize=True
            )
            variance[some] = part.offset_variance + np.maximum(within, 0.0) + self.noise
        return mean, variance

    def draw(self, values: Float[np.ndarray, "n p"], random: np.random.RandomState) -> Float[np.ndarray, "n p"]:
        """Values in all places, drawn jointly: the columns' functions are drawn once, and each row's, and noise."""
        part = self.part
        p, K = part.loading.shape
        offset = part.offset + np.sqrt(part.offset_variance) * random.standard_normal(p)
        loading = part.loading + np.einsum("pkl,pl->pk", _root(part.spread), random.standard_normal((p, K)))
        out = np.empty(values.shape)
        for some, own, cov in self.rows(values):
            functions = own + np.einsum("nkl,nl->nk", _root(cov), random.standard_normal(own.shape))
            out[some] = offset + functions @ loading.T
        return out + np.sqrt(self.noise) * random.standard_normal(values.shape)


def _root(cov: Float[np.ndarray, "m K K"]) -> Float[np.ndarray, "m K K"]:
    """A root of each covariance, which may be singular."""
    values, vectors = np.linalg.eigh(cov)
    return vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]


def independent(mean: Float[np.ndarray, "p"], variance: Float[np.ndarray, "p"]) -> Columns:
    """Columns that tell nothing of each other."""
    p = len(mean)
    nothing = np.zeros((p, 0))
    return Columns(Part(mean, np.zeros(p), nothing, np.zeros((p, 0, 0)), np.zeros(0), np.zeros(0)), variance)


def refuse(model: Sum) -> None:
    """Raises ModelError for a model in which rows are not exchangeable, or say nothing of new ones."""
    for term in model.terms:
        if isinstance(term, Offset):
            if ROW in term.over and COLUMN in term.over:
                raise ModelError("Imputer: an Offset over rows and columns says nothing of new rows; write pt.CP(rank)")
        elif not isinstance(term, CP):
            raise ModelError(f"Imputer: {type(term).__name__} has no place in its model, a sum of Offset and CP")
        else:
            declared = dict(term.modes or ())
            joined = [name for name in declared if name not in (ROW, COLUMN, ...)]
            if joined:
                raise ModelError(f"Imputer: a table has the modes 'row' and 'column', and no {joined[0]!r}")
            prior = declared.get(ROW, declared.get(...))
            if prior is not None and not (isinstance(prior, Categorical) and prior.covariance == "independent"):
                raise ModelError(
                    f"Imputer: rows are exchangeable, and {type(prior).__name__}(...) is no prior for them; use "
                    "pt.Categorical() for mode 'row', or None"
                )


def columns_of(state: State, number: int) -> Columns:
    """What a fit of a model that `refuse` lets pass says of so many columns."""
    likelihood = state.model.likelihood
    assert isinstance(likelihood, BoundGaussian)
    sd = likelihood.sd if likelihood.own is None else likelihood.own
    parts = [_part(term, own, number) for term, own in zip(state.model.terms, state.beliefs, strict=True)]
    noise = np.broadcast_to(np.asarray(sd.value) ** 2, number).copy()
    return Columns(_together(parts, number), noise, float(state.power))


def _part(term: AbstractBoundTerm, beliefs: tuple[Belief, ...], p: int) -> Part:
    """What one term adds."""
    names = term.over if isinstance(term, BoundOffset) else getattr(term, "names", ())
    own = dict(zip(names, zip(term.blocks, beliefs, strict=True), strict=True)) if names else {}
    K = beliefs[0].mean.shape[1]
    mean, cov = np.ones((p, K)), np.zeros((p, K, K))
    if COLUMN in own:
        mean, cov = _moments(own[COLUMN][1])
    elif not names:
        mean, cov = (np.broadcast_to(one, (p, *one.shape[1:])) for one in _moments(beliefs[0]))
    if ROW in own:
        return Part(np.zeros(p), np.zeros(p), mean, cov, *_prior(own[ROW][0], K))
    return independent(mean.sum(axis=1), np.zeros(p)).part._replace(offset_variance=cov.sum(axis=(1, 2)))


def _moments(belief: Belief) -> tuple[Float[np.ndarray, "p K"], Float[np.ndarray, "p K K"]]:
    return np.asarray(belief.mean, dtype=float), np.asarray(belief.cov, dtype=float)


def _prior(block: Block, K: int) -> tuple[Float[np.ndarray, "K"], Float[np.ndarray, "K"]]:
    """Mean and variance of a new row's functions."""
    prior = block.prior
    assert isinstance(prior, Categorical)
    mean = np.zeros(K) if prior.mean is None else np.broadcast_to(np.asarray(prior.mean, float), K)
    return mean, np.broadcast_to(np.asarray(prior.variance.value, float), K)


def _together(parts: list[Part], p: int) -> Part:
    """The sum of independent parts."""
    widths = np.cumsum([0, *(part.loading.shape[1] for part in parts)])
    spread = np.zeros((p, widths[-1], widths[-1]))
    for part, start, stop in zip(parts, widths[:-1], widths[1:], strict=True):
        spread[:, start:stop, start:stop] = part.spread
    return Part(
        np.sum([part.offset for part in parts], axis=0),
        np.sum([part.offset_variance for part in parts], axis=0),
        np.concatenate([part.loading for part in parts], axis=1),
        spread,
        np.concatenate([part.mean for part in parts]),
        np.concatenate([part.variance for part in parts]),
    )


def seen_moments(values: Float[np.ndarray, "n p"], seen: Bool[np.ndarray, "n p"]) -> Float[np.ndarray, "2 p"]:
    """Mean and standard deviation of what is seen of each column, without overflow; each has something."""
    size = np.maximum(np.max(np.abs(np.where(seen, values, 0.0)), axis=0), np.finfo(float).tiny)
    scaled = np.where(seen, values / size, 0.0)
    count = seen.sum(axis=0)
    mean = scaled.sum(axis=0) / count
    sd = np.sqrt(np.sum(np.where(seen, scaled - mean, 0.0) ** 2, axis=0) / count)
    return np.stack([size * mean, size * sd])
