"""Spectral densities of kernels: how much variance their functions have at each frequency."""

from __future__ import annotations

import math

from probtensor.errors import ModelError
from probtensor.kernels.base import AbstractKernel
from probtensor.kernels.combinations import Sum
from probtensor.kernels.matern import Matern
from probtensor.typing import Array, Float


def check_spectral(kernel: AbstractKernel) -> None:
    """Raises ModelError for a kernel whose spectral density is not known here."""
    for part in kernel.parts if isinstance(kernel, Sum) else (kernel,):
        if not isinstance(part, Matern):
            raise ModelError(
                f"{type(part).__name__} has no spectral density here; a basis takes Matern kernels and their sums"
            )


def spectral_density(kernel: AbstractKernel, square: Float[Array, "M"], dimensions: int) -> Float[Array, "R M"]:
    """Spectral density of an isotropic kernel, whose integral over all frequencies is variance (2 pi)^dimensions.

    Args:
        kernel: bound; `check_spectral` has passed it.
        square: squared lengths of angular frequency vectors, in 1 / unit^2.
        dimensions: of the space.

    Source: Rasmussen and Williams 2006, eq. 4.15.
    """
    if isinstance(kernel, Sum):
        first, *others = (spectral_density(part, square, dimensions) for part in kernel.parts)
        return sum(others, start=first)
    assert isinstance(kernel, Matern)
    nu, power = kernel.nu, kernel.nu + dimensions / 2
    # In terms of lengthscale^2 frequency^2 / (2 nu), so that no unit makes a power overflow.
    scale = kernel.lengthscale.value[:, None] / math.sqrt(2 * nu)
    constant = 2**dimensions * math.pi ** (dimensions / 2) * math.gamma(power) / math.gamma(nu)
    shape = scale**dimensions * (1 + scale**2 * square[None]) ** -power
    return constant * kernel.variance.value[:, None] * shape
