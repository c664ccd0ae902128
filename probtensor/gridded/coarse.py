"""A coarse level for the solver: what varies slowly along the short side of a grid, at each level of the long side.

Neighbours know what is near. What lasts for all times, say, and differs from place to place, is told by the mean of
hundreds of values at one place, which are not among them.

Source: Nicolaides 1987; Tang et al. 2009, section 2.3 (deflation by subspaces).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from probtensor.gridded.grid import Grid, Separable
from probtensor.typing import Float

#: Unknowns of the coarse system, and functions of the short side, at most.
_MOST, _FUNCTIONS = 10_000, 4
#: A part is slow if these functions hold so large a share of it.
_SLOW = 0.9
#: Added to its diagonal, relative to it.
_JITTER = 1e-10


class Coarse(NamedTuple):
    """Solves for the values projected on some functions along one side, one of each for each level of the other.

    Attributes:
        grid: of the values.
        short: the side that the functions are of, 0 for rows.
        functions: (m, k) orthonormal.
        factor: Cholesky factor of the projected system.
    """

    grid: Grid
    short: int
    functions: Float[np.ndarray, "m k"]
    factor: Float[np.ndarray, "K K"]

    def slow(self, part: Separable) -> bool:
        """Whether these functions are nearly all of a part of the covariance."""
        over = part.rows if self.short == 0 else part.columns
        held = np.sum(self.functions * (over @ self.functions))
        return bool(held >= _SLOW * np.trace(over))

    def __call__(self, values: Float[np.ndarray, "S M"]) -> Float[np.ndarray, "S M"]:
        """The part of the solution that these functions can tell."""
        spread = np.moveaxis(self.grid.spread(values), 1 + self.short, 1)
        S, _, n = spread.shape
        right = np.einsum("mk,smn->snk", self.functions, spread, optimize=True).reshape(S, -1)
        solved = cho_solve((self.factor, True), right.T, check_finite=False).T.reshape(S, n, -1)
        found = np.einsum("mk,snk->smn", self.functions, solved, optimize=True)
        return self.grid.read(np.moveaxis(found, 1, 1 + self.short))


def coarse(grid: Grid, parts: list[Separable], noise: Float[np.ndarray, "M"]) -> Coarse | None:
    """The coarse level of a system; None where the long side alone is more than can be solved for.

    Args:
        grid: of the values.
        parts: of the function's covariance.
        noise: variance of each value's.

    Cost O((k n)^3) for k functions and n levels of the long side.
    """
    short = int(np.argmin(grid.shape))
    m, n = grid.shape[short], grid.shape[1 - short]
    number = min(_MOST // n, _FUNCTIONS, m)
    if number == 0:
        return None
    sides = [(one.rows, one.columns) if short == 0 else (one.columns, one.rows) for one in parts]
    along = np.sum([np.mean(np.diagonal(over)) * own for own, over in sides], axis=0)
    functions = np.linalg.eigh(along)[1][:, -number:]
    seen = np.moveaxis(grid.spread(np.ones((1, len(noise))))[0], short, 0)
    noises = np.moveaxis(grid.spread(noise[None])[0], short, 0)
    masked = (seen[:, :, None] * functions[:, None]).reshape(m, -1)
    system = np.zeros((n * number, n * number))
    for own, over in sides:
        projected = (masked.T @ own @ masked).reshape(n, number, n, number)
        projected *= over[:, None, :, None]
        system += projected.reshape(system.shape)
    own_noise = np.einsum("mk,mn,ml->nkl", functions, noises, functions, optimize=True)
    blocks = system.reshape(n, number, n, number)
    blocks[np.arange(n), :, np.arange(n), :] += own_noise
    # A level without values has no equations.
    diagonal = np.diagonal(system)
    system[np.diag_indices_from(system)] += np.where(diagonal > 0, _JITTER * diagonal, 1.0)
    return Coarse(grid, short, functions, cho_factor(system, lower=True, overwrite_a=True, check_finite=False)[0])
