"""Spectral mixtures: sums of cycles that come and go."""

from __future__ import annotations

import numpy as np

from probtensor.errors import ModelError
from probtensor.kernels.base import AbstractKernel
from probtensor.kernels.combinations import Sum
from probtensor.kernels.periodic import Cosine
from probtensor.kernels.rbf import RBF


def SpectralMixture(n: int, envelope: AbstractKernel | None = None) -> AbstractKernel:
    """A sum of n waves, each times an envelope: n kernels ``Cosine() * envelope``, added.

    Use it to find cycles whose periods nobody knows. Periods start from the strongest cycles that the
    data have along the mode, and each wave has a variance of its own. With the default envelope the spectral density is
    a mixture of Gaussians, at 1 / period and as wide as 1 / (2 pi lengthscale). State size 2 n times that of the
    envelope: 12 n by default, 4 n with ``Matern(3/2)``, which is exact and cheaper.

    Args:
        n: number of waves.
        envelope: how a wave comes and goes, `RBF` by default; its lengthscale is how long the phase is kept.

    Raises:
        ModelError: n is not a positive integer, or the envelope is not a kernel.

    Source: Wilson and Adams 2013, Gaussian process kernels for pattern discovery and extrapolation, eq. 12.
    """
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise ModelError(f"SpectralMixture({n!r}): the number of waves must be a positive integer")
    envelope = RBF() if envelope is None else envelope
    if not isinstance(envelope, AbstractKernel):
        raise ModelError(f"SpectralMixture(envelope={envelope!r}): expected a kernel such as pt.RBF()")
    waves = tuple(Cosine() * envelope for _ in range(n))
    return waves[0] if n == 1 else Sum(waves)
