"""Local term and noise as one correlated noise: contrasts of the residual that are independent.

With B and D of `nearest.conditionals`, the contrasts A r = (I - B) r of the residual r have variance D.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse

from probtensor.kernels.field import AbstractFieldKernel
from probtensor.nearest import search
from probtensor.nearest.conditionals import Conditionals, Entries, condition
from probtensor.typing import Float


class Contrasts(NamedTuple):
    """A as a sparse matrix and D."""

    A: sparse.csr_matrix
    variance: Float[np.ndarray, "N"]

    def log_density(self, residual: Float[np.ndarray, "N"]) -> float:
        """Log density of the residual in nats."""
        contrast = self.A @ residual
        return float(-0.5 * np.sum(np.log(2 * np.pi * self.variance) + contrast**2 / self.variance))


def contrasts(kernel: AbstractFieldKernel, noise: float, entries: Entries, neighbours: int) -> Contrasts:
    """Contrasts of all entries with their neighbours among those before them."""
    targets = np.arange(len(entries.points))
    index = search.before(kernel, noise, entries, targets, neighbours)
    found = condition(kernel, noise, entries, entries, index)
    return Contrasts(sparse.identity(len(targets), format="csr") - weights(found, len(targets)), found.variance)


def weights(found: Conditionals, sources: int) -> sparse.csr_matrix:
    """B as a sparse matrix, targets x sources."""
    n, k = found.neighbours.shape
    live = found.neighbours.ravel() >= 0
    rows = np.repeat(np.arange(n), k)[live]
    return sparse.csr_matrix((found.weights.ravel()[live], (rows, found.neighbours.ravel()[live])), shape=(n, sources))
