"""The linear system of a draw: the precision of free white noise given the rest, applied or factored."""

from __future__ import annotations

import functools

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.sparse.linalg import LinearOperator, cg

from probtensor.engines.collapsed.contrasts import Contrasts
from probtensor.engines.collapsed.signal import Signal
from probtensor.typing import Bool, Float

#: Posterior standard deviations by which a solution is off at most, in any direction: the norm of the residual, since
#: no eigenvalue of the precision is below 1. Relative to the data's size it would stop early where the noise is small.
_TOLERANCE = 0.1
#: Free numbers up to which the precision can be factored.
_LARGEST = 4000


class System:
    """The precision I + J' A' D^-1 A J for a signal with derivative J with respect to the free part.

    Attributes:
        noise: the contrasts of residuals.
        held: white noise with zeros in the free part.
        free: which numbers are free.
        size: how many.
    """

    def __init__(
        self, signal: Signal, noise: Contrasts, white: Float[np.ndarray, "P"], free: Bool[np.ndarray, "P"]
    ) -> None:
        """signal: of the terms, linear in the free part; noise: the contrasts of residuals."""
        self.free, self.held, self.size = free, np.where(free, 0.0, white), int(free.sum())
        self._signal, self.noise, self._constant = signal, noise, signal(self.held)
        self._directly = False

    def serves(self, signal: Signal, noise: Contrasts, white: Float[np.ndarray, "P"]) -> bool:
        """Whether it is the system of these, too."""
        same = signal is self._signal and noise is self.noise
        return same and np.array_equal(np.where(self.free, 0.0, white), self.held)

    def whole(self, part: Float[np.ndarray, "F"]) -> Float[np.ndarray, "P"]:
        """White noise with this free part."""
        white = self.held.copy()
        white[self.free] = part
        return white

    def pull(self, contrast: Float[np.ndarray, "N"]) -> Float[np.ndarray, "F"]:
        """J' A' D^-1 times contrasts."""
        return self._signal.pull(self.held, self.noise.weighted @ contrast)[self.free]

    def contrast(self, values: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
        """Of what the held part leaves over."""
        return self.noise.A @ (values - self._constant)

    def _apply(self, part: Float[np.ndarray, "F"]) -> Float[np.ndarray, "F"]:
        return part + self.pull(self.noise.A @ (self._signal(self.whole(part)) - self._constant))

    @functools.cached_property
    def _factor(self) -> tuple[np.ndarray, bool]:
        read, colour = self._signal.derivative(self.held, self.free)
        contrast = self.noise.A @ read
        inner = contrast.T @ contrast.multiply(1 / self.noise.variance[:, None])
        precision = colour.T @ (inner @ colour)
        precision[np.diag_indices_from(precision)] += 1
        return cho_factor(precision, lower=True, overwrite_a=True)

    def solve(
        self, right: Float[np.ndarray, "F"], start: Float[np.ndarray, "F"], iterations: int
    ) -> tuple[Float[np.ndarray, "F"], bool]:
        """The solution, and whether it is one.

        By conjugate gradients; where they do not arrive and there are few enough numbers, by a factor that is kept.
        """
        if not self._directly:
            operator = LinearOperator((self.size, self.size), matvec=self._apply, dtype=right.dtype)
            part, left = cg(operator, right, x0=start, rtol=0.0, atol=_TOLERANCE, maxiter=iterations)
            if not left or self.size > _LARGEST:
                return part, not left
            self._directly = True
        return cho_solve(self._factor, right), True
