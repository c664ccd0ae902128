"""Counts: a rate that is the exponential of the signal, times an exposure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln
from scipy.special import betainc, expit, pdtr
from scipy.special import gammaln as host_gammaln

from probtensor import hyperparameters
from probtensor.axes import Axis
from probtensor.hyperparameters import Declaration, Parameter, within
from probtensor.likelihoods import concave, whole
from probtensor.likelihoods.base import AbstractBoundLikelihood, AbstractLikelihood, Moments, Objection, Pseudo
from probtensor.likelihoods.climbing import climb
from probtensor.likelihoods.expectations import Slopes
from probtensor.likelihoods.predictive import AbstractPredictive
from probtensor.likelihoods.whole import AbstractWhole
from probtensor.observations.domain import Domain, Observations
from probtensor.typing import Array, Float

#: What the argument is called that comes with the data.
EXPOSURE = "exposure"
#: Added to counts before their logarithm is taken, for starts and defaults.
_HALF = 0.5
#: Rates above the exponential of this are as good as infinite, and are not formed.
_LARGEST_LOG = 80.0
#: Counts above this are drawn as normal numbers: their random generator ends soon after.
_HUGE = 1e15
#: Dispersion at the start of learning, and its limits.
_DISPERSION, _LEAST, _MOST = 0.5, 1e-6, 1e3


def _exposure(observations: Observations) -> Float[Array, "..."]:
    return observations.known.get(EXPOSURE, jnp.ones((), observations.values.dtype))


def _rate(f: Float[Array, "..."]) -> Float[Array, "..."]:
    """exp(f), and beyond what can be multiplied still growing, so that no density grows where a count is impossible."""
    return jnp.exp(jnp.minimum(f, _LARGEST_LOG)) * (1 + jnp.maximum(f - _LARGEST_LOG, 0.0))


class _AbstractCounts(AbstractLikelihood):
    """Counts of a rate times an exposure."""

    exposure: eqx.AbstractVar[Any]

    @property
    def additive(self) -> bool:
        """No, their exponentials multiply."""
        return False

    @property
    def known(self) -> dict[str, Any]:
        """The exposure."""
        return {} if self.exposure is None else {EXPOSURE: self.exposure}

    def objections(self, values: Float[np.ndarray, "..."], known: Mapping[str, np.ndarray]) -> list[Objection]:
        """Negative or fractional counts; exposures that are not above zero."""
        found = [
            Objection(values < 0, "counts must be zero or above"),
            Objection(np.isfinite(values) & (values != np.round(values)), "counts must be whole numbers"),
        ]
        if EXPOSURE in known:
            exposure = known[EXPOSURE]
            bad = np.isfinite(values) & ~(np.isfinite(exposure) & (exposure > 0))
            found.append(Objection(bad, "the exposure of a count must be finite and above zero"))
        return found

    def latent(self, values: Float[np.ndarray, "..."], known: Mapping[str, np.ndarray]) -> Float[np.ndarray, "..."]:
        """Logarithm of count plus one half over exposure."""
        return np.log((values + _HALF) / known.get(EXPOSURE, 1.0))


class Poisson(_AbstractCounts):
    """Counts: y is Poisson with mean exposure * exp(f).

    Args:
        exposure: how long or how much was looked at, above zero: a number, a DataArray that broadcasts to the data, or
            an array of their shape. Predictions away from the data's grid are of exposure 1.
    """

    exposure: Any = None

    def bind(self, axes: Mapping[str, Axis], variance: float) -> BoundPoisson:
        """There is nothing to learn."""
        return BoundPoisson()


class BoundPoisson(AbstractBoundLikelihood):
    """Poisson counts. Expectations are in closed form: E[exp(f)] = exp(m + v / 2)."""

    conjugate: ClassVar[bool] = False

    def by_entry(self, observations: Observations) -> bool:
        """Always."""
        return True

    def start(self, observations: Observations) -> Pseudo:
        """Of a signal that fits every count."""
        exposure = _exposure(observations)
        return Pseudo(jnp.log((observations.values + _HALF) / exposure), observations.values + _HALF)

    def pseudo(self, observations: Observations, moments: Moments) -> Pseudo:
        """In closed form."""
        mean, variance = moments.each
        rate = _exposure(observations) * _rate(mean + 0.5 * variance)
        return concave.from_slopes(mean, observations.values - rate, rate)

    def matched(self, observations: Observations, cavity: Moments) -> Pseudo:
        """By quadrature."""
        return concave.matching(
            _GivenPoisson(observations.values, _exposure(observations)), cavity, self.start(observations)
        )

    def expected_log_likelihood(self, observations: Observations, moments: Moments) -> Float[Array, ""]:
        """Exact."""
        y, (mean, variance) = observations.values, moments.each
        exposure = _exposure(observations)
        each = y * (mean + jnp.log(exposure)) - exposure * _rate(mean + 0.5 * variance) - gammaln(y + 1)
        return jnp.sum(observations.weights * each)

    def log_likelihood(self, observations: Observations, signal: Float[Array, "..."]) -> Float[Array, ""]:
        """The expectation where the signal is certain."""
        return self.expected_log_likelihood(observations, Moments(signal, jnp.zeros_like(signal)))

    def predictive(
        self, mean: np.ndarray, variance: np.ndarray, domain: Domain, known: Mapping[str, np.ndarray]
    ) -> AbstractPredictive:
        """Poisson counts of a log-normal rate."""
        return _Counts(mean, variance, known.get(EXPOSURE, np.ones(())), 0.0)


class _GivenPoisson(NamedTuple):
    """See `concave.Concave`."""

    counts: Float[Array, "..."]
    exposure: Float[Array, "..."]

    def log_density(self, f: Float[Array, "..."]) -> Float[Array, "..."]:
        """Up to a constant."""
        return self.counts * f - self.exposure * _rate(f)

    def slopes(self, f: Float[Array, "..."]) -> Slopes:
        """Of the logarithm."""
        rate = self.exposure * _rate(f)
        return Slopes(self.counts - rate, -rate)


class NegativeBinomial(_AbstractCounts):
    """Counts that vary more than Poisson's: mean mu = exposure * exp(f), variance mu + dispersion * mu^2.

    Args:
        exposure: as for `Poisson`.
        dispersion: above zero; learned by default, with zero the counts are Poisson's.
    """

    exposure: Any = None
    dispersion: Declaration = None

    def bind(self, axes: Mapping[str, Axis], variance: float) -> BoundNegativeBinomial:
        """A number for the dispersion."""
        return BoundNegativeBinomial(hyperparameters.bind(self.dispersion, np.array([_DISPERSION]), "dispersion"))


class BoundNegativeBinomial(AbstractBoundLikelihood):
    """Negative binomial counts with a number for their dispersion."""

    dispersion: Parameter
    conjugate: ClassVar[bool] = False

    def by_entry(self, observations: Observations) -> bool:
        """Always."""
        return True

    def _given(self, observations: Observations, dispersion: Float[Array, ""]) -> _GivenNegativeBinomial:
        return _GivenNegativeBinomial(observations.values, jnp.log(_exposure(observations)), 1 / dispersion)

    def start(self, observations: Observations) -> Pseudo:
        """Of a signal that fits every count."""
        counts = observations.values + _HALF
        size = 1 / self.dispersion.value[0]
        return Pseudo(jnp.log(counts / _exposure(observations)), counts * size / (counts + size))

    def pseudo(self, observations: Observations, moments: Moments) -> Pseudo:
        """By quadrature."""
        return concave.along_gradient(self._given(observations, self.dispersion.value[0]), moments)

    def matched(self, observations: Observations, cavity: Moments) -> Pseudo:
        """By quadrature."""
        return concave.matching(self._given(observations, self.dispersion.value[0]), cavity, self.start(observations))

    def expected_log_likelihood(self, observations: Observations, moments: Moments) -> Float[Array, ""]:
        """By quadrature."""
        return self._expected(observations, moments, self.dispersion.value[0])

    def _expected(self, observations: Observations, moments: Moments, dispersion: Float[Array, ""]) -> Float[Array, ""]:
        given = self._given(observations, dispersion)
        return jnp.sum(observations.weights * (concave.expected(given.log_density, moments) + given.constant()))

    def log_likelihood(self, observations: Observations, signal: Float[Array, "..."]) -> Float[Array, ""]:
        """Exact."""
        given = self._given(observations, self.dispersion.value[0])
        return jnp.sum(observations.weights * (given.log_density(signal) + given.constant()))

    def learn(self, observations: Observations, moments: Moments) -> BoundNegativeBinomial:
        """The dispersion climbs."""
        if not self.dispersion.learned:
            return self
        found = climb(self.dispersion, lambda d: self._expected(observations, moments, d), (_LEAST, _MOST))
        return BoundNegativeBinomial(found)

    def log_prior(self) -> Float[Array, ""]:
        """Of the dispersion."""
        return self.dispersion.log_prior()

    def limited(self) -> BoundNegativeBinomial:
        """The dispersion within its limits."""
        return BoundNegativeBinomial(within(self.dispersion, _LEAST, _MOST))

    def parameters(self) -> dict[str, Parameter]:
        """The dispersion."""
        return {"dispersion": self.dispersion}

    def predictive(
        self, mean: np.ndarray, variance: np.ndarray, domain: Domain, known: Mapping[str, np.ndarray]
    ) -> AbstractPredictive:
        """Negative binomial counts of a log-normal rate."""
        return _Counts(mean, variance, known.get(EXPOSURE, np.ones(())), float(self.dispersion.value[0]))


class _GivenNegativeBinomial(NamedTuple):
    """See `concave.Concave`; size: 1 / dispersion."""

    counts: Float[Array, "..."]
    log_exposure: Float[Array, "..."]
    size: Float[Array, ""]

    def _log_odds(self, f: Float[Array, "..."]) -> Float[Array, "..."]:
        return f + self.log_exposure - jnp.log(self.size)

    def constant(self) -> Float[Array, "..."]:
        """What of the log density does not depend on the signal."""
        y = self.counts
        return gammaln(y + self.size) - gammaln(self.size) - gammaln(y + 1)

    def log_density(self, f: Float[Array, "..."]) -> Float[Array, "..."]:
        """But for the constant."""
        odds = self._log_odds(f)
        return self.counts * odds - (self.counts + self.size) * jax.nn.softplus(odds)

    def slopes(self, f: Float[Array, "..."]) -> Slopes:
        """Of the logarithm."""
        share = jax.nn.sigmoid(self._log_odds(f))
        total = self.counts + self.size
        return Slopes(self.counts - total * share, -total * share * (1 - share))


class _Counts(AbstractWhole):
    """Counts around a log-normal rate; dispersion 0: Poisson."""

    def __init__(
        self,
        mean: Float[np.ndarray, "..."],
        variance: Float[np.ndarray, "..."],
        exposure: Float[np.ndarray, "..."],
        dispersion: float,
    ) -> None:
        self._mean, self._variance, self._exposure, self._dispersion = mean, variance, exposure, dispersion
        self._size = np.inf if dispersion == 0 else 1 / dispersion

    @property
    def mean(self) -> Float[np.ndarray, "..."]:
        """exposure * exp(m + v / 2)."""
        return self._exposure * whole.exp(self._mean + 0.5 * self._variance)

    @property
    def signal_sd(self) -> Float[np.ndarray, "..."]:
        """Of the rate, times the exposure."""
        return self.mean * np.sqrt(np.expm1(self._variance))

    @property
    def sd(self) -> Float[np.ndarray, "..."]:
        """By the law of total variance."""
        mean, spread = self.mean, np.expm1(self._variance)
        return np.sqrt(mean) * np.sqrt(1 + mean * (spread + self._dispersion * (1 + spread)))

    @property
    def _shift(self) -> Float[np.ndarray, "..."]:
        return np.log(self._exposure) - (0.0 if self._dispersion == 0 else np.log(self._size))

    def _given(self, values: Float[np.ndarray, "..."]) -> whole.Given:
        return whole.Given(values, np.asarray(self._size))

    def _constant(self, values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        own = -host_gammaln(values + 1)
        if self._dispersion == 0:
            return own
        return own + host_gammaln(values + self._size) - host_gammaln(self._size)

    @staticmethod
    def _under(t: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if np.isinf(b).all():
            return pdtr(a - 1, whole.exp(t))
        return betainc(b, a, expit(-t))

    def expected(self, signal: Float[np.ndarray, "n ..."]) -> Float[np.ndarray, "n ..."]:
        """exposure * exp(f)."""
        return self._exposure * whole.exp(signal)

    def draw(self, signal: Float[np.ndarray, "n ..."], random: np.random.Generator) -> Float[np.ndarray, "n ..."]:
        """Counts; of a gamma-distributed rate where they are dispersed. Huge ones are normal around their rate."""
        rate = self.expected(signal)
        if self._dispersion > 0:
            rate = rate * (self._dispersion * random.gamma(self._size, size=np.shape(rate)))
        counts = random.poisson(np.minimum(rate, _HUGE)).astype(float)
        return np.where(rate > _HUGE, np.round(rate + np.sqrt(rate) * random.standard_normal(rate.shape)), counts)
