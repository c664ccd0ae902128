"""Spectral densities of kernels: how much variance their functions have at each frequency."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from probtensor.errors import ModelError
from probtensor.kernels.base import AbstractKernel
from probtensor.kernels.combinations import Sum
from probtensor.kernels.matern import Matern
from probtensor.kernels.rbf import RBF
from probtensor.typing import Array, Float


def _matern(kernel: Matern, square: Float[Array, "M"], dimensions: int) -> Float[Array, "R M"]:
    """Rasmussen and Williams 2006, eq. 4.15."""
    nu, power = kernel.nu, kernel.nu + dimensions / 2
    # In terms of lengthscale^2 frequency^2 / (2 nu), so that no unit makes a power overflow.
    scale = kernel.lengthscale.value[:, None] / math.sqrt(2 * nu)
    constant = 2**dimensions * math.pi ** (dimensions / 2) * math.gamma(power) / math.gamma(nu)
    shape = scale**dimensions * (1 + scale**2 * square[None]) ** -power
    return constant * kernel.variance.value[:, None] * shape


def _rbf(kernel: RBF, square: Float[Array, "M"], dimensions: int) -> Float[Array, "R M"]:
    """Rasmussen and Williams 2006, page 83."""
    scale = kernel.lengthscale.value[:, None]
    shape = (math.sqrt(2 * math.pi) * scale) ** dimensions * jnp.exp(-0.5 * scale**2 * square[None])
    return kernel.variance.value[:, None] * shape


#: The kernels whose density is known; a new one is entered here, and nowhere else.
_DENSITIES: dict[type[AbstractKernel], Callable[[Any, Array, int], Array]] = {Matern: _matern, RBF: _rbf}


def _parts(kernel: AbstractKernel) -> tuple[AbstractKernel, ...]:
    return kernel.parts if isinstance(kernel, Sum) else (kernel,)


def is_spectral(kernel: AbstractKernel) -> bool:
    """Whether the kernel's spectral density is known here."""
    return all(type(part) in _DENSITIES for part in _parts(kernel))


def check_spectral(kernel: AbstractKernel) -> None:
    """Raises ModelError for a kernel whose spectral density is not known here."""
    for part in _parts(kernel):
        if type(part) not in _DENSITIES:
            known = " and ".join(kind.__name__ for kind in _DENSITIES)
            raise ModelError(
                f"{type(part).__name__} has no spectral density here; a basis takes {known} kernels and their sums"
            )


def spectral_density(kernel: AbstractKernel, square: Float[Array, "M"], dimensions: int) -> Float[Array, "R M"]:
    """Spectral density of an isotropic kernel, whose integral over all frequencies is variance (2 pi)^dimensions.

    Args:
        kernel: bound; `check_spectral` has passed it.
        square: squared lengths of angular frequency vectors, in 1 / unit^2.
        dimensions: of the space.
    """
    first, *others = (_DENSITIES[type(part)](part, square, dimensions) for part in _parts(kernel))
    return sum(others, start=first)


def spectral_shares(kernel: AbstractKernel, square: Float[Array, "M"], dimensions: int) -> Float[Array, "R M"]:
    """The kernel's variance, shared out among M functions in proportion to its spectral density at their frequencies.

    Each part of a sum of kernels shares out its own. Arguments as of `spectral_density`.
    """
    shares = []
    for part in _parts(kernel):
        density = spectral_density(part, square, dimensions)
        variance = part.covariance(jnp.zeros(1, density.dtype))
        shares.append(variance * density / jnp.sum(density, axis=1, keepdims=True))
    return sum(shares[1:], start=shares[0])
