"""Sums over points of products of cosines, and the functions with such products as coefficients.

A product of two cosines is a sum of two, cos(m a) cos(n a) = (cos((m - n) a) + cos((m + n) a)) / 2. So a matrix of sums
over T points of products of M cosines has only some 4 M numbers in it in two dimensions (it is a Toeplitz plus a Hankel
matrix), and costs O(T M) instead of O(T M^2); the same for a quadratic form at T points.

Source: Viset, Kullberg, Wesel and Solin 2024, Exploiting Hankel-Toeplitz structures for fast computation of kernel
precision matrices.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from probtensor.typing import Array, Float, Int

#: Points are taken in chunks of at most this many products.
CHUNK_NUMBERS = 2**20


def frequencies_of(orders: Int[np.ndarray, "M d"]) -> tuple[int, ...]:
    """How many frequencies the products of two cosines have in each dimension, zero included."""
    return tuple(int(n) for n in 2 * orders.max(axis=0) + 1)


def project(
    angles: Float[Array, "T d"], orders: Int[Array, "M d"], sizes: tuple[int, ...], values: Float[Array, "T P"]
) -> Float[Array, "M P"]:
    """Sums over the points of each cosine times the values; sizes as from `frequencies_of` here and below."""
    return _sums(angles, _halves(sizes), values)[_place(orders, _halves(sizes))]


def expand(
    angles: Float[Array, "T d"], orders: Int[Array, "M d"], sizes: tuple[int, ...], weights: Float[Array, "M P"]
) -> Float[Array, "T P"]:
    """P functions at each point: the sums of the cosines times their weights."""
    halves = _halves(sizes)
    table = jnp.zeros((int(np.prod(halves)), weights.shape[1]), weights.dtype)
    return _functions(angles, halves, table.at[_place(orders, halves)].set(weights))


def gram(
    angles: Float[Array, "T d"], orders: Int[Array, "M d"], sizes: tuple[int, ...], weights: Float[Array, "T P"]
) -> Float[Array, "M M P"]:
    """Sums over the points of weights times the product of two cosines, for P sets of weights."""
    sums = _sums(angles, sizes, weights)
    parts = [share * sums[place] for share, place in _products(orders, sizes)]
    return sum(parts[1:], start=parts[0])


def quadratic(
    angles: Float[Array, "T d"], orders: Int[Array, "M d"], sizes: tuple[int, ...], matrices: Float[Array, "M M P"]
) -> Float[Array, "T P"]:
    """s' A s at each point for P matrices A and the cosines s."""
    table = jnp.zeros((int(np.prod(sizes)), matrices.shape[-1]), matrices.dtype)
    for share, place in _products(orders, sizes):
        table = table.at[place].add(share * matrices)
    return _functions(angles, sizes, table)


def _halves(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Sizes of tables of cosines instead of their products."""
    return tuple((size + 1) // 2 for size in sizes)


def _place(orders: Int[Array, "... d"], sizes: tuple[int, ...]) -> Int[Array, "..."]:
    """Row-major place of frequencies in a table."""
    place = jnp.zeros(orders.shape[:-1], orders.dtype)
    for d, size in enumerate(sizes):
        place = place * size + orders[..., d]
    return place


def _products(orders: Int[Array, "M d"], sizes: tuple[int, ...]) -> Iterator[tuple[float, Int[Array, "M M"]]]:
    """Coefficients and places of the cosines that a product of two is made of."""
    for signs in itertools.product((-1, 1), repeat=len(sizes)):
        both = jnp.abs(orders[:, None] + jnp.asarray(signs, orders.dtype)[None, None] * orders[None])
        yield 0.5 ** len(sizes), _place(both, sizes)


# A product over the dimensions is never formed for a point: one dimension after the other is multiplied in, and the
# first is a matrix product, which takes nearly all of the time.
def _cosines(angles: Float[Array, "K d"], sizes: tuple[int, ...]) -> list[Array]:
    """(K, size) cosines of all frequencies below the size, for each dimension."""
    frequencies = (jnp.arange(size).astype(angles.dtype)[None] for size in sizes)
    cosines = [jnp.cos(angles[:, d, None] * f) for d, f in enumerate(frequencies)]
    # Else the compiler computes each cosine again for each of its products.
    return list(jax.lax.optimization_barrier(tuple(cosines)))


def _sums(angles: Float[Array, "T d"], sizes: tuple[int, ...], values: Float[Array, "T P"]) -> Float[Array, "F P"]:
    """Sums over the points of values times cosines of each combination of frequencies."""
    P = values.shape[1]

    def part(total: Array, chunk: tuple[Array, ...]) -> tuple[Array, None]:
        first, *others = _cosines(chunk[0], sizes)
        product = chunk[1]
        for own in reversed(others):
            product = (own[:, :, None] * product[:, None, :]).reshape(own.shape[0], -1)
        return total + first.T @ product, None

    # Padded points have zero values.
    chunks = _chunked((angles, values), P * int(np.prod(sizes[1:])) + sizes[0])
    start = jnp.zeros((sizes[0], P * int(np.prod(sizes[1:]))), values.dtype)
    return jax.lax.scan(part, start, chunks)[0].reshape(-1, P)


def _functions(angles: Float[Array, "T d"], sizes: tuple[int, ...], table: Float[Array, "F P"]) -> Float[Array, "T P"]:
    """Sums over frequencies of cosines times the table, at each point."""
    T, P = angles.shape[0], table.shape[1]

    def part(chunk: tuple[Array, ...]) -> Array:
        first, *others = _cosines(chunk[0], sizes)
        value = first @ table.reshape(sizes[0], -1)
        for own in others:
            value = jnp.sum(own[:, :, None] * value.reshape(*own.shape, -1), axis=1)
        return value

    chunks = _chunked((angles,), P * int(np.prod(sizes[1:])) + sizes[0])
    return jax.lax.map(part, chunks).reshape(-1, P)[:T]


def _chunked(rows: tuple[Array, ...], numbers: int) -> tuple[Array, ...]:
    """Rows in chunks, padded with zeros; numbers: what a row takes on the way."""
    T = rows[0].shape[0]
    size = max(1, min(T, CHUNK_NUMBERS // numbers))
    number = -(-T // size)
    padded = (jnp.pad(x, [(0, number * size - T)] + [(0, 0)] * (x.ndim - 1)) for x in rows)
    return tuple(x.reshape(number, size, *x.shape[1:]) for x in padded)
