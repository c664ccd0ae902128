"""Expectations of smooth functions of a normal signal, entry by entry."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from probtensor.typing import Array, Float

#: Nodes of the Gauss-Hermite rule: exact for polynomials of degree 39.
_NODES = 20
#: Newton steps to the mode of cavity times likelihood, at most, and the step that is none, in units of its width.
_NEWTON, _SMALL = 60, 1e-3

_z, _w = np.polynomial.hermite_e.hermegauss(_NODES)
_LOG_WEIGHTS = np.log(_w / _w.sum())


class Slopes(NamedTuple):
    """First and second derivative with respect to the signal."""

    first: Float[Array, "..."]
    second: Float[Array, "..."]


def expectation(
    function: Callable[[Array], Array], mean: Float[Array, "..."], variance: Float[Array, "..."]
) -> Float[Array, "..."]:
    """E[function(f)] for f normal, by Gauss-Hermite quadrature; nodes one after the other, so memory is O(N)."""
    sd = jnp.sqrt(variance)
    total = jnp.zeros_like(mean)
    for z, log_weight in zip(_z.tolist(), _LOG_WEIGHTS.tolist(), strict=True):
        total = total + float(np.exp(log_weight)) * function(mean + z * sd)
    return total


class Tilted(NamedTuple):
    """Log normaliser, mean and variance of a normal density times a function, normalised."""

    log_normaliser: Float[Array, "..."]
    mean: Float[Array, "..."]
    variance: Float[Array, "..."]


def _mode(
    slopes: Callable[[Array], Slopes],
    mean: Float[Array, "..."],
    variance: Float[Array, "..."],
    start: Float[Array, "..."],
) -> Float[Array, "..."]:
    """Mode of N(mean, variance) times a log-concave density: Newton's steps, halvings of a bracket where they leave it.

    It lies between the mean and a step from there along the slope, as the slope only falls.
    """
    other = mean + variance * slopes(mean).first
    low, high = jnp.minimum(mean, other), jnp.maximum(mean, other)

    def unfinished(carry: tuple[Array, Array, Array, Array, Array]) -> Array:
        return (carry[0] < _NEWTON) & carry[-1]

    def step(carry: tuple[Array, Array, Array, Array, Array]) -> tuple[Array, Array, Array, Array, Array]:
        number, at, low, high, _ = carry
        first, second = slopes(at)
        slope, curvature = first - (at - mean) / variance, 1 / variance - second
        low, high = jnp.where(slope > 0, at, low), jnp.where(slope < 0, at, high)
        move = slope / curvature
        inside = (at + move >= low) & (at + move <= high)
        more = jnp.any(jnp.abs(move) * jnp.sqrt(curvature) > _SMALL)
        return number + 1, jnp.where(inside, at + move, 0.5 * (low + high)), low, high, more

    begin = (jnp.zeros((), int), jnp.clip(start, low, high), low, high, jnp.ones((), bool))
    return jax.lax.while_loop(unfinished, step, begin)[1]


def tilted(
    log_density: Callable[[Array], Array],
    slopes: Callable[[Array], Slopes],
    mean: Float[Array, "..."],
    variance: Float[Array, "..."],
    start: Float[Array, "..."],
) -> Tilted:
    """Moments of N(mean, variance) times exp(log_density), which is concave.

    Gauss-Hermite quadrature around the mode of the product, with its curvature (Naylor and Smith 1982): the nodes lie
    where the product is, however sharp the density is beside the normal. start: roughly where that is.
    """
    mode = _mode(slopes, mean, variance, start)
    width = 1 / jnp.sqrt(1 / variance - slopes(mode).second)

    def log_ratio(z: float) -> Array:
        f = mode + z * width
        return log_density(f) - 0.5 * (f - mean) ** 2 / variance + 0.5 * z**2

    nodes = list(zip(_z.tolist(), _LOG_WEIGHTS.tolist(), strict=True))
    logs = [log_ratio(z) + log_weight for z, log_weight in nodes]
    largest = jnp.max(jnp.stack(logs), axis=0)
    shares = [jnp.exp(one - largest) for one in logs]
    total = sum(shares[1:], start=shares[0])
    first = sum((z * s for (z, _), s in zip(nodes, shares, strict=True)), start=jnp.zeros_like(mean)) / total
    spread = sum(((z - first) ** 2 * s for (z, _), s in zip(nodes, shares, strict=True)), start=jnp.zeros_like(mean))
    log_normaliser = jnp.log(total) + largest + jnp.log(width) - 0.5 * jnp.log(variance)
    return Tilted(log_normaliser, mode + first * width, width**2 * spread / total)
