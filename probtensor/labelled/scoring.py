"""Scoring held-out values, and refusing those that were seen in training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import xarray as xr

from probtensor.errors import DataError
from probtensor.evaluation.calibration import gap_numbers
from probtensor.labelled import coordinates, stacking
from probtensor.labelled.encode import grid_of
from probtensor.labelled.encoded import Encoded
from probtensor.labelled.tables import PointData, points
from probtensor.observations.sources import WEIGHTS


def truth_and_places(held_out: Any) -> tuple[np.ndarray, PointData]:
    """The values to score and where they are. Raises DataError for anything that is not data with values."""
    if isinstance(held_out, xr.DataArray):
        values = held_out.to_numpy().astype(float).ravel()
        at = np.flatnonzero(np.isfinite(values))
        if not at.size:
            raise DataError("held_out has no value to score: all entries are missing")
        return values[at], points(stacking.entries(held_out, at))
    if isinstance(held_out, PointData) and held_out.values is not None:
        keep = np.isfinite(held_out.values)
        if not keep.any():
            raise DataError("held_out has no value to score: all entries are missing")
        return held_out.values[keep], points({n: c[keep] for n, c in held_out.coords.items()})
    raise DataError(
        f"held_out is a {type(held_out).__name__}; expected a DataArray, or pt.table or pt.points with values"
    )


def gaps_of(held_out: Any, at: PointData) -> np.ndarray:
    """The number of the gap of each value to score: connected entries of a grid, equal coordinates of a table.

    Neighbours in a grid are so by their labels, not by their order.

    Args:
        held_out: as given.
        at: where its values are, from `truth_and_places`.
    """
    if not isinstance(held_out, xr.DataArray) or stacking.is_stacked(held_out):
        return groups_of(at, list(at.coords))
    here = np.isfinite(held_out.to_numpy().astype(float))
    read = stacking.read_modes(held_out)
    box = np.ix_(*(np.argsort(read[str(dim)][1], kind="stable") for dim in held_out.dims))
    ordered, arranged, numbers = here[box], np.zeros(here.shape, dtype=int), np.zeros(here.shape, dtype=int)
    arranged[ordered] = gap_numbers(ordered)
    numbers[box] = arranged
    return numbers[here]


def groups_of(at: PointData, names: Sequence[str]) -> np.ndarray:
    """(n,) numbers, the same where some coordinates are. Raises DataError if there is no such coordinate."""
    absent = [name for name in names if name not in at.coords]
    if absent:
        raise DataError(f"by={list(names)}: held_out has no coordinate {absent[0]!r}; it has {list(at.coords)}")
    codes = [coordinates.read(name, at.coords[name])[1] for name in names]
    return np.unique(np.stack(codes, axis=1), axis=0, return_inverse=True)[1].ravel()


def joint_groups(held_out: Any, at: PointData, by: str | Sequence[str] | None) -> np.ndarray:
    """Which values are one vector in an energy score: see `Posterior.score`."""
    if by is not None:
        return groups_of(at, [by] if isinstance(by, str) else list(by))
    if isinstance(held_out, xr.DataArray) and not stacking.is_stacked(held_out):
        return gaps_of(held_out, at)
    return np.zeros(at.size, dtype=int)


def refuse_training(encoded: Encoded, at: PointData, truth: np.ndarray) -> None:
    """Raises DataError if any entry was used in training.

    On a grid that is an observed cell; in a table, a row with the coordinates and the value of a training row, where
    a repeated measurement has another value. Both sides are compared as 32-bit numbers, so that a detour through
    float32 does not make training data new.
    """
    absent = [n for n in encoded.coordinates if n not in at.coords]
    if absent:
        raise DataError(f"held_out lacks the coordinate {absent[0]!r} of the data")
    found = [coordinate.find(at.coords[name]) for name, coordinate in encoded.coordinates.items()]
    known = np.logical_and.reduce([same for _, same in found])
    levels = np.stack([level for level, _ in found], axis=1)
    if not encoded.in_memory:
        seen = _seen_apart(encoded, levels)
    elif encoded.index is None:
        seen = encoded.seen[tuple(levels.T)]
    else:
        used = set(_rows(encoded.index[encoded.seen], encoded.values[encoded.seen]))
        seen = np.array([row in used for row in _rows(levels, truth)])
    bad = np.flatnonzero(known & seen)
    if bad.size:
        first = ", ".join(f"{n}={at.coords[n][bad[0]]}" for n in encoded.coordinates)
        raise DataError(
            f"{bad.size} of {at.size} held-out entries were used in training (first: {first}), so their scores would "
            "flatter; hold them out before the fit, or pass allow_training=True if you mean it or they are new "
            "measurements that happen to be equal"
        )


def _seen_apart(encoded: Encoded, levels: np.ndarray) -> np.ndarray:
    """Which entries were observed of a dask array: the chunks that they are in are read again.

    Raises ModelError if the data are not there any more.
    """
    if encoded.apart is None:
        encoded.require_memory(
            "score", "whether an entry was used in training cannot be told; pass allow_training=True"
        )
    template = encoded.template
    assert isinstance(template, xr.DataArray)
    raw = {name: np.argsort(own)[levels[:, k]] for k, (name, own) in enumerate(grid_of(template).positions.items())}
    at = {name: xr.DataArray(own, dims="entry") for name, own in raw.items()}
    seen = template.isel(at).notnull()
    if WEIGHTS in (encoded.apart or {}):
        seen &= (encoded.apart or {})[WEIGHTS].isel(at) > 0
    return seen.to_numpy()


def _rows(levels: np.ndarray, values: np.ndarray) -> Iterator[tuple[float, ...]]:
    """Each row's levels and value, the value rounded to 32 bits."""
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float32)
    return zip(*levels.T.tolist(), rounded.tolist(), strict=True)
