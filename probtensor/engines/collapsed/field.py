"""The local term on the whole grid of the data, without nearest neighbours where that is affordable."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse

from probtensor.engines.collapsed.contrasts import of_places
from probtensor.engines.collapsed.entries import coordinates
from probtensor.errors import warn
from probtensor.gridded.coarse import coarse
from probtensor.gridded.grid import Grid, separable
from probtensor.gridded.posterior import System, drawn
from probtensor.kernels.field import AbstractFieldKernel, summands, summed
from probtensor.nearest.conditionals import Entries
from probtensor.observations.domain import Domain
from probtensor.typing import Float, Int

#: Entries from which it is worth it: fewer are soon fitted by neighbours. Rows or columns at most, whose covariances
#: are kept as matrices, and multiplications of a product with one of them: a solution takes hundreds of these.
FEWEST, MOST, _COSTLIEST = 50_000, 10_000, 10**10
#: What the solver may leave.
_UNSOLVED = 0.05
#: Neighbours of the preconditioner.
_NEIGHBOURS = 20


class Field(NamedTuple):
    """The local function on a grid.

    Attributes:
        grid: of the training data.
        mean: of the function given the mean residuals.
        draws: S posterior draws about it, in 32 bits.
    """

    grid: Grid
    mean: Float[np.ndarray, "T n"]
    draws: Float[np.ndarray, "S T n"]

    def at(self, points: Float[np.ndarray, "E D"]) -> tuple[np.ndarray, np.ndarray] | None:
        """(E,) mean and variance at some points; None unless all of them are on the grid.

        Of a Gaussian variable whose variance S draws tell, what is known is a t distribution with S degrees of freedom:
        the variance is that one's.
        """
        found = self.grid.at(points)
        if found is None:
            return None
        return self.mean[found], np.mean(self._drawn(*found) ** 2, axis=0) * self._of_a_t

    def joint(self, points: Float[np.ndarray, "E D"], seed: int, n: int) -> Float[np.ndarray, "n E"] | None:
        """So many joint draws at some points; None unless all of them are on the grid.

        The posterior draws that there are come first. Each further one is a mixture of these with random weights whose
        squares sum to 1, which has the same distribution, but is not independent of them.
        """
        found = self.grid.at(points)
        if found is None:
            return None
        own, S = self._drawn(*found), len(self.draws)
        weights = np.random.default_rng(seed).standard_normal((max(n - S, 0), S))
        weights /= np.linalg.norm(weights, axis=1, keepdims=True)
        return self.mean[found] + np.concatenate([own[:n], weights @ own])

    def unscaled(self, variance: Float[np.ndarray, "E"]) -> Float[np.ndarray, "E"]:
        """That of the draws, of one from `at`."""
        return variance / self._of_a_t

    def _drawn(self, row: Int[np.ndarray, "E"], column: Int[np.ndarray, "E"]) -> Float[np.ndarray, "S E"]:
        return self.draws[:, row, column].astype(float)

    @property
    def _of_a_t(self) -> float:
        """Variance of a t distribution in squares of its scale."""
        return len(self.draws) / max(len(self.draws) - 2, 1)


def grid_of(
    kernel: AbstractFieldKernel, names: tuple[str, ...], entries: Entries, domain: Domain, any_number: bool = False
) -> Grid | None:
    """The grid on which a kernel is a sum of separable ones, if the data are many and it is not too large.

    any_number: also if they are few.
    """
    if len(entries.points) < FEWEST and not any_number:
        return None
    everywhere = coordinates(domain, names, np.arange(int(np.prod(domain.shape))), kernel.dims)
    for others in (everywhere, None):
        found = Grid.of(kernel, names, entries.points, others)
        if found is not None and max(found.shape) <= MOST and found.cost <= _COSTLIEST:
            return found
    return None


def system(grid: Grid, kernel: AbstractFieldKernel, names: tuple[str, ...], noise: float, entries: Entries) -> System:
    """The covariance of noisy values on a grid, with what solves for it.

    Args:
        grid: of the entries.
        kernel: with numbers.
        names: of the columns of points.
        noise: variance of an entry with unit noise 1.
        entries: places.
    """
    parts, noises = separable(kernel, names, grid), noise * entries.unit_noise
    level = coarse(grid, parts, noises)
    quick = [part for part, own in zip(summands(kernel), parts, strict=True) if level is None or not level.slow(own)]
    apart, variance = of_places(summed(quick or summands(kernel)), noise, entries, _NEIGHBOURS)
    contrast = sparse.diags(1 / np.sqrt(variance)) @ apart
    return System(grid, parts, noises, contrast.tocsr(), level)


def field(whole: System, residuals: Float[np.ndarray, "S M"], seed: int) -> Field:
    """The function's posterior given draws of the values minus the other terms, one draw for each of them."""
    solved = drawn(whole, residuals, np.random.default_rng(seed))
    if solved.left > _UNSOLVED:
        warn(
            f"the local term on the grid is solved for up to {solved.left:.0%}, so that it is smoother than the data "
            "ask for; a larger noise, or fewer processes, take fewer steps"
        )
    return Field(whole.grid, solved.mean, solved.apart.astype(np.float32))


def beside(whole: System, which: int, residuals: Float[np.ndarray, "S M"]) -> Float[np.ndarray, "S M"]:
    """Posterior mean at the entries, given each draw of the residuals, of all summands but the one with a number."""
    others = whole._replace(parts=[part for k, part in enumerate(whole.parts) if k != which])
    return whole.grid.read(others.field(whole.solve(residuals).weights))
