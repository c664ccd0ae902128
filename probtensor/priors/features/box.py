"""Cosines on a box around the levels, without slope at its walls: the eigenfunctions of the Laplacian there."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np

from probtensor.kernels.base import AbstractKernel
from probtensor.kernels.spectral import spectral_density
from probtensor.linalg.cosines import Waves, waves
from probtensor.priors.features.base import AbstractFeatures, Located, lowest_orders, squares_of
from probtensor.typing import Array, Float

#: The box is as many times longer than the range of the levels.
BOUNDARY = 1.3


class Box(AbstractFeatures):
    """Products of cosines on a box.

    Attributes:
        waves: their orders are numbers of half waves.
        half: (d,) half the box's length in each flat coordinate; inner: (d,) the same of the levels' range.

    Source: Solin and Sarkka 2020 (there with functions that are zero at the walls, which cannot be nearly constant).
    """

    waves: Waves
    half: Float[Array, "d"]
    inner: Float[Array, "d"]

    def locate(self, x: Float[Array, "T d"]) -> Located:
        """Angles from 0 to pi across the box."""
        share = x / self.half.astype(x.dtype)[None]
        inside = jnp.all(jnp.abs(share) <= 1, axis=1)
        rounding = 1e3 * jnp.finfo(x.dtype).eps
        among = jnp.all(jnp.abs(x) <= (1 + rounding) * self.inner.astype(x.dtype)[None], axis=1)
        return Located(0.5 * jnp.pi * (jnp.clip(share, -1, 1) + 1), inside, among)

    def change(self) -> None:
        """The functions are cosines."""

    def steps(self, factors: Float[Array, "d"]) -> Float[Array, "d"]:
        """Half a wave across the box."""
        return 0.5 * jnp.pi / (factors * self.half)

    def squares(self, factors: Float[Array, "d"]) -> Float[Array, "M"]:
        """Eigenvalues of minus the Laplacian."""
        return squares_of(self.waves.orders, self.steps(factors))

    def variances(self, kernel: AbstractKernel, factors: Float[Array, "d"]) -> Float[Array, "R M"]:
        """The kernel's spectral density, for the weights of eigenfunctions: cosines but for their norm."""
        half = factors * self.half
        density = spectral_density(kernel, self.squares(factors), half.shape[0])
        return density / jnp.prod(half[None] * jnp.where(self.waves.orders == 0, 2.0, 1.0), axis=1)[None]

    def lacking(self, kernel: AbstractKernel, located: Located, scales: Float[Array, "R M"]) -> Float[Array, "T R"]:
        """What is left of the kernel's variance beyond the levels' range."""
        squares = jnp.eye(scales.shape[1], dtype=scales.dtype)[:, :, None] * (scales**2).T[None]
        has = self.quadratic(located.angles, squares)
        variance = kernel.covariance(jnp.zeros(1, has.dtype))[:, 0]
        lacking = jnp.maximum(variance[None] - jnp.where(located.inside[:, None], has, 0.0), 0.0)
        return jnp.where(located.among[:, None], 0.0, lacking)

    def limits(self) -> None:
        """Beyond the box there is the prior."""


def box(x: Float[np.ndarray, "T d"], factors: Float[np.ndarray, "d"], size: int) -> Box:
    """A box around levels at x, whose middle is zero; no more functions in a coordinate than its levels tell apart."""
    inner = np.abs(x).max(axis=0)
    half = BOUNDARY * np.where(inner > 0, inner, 1.0)
    most = [math.ceil(BOUNDARY * len(np.unique(column))) for column in x.T]
    orders = lowest_orders(np.pi / (2 * half * factors), most, size)
    return Box(waves(orders), jnp.asarray(half), jnp.asarray(inner))
