"""Data modelled on another scale: what is normal is a function of the values."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import ndtr, ndtri

from probtensor.likelihoods.predictive import AbstractNoisy, AbstractPredictive, real_quantile
from probtensor.likelihoods.standard import Placing
from probtensor.typing import Float


class LogNormal(AbstractNoisy):
    """exp(f + e) with a normal signal f and normal noise e; arguments as `AbstractNoisy`."""

    @property
    def mean(self) -> Float[np.ndarray, "..."]:
        """exp(m + s^2 / 2), the variances of signal and noise included."""
        return np.exp(self._mean + 0.5 * self._total)

    @property
    def sd(self) -> Float[np.ndarray, "..."]:
        """Of the log-normal distribution."""
        return self.mean * np.sqrt(np.expm1(self._total))

    @property
    def signal_sd(self) -> Float[np.ndarray, "..."]:
        """Of exp(f + noise variance / 2)."""
        return self.mean * np.sqrt(np.expm1(self._variance))

    def quantile(self, level: float) -> Float[np.ndarray, "..."]:
        """The exponential of the normal one."""
        return np.exp(self._mean + ndtri(level) * np.sqrt(self._total))

    def log_density(self, values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Minus infinity for values that are not above zero."""
        log, total = np.log(np.where(values > 0, values, 1.0)), self._total
        own = -0.5 * (log - self._mean) ** 2 / total - 0.5 * np.log(2 * np.pi * total) - log
        return np.where(values > 0, own, -np.inf)

    def distribution(self, values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Of the logarithm."""
        log = np.log(np.where(values > 0, values, 1.0))
        return np.where(values > 0, ndtr((log - self._mean) / np.sqrt(self._total)), 0.0)

    def expected(self, signal: Float[np.ndarray, "n ..."]) -> Float[np.ndarray, "n ..."]:
        """exp(f + noise variance / 2)."""
        return np.exp(self._placed(signal) + 0.5 * self.noise)

    def draw(self, signal: Float[np.ndarray, "n ..."], random: np.random.Generator) -> Float[np.ndarray, "n ..."]:
        """The exponential of signal and noise."""
        return np.exp(self._noisy(signal, random))


class SquaredNormal(AbstractNoisy):
    """(f + e)^2 with a normal signal f and normal noise e: a scaled noncentral chi-square of one degree of freedom.

    Arguments as `AbstractNoisy`.
    """

    @property
    def mean(self) -> Float[np.ndarray, "..."]:
        """m^2 plus the variances of signal and noise."""
        return self._mean**2 + self._total

    @property
    def sd(self) -> Float[np.ndarray, "..."]:
        """Root of 2 s^4 + 4 m^2 s^2."""
        return np.sqrt(2 * self._total**2 + 4 * self._mean**2 * self._total)

    @property
    def signal_sd(self) -> Float[np.ndarray, "..."]:
        """Of f^2 + noise variance."""
        return np.sqrt(2 * self._variance**2 + 4 * self._mean**2 * self._variance)

    def quantile(self, level: float) -> Float[np.ndarray, "..."]:
        """The square of that of the normal one's size."""
        sd = np.sqrt(self._total)
        return real_quantile(lambda r: self.distribution(np.maximum(r, 0.0) ** 2), level, np.abs(self._mean), sd) ** 2

    def log_density(self, values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Both roots together; minus infinity for values that are not above zero."""
        sd, root = np.sqrt(self._total), np.sqrt(np.where(values > 0, values, 1.0))
        both = np.logaddexp(-0.5 * ((root - self._mean) / sd) ** 2, -0.5 * ((root + self._mean) / sd) ** 2)
        own = both - np.log(2 * root * sd) - 0.5 * np.log(2 * np.pi)
        return np.where(values > 0, own, -np.inf)

    def distribution(self, values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """The normal one between the two roots."""
        root, sd = np.sqrt(np.maximum(values, 0.0)), np.sqrt(self._total)
        return ndtr((root - self._mean) / sd) - ndtr((-root - self._mean) / sd)

    def expected(self, signal: Float[np.ndarray, "n ..."]) -> Float[np.ndarray, "n ..."]:
        """f^2 + noise variance."""
        return self._placed(signal) ** 2 + self.noise

    def draw(self, signal: Float[np.ndarray, "n ..."], random: np.random.Generator) -> Float[np.ndarray, "n ..."]:
        """The square of signal and noise."""
        return self._noisy(signal, random) ** 2


class Transform(NamedTuple):
    """A scale for positive data.

    forward: from the data's scale; back: the distribution of new observations, from mean and variance of the signal,
    variance of the noise and their placing; zero: whether zero has an image.
    """

    forward: Callable[[np.ndarray], np.ndarray]
    back: Callable[[np.ndarray, np.ndarray, np.ndarray, Placing], AbstractPredictive]
    zero: bool

    def impossible(self, values: Float[np.ndarray, "..."]) -> np.ndarray:
        """True at values without an image."""
        return values < 0 if self.zero else values <= 0


TRANSFORMS = {"log": Transform(np.log, LogNormal, False), "sqrt": Transform(np.sqrt, SquaredNormal, True)}
