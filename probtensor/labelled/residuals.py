"""What observations deviate by, as they stand and each left out."""

from __future__ import annotations

import jax
import numpy as np
import xarray as xr

from probtensor import arrays
from probtensor.engines.sweep import State
from probtensor.errors import ModelError
from probtensor.labelled import predictions
from probtensor.labelled.encode import Encoded
from probtensor.labelled.places import training_places
from probtensor.likelihoods.predictive import AbstractPredictive, Normal
from probtensor.likelihoods.standard import ERRORS
from probtensor.observations.domain import Observations


def residuals(state: State, encoded: Encoded, observations: Observations) -> xr.Dataset:
    """See `Posterior.residuals`; on the core's order of modes and levels."""
    if state.local is not None or state.draws is not None:
        raise ModelError(
            "residuals: draws, under a Local term or of a sampler, have no leave-one-out form; hold "
            "observations out and score them"
        )
    grid, out = training_places(encoded, observations.domain), xr.Dataset()
    with jax.enable_x64(True):
        signals = {"": arrays.fitted(state, observations.domain), "loo_": arrays.leave_one_out(state, observations)}
        for prefix, signal in signals.items():
            law = predictions.predictive(state.model.likelihood, grid, signal, encoded.known)
            seen, values = (own.reshape(law.mean.shape) for own in (encoded.seen, encoded.values))
            residual = np.where(seen, values - law.mean, np.nan)
            out[f"{prefix}residual"] = grid.label(residual)
            out[f"{prefix}standardised"] = grid.label(residual / _sd(law, encoded))
    return out


def _sd(law: AbstractPredictive, encoded: Encoded) -> np.ndarray:
    """Of an observation; under normal noise with its own weight and known error."""
    if not isinstance(law, Normal):
        return law.sd
    weights = np.where(encoded.seen, encoded.weights, 1.0).reshape(law.mean.shape)
    errors = encoded.known[ERRORS].reshape(law.mean.shape) if ERRORS in encoded.known else 0.0
    return np.sqrt(law.signal_sd**2 + law.noise / weights + errors**2)
