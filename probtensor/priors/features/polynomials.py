"""Orthogonal polynomials on an interval, or products of them on a box that is its own domain."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from scipy.special import gammaln

from probtensor.kernels.base import AbstractKernel
from probtensor.kernels.spectral import spectral_shares
from probtensor.linalg.cosines import Waves, waves
from probtensor.priors.features.base import AbstractFeatures, Limits, Located, lowest_orders, squares_of
from probtensor.typing import Array, Float, Int


class Polynomials(AbstractFeatures):
    """Chebyshev polynomials T_k(cos a) = cos(k a), or Legendre polynomials as sums of them.

    The prior is a process in the angle a. The kernel's lengthscale is in the coordinate's unit, and is what it says at
    the middle of the domain: towards the ends it is shorter, since short waves cost little smoothness there.

    Attributes:
        waves: their orders are the degrees.
        half: (d,) half the domain's length in each flat coordinate; slack: (d,) what may be rounding beyond it.
        legendre: (M, M) Chebyshev coefficients of the orthonormal Legendre polynomials, a column each; None: the
            functions are Chebyshev's.

    Source: Trefethen 2013, Approximation Theory and Approximation Practice; Gu et al. 2020, HiPPO (Legendre).
    """

    waves: Waves
    half: Float[Array, "d"]
    slack: Float[Array, "d"]
    legendre: Float[Array, "M M"] | None

    def locate(self, x: Float[Array, "T d"]) -> Located:
        """Angles from pi to 0 across the domain; beyond it there is the prior."""
        half = self.half.astype(x.dtype)[None]
        room = 2 * self.slack.astype(x.dtype)[None] + 1e3 * jnp.finfo(x.dtype).eps * half
        inside = jnp.all(jnp.abs(x) <= half + room, axis=1)
        return Located(jnp.arccos(jnp.clip(x / half, -1, 1)), inside, inside)

    def change(self) -> Float[Array, "M M"] | None:
        """From Chebyshev polynomials to Legendre's."""
        return self.legendre

    def steps(self, factors: Float[Array, "d"]) -> Float[Array, "d"]:
        """One over half the domain: cos(k a) has frequency k in the angle."""
        return 1 / (factors * self.half)

    def squares(self, factors: Float[Array, "d"]) -> Float[Array, "M"]:
        """k^2 for Chebyshev's, k (k + 1) for Legendre's: the eigenvalues of the operators they belong to."""
        return squares_of(self.waves.orders, self.steps(factors), 0 if self.legendre is None else 1)

    def variances(self, kernel: AbstractKernel, factors: Float[Array, "d"]) -> Float[Array, "R M"]:
        """Of the weights of orthonormal functions as the kernel's spectral density, together the kernel's variance."""
        shares = spectral_shares(kernel, self.squares(factors), len(self.waves.sizes))
        if self.legendre is not None:
            return shares
        return shares * 2.0 ** jnp.sum(self.waves.orders > 0, axis=1).astype(shares.dtype)[None]

    def lacking(self, kernel: AbstractKernel, located: Located, scales: Float[Array, "R M"]) -> Float[Array, "T R"]:
        """All of the variance outside the domain."""
        variance = kernel.covariance(jnp.zeros(1, scales.dtype))[:, 0]
        return jnp.where(located.inside[:, None], 0.0, variance[None])

    def limits(self) -> Limits:
        """Of the domain: what a polynomial is beyond it says nothing of the data."""
        return Limits(np.asarray(self.half, dtype=float), np.asarray(self.slack, dtype=float))


def polynomials(
    kind: str,
    half: Float[np.ndarray, "d"],
    slack: Float[np.ndarray, "d"],
    factors: Float[np.ndarray, "d"],
    most: list[int],
    size: int,
) -> Polynomials:
    """The ``"chebyshev"`` or ``"legendre"`` polynomials of the lowest frequencies.

    slack: (d,) what may be rounding beyond the domain; most: (d,) highest degree.
    """
    # The set has with each degree all that are lower in every coordinate: Legendre's are sums of Chebyshev's in it.
    orders = lowest_orders(1 / (half * factors), most, size, bend=int(kind == "legendre"))
    legendre = jnp.asarray(legendre_in_chebyshev(orders)) if kind == "legendre" else None
    return Polynomials(waves(orders), jnp.asarray(half), jnp.asarray(slack), legendre)


def legendre_in_chebyshev(degrees: Int[np.ndarray, "M d"]) -> Float[np.ndarray, "M M"]:
    """Chebyshev coefficients, of these degrees, of the Legendre polynomials of these degrees with mean square one.

    P_n(cos a) is the sum over j from 0 to n of c_j c_(n-j) cos((n - 2j) a), c_j = (2j choose j) / 4^j: all positive,
    so no digit is lost.

    Source: Szego 1939, eq. 4.9.3.
    """
    n = np.arange(int(degrees.max()) + 1)
    c = np.exp(gammaln(n + 0.5) - gammaln(n + 1)) / np.sqrt(np.pi)
    table = np.zeros((len(n), len(n)))
    for degree in n:
        np.add.at(table[:, degree], np.abs(degree - 2 * n[: degree + 1]), c[: degree + 1] * c[: degree + 1][::-1])
    table *= np.sqrt(2 * n + 1)[None]
    parts = [table[np.ix_(column, column)] for column in degrees.T]
    return np.prod(parts, axis=0)
