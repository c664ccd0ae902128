"""The process on its whole grid given noisy values at some of it: by conjugate gradients, whose products are dense.

The system of the values' covariance is preconditioned with nearest neighbours' contrasts, which are its inverse but for
what far entries say.

Source: Wilson et al. 2020 (draws by updating those of the prior, after Matheron); Schaefer, Katzfuss and Owhadi 2021
(neighbours' factors as preconditioners).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse

from probtensor.gridded.grid import Grid, Separable
from probtensor.linalg.jitter import jittered
from probtensor.typing import Float

#: Of the residual in the preconditioner's norm, relative to the right side's; steps at most.
_TOLERANCE, _MOST = 1e-3, 200
#: A part that is the same for all rows or columns has at most so many times the variance of all else, see `_centred`.
_WIDE = 10.0
#: Added to a covariance before draws are made, relative to its variances.
_JITTER = 1e-10


class Solved(NamedTuple):
    """A solution, after how many steps, and the residual's norm relative to the right side's, the preconditioner's."""

    weights: Float[np.ndarray, "S M"]
    steps: int
    left: float


class System(NamedTuple):
    """The covariance of noisy values on a grid.

    Attributes:
        grid: where they stand.
        parts: of the function's covariance.
        noise: variance of each value's.
        contrast: (M, M) sparse L with L'L close to the inverse of the covariance.
    """

    grid: Grid
    parts: list[Separable]
    noise: Float[np.ndarray, "M"]
    contrast: sparse.csr_matrix

    def field(self, weights: Float[np.ndarray, "S M"], part: int | None = None) -> Float[np.ndarray, "S T n"]:
        """The covariance of the function, or of one part, on the whole grid with the values, times weights."""
        spread = self.grid.spread(weights)
        if part is not None:
            return self.parts[part].times(spread)
        return np.sum([own.times(spread) for own in self.parts], axis=0)

    def solve(self, right: Float[np.ndarray, "S M"]) -> Solved:
        """The covariance's inverse times values."""
        x = np.zeros_like(right)
        residual = right.copy()
        z = self._near(residual)
        p, square = z, _dot(residual, z)
        begun, steps, left = square, 0, np.inf
        while steps < _MOST and left > _TOLERANCE:
            image = self.grid.read(self.field(p)) + self.noise * p
            size = square / _positive(_dot(p, image))
            x += size * p
            residual -= size * image
            z = self._near(residual)
            after = _dot(residual, z)
            p, square = z + (after / _positive(square)) * p, after
            steps, left = steps + 1, float(np.sqrt(np.max(after / _positive(begun))))
        return Solved(x, steps, left)

    def _near(self, values: Float[np.ndarray, "S M"]) -> Float[np.ndarray, "S M"]:
        return np.asarray((self.contrast.T @ (self.contrast @ values.T)).T)


class Drawn(NamedTuple):
    """The function on a grid: its mean, for each summand S draws about what it is on average, and see `Solved.left`."""

    mean: Float[np.ndarray, "T n"]
    parts: list[Float[np.ndarray, "S T n"]]
    left: float

    @property
    def apart(self) -> Float[np.ndarray, "S T n"]:
        """Draws of the whole about its mean."""
        return np.sum(self.parts, axis=0)


def drawn(system: System, values: Float[np.ndarray, "S M"], rng: np.random.Generator) -> Drawn:
    """Posterior mean given the mean of some draws of the values, and one draw about it for each of them.

    Args:
        system: of the values.
        values: draws of them.
        rng: of the draws.
    """
    middle = values.mean(axis=0)
    system, reference = _centred(system, middle)
    centre, apart = middle - system.grid.read(reference[None]), values - middle
    prior = [_prior(part, len(values), rng) for part in system.parts]
    noise = rng.standard_normal(values.shape) * np.sqrt(system.noise)
    right = apart - system.grid.read(np.sum(prior, axis=0)) - noise
    weights, _, left = system.solve(np.concatenate([centre, right]))
    parts = [one + system.field(weights[1:], j) for j, one in enumerate(prior)]
    return Drawn(system.field(weights[:1])[0] + reference, parts, left)


def _centred(system: System, values: Float[np.ndarray, "M"]) -> tuple[System, Float[np.ndarray, "T n"]]:
    """The same for values without their means along what a part does not vary with, and these means on the grid.

    What is the same for all rows and varies far more than all else is known but for little from each column's own mean:
    about that mean it may as well vary only some times more than all else, and rounding and the solver's steps do not
    have to resolve it.
    """
    reference, grid = np.zeros(system.grid.shape), system.grid
    sizes = [part.size for part in system.parts]
    parts = list(system.parts)
    for j, part in enumerate(system.parts):
        rest = sum(sizes) - sizes[j] + float(np.mean(system.noise))
        if sizes[j] <= _WIDE * rest:
            continue
        for axis, at, along in ((0, grid.column, part.rows), (1, grid.row, part.columns)):
            number = np.bincount(at, minlength=grid.shape[1 - axis])
            if np.ptp(along) > 0 or not number.all():
                continue
            means = np.bincount(at, values - grid.read(reference[None])[0], minlength=len(number)) / number
            reference = reference + np.expand_dims(means, axis)
            parts[j] = part._replace(rows=_WIDE * rest / sizes[j] * part.rows)
            break
    return system._replace(parts=parts), reference


def _prior(part: Separable, number: int, rng: np.random.Generator) -> Float[np.ndarray, "S T n"]:
    over_rows, over_columns = _root(part.rows), _root(part.columns)
    T, n = len(over_rows), len(over_columns)
    white = rng.standard_normal((number * T, n))
    return np.matmul(over_rows, (white @ over_columns.T).reshape(number, T, n))


def _root(covariance: Float[np.ndarray, "k k"]) -> Float[np.ndarray, "k k"]:
    found = jittered(covariance, np.zeros(len(covariance)), _JITTER * float(np.max(np.diagonal(covariance))))
    assert found is not None
    return np.tril(found.factor)


def _dot(a: Float[np.ndarray, "S M"], b: Float[np.ndarray, "S M"]) -> Float[np.ndarray, "S 1"]:
    return np.einsum("sm,sm->s", a, b)[:, None]


def _positive(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 1.0)
