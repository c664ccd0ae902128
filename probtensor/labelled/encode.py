"""Labelled data to arrays: modes sorted by name, levels ascending, observations in lexicographic order.

The same data in any disguise (dimension order, direction, row order) give the same arrays, hence the same answer.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from probtensor.errors import DataError
from probtensor.labelled import alignment, chunks, coordinates, stacking
from probtensor.labelled.coordinates import Coordinate
from probtensor.labelled.encoded import Encoded
from probtensor.labelled.tables import PointData
from probtensor.observations import magnitude
from probtensor.observations.sources import VALUES, WEIGHTS

#: What data without an observation are refused with.
NOTHING_OBSERVED = "no entry is observed: every value is missing or has weight 0"
#: Names that outputs use for dimensions or variables of their own.
RESERVED = ("mean", "sd", "sample", "quantile", "component", "observation")


def encode(data: Any, weights: Any = None, known: Mapping[str, Any] | None = None) -> Encoded:
    """Data as arrays.

    Args:
        data: a DataArray or points.
        weights: like the data, or broadcasting to them; None = 1 everywhere.
        known: name -> a number, or an array like the data or broadcasting to them.

    Raises:
        DataError: the data cannot be used; the text says what is wrong, where, and what to do.
    """
    if isinstance(data, xr.Dataset):
        names = list(data.data_vars)
        first = names[0] if names else "name"
        raise DataError(
            f"data is a Dataset with the variables {names}; pass one of them, as in ds[{first!r}], or all as one array "
            'with a new dimension, ds.to_array("variable"). Each then has a scale and a noise level of its own, by '
            "default where the model is chosen, and beside a model of your own with "
            'likelihood=pt.Gaussian(noise="variable", scale="variable")'
        )
    if isinstance(data, xr.DataArray):
        return _encode_array(data, weights, known or {})
    if isinstance(data, PointData):
        return _encode_points(data, weights, known or {})
    raise DataError(
        f"data is a {type(data).__name__}; expected an xarray.DataArray, pt.table(df, value=..., coords=[...]) or "
        "pt.points({...}, values)"
    )


def _check_names(names: list[str]) -> None:
    for name in names:
        if name in RESERVED:
            raise DataError(
                f"a mode is called {name!r}, a name that results use themselves; rename it, as in "
                f"data.rename({name}={name + '_level'!r})"
            )


def check_values(values: np.ndarray, describe: Any) -> None:
    """Raises DataError as `magnitude.check`, and where there is no value; describe: an entry by its labels."""
    magnitude.check(values, describe)
    if not np.isfinite(values).any():
        raise DataError(
            f"no entry is observed: all {values.size} values are missing, so there is nothing to learn from"
        )


def check_weights(weights: np.ndarray, values: np.ndarray, describe: Any) -> None:
    """Raises DataError for weights that are none; one matters only where there is a value."""
    possible = (weights == 0) | (np.isfinite(weights) & (weights >= np.finfo(float).tiny))
    bad = np.argwhere(np.isfinite(values) & ~possible)
    if len(bad):
        at = tuple(bad[0])
        raise DataError(
            f"{len(bad)} weights of observed values are negative, not finite or too small to divide by (first: "
            f"{weights[at]} at {describe(at)}); a weight is how often an observation counts, 0 = not observed; try "
            "weights.fillna(0)"
        )


class GridOf(NamedTuple):
    """A DataArray as the core orders it.

    coordinates: in the core's order of modes; positions: of each dimension's labels among the ascending ones.
    """

    coordinates: dict[str, Coordinate]
    positions: dict[str, np.ndarray]

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of levels of each mode."""
        return tuple(len(own) for own in self.positions.values())

    def rows(self, positions: Sequence[np.ndarray]) -> np.ndarray:
        """The places among the flattened grid of a block of entries: those at some positions of each mode."""
        strides = np.cumprod([1, *self.shape[:0:-1]], dtype=np.int64)[::-1]
        parts = [own.astype(np.int64) * stride for own, stride in zip(positions, strides, strict=True)]
        return functools.reduce(np.add.outer, parts)

    def describe(self, at: tuple[int, ...]) -> str:
        """An entry by its labels."""
        pairs = zip(self.coordinates.items(), at, strict=True)
        return ", ".join(f"{name}={coordinate.labels[i]}" for (name, coordinate), i in pairs)


def _check_array(data: xr.DataArray) -> None:
    """Raises DataError for an array that has no modes: its values are not looked at."""
    if data.ndim == 0:
        raise DataError("data has no dimension; a single number has no gaps to fill")
    chunks.check_sizes(data)
    if data.size == 0:
        raise DataError(f"data is empty: its sizes are {dict(data.sizes)}")
    if data.dtype.kind not in "iufb":
        raise DataError(f"data holds {data.dtype}, not numbers")
    names = sorted({*map(str, data.dims), *stacking.modes_of(data)})
    _check_names(names)
    if str(data.name or "value") in names:
        raise DataError(
            f"the data and one of their dimensions are both called {data.name or 'value'!r}; rename the data"
        )


def grid_of(data: xr.DataArray) -> GridOf:
    """The modes of a grid. Raises DataError if it cannot be one: its values are not looked at."""
    _check_array(data)
    read = stacking.read_modes(data)
    for name, (coordinate, position) in read.items():
        if len(coordinate.labels) < len(position):
            raise _twice(name, coordinate, position, stacking.modes_of(data)[name].labels)
    return GridOf({name: own for name, (own, _) in read.items()}, {name: own for name, (_, own) in read.items()})


def _encode_array(data: xr.DataArray, weights: Any, known: Mapping[str, Any]) -> Encoded:
    if not stacking.is_stacked(data):
        return _encode_grid(data, weights, known)
    _check_array(data)
    return _encode_stacked(data.compute(), weights, known)


def _plain(data: xr.DataArray) -> np.ndarray:
    """Values in 64 bits, NaN where missing."""
    return chunks.as_floats(data.to_numpy())


def _encode_grid(data: xr.DataArray, weights: Any, known: Mapping[str, Any]) -> Encoded:
    grid = grid_of(data)
    # What is read from a file on demand is read now. A dask array stays one, and what is filled later is read again.
    data = data if chunks.is_lazy(data) else data.compute()
    values, w, beside = _read(data, grid, weights, known)
    check_values(values, grid.describe)
    if weights is not None:
        check_weights(w, values, grid.describe)
    template = _kept(data, grid, values) if weights is None else data.copy(deep=True)
    return _finish(grid.coordinates, values, w, None, template, beside)


def _kept(data: xr.DataArray, grid: GridOf, values: np.ndarray) -> xr.DataArray:
    """The data as they are now, whatever becomes of them later; in the memory of the values where these are the same.

    values: of the sorted grid.
    """
    steps = [_step(position) for position in grid.positions.values()]
    if chunks.is_lazy(data) or data.dtype != values.dtype or None in steps:
        return data.copy(deep=True)
    as_given, names = values[tuple(slice(None, None, step) for step in steps)], list(grid.positions)
    return data.copy(data=as_given.transpose([names.index(str(dim)) for dim in data.dims]))


def _step(position: np.ndarray) -> int | None:
    """1 for labels that ascend, -1 for labels that fall; None for others."""
    if (position[:-1] < position[1:]).all():
        return 1
    return -1 if (position[:-1] > position[1:]).all() else None


def _read(
    data: xr.DataArray, grid: GridOf, weights: Any, known: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Values, weights and what else is known, on the sorted grid; a dask array is read once, chunk by chunk."""
    names = tuple(grid.positions)
    if chunks.is_lazy(data):
        given = {VALUES: data} | ({} if weights is None else {WEIGHTS: chunks.like(WEIGHTS, weights, data)})
        given |= {name: chunks.beside(name, own, data) for name, own in known.items()}
        found = chunks.read({n: own.transpose(*names) for n, own in given.items()}, list(grid.positions.values()))
        read = found.pop(VALUES)
        return read, found.pop(WEIGHTS) if weights is not None else ~np.isnan(read), found
    box = np.ix_(*(np.argsort(position) for position in grid.positions.values()))
    values = np.ascontiguousarray(_plain(data.transpose(*names))[box])
    beside = {name: alignment.beside(name, own, data).transpose(*names).to_numpy()[box] for name, own in known.items()}
    if weights is None:
        return values, ~np.isnan(values), beside
    return values, alignment.like(WEIGHTS, weights, data).transpose(*names).to_numpy().astype(float)[box], beside


def _twice(name: str, coordinate: Coordinate, position: np.ndarray, labels: np.ndarray) -> DataError:
    """The refusal of a label that a grid has more than once."""
    where = np.flatnonzero(position == int(np.argmax(np.bincount(position) > 1)))
    if len(set(labels[where].tolist())) > 1:
        first, last = (f"{labels[k]:g} (index {k})" for k in where[[0, -1]])
        ends = where[0] == 0 and where[-1] == len(labels) - 1 and len(labels) - len(coordinate.labels) == 1
        ready = f"data.isel({name}=slice(0, -1))" if ends else f"data.isel({name}=...) with the places to keep"
        return DataError(
            f"coordinate {name!r} is a longitude and closes on itself: {first} and {last} are one place, given twice. "
            f"Leave one out, {ready}, or if {name!r} is no longitude say so in the attributes of data[{name!r}], "
            f"attrs={{'units': '1'}}"
        )
    return DataError(
        f"coordinate {name!r}: label {labels[where[0]]} stands at indices {where.tolist()}; a grid needs distinct "
        f"labels. Average them, data.groupby({name!r}).mean(), or pass the entries as pt.points"
    )


def _encode_stacked(data: xr.DataArray, weights: Any, known: Mapping[str, Any]) -> Encoded:
    """All entries as points, in lexicographic order; what is known of each stands where it is."""
    read = stacking.read_modes(data)
    coords = {name: coordinate for name, (coordinate, _) in read.items()}
    index, values = stacking.levels_of_entries(data, read), _plain(data).ravel()

    def describe(at: tuple[int, ...]) -> str:
        labels = stacking.entries(data, np.array([at[0]]))
        return ", ".join(f"{name}={labels[name][0]}" for name in coords)

    check_values(values, describe)
    w = np.ones_like(values)
    if weights is not None:
        w = alignment.like(WEIGHTS, weights, data).to_numpy().astype(float).ravel()
    check_weights(w, values, describe)
    rows = np.lexsort(index.T[::-1])
    beside = {name: alignment.beside(name, own, data).to_numpy().ravel()[rows] for name, own in known.items()}
    encoded = _finish(coords, values[rows], w[rows], index[rows], data.copy(deep=True), beside)
    return dataclasses.replace(encoded, rows=rows)


def _encode_points(data: PointData, weights: Any, known: Mapping[str, Any]) -> Encoded:
    if data.values is None:
        raise DataError("these points have no values; pass them as pt.points({...}, values)")
    if data.size == 0:
        raise DataError("the table has no rows")
    names = sorted(data.coords)
    _check_names(names)
    read = {name: coordinates.read(name, data.coords[name]) for name in names}
    index = np.stack([read[name][1] for name in names], axis=1)
    rows, w = xr.DataArray(data.values, dims="row"), np.ones(data.size)
    if weights is not None:
        w = alignment.like("weights", np.asarray(weights), rows).to_numpy().astype(float)

    def describe(at: tuple[int, ...]) -> str:
        return f"row {at[0]}"

    check_values(data.values, describe)
    check_weights(w, data.values, describe)
    beside = {name: alignment.beside(name, np.asarray(own), rows).to_numpy() for name, own in known.items()}
    order = np.lexsort((*beside.values(), w, data.values, *index.T[::-1]))
    coords = {name: read[name][0] for name in names}
    beside = {name: own[order] for name, own in beside.items()}
    return _finish(coords, data.values[order], w[order], index[order], data, beside)


def _finish(
    coords: dict[str, Coordinate],
    values: np.ndarray,
    weights: np.ndarray,
    index: np.ndarray | None,
    template: Any,
    known: dict[str, np.ndarray],
) -> Encoded:
    """In place: these arrays are ours, and may be large."""
    weights[~np.isfinite(values)] = 0.0
    if not (weights > 0).any():
        raise DataError(NOTHING_OBSERVED)
    # What stands at an entry of weight 0 is never seen.
    values[weights == 0] = np.nan
    return Encoded(coords, values, weights, index, template, known)
