"""Expectations of smooth functions of a normal signal, entry by entry."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from probtensor.typing import Array, Float

#: Nodes of the Gauss-Hermite rule: exact for polynomials of degree 39.
_NODES = 20
#: Newton steps to the mode of cavity times likelihood; each is cut to so many standard deviations of the cavity.
_NEWTON, _LARGEST = 12, 2.0

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


def tilted(
    log_density: Callable[[Array], Array],
    slopes: Callable[[Array], Slopes],
    mean: Float[Array, "..."],
    variance: Float[Array, "..."],
) -> Tilted:
    """Moments of N(mean, variance) times exp(log_density), which is concave.

    Gauss-Hermite quadrature around the mode of the product, with its curvature (Naylor and Smith 1982): the nodes lie
    where the product is, however sharp the density is beside the normal.
    """
    sd = jnp.sqrt(variance)
    mode = mean
    for _ in range(_NEWTON):
        first, second = slopes(mode)
        step = (first - (mode - mean) / variance) / (1 / variance - second)
        mode = mode + jnp.clip(step, -_LARGEST * sd, _LARGEST * sd)
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
    log_normaliser = jnp.log(total) + largest + jnp.log(width / sd)
    return Tilted(log_normaliser, mode + first * width, width**2 * spread / total)
