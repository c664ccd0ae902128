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

from probtensor.typing import Array, Float, Int


def triangular_root(G: Float[Array, "... S K"]) -> Float[Array, "... S S"]:
    """Lower triangular L with L L' = G G', for rows of G of comparable size or zero (modified Gram-Schmidt)."""

    @jax.checkpoint  # kept for each row would be several arrays like G
    def step(G: Array, at: Int[Array, ""]) -> tuple[Array, Array]:
        """One more row's direction taken out of all rows; rows that are done are zero."""
        row = jnp.take(G, at, axis=-2)
        square = jnp.sum(row**2, axis=-1, keepdims=True)
        direction = row / jnp.sqrt(jnp.where(square > 0, square, 1.0))
        column = jnp.sum(G * direction[..., None, :], axis=-1)
        left = G - column[..., :, None] * direction[..., None, :]
        return left.at[..., at, :].set(0.0), column

    return jnp.moveaxis(jax.lax.scan(step, G, jnp.arange(G.shape[-2]))[1], 0, -1)


def semidefinite_root(A: Float[Array, "... S S"], eta: Float[Array, "... S"]) -> tuple[Array, Array]:
    """(..., S, S) matrices G with G G' = A for A that may be singular, and z with G z = eta for eta in A's range.

    Cholesky's algorithm with pivots, on the correlations of A so that no scale of a row matters. What is left when
    the largest pivot is a rounding error is dropped.
    """
    variance = jnp.diagonal(A, axis1=-2, axis2=-1)
    safe = jnp.sqrt(jnp.where(variance > 0, variance, 1.0))
    known = variance > 0
    left = jnp.where(known[..., :, None] & known[..., None, :], A / (safe[..., :, None] * safe[..., None, :]), 0.0)
    remaining = eta / safe
    least = 4 * jnp.finfo(A.dtype).eps
    columns, values = [], []
    for _ in range(A.shape[-1]):
        diagonal = jnp.diagonal(left, axis1=-2, axis2=-1)
        at = jax.nn.one_hot(jnp.argmax(diagonal, axis=-1), A.shape[-1], dtype=A.dtype)
        pivot = jnp.sum(diagonal * at, axis=-1)
        root = jnp.sqrt(jnp.where(pivot > least, pivot, 1.0))
        kept = (pivot > least)[..., None]
        column = jnp.where(kept, jnp.sum(left * at[..., None, :], axis=-1) / root[..., None], 0.0)
        value = jnp.where(kept[..., 0], jnp.sum(remaining * at, axis=-1) / root, 0.0)
        left = left - column[..., :, None] * column[..., None, :]
        remaining = remaining - column * value[..., None]
        columns.append(column * safe)
        values.append(value)
    return jnp.stack(columns, axis=-1), jnp.stack(values, axis=-1)


def one_by_one(function: Callable[..., Any], *batches: Array) -> Any:
    """The function of each member of a batch (leading axis), one after the other."""
    return jax.lax.map(lambda members: function(*members), batches)


def spread_of(covariance: Float[Array, "B n n"]) -> Float[Array, "B n n"]:
    """A square root of each covariance, which may be singular, by its eigenvectors."""
    if covariance.shape[-1] == 1:
        return jnp.sqrt(jnp.maximum(covariance, 0.0))

    def root(C: Float[Array, "n n"]) -> Float[Array, "n n"]:
        values, vectors = jnp.linalg.eigh(C)
        return vectors * jnp.sqrt(jnp.maximum(values, 0.0))[None, :]

    return one_by_one(root, covariance)


def inverse_root(A: Float[Array, "... S S"], least: Float[Array, "... S"]) -> Float[Array, "... S S"]:
    """W lower triangular with W A W' = I, the inverse of A's Cholesky factor; pivots are no smaller than ``least``."""
    S = A.shape[-1]

    def eliminate(k: Int[Array, ""], both: tuple[Array, Array]) -> tuple[Array, Array]:
        left, inverse = both
        row = jax.lax.dynamic_index_in_dim(left, k, -2, keepdims=False)
        own = jax.lax.dynamic_index_in_dim(inverse, k, -2, keepdims=False)
        pivot = jnp.take(row, k, axis=-1)
        root = jnp.sqrt(jnp.maximum(pivot, jnp.take(least, k, axis=-1)))[..., None]
        row, own = jnp.where(jnp.arange(S) > k, row / root, 0.0), own / root
        left = left - row[..., :, None] * row[..., None, :]
        inverse = inverse - row[..., :, None] * own[..., None, :]
        return left, inverse.at[..., k, :].set(own)

    start = jnp.broadcast_to(jnp.eye(S, dtype=A.dtype), A.shape)
    return jax.lax.fori_loop(0, S, eliminate, (A, start))[1]
