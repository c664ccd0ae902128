"""Averages over dimensions, with error bars from the joint posterior."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import xarray as xr

from probtensor.errors import DataError
from probtensor.labelled import alignment, arguments

#: Joint draws that stand for the posterior: an sd is known to 1.6%.
DRAWS = 2000
#: Numbers of draws that are held at a time, at most.
_AT_ONCE = 2**24


def average_of(mean: xr.DataArray, over: Any, weights: Any) -> tuple[tuple[str, ...], xr.DataArray]:
    """The dimensions to average over, and weights on the grid of a mean that sum to one over them.

    Raises:
        DataError: there is no such dimension, or the weights have other labels, are negative or missing, or sum to
            zero.
    """
    dims = (over,) if isinstance(over, str) else tuple(over)
    for dim in dims:
        if dim not in mean.dims:
            raise DataError(
                f"aggregate: there is no dimension {dim!r} to average over; there are {', '.join(map(str, mean.dims))}"
            )
    if not dims:
        raise DataError("aggregate: over names no dimension to average over")
    whole = xr.ones_like(mean, dtype=float) if weights is None else _on(mean, weights)
    bad = ~(np.isfinite(whole) & (whole >= 0))
    if bad.any():
        raise DataError(f"aggregate: {int(bad.sum())} weights are negative, missing or infinite; use weights.fillna(0)")
    total = whole.sum(dims)
    if not (total > 0).all():
        raise DataError(f"aggregate: the weights sum to zero over {', '.join(dims)}; leave out such places first")
    return dims, whole / total


def _on(mean: xr.DataArray, weights: Any) -> xr.DataArray:
    return alignment.like("weights", weights, mean).astype(float).assign_coords(mean.coords)


def aggregated(
    mean: xr.DataArray,
    draws: Callable[[int, int], xr.DataArray],
    over: Any,
    weights: Any,
    quantiles: Sequence[float] | None,
) -> xr.Dataset:
    """Mean, sd and quantiles of a weighted average.

    Args:
        mean: expected values.
        draws: so many joint draws of them with a seed, dims ``sample`` and those of the mean.
        over: a dimension or several.
        weights: like the mean, or broadcasting to it; None = 1 everywhere.
        quantiles: probabilities.
    """
    dims, share = average_of(mean, over, weights)
    levels = None if quantiles is None else arguments.probabilities(quantiles)
    parts = [(one * share).sum(dims) for one in _batches(draws, mean.size)]
    averages = xr.concat(parts, "sample").transpose("sample", ...)
    out = xr.Dataset({"mean": (mean * share).sum(dims), "sd": averages.std("sample", ddof=1)})
    if levels is not None:
        # Draws about their own mean, so that quantiles and mean agree.
        around = averages - averages.mean("sample") + out["mean"]
        out["quantiles"] = around.quantile(levels, "sample")
    return out


def _batches(draws: Callable[[int, int], xr.DataArray], size: int) -> Iterator[xr.DataArray]:
    """All draws, some at a time."""
    at_once = int(np.clip(_AT_ONCE // max(size, 1), 1, DRAWS))
    for seed in range(-(-DRAWS // at_once)):
        yield draws(at_once, seed)
