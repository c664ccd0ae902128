"""Distributions of new observations: means, quantiles, densities and draws on the data's own scale, in NumPy.

The signal f is normal with the moments of the posterior; an observation is drawn given f.
"""

from __future__ import annotations

import abc
from collections.abc import Callable

import numpy as np
from scipy.special import ndtr, ndtri

from probtensor.likelihoods.standard import Placing
from probtensor.typing import Float

#: A normal signal is represented by so many equally spaced values within so many standard deviations.
_NODES, _REACH = 65, 6.0
#: Numbers on the way through a mixture at a time, at most.
_CHUNK = 2**22
#: Halvings of a bracket.
_HALVINGS = 60


class AbstractPredictive(abc.ABC):
    """The distribution of new observations, entry by entry."""

    @property
    @abc.abstractmethod
    def mean(self) -> Float[np.ndarray, "..."]:
        """Expected values."""

    @property
    @abc.abstractmethod
    def sd(self) -> Float[np.ndarray, "..."]:
        """Standard deviations."""

    @property
    @abc.abstractmethod
    def signal_sd(self) -> Float[np.ndarray, "..."]:
        """Standard deviations of the expected value given the signal, the part of `sd` that more data would remove."""

    @abc.abstractmethod
    def quantile(self, level: float) -> Float[np.ndarray, "..."]:
        """Quantiles of one level in (0, 1); of counts whole numbers.

        Args:
            level: the probability.
        """

    @abc.abstractmethod
    def log_density(self, values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Log density or log probability of values, in nats.

        Args:
            values: one at each entry.
        """

    @abc.abstractmethod
    def distribution(self, values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Probability of at most these values.

        Args:
            values: one at each entry.
        """

    @abc.abstractmethod
    def expected(self, signal: Float[np.ndarray, "n ..."]) -> Float[np.ndarray, "n ..."]:
        """Expected values given draws of the signal.

        Args:
            signal: n values at each entry.
        """

    @property
    @abc.abstractmethod
    def signal(self) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
        """Mean and variance of the signal."""

    def sampled(self, n: int, random: np.random.Generator) -> Float[np.ndarray, "n ..."]:
        """n observations at each entry, independent of those at others.

        Args:
            n: how many.
            random: what draws them.
        """
        mean, variance = self.signal
        return self.draw(mean + np.sqrt(variance) * random.standard_normal((n, *np.shape(mean))), random)

    @abc.abstractmethod
    def draw(self, signal: Float[np.ndarray, "n ..."], random: np.random.Generator) -> Float[np.ndarray, "n ..."]:
        """One observation for each draw of the signal.

        Args:
            signal: n values at each entry.
            random: what draws the noise.
        """


class AbstractNoisy(AbstractPredictive):
    """Of observations that are some function of a normal signal plus normal noise.

    mean, variance: (...) of the signal; noise: (...) variances of the noise of new observations; placing: of both where
    they are relative to centre and scale of their level.
    """

    def __init__(
        self,
        mean: Float[np.ndarray, "..."],
        variance: Float[np.ndarray, "..."],
        noise: Float[np.ndarray, "..."],
        placing: Placing = Placing(),
    ) -> None:
        self._signal, self._placing = (mean, variance), placing
        squared = placing.scale**2
        self._mean, self._variance, self.noise = self._placed(mean), squared * variance, squared * noise

    @property
    def signal(self) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
        """As given."""
        return self._signal

    def _placed(self, signal: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Signals in the unit of their level's values."""
        return self._placing.centre + self._placing.scale * signal

    @property
    def _total(self) -> Float[np.ndarray, "..."]:
        return self._variance + self.noise

    def _noisy(self, signal: Float[np.ndarray, "n ..."], random: np.random.Generator) -> Float[np.ndarray, "n ..."]:
        return self._placed(signal) + np.sqrt(self.noise) * random.standard_normal(signal.shape)


class Normal(AbstractNoisy):
    """The sum of both itself."""

    @property
    def mean(self) -> Float[np.ndarray, "..."]:
        """The signal's."""
        return self._mean

    @property
    def sd(self) -> Float[np.ndarray, "..."]:
        """Of signal and noise."""
        return np.sqrt(self._total)

    @property
    def signal_sd(self) -> Float[np.ndarray, "..."]:
        """Of the signal."""
        return np.sqrt(self._variance)

    def quantile(self, level: float) -> Float[np.ndarray, "..."]:
        """Of a normal distribution."""
        return self._mean + ndtri(level) * self.sd

    def log_density(self, values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Of a normal distribution."""
        z = (values - self._mean) / self.sd
        return -0.5 * z**2 - np.log(self.sd) - 0.5 * np.log(2 * np.pi)

    def distribution(self, values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Of a normal distribution."""
        return ndtr((values - self._mean) / self.sd)

    def expected(self, signal: Float[np.ndarray, "n ..."]) -> Float[np.ndarray, "n ..."]:
        """The signal, in the unit of the data."""
        return self._placed(signal)

    def draw(self, signal: Float[np.ndarray, "n ..."], random: np.random.Generator) -> Float[np.ndarray, "n ..."]:
        """Signal and noise."""
        return self._noisy(signal, random)


def in_parts(function: Callable[..., np.ndarray], nodes: int, *arrays: Float[np.ndarray, "..."]) -> np.ndarray:
    """A function of (k, 1) parts of the broadcast arrays, k numbers at a time, so that (k, nodes) stays small."""
    shape = np.broadcast_shapes(*(np.shape(x) for x in arrays))
    flat = [np.broadcast_to(x, shape).ravel() for x in arrays]
    out = np.empty(int(np.prod(shape)))
    step = _CHUNK // nodes
    for start in range(0, out.size, step):
        at = slice(start, start + step)
        out[at] = function(*(x[at, None] for x in flat))
    return out.reshape(shape)


def over_signal(
    function: Callable[..., np.ndarray],
    mean: Float[np.ndarray, "..."],
    variance: Float[np.ndarray, "..."],
    *others: Float[np.ndarray, "..."],
) -> Float[np.ndarray, "..."]:
    """E[function(f, others)] entry by entry for a normal f, by the trapezoidal rule; smooth on the scale of f's sd.

    function: of signals (k, nodes) and (k, 1) of each of the other arrays, for k entries at a time.
    """
    nodes = np.linspace(-_REACH, _REACH, _NODES)
    weights = np.exp(-0.5 * nodes**2)
    weights /= weights.sum()

    def each(m: np.ndarray, v: np.ndarray, *rest: np.ndarray) -> np.ndarray:
        return function(m + np.sqrt(v) * nodes, *rest) @ weights

    return in_parts(each, _NODES, mean, variance, *others)


def real_quantile(
    distribution: Callable[[np.ndarray], np.ndarray],
    level: float,
    centre: Float[np.ndarray, "..."],
    scale: Float[np.ndarray, "..."],
) -> Float[np.ndarray, "..."]:
    """Where a continuous distribution reaches a level: a bracket that grows from the centre by the scale, halved."""
    low, high = centre - scale, centre + scale
    while (above := distribution(low) > level).any():
        low = np.where(above, centre - 2 * (centre - low), low)
    while (below := distribution(high) < level).any():
        high = np.where(below, centre + 2 * (high - centre), high)
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        reached = distribution(middle) >= level
        low, high = np.where(reached, low, middle), np.where(reached, middle, high)
    return 0.5 * (low + high)
