"""Learning from place to place the covariance of fields that are alike, from what the other terms leave over.

The fields are those of an adapted kernel's own coordinates, one for each combination of the others. They count as
independent while their covariance is learned, which is so by composite likelihood where they are correlated.

How much the kernel counts beside the fields is chosen by how well gaps in one half of them are told by what the other
half teaches.

Source: Dempster et al. 1977; Kidd and Katzfuss 2022, section 2; Chen 1979 (empirical Bayes for normal covariances).
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy.linalg import lapack

from probtensor.errors import ModelError
from probtensor.kernels.adapted import Table, adapted_part, with_table
from probtensor.kernels.field import AbstractFieldKernel, covariance_matrix
from probtensor.linalg.jitter import jittered
from probtensor.nearest.conditionals import Entries
from probtensor.typing import Float, Int

#: Fields, and cells, that a covariance is learned from.
FEWEST_FIELDS, MOST_CELLS = 16, 2500
#: Weights of the prior that are tried, in fields for each field that there is; and fields that they are tried on.
_WEIGHTS, _TRIED = (0.1, 0.3, 1.0, 3.0, 10.0), 48
#: Steps of expectation and maximisation at a time, and fields looked at in each of them.
_STEPS, _FIELDS = 2, 96
#: Values at a place that the kernel's variance counts for where each place has a size of its own, and how small a share
#: of that variance may be left.
_AS_VALUES, _SMALLEST = 4.0, 0.01
#: Added to variances before they are inverted, relative to them.
_JITTER = 1e-9


class _Fields(NamedTuple):
    """Fields of n cells that are alike.

    Attributes:
        entries: places of all values.
        residuals: draws of the values minus the other terms.
        noise: variance of an entry with unit noise 1.
        cell: of each value.
        rows: of each field's values.
    """

    entries: Entries
    residuals: Float[np.ndarray, "S M"]
    noise: float
    cell: Int[np.ndarray, "M"]
    rows: list[Int[np.ndarray, "k"]]

    def second_moment(self, K: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
        """Mean over fields of the expectation of f f' given their values."""
        return np.asarray(sum(self._second_moment(K, rows) for rows in self.rows)) / len(self.rows)

    def sized(self, K: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
        """A covariance with the same correlations, and with variances that each cell's own values have."""
        square = np.mean(self.residuals**2, axis=0) - self.noise * self.entries.unit_noise
        variance, n = np.diagonal(K), len(K)
        total = _AS_VALUES * variance + np.bincount(self.cell, square, n)
        share = total / (_AS_VALUES + np.bincount(self.cell, minlength=n)) / variance
        size = np.sqrt(np.maximum(share, _SMALLEST))
        return size[:, None] * K * size

    def log_density(self, K: Float[np.ndarray, "n n"]) -> float:
        """Of the values, in nats, on average over draws."""
        return sum(self._log_density(K, rows) for rows in self.rows)

    def log_density_of_gaps(self, K: Float[np.ndarray, "n n"]) -> float:
        """Of what is not observed in the next field given the rest: gaps as the data have them. Without any, of all."""
        pairs = zip(self.rows, self.rows[1:] + self.rows[:1], strict=True)
        outside = [rows[np.isin(self.cell[rows], self.cell[other])] for rows, other in pairs]
        every = self.log_density(K)
        if sum(map(len, outside)) == sum(map(len, self.rows)):
            return every
        return every - self._replace(rows=outside).log_density(K)

    def some(self, which: Int[np.ndarray, "t"]) -> _Fields:
        """Some of them."""
        return self._replace(rows=[self.rows[t] for t in which])

    def _second_moment(self, K: Float[np.ndarray, "n n"], rows: Int[np.ndarray, "k"]) -> Float[np.ndarray, "n n"]:
        """Of one field, over draws.

        With A the covariance N + K_oo of the values, the field's covariance given them is N - N A^-1 N between observed
        cells, N A^-1 K_om between these and the others, and K_mm - K_mo A^-1 K_om between the others.
        """
        at, own = self.cell[rows], self.residuals[:, rows]
        rest = np.setdiff1d(np.arange(len(K)), at)
        inverse, unit, _ = _inverted(K[np.ix_(at, at)], self.noise * self.entries.unit_noise[rows])
        weights = inverse @ K[np.ix_(at, rest)]
        found = np.empty_like(K)
        found[np.ix_(at, at)] = np.diag(unit) - unit[:, None] * inverse * unit
        found[np.ix_(at, rest)] = unit[:, None] * weights
        found[np.ix_(rest, at)] = found[np.ix_(at, rest)].T
        found[np.ix_(rest, rest)] = K[np.ix_(rest, rest)] - K[np.ix_(rest, at)] @ weights
        mean = np.empty((len(own), len(K)))
        mean[:, at], mean[:, rest] = own - (own @ inverse) * unit, own @ weights
        return found + mean.T @ mean / len(own)

    def _log_density(self, K: Float[np.ndarray, "n n"], rows: Int[np.ndarray, "k"]) -> float:
        """Of one field's values, over draws."""
        at, own = self.cell[rows], self.residuals[:, rows]
        inverse, _, half_log_determinant = _inverted(K[np.ix_(at, at)], self.noise * self.entries.unit_noise[rows])
        square = float(np.sum((own @ inverse) * own)) / len(own)
        return -0.5 * square - half_log_determinant - 0.5 * len(rows) * float(np.log(2 * np.pi))


def adapt(
    kernel: AbstractFieldKernel, noise: float, entries: Entries, residuals: Float[np.ndarray, "S M"], seed: int
) -> AbstractFieldKernel:
    """The kernel with a table, a few steps further than the one that it has; as it is for few fields or many cells.

    Args:
        kernel: with an adapted part.
        noise: variance of an entry with unit noise 1.
        entries: places.
        residuals: draws of their values minus the other terms.
        seed: of the choice among many fields.

    Cost O(T n^3) for T fields of n cells.
    """
    own = adapted_part(kernel)
    if own is None:
        return kernel
    columns = list(own.columns)
    others = [k for k in range(entries.points.shape[1]) if k not in columns]
    cells, cell = np.unique(entries.points[:, columns], axis=0, return_inverse=True)
    field = np.unique(entries.points[:, others], axis=0, return_inverse=True)[1].ravel()
    T, n = int(field.max()) + 1, len(cells)
    if T < FEWEST_FIELDS or not 1 < n <= MOST_CELLS:
        return kernel
    points = np.repeat(entries.points[:1], n, axis=0)
    points[:, columns] = cells
    there = jnp.asarray(points)
    prior = np.array(covariance_matrix(with_table(kernel, None), there, there))
    # What the other factors have at one and the same place: the table is that of the adapted factor alone.
    first = jnp.asarray(points[:1])
    others_variance = float(prior[0, 0] / np.asarray(covariance_matrix(own.parametric(), first, first))[0, 0])
    rows = np.split(np.argsort(field, kind="stable"), np.cumsum(np.bincount(field))[:-1])
    fields, rng = _Fields(entries, residuals, noise, cell.ravel(), rows), np.random.default_rng(seed)
    if own.degree is None:
        prior = fields.sized(prior)
    if own.table is None:
        K, weight = prior, _weight(prior, fields.some(rng.permutation(T)[:_TRIED]))
    else:
        K, weight = others_variance * own.table.covariance, float(own.table.weight)
    for _ in range(_STEPS):
        moment = fields.some(rng.permutation(T)[:_FIELDS]).second_moment(K)
        K = (weight * prior + moment) / (weight + 1)
    return with_table(kernel, Table.of(cells, K / others_variance, weight))


def _weight(prior: Float[np.ndarray, "n n"], fields: _Fields) -> float:
    """The prior's weight under which what one half of the fields teaches fills gaps in the other best.

    Weights from the heaviest down, until one does not gain. The density of whole fields would be nearly all about close
    neighbours, and lets the prior count for too little across gaps.
    """
    number = len(fields.rows)
    halves = fields.some(np.arange(0, number, 2)), fields.some(np.arange(1, number, 2))
    moments = [half.second_moment(prior) for half in halves]
    best, most = _WEIGHTS[-1], -np.inf
    for weight in reversed(_WEIGHTS):
        score = 0.0
        for moment, learned_on, told in zip(moments, halves, reversed(halves), strict=True):
            K = (weight * prior + moment) / (weight + 1)
            K = (weight * prior + learned_on.second_moment(K)) / (weight + 1)
            score += told.log_density_of_gaps(K)
        if score <= most:
            break
        best, most = weight, score
    return best


def _inverted(
    among: Float[np.ndarray, "k k"], unit: Float[np.ndarray, "k"]
) -> tuple[Float[np.ndarray, "k k"], Float[np.ndarray, "k"], float]:
    """Inverse of a covariance and noise, the noise with the least jitter that will do, and half the log determinant.

    Raises ModelError if none will.
    """
    found = jittered(among, unit, _JITTER * float(np.max(np.diagonal(among), initial=0.0)))
    if found is not None:
        half_log_determinant = float(np.sum(np.log(np.diagonal(found.factor))))
        inverse = np.tril(lapack.dpotri(found.factor, lower=1, overwrite_c=1)[0])
        return inverse + np.tril(inverse, -1).T, unit + found.jitter, half_log_determinant
    raise ModelError(
        f"Local: the covariance of an adapted kernel at {len(unit)} places is not positive definite; its numbers may "
        "not be finite (see post.hyperparameters()); leave adapted() out"
    )
