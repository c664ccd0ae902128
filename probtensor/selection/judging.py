"""How a candidate is judged: fitted without the held-out observations, scored on them."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from probtensor import arrays
from probtensor.engines.sweep import State
from probtensor.evaluation import scores
from probtensor.likelihoods.gaussian import BoundGaussian
from probtensor.observations.domain import Observations
from probtensor.typing import Float


class Score(NamedTuple):
    """On held-out observations, in their unit: that of the data, or for standardised ones the scale of a level."""

    crps: float
    rmse: float


def without(observations: Observations, held: np.ndarray) -> Observations:
    """The observations that are not held out."""
    weights = jnp.where(jnp.asarray(held), 0.0, observations.weights)
    values = jnp.where(weights > 0, observations.values, 0.0)
    return Observations(observations.domain, values, weights, observations.known)


class Predicted(NamedTuple):
    """Held-out observations: what was observed, mean and variance of the signal there, and variance of the noise."""

    truth: Float[np.ndarray, "E"]
    mean: Float[np.ndarray, "E"]
    variance: Float[np.ndarray, "E"]
    noise: Float[np.ndarray, "E"]

    @property
    def score(self) -> Score:
        """How well they are predicted, noise included."""
        sd = np.sqrt(self.variance + self.noise)
        return Score(scores.crps_gaussian(self.mean, sd, self.truth), scores.rmse(self.mean, self.truth))


def predicted(state: State, observations: Observations, held: np.ndarray) -> Predicted:
    """What a state that was fitted without the held-out observations says of them."""
    if state.local is None:
        signal = arrays.fitted(state, observations.domain)
        mean, variance = np.asarray(signal.mean)[held], np.asarray(signal.variance)[held]
    else:  # a local term costs by the place
        signal = arrays.fitted(state, observations.domain.at(np.flatnonzero(held)))
        mean, variance = np.asarray(signal.mean), np.asarray(signal.variance)
    assert isinstance(state.model.likelihood, BoundGaussian)
    noise = float(state.model.likelihood.variance) / np.asarray(observations.weights)[held]
    return Predicted(np.asarray(observations.values)[held], mean, variance, noise)
