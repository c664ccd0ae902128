"""Cholesky factors of covariances that rounding has made nearly singular, on the host."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import lapack

from probtensor.typing import Float

#: A jitter with which a covariance is not yet positive definite is multiplied by this, a few times.
_GROWTH, _ATTEMPTS = 100.0, 4


class Jittered(NamedTuple):
    """A factor in the lower triangle, with anything above it, and the jitter that it took."""

    factor: Float[np.ndarray, "K K"]
    jitter: float


def jittered(covariance: Float[np.ndarray, "K K"], noise: Float[np.ndarray, "K"], jitter: float) -> Jittered | None:
    """Cholesky factor of a covariance and independent noise, with the least jitter that will do; None if none will.

    One LAPACK call for each jitter, the given one first.
    """
    noisy = np.array(covariance, order="F")
    diagonal = np.diagonal(covariance) + noise
    for _ in range(_ATTEMPTS):
        np.fill_diagonal(noisy, diagonal + jitter)
        factor, failed = lapack.dpotrf(noisy, lower=1, clean=0)
        if not failed and np.isfinite(np.diagonal(factor)).all():
            return Jittered(factor, jitter)
        jitter *= _GROWTH
    return None
