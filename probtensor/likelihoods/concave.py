"""What likelihoods that are log-concave in the signal share: pseudo-observations by quadrature."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import jax.numpy as jnp

from probtensor.likelihoods.base import Moments, Pseudo
from probtensor.likelihoods.expectations import Slopes, expectation, tilted
from probtensor.typing import Array, Float

#: A cavity is never believed to be more certain than this variance, on the scale of logarithms and log odds.
_CERTAIN = 1e-10
#: Precisions below this share of the cavity's are as good as none.
_LEAST = 1e-8


class Concave(Protocol):
    """The likelihood of given values as a function of the signal, entry by entry."""

    def log_density(self, f: Float[Array, "..."]) -> Float[Array, "..."]:
        """log p(y | f) in nats."""

    def slopes(self, f: Float[Array, "..."]) -> Slopes:
        """Its derivatives with respect to f; the second is below zero."""


def along_gradient(given: Concave, moments: Moments) -> Pseudo:
    """Pseudo-observations along the natural gradient of the expected log likelihood."""
    mean, variance = moments.each
    first = expectation(lambda f: given.slopes(f).first, mean, variance)
    precision = -expectation(lambda f: given.slopes(f).second, mean, variance)
    return from_slopes(mean, first, precision)


def from_slopes(mean: Float[Array, "..."], first: Float[Array, "..."], precision: Float[Array, "..."]) -> Pseudo:
    """A pseudo-observation from derivatives at a mean; with hardly any precision its target is that mean's step."""
    floor = jnp.finfo(mean.dtype).tiny ** 0.5
    precision = jnp.maximum(precision, floor)
    return Pseudo(mean + first / precision, precision)


def matching(given: Concave, cavity: Moments, near: Pseudo) -> Pseudo:
    """Pseudo-observations that give the cavity times the likelihood its moments; near: roughly what is given."""
    mean, variance = cavity.each
    variance = jnp.maximum(variance, _CERTAIN)
    start = (mean / variance + near.precision * near.target) / (1 / variance + near.precision)
    found = tilted(given.log_density, given.slopes, mean, variance, start)
    precision = jnp.maximum(1 / found.variance - 1 / variance, _LEAST / variance)
    return Pseudo((found.mean / found.variance - mean / variance) / precision, precision)


def expected(log_density: Callable[[Array], Array], moments: Moments) -> Float[Array, "..."]:
    """E[log p(y | f)] entry by entry."""
    return expectation(log_density, *moments.each)
