"""A basis of the functions of one variable, and points of that variable at which its coefficients are read off."""

from __future__ import annotations

import equinox as eqx
import numpy as np
from scipy import linalg

from probtensor.typing import Float, Int

#: No entry of the interpolation matrix is much above 1 in size, so it amplifies errors by little.
LARGEST_ENTRY = 1.05
MOST_SWAPS = 200


class Cross(eqx.Module):
    """A basis of the columns of a matrix of fibres, and as many of its rows, from which a column is recovered.

    Attributes:
        weights: (n, r); a column of the fibres is the weights times its entries in the chosen rows.
        rows: the chosen rows, as many as the rank r.
        sizes: how much of the fibres is left before each further column joins the basis (the diagonal of a QR
            decomposition with pivoting), all of them, not only r.
    """

    weights: Float[np.ndarray, "n r"]
    rows: Int[np.ndarray, "r"]
    sizes: Float[np.ndarray, "k"]

    @property
    def rank(self) -> int:
        """Number of basis functions."""
        return len(self.rows)

    def misfit(self, fibres: Float[np.ndarray, "n m"]) -> Float[np.ndarray, "m"]:
        """Largest deviation of each of m fibres from what its entries in the chosen rows make of it."""
        return np.abs(fibres - self.weights @ fibres[self.rows]).max(axis=0, initial=0.0)


def cross(fibres: Float[np.ndarray, "n m"], tolerance: float, most: int | None = None) -> Cross:
    """Chooses basis and rows for a matrix of fibres (n points along the variable, m fibres).

    Args:
        fibres: values.
        tolerance: what is left of the fibres may be so large (Euclidean norm of a column).
        most: highest rank.

    Cost O(n m min(n, m)). Rank 1 at least. Sources: Businger and Golub 1965 (QR with pivoting); Drmac and Gugercin
    2016 (QDEIM: rows by a second one); Goreinov et al. 2010 (maxvol, which improves them).
    """
    q, r, _ = linalg.qr(fibres, mode="economic", pivoting=True, check_finite=False)
    sizes = np.abs(np.diagonal(r))
    rank = max(1, int((sizes > tolerance).sum()))
    rank = min(rank, rank if most is None else most)
    return with_rank(q, sizes, rank)


def with_rank(q: Float[np.ndarray, "n k"], sizes: Float[np.ndarray, "k"], rank: int) -> Cross:
    """The cross whose basis are the first columns of q."""
    basis = q[:, :rank]
    _, _, order = linalg.qr(basis.T, mode="economic", pivoting=True, check_finite=False)
    rows = np.array(order[:rank])
    weights = linalg.solve(basis[rows].T, basis.T, check_finite=False).T
    for _ in range(MOST_SWAPS):
        row, column = np.unravel_index(int(np.argmax(np.abs(weights))), weights.shape)
        pivot = weights[row, column]
        if abs(pivot) <= LARGEST_ENTRY:
            break
        # The row at which a weight is above 1 replaces that weight's own: the volume of the rows grows by that factor.
        change = weights[row].copy()
        change[column] -= 1.0
        weights = weights - np.outer(weights[:, column] / pivot, change)
        rows[column] = row
    return Cross(linalg.solve(basis[rows].T, basis.T, check_finite=False).T, rows, sizes)
