"""Normal noise: one learned standard deviation, or one for each level of some modes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from probtensor import hyperparameters
from probtensor.axes import Axis, names_of
from probtensor.errors import ModelError
from probtensor.hyperparameters import Declaration, Parameter, within
from probtensor.likelihoods.base import (
    AbstractBoundLikelihood,
    AbstractLikelihood,
    Moments,
    Objection,
    Pseudo,
    misfit_of,
)
from probtensor.likelihoods.predictive import AbstractPredictive, Normal
from probtensor.likelihoods.standard import ERRORS, Placing, Standard
from probtensor.likelihoods.transforms import TRANSFORMS
from probtensor.observations.domain import Domain, Observations
from probtensor.observations.groups import Groups
from probtensor.typing import Array, Float

#: Noise standard deviation at the start of learning, in units of the data's.
_START = 0.3
#: The noise is never learned below this, in units of the data's standard deviation.
FLOOR = 1e-4
#: A level's own noise variance is drawn towards the common one as if by so many observations.
_SHRINK = 4.0


def scale_of_noise(reader: str, variance: float) -> float:
    """Standard deviation of the data, which noise is learned relative to. Raises ModelError if there is none."""
    if not (np.isfinite(variance) and variance > 0):
        raise ModelError(
            f"{reader}: the scale of the data is {variance!r}, and the noise is learned relative to it; give constant "
            "data a positive variance (DataScale)"
        )
    return float(np.sqrt(variance))


class Gaussian(AbstractLikelihood):
    """y = f + e with e normal, variance sd^2 / weight.

    Args:
        sd: noise standard deviation in data units; learned by default, a number is a start, ``pt.fixed(0.1)`` holds it.
            It is learned at the objective's optimum, without a prior.
        noise: a mode's name or several: one standard deviation for each of its levels (each combination, for several),
            drawn to a common one as if by 4 observations. A level that the data do not have gets the common one.
        transform: ``"log"`` or ``"sqrt"``, for data above zero (for ``"sqrt"``, from zero): the logarithm or the square
            root of the values is modelled, ``sd`` is on its scale, and predictions are back on that of the data.
        scale: a mode's name or several, such as the ``"variable"`` of ``ds.to_array("variable")``: values (transformed
            ones) are standardised for each of its levels (each combination, for several): the mean of what is observed
            there is taken off, and the rest divided by its standard deviation. Only then does the model see them.
            In units of a level's standard deviation are all numbers of the model: ``sd`` (here and as
            ``post.noise_sd``), the noise of levels, every variance among the hyper-parameters, factors, cores and what
            ``scale="latent"`` gives; an ``Offset`` is what is left beside the centres. In each level's own unit are
            ``errors=`` and everything else that is given back: means, sds, quantiles, samples, residuals, averages and
            scores. Centres and scales are in `Posterior.hyperparameters`; what is uncertain about them is in no error
            bar. The usual scale is the geometric mean of the standard deviations of the levels that vary. A level with
            several values that are all the same has a thousandth of their size for its scale (zeros: of the usual
            scale), one with a single value the usual scale, one without values usual scale and mean centre, and so has
            one that is new, until `Posterior.update` brings values of it.

    Raises:
        ModelError: there is no such transform, or a mode is named twice or not by a text.
    """

    sd: Declaration = None
    noise: Any = eqx.field(static=True, converter=names_of, default=None)
    transform: str | None = eqx.field(static=True, default=None)
    scale: Any = eqx.field(static=True, converter=names_of, default=None)

    def __check_init__(self) -> None:
        """Raises ModelError for an unknown transform, or a mode that is repeated or no name."""
        if self.transform is not None and self.transform not in TRANSFORMS:
            raise ModelError(f"Gaussian(transform={self.transform!r}): expected 'log', 'sqrt' or None")
        for option, names in (("noise", self.noise), ("scale", self.scale)):
            if not all(isinstance(name, str) for name in names):
                raise ModelError(f"Gaussian({option}={names!r}): expected a mode's name, or several")
            if len(set(names)) < len(names):
                raise ModelError(f"Gaussian({option}={names!r}): name each mode once")

    @property
    def additive(self) -> bool:
        """Unless the data are transformed or standardised."""
        return self.transform is None and not self.scale

    def mode_names(self) -> tuple[str, ...]:
        """Those of ``noise`` and ``scale``."""
        return tuple(dict.fromkeys((*self.noise, *self.scale)))

    def objections(self, values: Float[np.ndarray, "..."], known: Mapping[str, np.ndarray]) -> list[Objection]:
        """Values that the transform does not take, errors that are none."""
        found = []
        if self.transform is not None:
            where = TRANSFORMS[self.transform].impossible(values)
            least = "zero or above" if TRANSFORMS[self.transform].zero else "above zero"
            found.append(Objection(where, f"transform={self.transform!r} takes values {least} only"))
        if ERRORS in known:
            errors = known[ERRORS]
            bad = np.isfinite(values) & ~(np.isfinite(errors) & (errors >= 0))
            found.append(Objection(bad, "errors of observed values must be finite and zero or above"))
        return found

    def latent(self, values: Float[np.ndarray, "..."], known: Mapping[str, np.ndarray]) -> Float[np.ndarray, "..."]:
        """The values, transformed."""
        return self.transformed(values)

    def transformed(self, values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """The values, transformed."""
        return values if self.transform is None else TRANSFORMS[self.transform].forward(values)

    def bind(self, axes: Mapping[str, Axis], variance: float) -> BoundGaussian:
        """Numbers for the noise."""
        if hasattr(self.sd, "log_prob"):
            raise ModelError("Gaussian(sd=...): a prior distribution for the noise is not available; give a number")
        scale = scale_of_noise("Gaussian", variance)
        sd, floor = hyperparameters.bind(self.sd, np.array([_START * scale]), "sd"), jnp.asarray(FLOOR * scale)
        if not self.noise:
            return BoundGaussian(sd, floor, self.transform)
        groups = Groups.over("Gaussian(noise=...)", self.noise, axes)
        own = hyperparameters.bind(self.sd, np.full(groups.number, float(sd.value[0])), "sd")
        return BoundGaussian(sd, floor, self.transform, groups, own)


class Totals(NamedTuple):
    """Sums over observations: how many, of the logarithms of their weights, and of weight times E[(y - f)^2]."""

    number: Float[Array, ""]
    log_weights: Float[Array, ""]
    misfit: Float[Array, ""]

    def with_variance(self, variance: Float[Array, ""]) -> Totals:
        """With that much more of weight times the signal's variance."""
        return self._replace(misfit=self.misfit + variance)


class BoundGaussian(AbstractBoundLikelihood):
    """Normal noise with numbers.

    Attributes:
        sd: (1,) standard deviation; with groups that which they are drawn to.
        floor: below which it is not learned.
        transform: of the values, see `Gaussian`.
        groups: whose levels have standard deviations of their own, and own: (G,) these; None: nothing has.
        standard: of the data, which observations, the signal and all of the above are relative to; None: they are as
            they are. Engines need not know it.
    """

    sd: Parameter
    floor: Float[Array, ""]
    transform: str | None = eqx.field(static=True, default=None)
    groups: Groups | None = None
    own: Parameter | None = None
    standard: Standard | None = None
    conjugate: ClassVar[bool] = True
    normal: ClassVar[bool] = True

    @property
    def precision(self) -> Float[Array, ""]:
        """1 / sd^2, of an observation with weight 1."""
        return 1 / self.variance

    @property
    def variance(self) -> Float[Array, ""]:
        """sd^2, of an observation with weight 1."""
        return self.sd.value[0] ** 2

    def by_entry(self, observations: Observations) -> bool:
        """Only where levels have noise of their own or observations known errors."""
        return self.groups is not None or ERRORS in observations.known

    def noise_at(self, domain: Domain) -> Float[Array, "..."]:
        """Noise variance of a new observation at every entry of a domain; one number where it is the same."""
        if self.groups is None or self.own is None:
            return self.variance
        group = self.groups.of(domain)
        return jnp.where(group >= 0, self.own.value[group] ** 2, self.variance)

    def start(self, observations: Observations) -> Pseudo:
        """The observations themselves."""
        return self._pseudo(observations)

    def pseudo(self, observations: Observations, moments: Moments) -> Pseudo:
        """The observations themselves."""
        return self._pseudo(observations)

    def matched(self, observations: Observations, cavity: Moments) -> Pseudo:
        """The observations themselves."""
        return self._pseudo(observations)

    def _pseudo(self, observations: Observations) -> Pseudo:
        if ERRORS not in observations.known:
            return Pseudo(observations.values, 1 / self.noise_at(observations.domain))
        return Pseudo(observations.values, 1 / (_counted(observations) * self._noise(observations)[1]))

    def _noise(self, observations: Observations) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """Variance of the learned noise of each observation; and with its known error."""
        learned = self.noise_at(observations.domain) / _counted(observations)
        return learned, learned + observations.known[ERRORS] ** 2 if ERRORS in observations.known else learned

    def expected_log_likelihood(self, observations: Observations, moments: Moments) -> Float[Array, ""]:
        """Exact."""
        if not self.by_entry(observations):
            return self.expected_from(self.totals(observations, moments))
        seen = observations.weights > 0
        noise = self._noise(observations)[1]
        each = jnp.log(2 * jnp.pi * noise) + misfit_of(observations, moments) / noise
        return -0.5 * jnp.sum(jnp.where(seen, each, 0.0))

    def log_likelihood(self, observations: Observations, signal: Float[Array, "..."]) -> Float[Array, ""]:
        """The expectation where the signal is certain."""
        certain = Moments(signal, jnp.zeros_like(signal), jnp.zeros((), signal.dtype))
        return self.expected_log_likelihood(observations, certain)

    def learn(self, observations: Observations, moments: Moments) -> BoundGaussian:
        """The sd at the objective's exact optimum, not below the floor; unchanged if held or without observations.

        Beside known errors one step of expectation maximisation over what of each residual is not error.
        """
        if not self.sd.learned:
            return self
        if not self.by_entry(observations):
            return self.learned_from(self.totals(observations, moments))
        seen = observations.weights > 0
        count = jnp.sum(seen).astype(moments.mean.dtype)
        learned, noise = self._noise(observations)
        share = learned / noise
        residual = share**2 * misfit_of(observations, moments) + (1 - share) * learned
        squares = jnp.where(seen, _counted(observations) * residual, 0.0)
        if self.groups is None or self.own is None:
            return self._with(jnp.sum(squares) / jnp.maximum(count, 1.0), count > 0)
        sums = self.groups.sums(squares, observations.domain)
        counts = self.groups.sums(seen.astype(squares.dtype), observations.domain)
        own = jnp.maximum((sums + _SHRINK * self.variance) / (counts + _SHRINK), self.floor**2)
        found = eqx.tree_at(lambda g: g.own.raw, self, 0.5 * jnp.log(own))
        return found._with(1 / jnp.mean(1 / own), count > 0)

    def totals(self, observations: Observations, moments: Moments) -> Totals:
        """All that it reads of observations under noise that is the same everywhere."""
        assert moments.total_variance is not None
        count = jnp.sum(observations.weights > 0).astype(moments.mean.dtype)
        misfit = jnp.sum(observations.weights * (observations.values - moments.mean) ** 2) + moments.total_variance
        return Totals(count, jnp.sum(jnp.log(_counted(observations))), misfit)

    def expected_from(self, totals: Totals) -> Float[Array, ""]:
        """`expected_log_likelihood` from sums."""
        constant = totals.number * jnp.log(2 * jnp.pi * self.variance)
        return 0.5 * (totals.log_weights - constant - totals.misfit * self.precision)

    def learned_from(self, totals: Totals) -> BoundGaussian:
        """`learn` from sums."""
        if not self.sd.learned:
            return self
        return self._with(totals.misfit / jnp.maximum(totals.number, 1.0), totals.number > 0)

    def _with(self, variance: Float[Array, ""], known: Array) -> BoundGaussian:
        optimum = jnp.log(jnp.maximum(jnp.sqrt(variance), self.floor))
        return eqx.tree_at(lambda g: g.sd.raw, self, jnp.where(known, optimum, self.sd.raw[0])[None])

    def log_prior(self) -> Float[Array, ""]:
        """That of the levels; the common one has none."""
        return self.levels_log_prior()

    def levels_log_prior(self) -> Float[Array, ""]:
        """That levels' variances are like the common one: inverse gamma, as from so many observations of it."""
        if self.own is None or not self.own.learned:
            return jnp.zeros((), self.floor.dtype)
        ratio = self.variance / self.own.value**2
        return -0.5 * _SHRINK * jnp.sum(ratio - jnp.log(ratio))

    def limited(self) -> BoundGaussian:
        """No standard deviation below the floor."""
        own = None if self.own is None else within(self.own, self.floor, jnp.inf)
        sd = within(self.sd, self.floor, jnp.inf)
        return BoundGaussian(sd, self.floor, self.transform, self.groups, own, self.standard)

    def relative_to(self, standard: Standard | None) -> BoundGaussian:
        """The same noise of values that are relative to centre and scale of their level."""
        return BoundGaussian(self.sd, self.floor, self.transform, self.groups, self.own, standard)

    def parameters(self) -> dict[str, Parameter]:
        """The standard deviation."""
        return {"sd": self.sd}

    def predictive(
        self, mean: np.ndarray, variance: np.ndarray, domain: Domain, known: Mapping[str, np.ndarray]
    ) -> AbstractPredictive:
        """Normal, or what the transform makes of it; in each level's own unit."""
        make = Normal if self.transform is None else TRANSFORMS[self.transform].back
        placing = Placing() if self.standard is None else self.standard.at(domain)
        return make(mean, variance, np.asarray(self.noise_at(domain)), placing)


def _counted(observations: Observations) -> Float[Array, "..."]:
    """Weights, 1 where there is no observation."""
    return jnp.where(observations.weights > 0, observations.weights, 1.0)
