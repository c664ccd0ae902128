"""Data in two parts: what a model is shown, and what it is judged on."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import xarray as xr

from probtensor.errors import DataError
from probtensor.evaluation.entries import Entries
from probtensor.evaluation.fills import Places
from probtensor.labelled import alignment, chunks, coordinates, stacking
from probtensor.labelled.coordinates import Coordinate
from probtensor.labelled.encode import encode
from probtensor.labelled.tables import PointData
from probtensor.observations.sources import WEIGHTS
from probtensor.selection.automatic import has_seasons
from probtensor.typing import Bool, Float, Int


@dataclasses.dataclass(frozen=True, eq=False)
class Splitter:
    """Data and the places of their values, as gap protocols and plain fills see them.

    A grid stays as it is, but for axes along which labels neither ascend nor descend, which are put in order; rows of a
    table, and entries along a dimension with a multi-index, are in the order of their coordinates and values.

    Attributes:
        data: as given.
        values: of the data, flat, NaN where nothing was observed.
        where: the places are, in that order.
        order: for each of the flat places, which of the flat values stands there.
    """

    data: xr.DataArray | PointData
    values: Float[np.ndarray, "N"]
    where: Places
    order: Int[np.ndarray, "N"]

    @property
    def unit(self) -> str:
        """The data's unit, or empty."""
        return str(self.data.attrs.get("units", "")) if isinstance(self.data, xr.DataArray) else ""

    @property
    def arranged(self) -> Float[np.ndarray, "..."]:
        """Values at the places."""
        return self.values[self.order].reshape(self.where.entries.observed.shape)

    def back(self, arranged: np.ndarray) -> np.ndarray:
        """What is said of the places, as one number for each of the data's own flat values."""
        out = np.empty(len(self.values), arranged.dtype)
        out[self.order] = arranged.ravel()
        return out

    def only(self, mask: Bool[np.ndarray, "..."]) -> xr.DataArray | PointData:
        """The data where this is True of the places, NaN elsewhere."""
        values = np.where(self.back(mask), self.values, np.nan)
        if isinstance(self.data, xr.DataArray):
            return self.data.copy(data=values.reshape(self.data.shape))
        return dataclasses.replace(self.data, values=values)

    def twins(self, held: Bool[np.ndarray, "..."], shown: Bool[np.ndarray, "..."]) -> float:
        """The share of held-out observations that have others shown at the same coordinates."""
        entries = self.where.entries
        if entries.levels is None or not held.any():
            return 0.0
        groups, number = entries.groups(entries.names)
        known = np.zeros(number, dtype=bool)
        known[groups[shown]] = True
        return float(known[groups[held]].mean())


def splitter(data: Any, weights: Any = None) -> Splitter:
    """Data ready to be split.

    Args:
        data: a DataArray, a table or points.
        weights: like the data: where they are 0, nothing was observed.

    Raises:
        DataError: the data cannot be used, or are a dask array.
    """
    if chunks.is_lazy(data):
        raise DataError(
            "cross_validate: the data are a dask array, and every fold is fitted and scored in memory; pass "
            "data.load(), or a part of them that fits"
        )
    encode(data, weights)  # says what is wrong with them
    if isinstance(data, PointData):
        assert data.values is not None
        rows = xr.DataArray(data.values, dims="row")
        read = {name: coordinates.read(name, labels) for name, labels in sorted(data.coords.items())}
        levels = np.stack([level for _, level in read.values()], axis=1)
        values = _weighted(data.values, weights, rows)
        return _of_rows(data, values, {name: own for name, (own, _) in read.items()}, levels)
    data = data.compute()
    values = _weighted(chunks.as_floats(data.to_masked_array()).ravel(), weights, data)
    if stacking.is_stacked(data):
        read = stacking.read_modes(data)
        levels = stacking.levels_of_entries(data, read)
        return _of_rows(data, values, {name: own for name, (own, _) in read.items()}, levels)
    return _of_grid(data, values)


def _weighted(values: np.ndarray, weights: Any, like: xr.DataArray) -> np.ndarray:
    if weights is None:
        return np.array(values, dtype=float)
    given = weights if isinstance(weights, xr.DataArray) else np.asarray(weights)
    return np.where(alignment.like(WEIGHTS, given, like).to_numpy().ravel() > 0, values, np.nan)


def _of_rows(data: Any, values: np.ndarray, read: dict[str, Coordinate], levels: np.ndarray) -> Splitter:
    order = np.lexsort((values, *levels.T[::-1]))
    entries = Entries({n: len(c.labels) for n, c in read.items()}, np.isfinite(values[order]), levels[order])
    months = {name: c.derive("month", c.labels) for name, c in read.items() if _has_months(c)}
    return Splitter(data, values, Places(entries, _numbers(read), _whole(months)), order)


def _of_grid(data: xr.DataArray, values: np.ndarray) -> Splitter:
    along, read = stacking.modes_of(data), stacking.read_modes(data)
    names = list(along)
    positions, ranks = {}, {}
    for name in names:
        coordinate, level = read[name]
        positions[name] = np.arange(len(level)) if _in_order(coordinate, along[name].labels) else np.argsort(level)
        ranks[name] = level[positions[name]]
    order = np.ravel_multi_index(np.ix_(*positions.values()), data.shape).ravel()
    observed = np.isfinite(values[order]).reshape(data.shape)
    entries = Entries({name: len(positions[name]) for name in names}, observed, ranks=ranks)
    numbers = {n: own[ranks[n]] for n, own in _numbers({n: read[n][0] for n in names}).items()}
    months = {n: read[n][0].derive("month", read[n][0].labels)[ranks[n]] for n in names if _has_months(read[n][0])}
    return Splitter(data, values, Places(entries, numbers, _whole(months)), order)


def _in_order(coordinate: Coordinate, labels: np.ndarray) -> bool:
    """Whether neighbours along an axis are neighbours in the coordinate; names have no order."""
    if coordinate.kind == "category":
        return True
    rising = labels[1:] > labels[:-1]
    return bool(rising.all() or not rising.any())


def _numbers(read: dict[str, Coordinate]) -> dict[str, np.ndarray]:
    """Numbers of each level, of those that are no names."""
    return {name: c.numbers(c.labels) for name, c in read.items() if c.kind != "category"}


def _has_months(coordinate: Coordinate) -> bool:
    return coordinate.calendar in ("datetime", "cftime") and has_seasons(coordinate.axis())


def _whole(months: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: own.astype(int) for name, own in months.items()}
