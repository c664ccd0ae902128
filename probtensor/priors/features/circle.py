"""Cosines and sines on a circle, or products of them on several."""

from __future__ import annotations

import itertools

import jax.numpy as jnp
import numpy as np

from probtensor.kernels.base import AbstractKernel
from probtensor.kernels.spectral import spectral_shares
from probtensor.linalg.cosines import Waves, waves
from probtensor.priors.features.base import AbstractFeatures, Located, lowest_orders, squares_of
from probtensor.typing import Array, Float


class Circle(AbstractFeatures):
    """Products of cosines and sines of whole multiples of a turn.

    The prior has the same variance everywhere, and is the kernel wrapped around the circle (its sum over all turns),
    scaled back to the kernel's variance.

    Attributes:
        waves: their orders are harmonics; below zero are sines.
        period: (d,) what is one turn, in each flat coordinate.

    Source: Riutort-Mayol et al. 2023, section 3.4 (periodic kernels as harmonics).
    """

    waves: Waves
    period: Float[Array, "d"]

    def locate(self, x: Float[Array, "T d"]) -> Located:
        """Angles from -pi to pi; whole turns cost no digit of the rest."""
        turns = x / self.period.astype(x.dtype)[None]
        everywhere = jnp.ones(x.shape[0], bool)
        return Located(2 * jnp.pi * (turns - jnp.round(turns)), everywhere, everywhere)

    def change(self) -> None:
        """The functions are cosines and sines."""

    def steps(self, factors: Float[Array, "d"]) -> Float[Array, "d"]:
        """One turn."""
        return 2 * jnp.pi / (factors * self.period)

    def squares(self, factors: Float[Array, "d"]) -> Float[Array, "M"]:
        """Eigenvalues of minus the Laplacian."""
        return squares_of(self.waves.orders, self.steps(factors))

    def variances(self, kernel: AbstractKernel, factors: Float[Array, "d"]) -> Float[Array, "R M"]:
        """As the kernel's spectral density, together the kernel's variance."""
        shares = spectral_shares(kernel, self.squares(factors), len(self.waves.sizes))
        return shares * 2.0 ** jnp.sum(self.waves.orders != 0, axis=1).astype(shares.dtype)[None]

    def lacking(self, kernel: AbstractKernel, located: Located, scales: Float[Array, "R M"]) -> Float[Array, "T R"]:
        """Nothing."""
        return jnp.zeros((located.angles.shape[0], scales.shape[0]), scales.dtype)

    def limits(self) -> None:
        """A circle has no end."""


def circle(period: Float[np.ndarray, "d"], factors: Float[np.ndarray, "d"], most: list[int], size: int) -> Circle:
    """At most ``size`` functions of the lowest frequencies, each cosine with its sine.

    most: (d,) highest harmonic.
    """
    harmonics = lowest_orders(2 * np.pi / (period * factors), most, size)
    signs = [list(itertools.product(*((k, -k) if k else (k,) for k in row))) for row in harmonics.tolist()]
    ends = np.cumsum([len(group) for group in signs])
    kept = signs[: max(1, int(np.searchsorted(ends, size, side="right")))]
    return Circle(waves(np.array(list(itertools.chain.from_iterable(kept)))), jnp.asarray(period))
