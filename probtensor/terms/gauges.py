"""Canonical forms: the same fitted term with its functions rotated so that they can be read and compared.

Computed once after a fit, in NumPy. A rotation is linear, so covariances go with it; directions in which the mean
has nothing have no canonical form and are given as zero, without spread.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from probtensor.typing import Float


class Gaussian(NamedTuple):
    """Means (T, R) and covariances (T, R, R) of a block's R functions at its T levels."""

    mean: Float[np.ndarray, "T R"]
    cov: Float[np.ndarray, "T R R"]

    @property
    def sd(self) -> Float[np.ndarray, "T R"]:
        """Standard deviation of each function at each level."""
        return np.sqrt(np.maximum(np.diagonal(self.cov, axis1=1, axis2=2), 0.0))

    def turned(self, turn: Float[np.ndarray, "R K"]) -> Gaussian:
        """The functions u'turn."""
        return Gaussian(self.mean @ turn, turn.T @ self.cov @ turn)


def higher_order_svd(
    factors: Sequence[Gaussian], core: Gaussian, ranks: Sequence[int]
) -> tuple[tuple[Gaussian, ...], Gaussian]:
    """The higher-order singular value decomposition of a Tucker term's mean.

    A mode's functions become orthogonal over its levels with mean square one, ordered by what they explain, the largest
    value of each positive; the core's slices become orthogonal to each other in every mode, and its squares are shares
    of the term's mean square over the grid.

    Args:
        factors: of each mode.
        core: one level whose functions are the core's entries, the last mode's index running fastest.
        ranks: R_d of each mode.

    Source: De Lathauwer, De Moor and Vandewalle 2000, A multilinear singular value decomposition.
    """
    tensor = core.mean.reshape(*ranks)
    bases, into = [], []
    for d, factor in enumerate(factors):
        size = np.sqrt(len(factor.mean))
        left, values, right = np.linalg.svd(factor.mean / size, full_matrices=False)
        bases.append((left * size, values, right))
        tensor = _multiply(tensor, values[:, None] * right, d)
    turned = []
    for d, (factor, (left, values, right)) in enumerate(zip(factors, bases, strict=True)):
        rotation = np.linalg.svd(np.moveaxis(tensor, d, 0).reshape(ranks[d], -1))[0]
        rotation = rotation * _signs(left @ rotation)
        kept = values > _negligible(values)
        turn = right.T @ (np.where(kept, 1 / np.where(kept, values, 1.0), 0.0)[:, None] * rotation)
        turned.append(Gaussian(left @ rotation, factor.turned(turn).cov))
        into.append(rotation.T @ (values[:, None] * right))
    whole = np.ones((1, 1))
    for matrix in into:
        whole = np.kron(whole, matrix)
    return tuple(turned), core.turned(whole.T)


def left_orthogonal(cores: Sequence[Gaussian], bonds: Sequence[int]) -> tuple[Gaussian, ...]:
    """The left-orthogonal form of a tensor train's mean, each bond in its singular vectors.

    Every core but the last maps what is left of it to functions that are orthogonal over the grid with mean square one,
    ordered by what they explain, the largest value of each positive; the last core carries the amplitude.

    Args:
        cores: of each mode in the train's order, functions numbered row-major over the left and the right bond.
        bonds: r_0 = 1, r_1, ..., r_D = 1.

    Source: Oseledets 2011, Tensor-train decomposition (orthogonalisation); the bonds as in Vidal's canonical form.
    """
    right_of = [np.ones((1, 1))]  # each bond's Gram matrix of what is right of it, from the last bond to the first
    for d in range(len(cores) - 1, 0, -1):
        G = cores[d].mean.reshape(-1, bonds[d], bonds[d + 1])
        right_of.append(np.einsum("tab,bc,tdc->ad", G, right_of[-1], G) / len(G))
    into, turned = np.ones((1, 1)), []
    for d, core in enumerate(cores):
        G = np.einsum("ab,tbc->tac", into, core.mean.reshape(-1, bonds[d], bonds[d + 1]))
        last = d == len(cores) - 1
        next_into, out_of = (np.ones((1, 1)),) * 2 if last else _bond_basis(G, right_of[-1 - d])
        turned.append(core.turned(np.kron(into.T, out_of)))
        into = next_into
    return tuple(turned)


def _bond_basis(G: np.ndarray, right_of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two matrices: into the singular vectors of a bond, and out of them.

    G: (T, left, right), a core whose left side is orthonormal; right_of: Gram matrix of what is right of the bond. The
    core becomes G @ out_of, and what is right of it is multiplied by into from the left.
    """
    columns = G.reshape(-1, G.shape[2]) / np.sqrt(len(G))
    squares, vectors = np.linalg.eigh(right_of)
    root = vectors * np.sqrt(np.maximum(squares, 0.0))
    left, values, right = np.linalg.svd(columns @ root, full_matrices=False)
    kept, signs = values > _negligible(values), _signs(left)
    left, right = np.where(kept, left * signs, 0.0), right * signs[:, None]
    inverse = np.where(kept, 1 / np.where(kept, values, 1.0), 0.0)
    return left.T @ columns, root @ right.T * inverse


def _multiply(tensor: np.ndarray, matrix: np.ndarray, mode: int) -> np.ndarray:
    """The product of a tensor with a matrix in one mode."""
    return np.moveaxis(np.tensordot(matrix, tensor, (1, mode)), 0, mode)


def _signs(columns: np.ndarray) -> np.ndarray:
    """+1 or -1 for each column, such that its value of largest size becomes positive."""
    peaks = columns[np.argmax(np.abs(columns), axis=0), np.arange(columns.shape[1])]
    return np.where(peaks < 0, -1.0, 1.0)


def _negligible(values: np.ndarray) -> float:
    """Singular values up to this one are rounding errors, or of a term that has died, whose inverses would overflow."""
    limits = np.finfo(values.dtype)
    return float(max(values.max(initial=0.0) * len(values) * 1e3 * limits.eps, float(limits.tiny) ** 0.25))
