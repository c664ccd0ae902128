"""The contract of likelihoods and engines: observations seen as Gaussian ones of the signal.

A likelihood says how values are distributed around the signal f. Engines only see Gaussian pseudo-observations of f,
one an entry: a target and a precision. Those of a belief with moments m and v of f are

    precision = -2 d/dv E[log p(y | f)],        target = m + (d/dm E[log p(y | f)]) / precision,

which turns a step of message passing into a step along the natural gradient of the evidence lower bound.

Source: Khan and Lin 2017, Conjugate-computation variational inference, AISTATS, equations 9 and 10.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from probtensor.axes import Axis
from probtensor.hyperparameters import Parameter
from probtensor.likelihoods.predictive import AbstractPredictive
from probtensor.observations.domain import Domain, Observations
from probtensor.typing import Array, Float


class Moments(NamedTuple):
    """Of the signal under a belief: its mean at every entry, and its variance there or summed.

    variance: at every entry; None where the likelihood does not read it. total_variance: the sum over observations of
    weight times variance, None where it is given by entry.
    """

    mean: Float[Array, "..."]
    variance: Float[Array, "..."] | None = None
    total_variance: Float[Array, ""] | None = None

    @property
    def each(self) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """Mean and variance at every entry."""
        assert self.variance is not None
        return self.mean, self.variance


class Pseudo(NamedTuple):
    """Gaussian pseudo-observations of the signal: at every entry, or one precision for all.

    precision: of an observation with weight 1; above zero.
    """

    target: Float[Array, "..."]
    precision: Float[Array, "..."]


class Objection(NamedTuple):
    """Why values cannot come from a likelihood: where (a mask of the values), and the text of what is wrong."""

    where: np.ndarray
    text: str


class AbstractLikelihood(eqx.Module):
    """A likelihood as the user writes it."""

    @property
    @abc.abstractmethod
    def additive(self) -> bool:
        """Whether terms add up on the scale of the data."""

    @property
    def known(self) -> dict[str, Any]:
        """What comes with the data, by name, as the user gives it, a number or an array like the data. Mostly none."""
        return {}

    def mode_names(self) -> tuple[str, ...]:
        """The modes that it reads itself; mostly none."""
        return ()

    @abc.abstractmethod
    def objections(self, values: Float[np.ndarray, "..."], known: Mapping[str, np.ndarray]) -> list[Objection]:
        """What is wrong with values and what comes with them, entry by entry.

        Args:
            values: finite or NaN, as the user gives them.
            known: what comes with them, by name, shaped like them.
        """

    @abc.abstractmethod
    def latent(self, values: Float[np.ndarray, "..."], known: Mapping[str, np.ndarray]) -> Float[np.ndarray, "..."]:
        """Values on the scale of the signal, roughly: what defaults are read off. NaN stays NaN.

        Args:
            values: as the user gives them.
            known: what comes with them, by name, shaped like them.
        """

    def transformed(self, values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Values as `AbstractBoundLikelihood` reads them; mostly as they are.

        Args:
            values: as the user gives them.
        """
        return values

    @abc.abstractmethod
    def bind(self, axes: Mapping[str, Axis], variance: float) -> AbstractBoundLikelihood:
        """Numbers for its parameters.

        Args:
            axes: of the modes, by name.
            variance: of the data on the scale of the signal.

        Raises:
            ModelError: a number or a mode does not do.
        """


class AbstractBoundLikelihood(eqx.Module):
    """A likelihood with numbers for its parameters."""

    #: Whether the posterior given the pseudo-observations is the best belief, so that full steps never lose.
    conjugate: ClassVar[bool]
    #: Whether the pseudo-observations are the likelihood itself, whatever is believed.
    normal: ClassVar[bool] = False

    @abc.abstractmethod
    def by_entry(self, observations: Observations) -> bool:
        """Whether it reads the signal's variance entry by entry, and not only its sum.

        Args:
            observations: the data, of which only the names of what comes with them may be read.
        """

    @abc.abstractmethod
    def start(self, observations: Observations) -> Pseudo:
        """Pseudo-observations before there is a belief.

        Args:
            observations: the data.
        """

    @abc.abstractmethod
    def pseudo(self, observations: Observations, moments: Moments) -> Pseudo:
        """Pseudo-observations along the natural gradient at a belief; only ``moments`` by entry are read, if any.

        Args:
            observations: the data.
            moments: of the signal under the belief.
        """

    @abc.abstractmethod
    def matched(self, observations: Observations, cavity: Moments) -> Pseudo:
        """Pseudo-observations that give cavity times likelihood its first two moments (expectation propagation).

        Args:
            observations: the data.
            cavity: moments of the signal as it is believed to be without each entry.
        """

    @abc.abstractmethod
    def expected_log_likelihood(self, observations: Observations, moments: Moments) -> Float[Array, ""]:
        """Sum over observations of weight times E[log p(y | f)] in nats, or a lower bound of it.

        Args:
            observations: the data.
            moments: of the signal under a belief.
        """

    @abc.abstractmethod
    def log_likelihood(self, observations: Observations, signal: Float[Array, "..."]) -> Float[Array, ""]:
        """Sum over observations of weight times log p(y | f) in nats, at a given signal; derivatives are finite.

        Args:
            observations: the data.
            signal: a value at every entry.
        """

    def learn(self, observations: Observations, moments: Moments) -> AbstractBoundLikelihood:
        """Its learned parameters better, or as good: never lowers `expected_log_likelihood` plus `log_prior`.

        Args:
            observations: the data.
            moments: of the signal under a belief.
        """
        return self

    def log_prior(self) -> Float[Array, ""]:
        """Log density of the prior of its learned parameters, up to a constant."""
        return jnp.zeros(())

    def levels_log_prior(self) -> Float[Array, ""]:
        """The part of `log_prior` that is of learned numbers which `parameters` does not name."""
        return jnp.zeros(())

    def limited(self) -> AbstractBoundLikelihood:
        """Itself with parameters that a sampler moved beyond their limits back at these."""
        return self

    def parameters(self) -> dict[str, Parameter]:
        """Its parameters by name."""
        return {}

    @abc.abstractmethod
    def predictive(
        self, mean: np.ndarray, variance: np.ndarray, domain: Domain, known: Mapping[str, np.ndarray]
    ) -> AbstractPredictive:
        """The distribution of new observations of weight 1 on a domain, from the signal's moments there.

        Args:
            mean: of the signal at each entry.
            variance: of the signal at each entry.
            domain: where the entries are.
            known: what comes with new observations, by name, shaped like them.
        """


def misfit_of(observations: Observations, moments: Moments) -> Float[Array, "..."]:
    """E[(y - f)^2] at every entry."""
    mean, variance = moments.each
    return (observations.values - mean) ** 2 + variance
