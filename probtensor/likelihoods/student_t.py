"""Heavy-tailed noise: a Student-t, as normal noise whose precision differs from one observation to the next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln
from scipy.interpolate import CubicSpline
from scipy.special import gammainccinv, gammaincinv, ndtr

from probtensor import hyperparameters
from probtensor.axes import Axis
from probtensor.errors import ModelError
from probtensor.hyperparameters import Declaration, Fixed, Parameter, within
from probtensor.likelihoods.base import (
    AbstractBoundLikelihood,
    AbstractLikelihood,
    Moments,
    Objection,
    Pseudo,
    misfit_of,
)
from probtensor.likelihoods.climbing import climb
from probtensor.likelihoods.gaussian import FLOOR, scale_of_noise
from probtensor.likelihoods.predictive import AbstractPredictive, real_quantile
from probtensor.observations.domain import Domain, Observations
from probtensor.observations.marginal_means import NORMAL_MEDIAN
from probtensor.typing import Array, Float

#: Where learning starts: noise scale in units of the data's bulk, and degrees of freedom.
_START, _DF = 0.3, 4.0
#: Degrees of freedom are learned between these: below, the variance is infinite; above, the noise is normal.
_LEAST_DF, _MOST_DF = 2.1, 200.0
#: Values further than so many robust standard deviations from the median count as outliers while defaults are chosen.
_FAR = 4.0
#: Quantiles of many entries are interpolated between so many ratios of variances, which are not below this.
_RATIOS, _LEAST_RATIO = 512, 1e-12
#: The scale mixture of a predictive distribution has so many parts, which leave out this much at either end.
_PARTS, _LEFT_OUT = 129, 1e-30


class StudentT(AbstractLikelihood):
    """y = f + e with e of a Student-t distribution: outliers are believed less the further they lie.

    Inference treats it as normal noise with a latent gamma-distributed precision of each observation, which gives a
    lower bound of the evidence and never diverges.

    Args:
        df: degrees of freedom, above 2 so that noise has a variance; learned by default (a number is a start,
            ``pt.fixed(4.0)`` holds it).
        scale: of the noise in data units, smaller than its standard deviation; learned by default.

    Raises:
        ModelError: df is not above 2.

    Source: Tipping and Lawrence 2005, Variational inference for Student-t models, section 3.
    """

    df: Declaration = None
    scale: Declaration = None

    def __check_init__(self) -> None:
        """Raises ModelError for degrees of freedom that leave no variance."""
        given = self.df.value if isinstance(self.df, Fixed) else self.df
        if (
            given is not None
            and not hasattr(given, "log_prob")
            and not hyperparameters.number_of(given, None, "df") > 2
        ):
            raise ModelError(f"StudentT(df={given!r}): must be above 2, where the noise has a variance")

    @property
    def additive(self) -> bool:
        """Yes."""
        return True

    def objections(self, values: Float[np.ndarray, "..."], known: Mapping[str, np.ndarray]) -> list[Objection]:
        """Any number will do."""
        return []

    def latent(self, values: Float[np.ndarray, "..."], known: Mapping[str, np.ndarray]) -> Float[np.ndarray, "..."]:
        """The values, outliers drawn in."""
        centre = np.nanmedian(values)
        sd = np.nanmedian(np.abs(values - centre)) / NORMAL_MEDIAN
        return np.clip(values, centre - _FAR * sd, centre + _FAR * sd) if sd > 0 else values

    def bind(self, axes: Mapping[str, Axis], variance: float) -> BoundStudentT:
        """Numbers for scale and degrees of freedom."""
        if hasattr(self.scale, "log_prob"):
            raise ModelError("StudentT(scale=...): a prior distribution for the scale is not available; give a number")
        sd = scale_of_noise("StudentT", variance)
        scale = hyperparameters.bind(self.scale, np.array([_START * sd]), "scale")
        return BoundStudentT(scale, hyperparameters.bind(self.df, np.array([_DF]), "df"), jnp.asarray(FLOOR * sd))


class BoundStudentT(AbstractBoundLikelihood):
    """Student-t noise with numbers for its scale and degrees of freedom."""

    scale: Parameter
    df: Parameter
    floor: Float[Array, ""]
    conjugate: ClassVar[bool] = True

    def by_entry(self, observations: Observations) -> bool:
        """Always."""
        return True

    def start(self, observations: Observations) -> Pseudo:
        """The observations, with outliers believed less."""
        seen = observations.weights > 0
        centre = jnp.nanmedian(jnp.where(seen, observations.values, jnp.nan))
        spread = jnp.nanmedian(jnp.abs(jnp.where(seen, observations.values - centre, jnp.nan))) / NORMAL_MEDIAN
        wide = eqx.tree_at(lambda t: t.scale.raw, self, jnp.log(jnp.maximum(spread, self.scale.value[0]))[None])
        precision = wide._weight((observations.values - centre) ** 2) / self.scale.value[0] ** 2
        return Pseudo(observations.values, precision)

    def _weight(self, misfit: Float[Array, "..."]) -> Float[Array, "..."]:
        """E of the latent precision relative to 1 / scale^2, from E[(y - f)^2]."""
        df = self.df.value[0]
        return (df + 1) / (df + misfit / self.scale.value[0] ** 2)

    def pseudo(self, observations: Observations, moments: Moments) -> Pseudo:
        """The observations, each with the expectation of its latent precision."""
        return Pseudo(observations.values, self._weight(misfit_of(observations, moments)) / self.scale.value[0] ** 2)

    def matched(self, observations: Observations, cavity: Moments) -> Pseudo:
        """The same, from the cavity: the density is not concave, and its moments can have negative precisions."""
        return self.pseudo(observations, cavity)

    def expected_log_likelihood(self, observations: Observations, moments: Moments) -> Float[Array, ""]:
        """A lower bound: the density at E[(y - f)^2], which is exact where f is certain."""
        return self._bound(observations, moments, self.df.value[0])

    def _bound(self, observations: Observations, moments: Moments, df: Float[Array, ""]) -> Float[Array, ""]:
        scale = self.scale.value[0]
        constant = gammaln(0.5 * (df + 1)) - gammaln(0.5 * df) - 0.5 * jnp.log(df * jnp.pi) - jnp.log(scale)
        tail = -0.5 * (df + 1) * jnp.log1p(misfit_of(observations, moments) / (df * scale**2))
        return jnp.sum(observations.weights * (constant + tail))

    def log_likelihood(self, observations: Observations, signal: Float[Array, "..."]) -> Float[Array, ""]:
        """The bound, exact where the signal is certain."""
        return self._bound(observations, Moments(signal, jnp.zeros_like(signal)), self.df.value[0])

    def learn(self, observations: Observations, moments: Moments) -> BoundStudentT:
        """One step of expectation maximisation for the scale; degrees of freedom climb."""
        found = self
        if self.scale.learned:
            misfit = misfit_of(observations, moments)
            total = jnp.sum(observations.weights)
            squares = jnp.sum(observations.weights * self._weight(misfit) * misfit) / jnp.where(total > 0, total, 1.0)
            raw = jnp.log(jnp.maximum(jnp.sqrt(squares), self.floor))
            found = eqx.tree_at(lambda t: t.scale.raw, found, jnp.where(total > 0, raw, self.scale.raw[0])[None])
        if self.df.learned:
            df = climb(self.df, lambda df: found._bound(observations, moments, df), (_LEAST_DF, _MOST_DF))
            found = eqx.tree_at(lambda t: t.df, found, df)
        return found

    def log_prior(self) -> Float[Array, ""]:
        """Of the degrees of freedom; the scale has none."""
        return self.df.log_prior()

    def limited(self) -> BoundStudentT:
        """The scale not below its floor, degrees of freedom within their limits."""
        scale = within(self.scale, self.floor, jnp.inf)
        return BoundStudentT(scale, within(self.df, _LEAST_DF, _MOST_DF), self.floor)

    def parameters(self) -> dict[str, Parameter]:
        """Scale and degrees of freedom."""
        return {"scale": self.scale, "df": self.df}

    def predictive(
        self, mean: np.ndarray, variance: np.ndarray, domain: Domain, known: Mapping[str, np.ndarray]
    ) -> AbstractPredictive:
        """Student-t noise around a normal signal."""
        return _Predictive(mean, variance, float(self.scale.value[0]), float(self.df.value[0]))


class _Predictive(AbstractPredictive):
    """Student-t noise around a normal signal: a mixture of normals over the noise's precision."""

    def __init__(
        self, mean: Float[np.ndarray, "..."], variance: Float[np.ndarray, "..."], scale: float, df: float
    ) -> None:
        self._mean, self._variance, self._scale, self._df = mean, variance, scale, df

    @property
    def signal(self) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
        """As given."""
        return self._mean, self._variance

    @property
    def mean(self) -> Float[np.ndarray, "..."]:
        """The signal's."""
        return self._mean

    @property
    def sd(self) -> Float[np.ndarray, "..."]:
        """Of signal and noise; the noise's variance is scale^2 df / (df - 2)."""
        return np.sqrt(self._variance + self._scale**2 * self._df / (self._df - 2))

    @property
    def signal_sd(self) -> Float[np.ndarray, "..."]:
        """Of the signal."""
        return np.sqrt(self._variance)

    def _parts(self) -> tuple[np.ndarray, np.ndarray]:
        """Noise variances and shares of a mixture of normals, by the trapezoidal rule over the log precision."""
        half = 0.5 * self._df
        low, high = np.log(np.array([gammaincinv(half, _LEFT_OUT), gammainccinv(half, _LEFT_OUT)]) / half).tolist()
        log_precision = np.linspace(low, high, _PARTS)
        logs = half * log_precision - half * np.exp(log_precision)
        shares = np.exp(logs - logs.max())
        return self._scale**2 * np.exp(-log_precision), shares / shares.sum()

    def quantile(self, level: float) -> Float[np.ndarray, "..."]:
        """Of the mixture; for many entries interpolated over the ratio of the signal's variance to the noise's."""
        if np.size(self._mean) <= 2 * _RATIOS:
            return real_quantile(self.distribution, level, self._mean, self.sd)
        ratio = np.log(np.maximum(self._variance / self._scale**2, _LEAST_RATIO))
        if np.ptp(ratio) == 0:
            return self._mean + self._some(ratio.ravel()[:1], level).item() * self.sd
        some = np.linspace(ratio.min(), ratio.max(), _RATIOS)
        return self._mean + CubicSpline(some, self._some(some, level))(ratio) * self.sd

    def _some(self, log_ratio: np.ndarray, level: float) -> np.ndarray:
        """Standardised quantiles at these logarithms of the ratio of variances."""
        own = _Predictive(np.zeros(log_ratio.shape), self._scale**2 * np.exp(log_ratio), self._scale, self._df)
        return real_quantile(own.distribution, level, own.mean, own.sd) / own.sd

    def log_density(self, values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Of the mixture."""
        total = np.full(np.broadcast_shapes(np.shape(values), np.shape(self._mean)), -np.inf)
        for noise, share in zip(*self._parts(), strict=True):
            variance = self._variance + noise
            own = -0.5 * (values - self._mean) ** 2 / variance - 0.5 * np.log(2 * np.pi * variance)
            total = np.logaddexp(total, np.log(share) + own)
        return total

    def distribution(self, values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Of the mixture."""
        parts = zip(*self._parts(), strict=True)
        return sum(share * ndtr((values - self._mean) / np.sqrt(self._variance + noise)) for noise, share in parts)

    def expected(self, signal: Float[np.ndarray, "n ..."]) -> Float[np.ndarray, "n ..."]:
        """The signal."""
        return signal

    def draw(self, signal: Float[np.ndarray, "n ..."], random: np.random.Generator) -> Float[np.ndarray, "n ..."]:
        """Signal and noise."""
        return signal + self._scale * random.standard_t(self._df, signal.shape)
