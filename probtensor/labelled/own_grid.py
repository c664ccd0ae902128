"""Answers on the data's own grid: at once, or lazily where the data are dask arrays."""

from __future__ import annotations

from typing import Any

import xarray as xr

from probtensor.errors import ModelError
from probtensor.labelled import chunks, filling, lazily, residuals
from probtensor.labelled.fitted import Fitted

#: What was left out of a store.
GONE = "they were not saved with the posterior; ask post.predict(at=...) for the places you want"


def filled(fitted: Fitted, where: Any, quantiles: Any, samples: int | None, seed: int) -> xr.Dataset:
    """See `Posterior.impute`."""
    template, wanted = filling.check(fitted.encoded, where, quantiles, samples)
    if not fitted.encoded.in_memory and fitted.encoded.apart is None:
        fitted.encoded.require_memory("impute", GONE)
    if not chunks.is_lazy(template):
        return fitted.filled(where, quantiles, samples, seed)
    if fitted.encoded.in_memory and (samples is not None or fitted.state.local is not None):
        # What neighbouring places share depends on which are asked together, and joint draws are of all places.
        made = fitted.filled(where, quantiles, samples, seed)
        return made.chunk(dict(zip(template.dims, template.chunks or (), strict=True)))
    if samples is not None:
        raise ModelError(
            f"samples={samples}: joint draws are of all places at once, and the fit was out of core. Take "
            "post.sample(n, at=...) of a part of them"
        )
    return lazily.filled(fitted, template, wanted, quantiles)


def residual(fitted: Fitted) -> xr.Dataset:
    """See `Posterior.residuals`."""
    encoded = fitted.encoded
    if (observations := fitted.observations_in_memory) is not None:
        return residuals.residuals(fitted.state, encoded, observations)
    if encoded.apart is None:
        encoded.require_memory("residuals", GONE)
    assert isinstance(encoded.template, xr.DataArray)
    return lazily.residual(fitted, encoded.template)
