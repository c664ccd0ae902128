"""The process on its whole grid given noisy values at some of it: by conjugate gradients, whose products are dense.

The system of the values' covariance is preconditioned with nearest neighbours' contrasts, which are its inverse but for
what far entries say. What these say of slow parts is solved for on a coarse level, and taken out of all else.

Source: Wilson et al. 2020 (draws by updating those of the prior, after Matheron); Schaefer, Katzfuss and Owhadi 2021
(neighbours' factors as preconditioners); Tang et al. 2009, table 1 (A-DEF2).
"""

from __future__ import annotations

import functools
import operator
from typing import NamedTuple

import numpy as np
from scipy import sparse

from probtensor.gridded.coarse import Coarse
from probtensor.gridded.grid import Grid, Separable
from probtensor.linalg.jitter import jittered
from probtensor.typing import Float

#: Of the residual in the preconditioner's norm, relative to the first one's; steps at most.
_TOLERANCE, _MOST = 2e-3, 200
#: Added to a covariance before draws are made, relative to its variances.
_JITTER = 1e-10


class Solved(NamedTuple):
    """A solution, after how many steps, and the residual's norm relative to the first one's, the preconditioner's."""

    weights: Float[np.ndarray, "S M"]
    steps: int
    left: float


class System(NamedTuple):
    """The covariance of noisy values on a grid.

    Attributes:
        grid: where they stand.
        parts: of the function's covariance.
        noise: variance of each value's.
        contrast: (M, M) sparse L with L'L close to the inverse of the covariance, but for what far entries say.
        coarse: knows what these say of slow parts, which the contrasts need not know of; None: nothing does.
    """

    grid: Grid
    parts: list[Separable]
    noise: Float[np.ndarray, "M"]
    contrast: sparse.csr_matrix
    coarse: Coarse | None = None

    def field(self, weights: Float[np.ndarray, "S M"]) -> Float[np.ndarray, "S T n"]:
        """The covariance of the function on the whole grid with the values, times weights."""
        spread = self.grid.spread(weights)
        return functools.reduce(operator.add, [part.times(spread) for part in self.parts])

    def solve(self, right: Float[np.ndarray, "S M"]) -> Solved:
        """The covariance's inverse times values."""

        def times(values: Float[np.ndarray, "S M"]) -> Float[np.ndarray, "S M"]:
            return self.grid.read(self.field(values)) + self.noise * values

        def preconditioned(values: Float[np.ndarray, "S M"]) -> Float[np.ndarray, "S M"]:
            near = np.asarray((self.contrast.T @ (self.contrast @ values.T)).T)
            return near if self.coarse is None else near + self.coarse(values - times(near))

        x = np.zeros_like(right) if self.coarse is None else self.coarse(right)
        residual = right - times(x)
        z = preconditioned(residual)
        p, square = z, _dot(residual, z)
        begun, steps, left = square, 0, np.inf
        while steps < _MOST and left > _TOLERANCE:
            image = times(p)
            size = square / _positive(_dot(p, image))
            x += size * p
            residual -= size * image
            z = preconditioned(residual)
            after = _dot(residual, z)
            p, square = z + (after / _positive(square)) * p, after
            steps, left = steps + 1, float(np.sqrt(np.max(np.maximum(after, 0.0) / _positive(begun))))
        return Solved(x, steps, left)


class Drawn(NamedTuple):
    """The function on a grid: its mean, S draws about what it is on average, and see `Solved.left`."""

    mean: Float[np.ndarray, "T n"]
    apart: Float[np.ndarray, "S T n"]
    left: float


def drawn(system: System, values: Float[np.ndarray, "S M"], rng: np.random.Generator) -> Drawn:
    """Posterior mean given the mean of some draws of the values, and one draw about it for each of them.

    Args:
        system: of the values.
        values: draws of them.
        rng: of the draws.
    """
    middle = values.mean(axis=0)
    apart = values - middle
    prior = functools.reduce(operator.add, [_prior(part, len(values), rng) for part in system.parts])
    noise = rng.standard_normal(values.shape) * np.sqrt(system.noise)
    right = apart - system.grid.read(prior) - noise
    weights, _, left = system.solve(np.concatenate([middle[None], right]))
    return Drawn(system.field(weights[:1])[0], prior + system.field(weights[1:]), left)


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
