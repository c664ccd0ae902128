"""Symmetric R x R matrices as vectors of their upper triangle: the columns of every second-moment contraction."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from probtensor.typing import Array, Float


def _pairs(rank: int) -> tuple[np.ndarray, np.ndarray]:
    return np.triu_indices(rank)


def pack(matrices: Float[Array, "... R R"]) -> Float[Array, "... C"]:
    """Upper triangles of symmetric matrices, C = R (R + 1) / 2."""
    i, j = _pairs(matrices.shape[-1])
    return matrices[..., i, j]


def unpack(packed: Float[Array, "... C"], rank: int) -> Float[Array, "... R R"]:
    """The symmetric matrices with these upper triangles."""
    i, j = _pairs(rank)
    position = np.zeros((rank, rank), dtype=int)
    position[i, j] = position[j, i] = np.arange(len(i))
    return packed[..., position]


def multiplicity(rank: int) -> np.ndarray:
    """(C,) how often each packed entry stands in the full matrix: 1 on the diagonal, 2 off it."""
    i, j = _pairs(rank)
    return np.where(i == j, 1.0, 2.0)


def fold(matrices: Float[Array, "... R R"]) -> Float[Array, "... C"]:
    """The packed form that pairs with `pack`: the sum of A * S over both indices is ``fold(A) @ pack(S)``, S symmetric.

    A need not be symmetric: an entry off the diagonal is the sum of both.
    """
    rank = matrices.shape[-1]
    both = pack(matrices) + pack(jnp.swapaxes(matrices, -1, -2))
    i, j = _pairs(rank)
    return both * jnp.asarray(np.where(i == j, 0.5, 1.0), dtype=both.dtype)


def outer(vectors: Float[Array, "... R"]) -> Float[Array, "... C"]:
    """Packed outer products of vectors with themselves."""
    i, j = _pairs(vectors.shape[-1])
    return jnp.take(vectors, i, axis=-1) * jnp.take(vectors, j, axis=-1)
