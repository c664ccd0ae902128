"""A data set in the making whose names, labels and attributes can all be written as NetCDF."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from probtensor.labelled.encoded import Encoded


class Sheet:
    """Variables along the data's own dimensions and along others, which get names that are still free.

    ``dataset`` is what was put on it so far.
    """

    def __init__(self, encoded: Encoded) -> None:
        """With the coordinates of the data: of a grid in its own order, of a table in that of the coordinates."""
        self._encoded = encoded
        self._names: dict[str, str] = {}
        self._positions: dict[str, np.ndarray] = {}
        template = encoded.template
        if isinstance(template, xr.DataArray):
            self.dataset = _writable(template.coords.to_dataset())
            self._taken = {_clean(str(name)) for name in (*self.dataset.variables, *template.dims)}
            if encoded.absorbed is None and encoded.rows is None:
                self._positions = encoded.positions
        else:
            assert encoded.index is not None
            rows = zip(encoded.coordinates.items(), encoded.index.T, strict=True)
            labels_of = {name: ("observation", own.labels[levels]) for (name, own), levels in rows}
            self.dataset = _writable(xr.Dataset(coords=labels_of))
            self._taken = {str(name) for name in (*self.dataset.variables, "observation")}

    def name(self, wanted: str) -> str:
        """The name that something of ours gets: as wanted, or with a line behind if the data have it."""
        if wanted not in self._names:
            free = re.sub(r"\W", "_", wanted)
            while free in self._taken:
                free += "_"
            self._names[wanted] = free
            self._taken.add(free)
        return self._names[wanted]

    def put(self, name: str, array: xr.DataArray, attrs: Mapping[str, Any]) -> None:
        """A variable along the data's own dimensions, in the order of the data."""
        dims = tuple(_clean(str(dim)) for dim in array.dims)
        self.dataset[self.name(name)] = (dims, array.to_numpy(), _attributes(attrs))

    def put_along(self, dim: str, name: str, columns: Mapping[str, Any], attrs: Mapping[str, Any]) -> None:
        """A variable along a dimension of its own; columns: its values and those of coordinates, by name."""
        along = self.name(dim)
        own = {self.name(key): (along, values) for key, values in columns.items()}
        coords = {key: value for key, value in own.items() if key != self.name(name)}
        self.dataset = self.dataset.assign_coords(coords).assign({self.name(name): own[self.name(name)]})
        self.dataset[self.name(name)].attrs = _attributes(attrs)

    def put_levels(self, name: str, array: xr.DataArray, prefix: str, attrs: Mapping[str, Any]) -> None:
        """A variable along the levels of modes and along components, as `Posterior.factors` gives it.

        Modes become the data's own dimensions, in their order, where these have the same levels; else there is a
        dimension ``{mode}_level``. Parts of the calendar have each of their values once. Components are those of the
        prefix alone.
        """
        for dim in map(str, array.dims):
            array = self._along(array, dim, prefix)
        self.dataset = self.dataset.assign_coords(_writable(array.coords.to_dataset()).coords)
        self.dataset[self.name(name)] = (array.dims, array.to_numpy(), _attributes(attrs))

    def _along(self, array: xr.DataArray, dim: str, prefix: str) -> xr.DataArray:
        labels = array[dim].to_numpy() if dim in array.coords else None
        if dim in self._positions and labels is not None:
            levels = self._encoded.coordinates[dim].find(labels)[0]
            array = array.isel({dim: np.argsort(levels)[self._positions[dim]]})
            return array.drop_vars(dim, errors="ignore").rename({dim: _clean(dim)})
        parent = dim.rpartition(".")[0]
        if dim in self._encoded.coordinates:
            new = self.name(f"{dim}_level")
        elif parent in self._encoded.coordinates and labels is not None:
            array = array.isel({dim: np.unique(labels, return_index=True)[1]})
            labels, new = array[dim].to_numpy(), self.name(dim)
        elif labels is None:  # combinations of levels that occur in a table
            new = self.name(dim)
            own = {n: self.name(f"{dim}_{n}") for n in array.coords if array[n].dims == (dim,)}
            return array.rename({**own, dim: new})
        else:
            new = self.name(f"{prefix}_{dim}")
        array = array.drop_vars(dim, errors="ignore").rename({dim: new})
        return array if labels is None else array.assign_coords({new: labels})


def _clean(name: str) -> str:
    """NetCDF keeps slashes for groups."""
    return name.replace("/", "_")


def _writable(dataset: xr.Dataset) -> xr.Dataset:
    """The same with labels and attributes that NetCDF knows: objects that are no dates as text."""
    levels = [dim for dim in dataset.dims if dim in dataset.indexes and dataset.indexes[dim].nlevels > 1]
    dataset = dataset.reset_index(levels)
    dataset = dataset.rename({n: _clean(str(n)) for n in (*dataset.variables, *dataset.dims) if _clean(str(n)) != n})
    for name, array in dataset.variables.items():
        plain = array.dtype.kind != "O" or all(hasattr(label, "calendar") for label in array.to_numpy().ravel())
        values = array.to_numpy() if plain else array.to_numpy().astype(str)
        made = xr.Variable(array.dims, values, _attributes(array.attrs), array.encoding if plain else None)
        dataset = dataset.assign_coords({name: made}) if name in dataset.coords else dataset.assign({name: made})
    return dataset


def _attributes(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(key): _attribute(value) for key, value in attrs.items() if value is not None}


def _attribute(value: Any) -> Any:
    """Text, numbers and lists of them as they are, truth values as 0 and 1, anything else as text."""
    if isinstance(value, str | bytes):
        return value
    array = np.asarray(value)
    if array.dtype.kind == "b":
        return array.astype(np.int8)[()]
    return value if array.dtype.kind in "iufUS" and array.ndim <= 1 else str(value)


def text(values: Sequence[Any]) -> np.ndarray:
    """Anything as text, one for each."""
    return np.array([str(value) for value in values], dtype=object)
