"""Answers on the own grid of data that are dask arrays: computed chunk by chunk, when they are asked for."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from probtensor import arrays
from probtensor.compilation import on_device, padded, shared_size
from probtensor.errors import DataError
from probtensor.labelled import arguments, chunks, filling, residuals
from probtensor.labelled.encode import GridOf, grid_of
from probtensor.labelled.fitted import Fitted
from probtensor.labelled.places import Places
from probtensor.labelled.predictions import PROBABILITY
from probtensor.likelihoods.predictive import AbstractPredictive
from probtensor.observations.domain import observations
from probtensor.observations.sources import VALUES, WEIGHTS
from probtensor.precision import double_precision
from probtensor.typing import Bool, Float, Int

_WHERE = "where"


def filled(fitted: Fitted, template: xr.DataArray, wanted: xr.DataArray | None, quantiles: Any) -> xr.Dataset:
    """The data with their gaps filled, in the chunks that they have. See `Posterior.impute`.

    Each chunk is read again when it is computed, and predictions are made for its gaps alone.
    """
    levels = np.zeros(0) if quantiles is None else arguments.probabilities(quantiles)
    given = {VALUES: template} | (fitted.encoded.apart or {}) | ({} if wanted is None else {_WHERE: wanted})
    if wanted is None and fitted.encoded.in_memory:
        seen = fitted.own_places().label(fitted.encoded.seen)
        filling.warn_of_unseen(fitted.encoded, filling.on_template(seen, fitted.encoded))
    found = chunks.mapped(given, functools.partial(_filled, fitted, grid_of(template), levels), 3 + len(levels))
    parts = None
    if quantiles is not None:
        coords = template.coords.assign(quantile=("quantile", levels, PROBABILITY))
        parts = xr.DataArray(found[3:], coords, ("quantile", *template.dims))
    return filling.dressed(fitted.encoded, found[0], found[1], found[2] > 0, parts, None)


def _filled(
    fitted: Fitted, grid: GridOf, levels: np.ndarray, place: chunks.Place, blocks: dict[str, np.ndarray]
) -> Float[np.ndarray, "V ..."]:
    """Of one chunk: filled values, their sd, what was filled, and quantiles."""
    rows = _rows(fitted, grid, place)
    seen = _seen(fitted, rows, blocks)
    given = np.where(seen, blocks[VALUES], np.nan)
    mask = ~seen
    if _WHERE in blocks:
        mask &= np.nan_to_num(blocks[_WHERE], nan=0.0) != 0
    out = np.stack([given, np.where(seen, 0.0, np.nan), mask.astype(float), *[given] * len(levels)])
    if mask.any():
        law = _law(fitted, grid, rows[mask], {name: own[mask] for name, own in blocks.items()})
        parts = [law.mean, law.sd, np.ones(1), *(law.quantile(level) for level in levels)]
        for own, part in zip(out, parts, strict=True):
            own[mask] = part[: np.count_nonzero(mask)]
    return out


def _law(
    fitted: Fitted, grid: GridOf, rows: Int[np.ndarray, "n"], blocks: Mapping[str, np.ndarray]
) -> AbstractPredictive:
    """The distribution of observations at some entries, padded to a size that a program is compiled for.

    Raises DataError where what comes with values, an exposure or trials, is none.
    """
    likelihood, size = fitted.likelihood, shared_size(len(rows))
    known = {name: _known(fitted, name, rows, blocks) for name in likelihood.known}
    with np.errstate(invalid="ignore"):
        bad = [objection.where for objection in likelihood.objections(np.zeros(len(rows)), known)] if known else []
    if bad and np.any(bad):
        wrong = np.flatnonzero(np.logical_or.reduce(bad))
        at = grid.describe(tuple(int(i) for i in np.unravel_index(rows[wrong[0]], grid.shape)))
        raise DataError(filling.unusable(list(known), len(wrong), at))
    known = {name: padded(own, size) for name, own in known.items()}
    with double_precision():
        domain = fitted.observations.domain.at(on_device(padded(rows, size)))
        where = Places(domain, ("observation",), {}, (0,))
        return fitted.law(where, arrays.fitted(fitted.state, domain), known)


def residual(fitted: Fitted, template: xr.DataArray) -> xr.Dataset:
    """What observations deviate by, in the chunks that the data have. See `Posterior.residuals`."""
    residuals.refuse_draws(fitted.state)
    given = {VALUES: template} | (fitted.encoded.apart or {})
    found = chunks.mapped(given, functools.partial(_residual, fitted, grid_of(template)), len(residuals.NAMES))
    return xr.Dataset(
        {name: (template.dims, own) for name, own in zip(residuals.NAMES, found, strict=True)}, template.coords
    )


def _residual(
    fitted: Fitted, grid: GridOf, place: chunks.Place, blocks: dict[str, np.ndarray]
) -> Float[np.ndarray, "V ..."]:
    rows = _rows(fitted, grid, place)
    seen = _seen(fitted, rows, blocks)
    out = np.full((len(residuals.NAMES), *seen.shape), np.nan)
    if not seen.any():
        return out
    size = shared_size(int(np.count_nonzero(seen)))
    known = {n: padded(own[seen], size) for n, own in blocks.items() if n not in (VALUES, WEIGHTS)}
    values = padded(blocks[VALUES][seen], size)
    weights = padded(blocks[WEIGHTS][seen], size) if WEIGHTS in blocks else np.ones(size)
    with double_precision():
        domain = fitted.observations.domain.at(on_device(padded(rows[seen], size)))
        own = observations(domain, fitted.likelihood.transformed(values), weights, known)
        where = Places(domain, ("observation",), {}, (0,))
        found = residuals.each(fitted.state, where, own, residuals.Given(values, weights, known))
    for part, name in zip(out, residuals.NAMES, strict=True):
        part[seen] = found[name][: np.count_nonzero(seen)]
    return out


def _rows(fitted: Fitted, grid: GridOf, place: chunks.Place) -> Int[np.ndarray, "..."]:
    """Places among the flattened domain of a chunk's entries, in the template's order of dimensions."""
    template = fitted.encoded.template
    assert isinstance(template, xr.DataArray)
    own = dict(zip(map(str, template.dims), place, strict=True))
    rows = grid.rows([position[own[name]] for name, position in grid.positions.items()])
    return rows.transpose([list(grid.positions).index(name) for name in own])


def _seen(fitted: Fitted, rows: Int[np.ndarray, "..."], blocks: Mapping[str, np.ndarray]) -> Bool[np.ndarray, "..."]:
    """Which entries of a chunk the fit saw."""
    if fitted.encoded.in_memory:
        return fitted.encoded.weights.ravel()[rows] > 0
    seen = np.isfinite(blocks[VALUES])
    return seen & (blocks[WEIGHTS] > 0) if WEIGHTS in blocks else seen


def _known(
    fitted: Fitted, name: str, rows: Int[np.ndarray, "n"], blocks: Mapping[str, np.ndarray]
) -> Float[np.ndarray, "n"]:
    """What comes with values at some entries."""
    return fitted.encoded.known[name].ravel()[rows] if fitted.encoded.in_memory else blocks[name]
