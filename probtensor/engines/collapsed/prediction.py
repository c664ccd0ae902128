"""The signal of a model with a local term: the other terms' draws, and the local term given what each leaves over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse
from scipy.sparse.linalg import spsolve_triangular

from probtensor.compilation import compiled
from probtensor.engines.collapsed.contrasts import weights
from probtensor.engines.collapsed.entries import coordinates
from probtensor.engines.collapsed.fit import Local, summed
from probtensor.engines.collapsed.signal import Terms, Values, total
from probtensor.kernels.field import AbstractFieldKernel
from probtensor.model import BoundModel
from probtensor.nearest import search
from probtensor.nearest.conditionals import Entries, condition
from probtensor.observations.domain import Domain
from probtensor.priors.base import Sites
from probtensor.terms.base import AbstractBoundTerm, Block
from probtensor.typing import Array, Float, Int, Key

#: Neighbours of a place to predict at, as a multiple of those of a training entry.
_MORE = 1.5
#: Precision of function values that are known, relative to that of the prior's typical values.
_PINNED = 1e8


class Moments(NamedTuple):
    """Mean and variance at each entry of a domain, flattened."""

    mean: Float[np.ndarray, "E"]
    variance: Float[np.ndarray, "E"]


def moments(model: BoundModel, local: Local, domain: Domain, terms: Sequence[int], known: bool, key: Key) -> Moments:
    """Mean and variance of the sum of some terms over the draws, and of the local term within each draw.

    Args:
        model: fitted.
        local: its local part.
        domain: where.
        terms: positions of the terms.
        known: the domain is that of the training data.
        key: of the functions at coordinates that the training data do not have.
    """
    size = int(np.prod(domain.shape))
    chosen = [kernel for place, kernel in local.kernels if place in terms]
    kriging = _kriging(local, summed(chosen), domain) if chosen else None
    number, mean, squares = 0, np.zeros(size), np.zeros(size)
    for drawn, residual in zip(_signals(model, local, domain, terms, known, key), local.residuals, strict=True):
        if kriging is not None:
            drawn = drawn + kriging.weights @ residual
        number += 1
        before = drawn - mean
        mean = mean + before / number
        squares = squares + before * (drawn - mean)
    variance = squares / max(number - 1, 1)
    return Moments(mean, variance if kriging is None else variance + kriging.variance)


def draws(model: BoundModel, local: Local, domain: Domain, key: Key, n: int) -> Float[np.ndarray, "n E"]:
    """Joint draws of the signal: those of the other terms in turn, each with a draw of the local term of its own."""
    first, second = jax.random.split(key)
    terms = tuple(range(len(model.terms)))
    signals = list(_signals(model, local, domain, terms, False, first))
    pick = np.arange(n) % len(signals)
    conditional = _joint(local, domain)
    noise = np.asarray(jax.random.normal(second, (n, conditional.sd.size)))
    right = conditional.weights @ local.residuals[pick].T + conditional.sd[:, None] * noise.T
    values = spsolve_triangular(conditional.lower, right, lower=True)
    return np.stack([signals[k] for k in pick]) + values.T[:, conditional.back]


def _signals(
    model: BoundModel, local: Local, domain: Domain, terms: Sequence[int], known: bool, key: Key
) -> Iterator[Float[np.ndarray, "E"]]:
    """The chosen terms' sum at every entry, for each draw."""
    keep = tuple(j for j, t in enumerate(model.terms) if j in terms and t.blocks)
    places = [_Placed.of(model.terms[j], domain) for j in keep] if not known else []
    for values, one in zip(local.values, jax.random.split(key, len(local.values)), strict=True):
        chosen = tuple(model.terms[j] for j in keep)
        own = tuple(values[j] for j in keep)
        if not keep:
            yield np.zeros(int(np.prod(domain.shape)))
        elif known:
            yield np.asarray(_at_training(chosen, own, domain))
        else:
            keys = jax.random.split(one, len(model.terms))  # the same functions whichever terms are asked for
            parts = zip(places, own, [keys[j] for j in keep], strict=True)
            yield np.asarray(_elsewhere(chosen, tuple(p.values(v, k) for p, v, k in parts), domain))


@compiled
def _at_training(terms: Terms, values: Values, domain: Domain) -> Array:
    return total(terms, values, domain)


@compiled
def _elsewhere(terms: Terms, values: Values, domain: Domain) -> Array:
    parts = [term.draw(own, domain) for term, own in zip(terms, values, strict=True)]
    return jnp.broadcast_to(sum(parts, start=jnp.zeros(())), domain.shape).ravel()


class _Placed(NamedTuple):
    """Where the functions of a term's blocks are needed: at levels of the training data, and at others."""

    term: AbstractBoundTerm
    levels: list[Int[np.ndarray, "M"]]
    others: list[Float[np.ndarray, "U ..."]]

    @staticmethod
    def of(term: AbstractBoundTerm, domain: Domain) -> _Placed:
        """levels: position among the block's points, or behind them among the others."""
        found = [
            _find(np.asarray(b.points), np.asarray(p))
            for b, p in zip(term.blocks, term.block_points(domain), strict=True)
        ]
        return _Placed(term, [levels for levels, _ in found], [others for _, others in found])

    def values(self, values: Sequence[Array], key: Key) -> tuple[Array, ...]:
        """A draw of the functions there, given their values at the training levels."""
        out = []
        blocks = zip(self.term.blocks, values, self.levels, self.others, strict=True)
        for (block, value, levels, others), one in zip(blocks, jax.random.split(key, len(values)), strict=True):
            if len(others):
                value = jnp.concatenate([value, _extended(block, value, jnp.asarray(others), one)])
            out.append(value[levels])
        return tuple(out)


def _find(known: np.ndarray, asked: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the asked points among the known ones, continued by those that are not known; and these."""
    rows = np.concatenate([known, asked])
    _, first, inverse = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    source = first[inverse.ravel()[len(known) :]]
    new = np.unique(source[source >= len(known)])
    position = np.where(source < len(known), source, len(known) + np.searchsorted(new, source))
    return position, rows[new]


@compiled
def _extended(block: Block, value: Float[Array, "T R"], points: Float[Array, "U ..."], key: Key) -> Float[Array, "U R"]:
    precision = _PINNED / jnp.maximum(jnp.mean(value**2), jnp.finfo(value.dtype).tiny)
    T, R = value.shape
    sites = Sites(precision * value, jnp.broadcast_to(precision * jnp.eye(R, dtype=value.dtype), (T, R, R)))
    return block.prior.sample(block.posterior(sites), points, key, 1)[0]


class _Kriging(NamedTuple):
    """The local term at places given the residuals: weights and what stays unknown."""

    weights: sparse.csr_matrix
    variance: Float[np.ndarray, "E"]


def _kriging(local: Local, kernel: AbstractFieldKernel, domain: Domain) -> _Kriging:
    """kernel: of the part that is asked for; the whole one says what the residuals are."""
    data = local.training.entries
    places = coordinates(domain, local.names, np.arange(int(np.prod(domain.shape))))
    index = _near(local, data, places)
    found = condition(local.kernel, local.noise, Entries(places, np.zeros(len(places))), data, index, kernel)
    return _Kriging(weights(found, len(data.points)), found.variance)


def _near(local: Local, data: Entries, places: np.ndarray) -> Int[np.ndarray, "E k"]:
    number = min(int(_MORE * local.neighbours), len(data.points))
    return search.around(local.kernel, local.noise, data, places, number)


class _Joint(NamedTuple):
    """The local term at distinct places, in an order: lower values = weights residual + sd noise."""

    lower: sparse.csr_matrix
    weights: sparse.csr_matrix
    sd: Float[np.ndarray, "U"]
    back: Int[np.ndarray, "E"]


def _joint(local: Local, domain: Domain) -> _Joint:
    """Each place given observed entries and the places before it: the prior's own factorisation, data first."""
    data = local.training.entries
    everywhere = coordinates(domain, local.names, np.arange(int(np.prod(domain.shape))))
    places, back = np.unique(everywhere, axis=0, return_inverse=True)
    order = np.random.default_rng(0).permutation(len(places))
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    places = places[order]
    points = np.concatenate([data.points, places])
    sources = Entries(points, np.concatenate([data.unit_noise, np.zeros(len(places))]))
    n = len(data.points)
    targets = np.arange(n, len(points))
    index = search.before(local.kernel, local.noise, sources, targets, int(_MORE * local.neighbours))
    found = condition(local.kernel, local.noise, Entries(places, np.zeros(len(places))), sources, index)
    whole = weights(found, len(points)).tocsc()
    lower = (sparse.identity(len(places), format="csr") - whole[:, n:]).tocsr()
    return _Joint(lower, whole[:, :n].tocsr(), np.sqrt(found.variance), rank[back.ravel()])
