"""Yes or no, and how often of a number of trials: a probability that is the logistic function of the signal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln
from scipy.special import betainc, expit
from scipy.special import gammaln as host_gammaln

from probtensor.axes import Axis
from probtensor.likelihoods import concave, whole
from probtensor.likelihoods.base import AbstractBoundLikelihood, AbstractLikelihood, Moments, Objection, Pseudo
from probtensor.likelihoods.expectations import Slopes
from probtensor.likelihoods.predictive import AbstractPredictive, over_signal
from probtensor.likelihoods.whole import AbstractWhole
from probtensor.observations.domain import Domain, Observations
from probtensor.typing import Array, Float

#: What the argument is called that comes with the data.
TRIALS = "trials"
#: Added to successes and failures before their log odds are taken, for starts and defaults.
_HALF = 0.5


def _log_odds(successes: Any, trials: Any) -> Any:
    module = jnp if isinstance(successes, jax.Array) else np
    return module.log((successes + _HALF) / (trials - successes + _HALF))


class Bernoulli(AbstractLikelihood):
    """Yes (1) or no (0): the probability of 1 is 1 / (1 + exp(-f))."""

    @property
    def additive(self) -> bool:
        """No."""
        return False

    def objections(self, values: Float[np.ndarray, "..."], known: Mapping[str, np.ndarray]) -> list[Objection]:
        """Anything but 0 and 1."""
        return [Objection(np.isfinite(values) & (values != 0) & (values != 1), "labels must be 0 or 1")]

    def latent(self, values: Float[np.ndarray, "..."], known: Mapping[str, np.ndarray]) -> Float[np.ndarray, "..."]:
        """Log odds of label plus one half."""
        return _log_odds(values, 1.0)

    def bind(self, axes: Mapping[str, Axis], variance: float) -> BoundTrials:
        """There is nothing to learn."""
        return BoundTrials()


class Binomial(AbstractLikelihood):
    """How many of a number of trials succeed; the probability of each is 1 / (1 + exp(-f)).

    Args:
        trials: a whole number from 1, a DataArray that broadcasts to the data, or an array of their shape. Predictions
            away from the data's grid are of this number, or of 1 where it varies.
    """

    trials: Any

    @property
    def additive(self) -> bool:
        """No."""
        return False

    @property
    def known(self) -> dict[str, Any]:
        """The trials."""
        return {TRIALS: self.trials}

    def objections(self, values: Float[np.ndarray, "..."], known: Mapping[str, np.ndarray]) -> list[Objection]:
        """Trials that are none; successes that are negative, fractional or more than the trials."""
        trials, seen = known[TRIALS], np.isfinite(values)
        return [
            Objection(seen & ~(np.isfinite(trials) & (trials >= 1)), "trials of observed values must be 1 or more"),
            Objection(seen & (trials != np.round(trials)), "trials must be whole numbers"),
            Objection(values < 0, "successes must be zero or above"),
            Objection(seen & (values != np.round(values)), "successes must be whole numbers"),
            Objection(values > trials, "there are more successes than trials"),
        ]

    def latent(self, values: Float[np.ndarray, "..."], known: Mapping[str, np.ndarray]) -> Float[np.ndarray, "..."]:
        """Log odds of successes and failures, each plus one half."""
        return _log_odds(values, known[TRIALS])

    def bind(self, axes: Mapping[str, Axis], variance: float) -> BoundTrials:
        """There is nothing to learn."""
        return BoundTrials()


class BoundTrials(AbstractBoundLikelihood):
    """Successes of trials; one trial unless the observations know of more."""

    conjugate: ClassVar[bool] = False

    def by_entry(self, observations: Observations) -> bool:
        """Always."""
        return True

    def start(self, observations: Observations) -> Pseudo:
        """Of a signal that fits every share of successes, one half added on both sides."""
        trials = _trials(observations)
        share = (observations.values + _HALF) / (trials + 2 * _HALF)
        return Pseudo(_log_odds(observations.values, trials), trials * share * (1 - share))

    def pseudo(self, observations: Observations, moments: Moments) -> Pseudo:
        """By quadrature."""
        return concave.along_gradient(_Given(observations.values, _trials(observations)), moments)

    def matched(self, observations: Observations, cavity: Moments) -> Pseudo:
        """By quadrature."""
        return concave.matching(_Given(observations.values, _trials(observations)), cavity, self.start(observations))

    def expected_log_likelihood(self, observations: Observations, moments: Moments) -> Float[Array, ""]:
        """By quadrature."""
        given = _Given(observations.values, _trials(observations))
        return jnp.sum(observations.weights * (concave.expected(given.log_density, moments) + given.constant()))

    def log_likelihood(self, observations: Observations, signal: Float[Array, "..."]) -> Float[Array, ""]:
        """Exact."""
        given = _Given(observations.values, _trials(observations))
        return jnp.sum(observations.weights * (given.log_density(signal) + given.constant()))

    def predictive(
        self, mean: np.ndarray, variance: np.ndarray, domain: Domain, known: Mapping[str, np.ndarray]
    ) -> AbstractPredictive:
        """Successes at a logistic-normal probability."""
        return _Predictive(mean, variance, known.get(TRIALS, np.ones(())))


def _trials(observations: Observations) -> Float[Array, "..."]:
    return observations.known.get(TRIALS, jnp.ones((), observations.values.dtype))


class _Given(NamedTuple):
    """See `concave.Concave`."""

    successes: Float[Array, "..."]
    trials: Float[Array, "..."]

    def constant(self) -> Float[Array, "..."]:
        """Logarithm of the number of orders."""
        y, trials = self.successes, self.trials
        return gammaln(trials + 1) - gammaln(y + 1) - gammaln(trials - y + 1)

    def log_density(self, f: Float[Array, "..."]) -> Float[Array, "..."]:
        """But for the number of orders."""
        return self.successes * f - self.trials * jax.nn.softplus(f)

    def slopes(self, f: Float[Array, "..."]) -> Slopes:
        """Of the logarithm."""
        p = jax.nn.sigmoid(f)
        return Slopes(self.successes - self.trials * p, -self.trials * p * (1 - p))


class _Predictive(AbstractWhole):
    """Successes at a logistic-normal probability."""

    def __init__(
        self, mean: Float[np.ndarray, "..."], variance: Float[np.ndarray, "..."], trials: Float[np.ndarray, "..."]
    ) -> None:
        self._mean, self._variance, self._trials = mean, variance, trials

    def _spread(self) -> np.ndarray:
        """Variance of the probability of a success."""
        mean = over_signal(lambda f: expit(f), self._mean, self._variance)
        return over_signal(lambda f, m: (expit(f) - m) ** 2, self._mean, self._variance, mean)

    @property
    def mean(self) -> Float[np.ndarray, "..."]:
        """Trials times the probability."""
        return self._trials * over_signal(lambda f: expit(f), self._mean, self._variance)

    @property
    def signal_sd(self) -> Float[np.ndarray, "..."]:
        """Of trials times the probability."""
        return self._trials * np.sqrt(self._spread())

    @property
    def sd(self) -> Float[np.ndarray, "..."]:
        """By the law of total variance."""
        within = over_signal(lambda f: expit(f) * expit(-f), self._mean, self._variance)
        return np.sqrt(self._trials * within + self._trials**2 * self._spread())

    @property
    def _shift(self) -> Float[np.ndarray, "..."]:
        return np.zeros(())

    @property
    def _most(self) -> Float[np.ndarray, "..."]:
        return self._trials

    def _given(self, values: Float[np.ndarray, "..."]) -> whole.Given:
        return whole.Given(values, self._trials - values)

    def _constant(self, values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        n = self._trials
        return host_gammaln(n + 1) - host_gammaln(values + 1) - host_gammaln(n - values + 1)

    @staticmethod
    def _under(t: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return betainc(b, a, expit(-t))

    def expected(self, signal: Float[np.ndarray, "n ..."]) -> Float[np.ndarray, "n ..."]:
        """Trials times the probability."""
        return self._trials * expit(signal)

    def draw(self, signal: Float[np.ndarray, "n ..."], random: np.random.Generator) -> Float[np.ndarray, "n ..."]:
        """Successes."""
        return random.binomial(np.asarray(self._trials, int), expit(signal)).astype(float)
