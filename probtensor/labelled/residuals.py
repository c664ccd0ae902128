"""What observations deviate by, as they stand and each left out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr

from probtensor import arrays
from probtensor.engines.sweep import State
from probtensor.errors import ModelError
from probtensor.labelled import predictions
from probtensor.labelled.encoded import Encoded
from probtensor.labelled.places import Places, training_places
from probtensor.likelihoods.predictive import AbstractPredictive, Normal
from probtensor.likelihoods.standard import ERRORS
from probtensor.observations.domain import Observations
from probtensor.precision import double_precision

#: Of each kind of residual.
NAMES = ("residual", "standardised", "loo_residual", "loo_standardised")


class Given(NamedTuple):
    """Observations as they were given: values, NaN where there is none, weights and what else is known."""

    values: np.ndarray
    weights: np.ndarray
    known: dict[str, np.ndarray]


def refuse_draws(state: State) -> None:
    """Raises ModelError for a state that has no leave-one-out form."""
    if state.local is not None or state.draws is not None:
        raise ModelError(
            "residuals: draws, under a Local term or of a sampler, have no leave-one-out form; hold "
            "observations out and score them"
        )


def residuals(state: State, encoded: Encoded, observations: Observations) -> xr.Dataset:
    """See `Posterior.residuals`; on the core's order of modes and levels."""
    refuse_draws(state)
    grid = training_places(encoded, observations.domain)
    with double_precision():
        found = each(state, grid, observations, Given(encoded.values, encoded.weights, encoded.known))
    return xr.Dataset({name: grid.label(own) for name, own in found.items()})


def each(state: State, where: Places, observations: Observations, given: Given) -> dict[str, np.ndarray]:
    """Residuals of each kind at the entries of a domain, NaN where there is no observation."""
    out = {}
    signals = {"": arrays.fitted(state, observations.domain), "loo_": arrays.leave_one_out(state, observations)}
    for prefix, signal in signals.items():
        law = predictions.predictive(state.model.likelihood, where, signal, given.known)
        seen, values = (own.reshape(law.mean.shape) for own in (given.weights > 0, given.values))
        residual = np.where(seen, values - law.mean, np.nan)
        out[f"{prefix}residual"] = residual
        out[f"{prefix}standardised"] = residual / _sd(law, given)
    return out


def _sd(law: AbstractPredictive, given: Given) -> np.ndarray:
    """Of an observation; under normal noise with its own weight and known error."""
    if not isinstance(law, Normal):
        return law.sd
    weights = np.where(given.weights > 0, given.weights, 1.0).reshape(law.mean.shape)
    errors = given.known[ERRORS].reshape(law.mean.shape) if ERRORS in given.known else 0.0
    return np.sqrt(law.signal_sd**2 + law.noise / weights + errors**2)
