"""Sums over points of products of cosines (and sines), and the functions with such products as coefficients.

A product of two cosines is a sum of two, cos(m a) cos(n a) = (cos((m - n) a) + cos((m + n) a)) / 2. So a matrix of sums
over T points of products of M cosines has only some 4 M numbers in it in two dimensions (it is a Toeplitz plus a Hankel
matrix), and costs O(T M) instead of O(T M^2); the same for a quadratic form at T points. With sines among the functions
it is the same: an order below zero is the sine of that frequency.

Source: Viset, Kullberg, Wesel and Solin 2024, Exploiting Hankel-Toeplitz structures for fast computation of kernel
precision matrices.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from probtensor.typing import Array, Float, Int

#: Points are taken in chunks of at most this many products.
CHUNK_NUMBERS = 2**20


class Waves(eqx.Module):
    """M functions of d angles: products of a cosine or a sine of a whole multiple of each.

    Attributes:
        orders: (M, d) the multiples; below zero it is the sine of that multiple.
        sizes: how many frequencies products of two functions have in each dimension, zero included.
        sines: whether there is a sine among the functions.
    """

    orders: Int[Array, "M d"]
    sizes: tuple[int, ...] = eqx.field(static=True)
    sines: bool = eqx.field(static=True)

    def project(self, angles: Float[Array, "T d"], values: Float[Array, "T P"]) -> Float[Array, "M P"]:
        """Sums over the points of each function times the values."""
        halves = _halves(self.sizes)
        return _sums(angles, halves, self.sines, values)[_place(self.orders, halves, self.sines)]

    def expand(self, angles: Float[Array, "T d"], weights: Float[Array, "M P"]) -> Float[Array, "T P"]:
        """At each point P sums of the functions times their weights."""
        halves = _halves(self.sizes)
        table = jnp.zeros((_entries(halves, self.sines), weights.shape[1]), weights.dtype)
        table = table.at[_place(self.orders, halves, self.sines)].set(weights)
        return _functions(angles, halves, self.sines, table)

    def gram(self, angles: Float[Array, "T d"], weights: Float[Array, "T P"]) -> Float[Array, "M M P"]:
        """Sums over the points of weights times the product of two functions, for P sets of weights."""
        sums = _sums(angles, self.sizes, self.sines, weights)
        parts = [share * sums[place] for share, place in self._products(weights.dtype)]
        return sum(parts[1:], start=parts[0])

    def quadratic(self, angles: Float[Array, "T d"], matrices: Float[Array, "M M P"]) -> Float[Array, "T P"]:
        """s' A s at each point for P matrices A and the functions s."""
        table = jnp.zeros((_entries(self.sizes, self.sines), matrices.shape[-1]), matrices.dtype)
        for share, place in self._products(matrices.dtype):
            table = table.at[place].add(share * matrices)
        return _functions(angles, self.sizes, self.sines, table)

    def _products(self, dtype: jnp.dtype) -> Iterator[tuple[Array | float, Int[Array, "M M"]]]:
        """Coefficients and places of the cosines and sines that a product of two functions is made of."""
        first, second, d = self.orders[:, None], self.orders[None], len(self.sizes)
        for signs in itertools.product((-1, 1), repeat=d):
            if not self.sines:
                both = jnp.abs(first + jnp.asarray(signs, first.dtype)[None, None] * second)
                yield 0.5**d, _place(both, self.sizes, False)
                continue
            shares, orders = zip(*(_product(first[..., k], second[..., k], signs[k]) for k in range(d)), strict=True)
            share = jnp.prod(jnp.stack(shares), axis=0).astype(dtype)[:, :, None]
            yield share, _place(jnp.stack(orders, axis=-1), self.sizes, True)


def waves(orders: Int[np.ndarray, "M d"]) -> Waves:
    """The functions of these orders."""
    sizes = tuple(int(n) for n in 2 * np.abs(orders).max(axis=0) + 1)
    return Waves(jnp.asarray(orders), sizes, bool((orders < 0).any()))


def _product(m: Int[Array, "M 1"], n: Int[Array, "1 M"], sign: int) -> tuple[Float[Array, "M M"], Int[Array, "M M"]]:
    """Coefficient and order of the half of a product of two functions with the sum (+1) or difference of frequencies.

    cos a cos b = (cos(a - b) + cos(a + b)) / 2, sin a sin b = (cos(a - b) - cos(a + b)) / 2, and
    sin a cos b = (sin(a - b) + sin(a + b)) / 2.
    """
    odd = (m < 0) != (n < 0)
    if sign > 0:
        total = jnp.abs(m) + jnp.abs(n)
        return jnp.where((m < 0) & (n < 0), -0.5, 0.5), jnp.where(odd, -total, total)
    apart = jnp.abs(m) - jnp.abs(n)
    apart = jnp.where(m < 0, apart, -apart)
    return jnp.where(odd, 0.5 * jnp.sign(apart), 0.5), jnp.where(odd, -jnp.abs(apart), jnp.abs(apart))


def _halves(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Sizes of tables of functions instead of their products."""
    return tuple((size + 1) // 2 for size in sizes)


def _lengths(sizes: Sequence[int], sines: bool) -> list[int]:
    """Length of a table in each dimension: the cosines of all frequencies, then the sines of those above zero."""
    return [2 * size - 1 if sines else size for size in sizes]


def _entries(sizes: Sequence[int], sines: bool) -> int:
    return int(np.prod(_lengths(sizes, sines)))


def _place(orders: Int[Array, "... d"], sizes: tuple[int, ...], sines: bool) -> Int[Array, "..."]:
    """Row-major place of orders in a table."""
    place = jnp.zeros(orders.shape[:-1], orders.dtype)
    for d, (size, length) in enumerate(zip(sizes, _lengths(sizes, sines), strict=True)):
        own = orders[..., d]
        place = place * length + jnp.where(own < 0, size - 1 - own, own)
    return place


# A product over the dimensions is never formed for a point: one dimension after the other is multiplied in, and the
# first is a matrix product, which takes nearly all of the time.
def _cosines(angles: Float[Array, "K d"], sizes: tuple[int, ...], sines: bool) -> list[Array]:
    """(K, size) cosines of all frequencies below the size, then perhaps sines, for each dimension."""
    frequencies = (jnp.arange(size).astype(angles.dtype)[None] for size in sizes)
    turned = [angles[:, d, None] * f for d, f in enumerate(frequencies)]
    functions = [jnp.concatenate([jnp.cos(a), jnp.sin(a[:, 1:])], axis=1) if sines else jnp.cos(a) for a in turned]
    # Else the compiler computes each cosine again for each of its products.
    return list(jax.lax.optimization_barrier(tuple(functions)))


def _sums(
    angles: Float[Array, "T d"], sizes: tuple[int, ...], sines: bool, values: Float[Array, "T P"]
) -> Float[Array, "F P"]:
    """Sums over the points of values times the functions of each combination of frequencies."""
    P, (leading, *rest) = values.shape[1], _lengths(sizes, sines)

    def part(total: Array, chunk: tuple[Array, ...]) -> tuple[Array, None]:
        first, *others = _cosines(chunk[0], sizes, sines)
        product = chunk[1]
        for own in reversed(others):
            product = (own[:, :, None] * product[:, None, :]).reshape(own.shape[0], -1)
        return total + first.T @ product, None

    # Padded points have zero values.
    chunks = _chunked((angles, values), P * int(np.prod(rest)) + leading)
    start = jnp.zeros((leading, P * int(np.prod(rest))), values.dtype)
    return jax.lax.scan(part, start, chunks)[0].reshape(-1, P)


def _functions(
    angles: Float[Array, "T d"], sizes: tuple[int, ...], sines: bool, table: Float[Array, "F P"]
) -> Float[Array, "T P"]:
    """Sums over frequencies of the functions times the table, at each point."""
    T, P = angles.shape[0], table.shape[1]
    leading, *rest = _lengths(sizes, sines)

    def part(chunk: tuple[Array, ...]) -> Array:
        first, *others = _cosines(chunk[0], sizes, sines)
        value = first @ table.reshape(leading, -1)
        for own in others:
            value = jnp.sum(own[:, :, None] * value.reshape(*own.shape, -1), axis=1)
        return value

    chunks = _chunked((angles,), P * int(np.prod(rest)) + leading)
    return jax.lax.map(part, chunks).reshape(-1, P)[:T]


def _chunked(rows: tuple[Array, ...], numbers: int) -> tuple[Array, ...]:
    """Rows in chunks, padded with zeros; numbers: what a row takes on the way."""
    T = rows[0].shape[0]
    size = max(1, min(T, CHUNK_NUMBERS // numbers))
    number = -(-T // size)
    padded = (jnp.pad(x, [(0, number * size - T)] + [(0, 0)] * (x.ndim - 1)) for x in rows)
    return tuple(x.reshape(number, size, *x.shape[1:]) for x in padded)
