"""Local term and noise as one correlated noise: contrasts of the residual that are independent.

With B and D of `nearest.conditionals`, the contrasts (I - B) m of the means m of residuals at each place have variance
D; differences between repeats at a place are contrasts by themselves.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse

from probtensor.hyperparameters import moved
from probtensor.kernels.field import AbstractFieldKernel
from probtensor.nearest import search
from probtensor.nearest.conditionals import Conditionals, Entries, condition
from probtensor.nearest.repeats import Pooled
from probtensor.typing import Float, Int

#: Neighbours are chosen anew where the logarithm of a kernel's number, or of the noise, has moved further.
_MOVED = 0.25


class Contrasts(NamedTuple):
    """The contrasts as a sparse matrix A, their variances D, and A' D^-1.

    Places are conditioned in a random order, but rows follow the data, so that what they read lies close together.
    """

    A: sparse.csr_matrix
    variance: Float[np.ndarray, "N"]
    weighted: sparse.csr_matrix

    def log_density(self, residual: Float[np.ndarray, "N"]) -> float:
        """Log density of the residual in nats."""
        contrast = self.A @ residual
        return float(-0.5 * np.sum(np.log(2 * np.pi * self.variance) + contrast**2 / self.variance))


class Near(NamedTuple):
    """Neighbours of all places among those before them, and the kernel and the noise that they were chosen with."""

    kernel: AbstractFieldKernel
    noise: float
    chosen: Int[np.ndarray, "M k"]

    @staticmethod
    def of(kernel: AbstractFieldKernel, noise: float, entries: Entries, neighbours: int) -> Near:
        """The most informative ones; to find them takes longer than all that is done with them."""
        return Near(kernel, noise, search.before(kernel, noise, entries, np.arange(len(entries.points)), neighbours))

    def serve(self, kernel: AbstractFieldKernel, noise: float) -> bool:
        """Whether kernel and noise are so close to those they were chosen with that others would hardly be better."""
        return max(moved(self.kernel, kernel), abs(np.log(noise / self.noise))) <= _MOVED


def contrasts(
    kernel: AbstractFieldKernel, noise: float, pooled: Pooled, neighbours: int, near: Near | None = None
) -> Contrasts:
    """Contrasts of all places with their neighbours among those before them, and of repeats; near: if known."""
    near = Near.of(kernel, noise, pooled.entries, neighbours) if near is None else near
    left, own = given(kernel, noise, pooled.entries, near)
    between = left @ pooled.mean
    order = np.argsort(np.unique(pooled.place, return_index=True)[1])
    A = sparse.vstack([between[order], pooled.apart], format="csr")
    variance = np.concatenate([own[order], noise * pooled.unit_noise])
    return Contrasts(A, variance, (A.T / variance).tocsr())


def of_places(
    kernel: AbstractFieldKernel, noise: float, entries: Entries, neighbours: int
) -> tuple[sparse.csr_matrix, Float[np.ndarray, "M"]]:
    """I - B of all places with their neighbours among those before them, and D."""
    return given(kernel, noise, entries, Near.of(kernel, noise, entries, neighbours))


def given(
    kernel: AbstractFieldKernel, noise: float, entries: Entries, near: Near
) -> tuple[sparse.csr_matrix, Float[np.ndarray, "M"]]:
    """`of_places` with these neighbours."""
    number = len(entries.points)
    found = condition(kernel, noise, entries, entries, near.chosen)
    return sparse.identity(number, format="csr") - weights(found, number), found.variance


def weights(found: Conditionals, sources: int) -> sparse.csr_matrix:
    """B as a sparse matrix, targets x sources."""
    n, k = found.neighbours.shape
    live = found.neighbours.ravel() >= 0
    rows = np.repeat(np.arange(n), k)[live]
    return sparse.csr_matrix((found.weights.ravel()[live], (rows, found.neighbours.ravel()[live])), shape=(n, sources))
