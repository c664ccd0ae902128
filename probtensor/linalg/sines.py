"""Sums over points of products of sines, and the functions with such products as coefficients.

A product of two sines is a difference of two cosines, sin(m a) sin(n a) = (cos((m - n) a) - cos((m + n) a)) / 2. So a
matrix of sums over T points of products of M sines has only some 4 M numbers in it in two dimensions (it is a Toeplitz
minus a Hankel matrix), and costs O(T M) instead of O(T M^2); the same for a quadratic form at T points.

Source: Viset, Kullberg, Wesel and Solin 2024, Exploiting Hankel-Toeplitz structures for fast computation of kernel
precision matrices.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from probtensor.typing import Array, Float, Int

#: Points are taken in chunks of at most this many sines or cosines.
CHUNK_NUMBERS = 2**20


def sines(angles: Float[Array, "T d"], orders: Int[Array, "M d"]) -> Float[Array, "T M"]:
    """Products over the dimensions of sin(order angle)."""
    return jnp.prod(jnp.sin(angles[:, None, :] * orders[None].astype(angles.dtype)), axis=-1)


def cosine_sizes(orders: Int[np.ndarray, "M d"]) -> tuple[int, ...]:
    """How many frequencies the products of two sines have in each dimension, zero included."""
    return tuple(int(n) for n in 2 * orders.max(axis=0) + 1)


def _cosines(angles: Float[Array, "T d"], sizes: tuple[int, ...]) -> Float[Array, "T K"]:
    """Products over the dimensions of cosines of all frequencies below sizes, row-major."""
    out = jnp.ones((angles.shape[0], 1), angles.dtype)
    for d, size in enumerate(sizes):
        own = jnp.cos(angles[:, d, None] * jnp.arange(size).astype(angles.dtype)[None])
        out = (out[:, :, None] * own[:, None, :]).reshape(angles.shape[0], -1)
    return out


def _products(orders: Int[Array, "M d"], sizes: tuple[int, ...]) -> Iterator[tuple[float, Int[Array, "M M"]]]:
    """Coefficients and places (among `_cosines`) of the cosines that a product of two sines is made of."""
    for signs in itertools.product((-1, 1), repeat=len(sizes)):
        place = jnp.zeros((orders.shape[0],) * 2, orders.dtype)
        for d, sign in enumerate(signs):
            place = place * sizes[d] + jnp.abs(orders[:, None, d] + sign * orders[None, :, d])
        yield float(np.prod([-0.5 * sign for sign in signs])), place


def by_chunks(function: Callable[..., Array], *rows: Array, numbers: int) -> Array:
    """A function of rows, computed for chunks of them; numbers: what a row takes on the way."""
    T = rows[0].shape[0]
    size = max(1, min(T, CHUNK_NUMBERS // numbers))
    if size >= T:
        return function(*rows)
    out = jax.lax.map(lambda chunk: function(*chunk), _chunked(rows, size))
    return out.reshape(-1, *out.shape[2:])[:T]


def _chunked(rows: tuple[Array, ...], size: int) -> tuple[Array, ...]:
    number = -(-rows[0].shape[0] // size)
    padded = (jnp.pad(x, [(0, number * size - x.shape[0])] + [(0, 0)] * (x.ndim - 1)) for x in rows)
    return tuple(x.reshape(number, size, *x.shape[1:]) for x in padded)


def project(angles: Float[Array, "T d"], orders: Int[Array, "M d"], values: Float[Array, "T R"]) -> Float[Array, "M R"]:
    """Sums over the points of each sine times the values."""
    return _sum_of_products(lambda a: sines(a, orders), angles, values, orders.size)


def gram(
    angles: Float[Array, "T d"], orders: Int[Array, "M d"], sizes: tuple[int, ...], weights: Float[Array, "T P"]
) -> Float[Array, "M M P"]:
    """Sums over the points of weights times the product of two sines, for P sets of weights."""
    sums = _sum_of_products(lambda a: _cosines(a, sizes), angles, weights, int(np.prod(sizes)))
    parts = [sign * sums[place] for sign, place in _products(orders, sizes)]
    return sum(parts[1:], start=parts[0])


def _sum_of_products(
    features: Callable[[Array], Array], angles: Float[Array, "T d"], values: Float[Array, "T P"], numbers: int
) -> Float[Array, "K P"]:
    size = max(1, min(angles.shape[0], CHUNK_NUMBERS // numbers))
    chunks = _chunked((angles, values), size)
    start = jnp.zeros(jax.eval_shape(features, angles[:1]).shape[1:] + values.shape[1:], values.dtype)
    # Padded points have zero values.
    return jax.lax.scan(lambda total, chunk: (total + features(chunk[0]).T @ chunk[1], None), start, chunks)[0]


def quadratic(
    angles: Float[Array, "T d"], orders: Int[Array, "M d"], sizes: tuple[int, ...], matrices: Float[Array, "M M P"]
) -> Float[Array, "T P"]:
    """s' A s at each point for P matrices A and the sines s."""
    total = jnp.zeros((int(np.prod(sizes)), matrices.shape[-1]), matrices.dtype)
    for sign, place in _products(orders, sizes):
        total = total.at[place].add(sign * matrices)
    return by_chunks(lambda a: _cosines(a, sizes) @ total, angles, numbers=int(np.prod(sizes)))
