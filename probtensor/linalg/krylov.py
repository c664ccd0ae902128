"""Conjugate gradients, and Lanczos' method for functions of a matrix near the identity."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from probtensor.linalg.small import one_by_one
from probtensor.typing import Array, Float

#: A symmetric matrix, as a function of S columns at once.
Operator: TypeAlias = Callable[[Float[Array, "rows R S"]], Float[Array, "rows R S"]]


class _Steps(NamedTuple):
    """State of conjugate gradients: p is the direction of search, square that of the residual's length."""

    number: Array
    x: Float[Array, "rows R S"]
    residual: Float[Array, "rows R S"]
    p: Float[Array, "rows R S"]
    square: Float[Array, "S"]


def conjugate_gradients(
    times: Operator, right: Float[Array, "rows R S"], tolerance: float, most: int
) -> Float[Array, "rows R S"]:
    """x with times(x) = right, for a positive definite matrix; at most so many steps.

    tolerance: of the residual, relative to the right side.
    """
    wanted = tolerance**2 * _dot(right, right)

    def going(carry: _Steps) -> Array:
        return (carry.number < most) & jnp.any(carry.square > wanted)

    def step(carry: _Steps) -> _Steps:
        number, x, residual, p, square = carry
        image = times(p)
        size = square / _positive(_dot(p, image))
        x, residual = x + size * p, residual - size * image
        after = _dot(residual, residual)
        return _Steps(number + 1, x, residual, residual + (after / _positive(square)) * p, after)

    start = _Steps(jnp.zeros((), int), jnp.zeros_like(right), right, right, _dot(right, right))
    return jax.lax.while_loop(going, step, start).x


_Triple: TypeAlias = tuple[Array, Array, Array]


class Functions(NamedTuple):
    """F^-1/2 z for each column z, and z' log(F) z."""

    inverse_root: Float[Array, "rows R S"]
    log: Float[Array, "S"]


def lanczos(times: Operator, z: Float[Array, "rows R S"], steps: int) -> Functions:
    """Functions of a positive definite matrix F applied to columns, within a Krylov space of so many steps.

    Source: Chow and Saad 2014 (roots); Ubaru, Chen and Saad 2017 (stochastic Lanczos quadrature).
    """
    norm = jnp.sqrt(_dot(z, z))
    tiny = 100 * jnp.finfo(z.dtype).eps

    def step(carry: _Triple, _: None) -> tuple[_Triple, _Triple]:
        before, q, beta = carry
        image = times(q) - beta * before
        alpha = _dot(image, q)
        image = image - alpha * q
        after = jnp.sqrt(_dot(image, image))
        # An invariant space is complete: what follows is zero, and independent of it.
        more = after > tiny
        return (q, jnp.where(more, image / _positive(after), 0.0), jnp.where(more, after, 0.0)), (
            q,
            alpha,
            after * more,
        )

    start = (jnp.zeros_like(z), z / _positive(norm), jnp.zeros_like(norm))
    basis, alpha, beta = jax.lax.scan(step, start, None, length=steps)[1]
    live = jnp.concatenate([jnp.ones_like(beta[:1], bool), jnp.cumprod(beta[:-1] > 0, axis=0).astype(bool)])
    alpha = jnp.where(live, alpha, 1.0)

    def decomposed(a: Float[Array, "k"], b: Float[Array, "k"]) -> tuple[Array, Array]:
        values, vectors = jnp.linalg.eigh(jnp.diag(a) + jnp.diag(b[:-1], 1) + jnp.diag(b[:-1], -1))
        values = jnp.maximum(values, tiny)
        return vectors @ (vectors[0] / jnp.sqrt(values)), vectors[0] ** 2 @ jnp.log(values)

    root, log = one_by_one(decomposed, alpha.T, beta.T)
    return Functions(jnp.einsum("ktrs,sk->trs", basis, root) * norm, norm**2 * log)


def _dot(a: Float[Array, "rows R S"], b: Float[Array, "rows R S"]) -> Float[Array, "S"]:
    return jnp.sum(a * b, axis=(0, 1))


def _positive(x: Array) -> Array:
    return jnp.where(x > 0, x, 1.0)
