"""Distributions of whole numbers given a normal signal: what counts and successes share, in NumPy.

Given the signal f, both have a log probability that is a constant plus a t - exp(t) (Poisson) or a t - (a + b)
softplus(t) (negative binomial, binomial), with t the signal plus a shift. As a function of t that is the density of the
logarithm of a gamma variable, or of the log odds of a beta one, and the probability of at most y is that such a
variable, with a = y + 1, exceeds t. So both expectations over f are integrals of one log-concave function.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import expit, ndtr

from probtensor.likelihoods.predictive import AbstractPredictive, in_parts, over_signal
from probtensor.typing import Float

#: Nodes of the trapezoidal rule, and how far the logarithm of the integrand falls at its ends.
_NODES, _FALL = 97, 36.0
#: Newton steps to a mode, at most, and the step that is none, in units of the function's width.
_STEPS, _SMALL = 80, 1e-3
#: Logarithms above this are not taken the exponential of.
_LARGEST_LOG = 700.0
#: Below this b the far tail of the log odds is too long for equally spaced nodes.
_LEAST_B = 0.5
#: A width below this share of the normal's sd is none.
_CERTAIN = 1e-6


def exp(f: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """The exponential, at most 1e304."""
    return np.exp(np.minimum(f, _LARGEST_LOG))


class Given(NamedTuple):
    """Log density of t, up to a constant: a t - exp(t) where b is infinite, otherwise a t - (a + b) softplus(t)."""

    a: Float[np.ndarray, "..."]
    b: Float[np.ndarray, "..."]

    @property
    def _log(self) -> np.ndarray:
        return np.isinf(self.b)

    def value(self, t: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Itself."""
        b = np.where(self._log, 1.0, self.b)
        odds = -self.a * np.logaddexp(0.0, -t) - b * np.logaddexp(0.0, t)
        return np.where(self._log, self.a * t - exp(t), odds)

    def slopes(self, t: Float[np.ndarray, "..."]) -> tuple[np.ndarray, np.ndarray]:
        """First derivative, and minus the second."""
        b, yes, no = np.where(self._log, 1.0, self.b), expit(t), expit(-t)
        first = np.where(self._log, self.a - exp(t), self.a * no - b * yes)
        return first, np.where(self._log, exp(t), (self.a + b) * yes * no)

    def guess(self) -> tuple[np.ndarray, np.ndarray]:
        """About where it is largest, and its curvature there; finite for a = 0 too."""
        a, b = self.a + 0.5, np.where(self._log, 1.0, self.b + 0.5)
        return np.log(a / b), np.where(self._log, a, a * b / (a + b))

    @property
    def mode(self) -> Float[np.ndarray, "..."]:
        """Where it is largest; a and b above zero."""
        return np.log(self.a / np.where(self._log, 1.0, self.b))

    @property
    def width(self) -> Float[np.ndarray, "..."]:
        """Its curvature at the mode as a standard deviation."""
        return np.sqrt(1 / self.a + np.where(self._log, 0.0, 1 / self.b))


def _nodes(
    function: Callable[[np.ndarray], np.ndarray], mode: np.ndarray, width: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(k, nodes) places that reach to where a log-concave function of (k, 1) has fallen, and the distance of two."""
    top, ends = function(mode), []
    for side in (-1.0, 1.0):
        reach = 4.0 * width
        while (near := top - function(mode + side * reach) < _FALL).any():
            reach = np.where(near, 1.6 * reach, reach)
        ends.append(reach)
    t = mode - ends[0] + (ends[0] + ends[1]) * np.linspace(0.0, 1.0, _NODES)
    return t, (ends[0] + ends[1]) / (_NODES - 1)


def _mode(given: Given, mean: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mode of a normal density of t times what is given, and its curvature there as a standard deviation."""
    target, precision = given.guess()
    first = given.slopes(mean)[0]
    low, high = np.minimum(mean, mean + variance * first), np.maximum(mean, mean + variance * first)
    t = np.clip((mean / variance + precision * target) / (1 / variance + precision), low, high)
    for _ in range(_STEPS):
        first, curvature = given.slopes(t)
        curvature = curvature + 1 / variance
        slope = first - (t - mean) / variance
        low, high = np.where(slope > 0, t, low), np.where(slope < 0, t, high)
        step = slope / curvature
        inside = (t + step >= low) & (t + step <= high)
        t = np.where(inside, t + step, 0.5 * (low + high))
        if (np.abs(step) * np.sqrt(curvature) < _SMALL).all():
            break
    return t, 1 / np.sqrt(given.slopes(t)[1] + 1 / variance)


def log_mean_probability(
    given: Given, mean: Float[np.ndarray, "..."], variance: Float[np.ndarray, "..."]
) -> Float[np.ndarray, "..."]:
    """log E[exp(given)] for a normal t with this mean and variance; however narrow the one is beside the other."""

    def each(m: np.ndarray, v: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        own = Given(a, b)
        certain, v = v == 0, np.where(v == 0, 1.0, v)
        mode, width = _mode(own, m, v)

        def product(t: np.ndarray) -> np.ndarray:
            return own.value(t) - 0.5 * (t - m) ** 2 / v

        t, apart = _nodes(product, mode, width)
        logs = product(t)
        top = logs.max(axis=1, keepdims=True)
        total = np.log(np.exp(logs - top).sum(axis=1, keepdims=True)) + top
        return np.where(certain, own.value(m), total + np.log(apart) - 0.5 * np.log(2 * np.pi * v))[:, 0]

    return in_parts(each, _NODES, mean, variance, given.a, given.b)


def _exceeds(
    given: Given, mean: Float[np.ndarray, "..."], variance: Float[np.ndarray, "..."]
) -> Float[np.ndarray, "..."]:
    """Probability that a variable with the given density is above a normal one, which is wider."""

    def each(m: np.ndarray, v: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        own = Given(a, b)
        t, _ = _nodes(own.value, own.mode, own.width)
        logs = own.value(t)
        shares = np.exp(logs - logs.max(axis=1, keepdims=True))
        return np.sum(shares * ndtr((t - m) / np.sqrt(v)), axis=1) / shares.sum(axis=1)

    return in_parts(each, _NODES, mean, variance, given.a, given.b)


def mean_distribution(
    under: Callable[..., np.ndarray],
    given: Given,
    mean: Float[np.ndarray, "..."],
    variance: Float[np.ndarray, "..."],
) -> Float[np.ndarray, "..."]:
    """E[under(t, a, b)] for a normal t, where under is the probability that the given variable exceeds t.

    Nodes are on the scale of whichever of the two is narrower.
    """
    shape = np.broadcast_shapes(*(np.shape(x) for x in (mean, variance, given.a, given.b)))
    m, v, a, b = (np.broadcast_to(x, shape).ravel() for x in (mean, variance, given.a, given.b))
    given = Given(a, b)
    narrow = (np.sqrt(v) > given.width) & (b >= _LEAST_B)
    certain = given.width < _CERTAIN * np.sqrt(v)
    # Where the given variable is as good as certain, that is the normal's own distribution.
    out = ndtr((given.mode - m) / np.sqrt(np.where(v > 0, v, 1.0)))
    for chosen, how in ((narrow & ~certain, None), (~narrow & ~certain, under)):
        if chosen.any():
            own = (m[chosen], v[chosen], a[chosen], b[chosen])
            out[chosen] = over_signal(how, *own) if how else _exceeds(Given(*own[2:]), *own[:2])
    return out.reshape(shape)


class AbstractWhole(AbstractPredictive):
    """Whole numbers from zero, given a normal signal."""

    _mean: Float[np.ndarray, "..."]
    _variance: Float[np.ndarray, "..."]

    @property
    def signal(self) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
        """As given."""
        return self._mean, self._variance

    @property
    @abc.abstractmethod
    def _shift(self) -> Float[np.ndarray, "..."]:
        """What is added to the signal to give t."""

    @property
    def _most(self) -> Float[np.ndarray, "..."]:
        """The largest number that is possible."""
        return np.asarray(np.inf)

    @abc.abstractmethod
    def _given(self, values: Float[np.ndarray, "..."]) -> Given:
        """The probability of possible values as a function of t."""

    @abc.abstractmethod
    def _constant(self, values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """What that lacks of the log probability."""

    @staticmethod
    @abc.abstractmethod
    def _under(t: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Probability of at most a - 1 at t."""

    def log_density(self, values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Log probability; minus infinity for what cannot be."""
        values = np.asarray(values, float)
        with np.errstate(invalid="ignore"):
            possible = np.isfinite(values) & (values >= 0) & (values <= self._most) & (values == np.floor(values))
        at = np.where(possible, values, 0.0)
        found = log_mean_probability(self._given(at), self._mean + self._shift, self._variance)
        return np.where(possible, found + self._constant(at), -np.inf)

    def distribution(self, values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Probability of at most these values."""
        values = np.floor(np.asarray(values, float))
        inside = (values >= 0) & (values < self._most)
        at = np.where(inside, values, 0.0)
        # A number of trials of zero has no beta variable; nothing is inside then.
        given = self._given(at)
        given = Given(at + 1.0, np.where(inside | np.isinf(given.b), given.b, 1.0))
        found = mean_distribution(self._under, given, self._mean + self._shift, self._variance)
        return np.where(inside, np.clip(found, 0.0, 1.0), np.where(values < 0, 0.0, 1.0))

    def quantile(self, level: float) -> Float[np.ndarray, "..."]:
        """The least whole number that is reached with this probability; infinite where it is above 1e300."""
        return whole_quantile(self.distribution, level, self.mean)


#: No whole number is looked for above this.
_MOST_OF_ALL = 1e300


def whole_quantile(
    distribution: Callable[[np.ndarray], np.ndarray], level: float, guess: Float[np.ndarray, "..."]
) -> Float[np.ndarray, "..."]:
    """The least whole number at which a distribution on 0, 1, 2, ... reaches a level; the search starts at a guess.

    Above 2^53 to the precision of such numbers, infinite above 1e300.
    """
    low, high = np.full(np.shape(guess), -1.0), np.ceil(np.clip(guess, 1.0, _MOST_OF_ALL))
    while (short := (distribution(high) < level) & (high < _MOST_OF_ALL)).any():
        low, high = np.where(short, high, low), np.where(short, np.minimum(2 * high + 1, _MOST_OF_ALL), high)
    beyond = (high >= _MOST_OF_ALL) & (distribution(high) < level)
    low = np.where(beyond, high, low)
    while (open_ := high - low > np.maximum(1.0, 4 * np.finfo(float).eps * high)).any():
        # Large numbers are halved on the scale of their logarithm, which their range is much longer than.
        far = high > 16 * np.maximum(low, 1.0)
        middle = np.where(far, np.sqrt(np.maximum(low, 1.0)) * np.sqrt(high), 0.5 * (low + high))
        middle = np.clip(np.floor(middle), low + 1, high - 1)
        reached = distribution(middle) >= level
        low, high = np.where(open_ & ~reached, middle, low), np.where(open_ & reached, middle, high)
    return np.where(beyond, np.inf, high)
