"""Factorisations of many tiny matrices, written out in arithmetic.

A batched LAPACK call splits its batch over the CPU backend's thread pool and waits for the parts from inside that same
pool; two such calls at once on two cores wait for ever (jaxlib 0.10). So batches never go to LAPACK here: tiny
matrices are factored by these loops over their size, larger ones one after the other (`one_by_one`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from probtensor.typing import Array, Float


def cholesky_small(A: Float[Array, "... S S"]) -> Float[Array, "... S S"]:
    """Lower Cholesky factors of S x S matrices, S of a few; cost O(S^3), unrolled."""
    S = A.shape[-1]
    L: list[list[Array]] = [[jnp.zeros_like(A[..., 0, 0])] * S for _ in range(S)]
    for i in range(S):
        for j in range(i + 1):
            left = A[..., i, j] - sum((L[i][k] * L[j][k] for k in range(j)), start=jnp.zeros_like(A[..., 0, 0]))
            L[i][j] = jnp.sqrt(left) if i == j else left / L[j][j]
    return jnp.stack([jnp.stack(row, axis=-1) for row in L], axis=-2)


def triangular_root(G: Float[Array, "... S K"]) -> Float[Array, "... S S"]:
    """Lower triangular L with L L' = G G', for rows of G of comparable size (modified Gram-Schmidt on the rows)."""
    S = G.shape[-2]
    rows = [G[..., i, :] for i in range(S)]
    zero = jnp.zeros_like(G[..., 0, 0])
    L = [[zero] * S for _ in range(S)]
    for j in range(S):
        L[j][j] = jnp.sqrt(jnp.sum(rows[j] ** 2, axis=-1))
        direction = rows[j] / L[j][j][..., None]
        for i in range(j + 1, S):
            L[i][j] = jnp.sum(rows[i] * direction, axis=-1)
            rows[i] = rows[i] - L[i][j][..., None] * direction
    return jnp.stack([jnp.stack(row, axis=-1) for row in L], axis=-2)


def one_by_one(function: Callable[..., Any], *batches: Array) -> Any:
    """The function of each member of a batch (leading axis), one after the other."""
    return jax.lax.map(lambda members: function(*members), batches)


def spread_of(covariance: Float[Array, "B n n"]) -> Float[Array, "B n n"]:
    """A square root of each covariance, which may be singular, by its eigenvectors."""

    def root(C: Float[Array, "n n"]) -> Float[Array, "n n"]:
        values, vectors = jnp.linalg.eigh(C)
        return vectors * jnp.sqrt(jnp.maximum(values, 0.0))[None, :]

    return one_by_one(root, covariance)
