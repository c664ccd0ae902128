"""The modes of a DataArray: its dimensions, and the levels of those whose index has several (``stack``, ``set_index``).

Entries along a dimension with a multi-index are points: scattered stations do not become a grid of all their latitudes
and longitudes. Answers come back on the dimension itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from probtensor.errors import DataError
from probtensor.labelled import coordinates
from probtensor.labelled.coordinates import Coordinate
from probtensor.typing import Int


class Along(NamedTuple):
    """A mode of a DataArray: the dimension that it lies along, its label at each place there, and its attributes."""

    dim: str
    labels: np.ndarray
    attrs: Mapping[str, Any]


def is_stacked(data: xr.DataArray) -> bool:
    """Whether a dimension has a multi-index, so that its entries are points."""
    return any(isinstance(data.indexes.get(dim), pd.MultiIndex) for dim in data.dims)


def modes_of(data: xr.DataArray) -> dict[str, Along]:
    """By name, in the order of the data's dimensions; a dimension without labels counts from 0."""
    found: dict[str, Along] = {}
    for dim in map(str, data.dims):
        index = data.indexes.get(dim)
        if isinstance(index, pd.MultiIndex):
            for name in index.names:
                found[str(name)] = Along(dim, index.get_level_values(name).to_numpy(), data[name].attrs)
        elif dim in data.coords:
            found[dim] = Along(dim, data[dim].to_numpy(), data[dim].attrs)
        else:
            found[dim] = Along(dim, np.arange(data.sizes[dim]), {})
    return found


def read_modes(data: xr.DataArray) -> dict[str, tuple[Coordinate, Int[np.ndarray, "n"]]]:
    """The coordinate of each mode, by name in alphabetical order, with the level of each place along its dimension."""
    along = modes_of(data)
    return {name: coordinates.read(name, along[name].labels, along[name].attrs) for name in sorted(along)}


def levels_of_entries(
    data: xr.DataArray, read: Mapping[str, tuple[Coordinate, Int[np.ndarray, "n"]]]
) -> Int[np.ndarray, "N D"]:
    """The level of each mode at each of the data's entries, in their order.

    Raises:
        DataError: two places along a dimension have the same labels.
    """
    along = modes_of(data)
    for dim in map(str, data.dims):
        names = [name for name, own in along.items() if own.dim == dim]
        _refuse_twins(dim, np.stack([read[name][1] for name in names], axis=1), along, names)
    where = np.indices(data.shape)
    axes = {str(dim): k for k, dim in enumerate(data.dims)}
    return np.stack([position[where[axes[along[name].dim]]].ravel() for name, (_, position) in read.items()], axis=1)


def _refuse_twins(dim: str, levels: Int[np.ndarray, "n D"], along: Mapping[str, Along], names: list[str]) -> None:
    _, first, own, counts = np.unique(levels, axis=0, return_index=True, return_inverse=True, return_counts=True)
    if counts.max() > 1:
        twin = int(np.argmax(counts > 1))
        places = np.flatnonzero(own.ravel() == twin)
        label = ", ".join(f"{name}={along[name].labels[first[twin]]}" for name in names)
        raise DataError(
            f"dimension {dim!r}: {label} stands at indices {places.tolist()}; each place along it needs labels of its "
            f"own. Average them, data.groupby({dim!r}).mean(), or if they are repeated observations pass them as rows, "
            f"pt.table(data.to_dataframe('value').reset_index(), 'value', {names})"
        )


def entries(data: xr.DataArray, rows: Int[np.ndarray, "n"]) -> dict[str, np.ndarray]:
    """The label of each mode at some of the data's entries; rows: their places, flattened."""
    where = dict(zip(map(str, data.dims), np.unravel_index(rows, data.shape), strict=True))
    return {name: own.labels[where[own.dim]] for name, own in modes_of(data).items()}
