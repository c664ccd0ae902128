"""Where to predict: coordinates in any labelled form to a domain of the core, and the shape of the answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from probtensor.compilation import padded
from probtensor.errors import DataError
from probtensor.labelled.encode import Encoded
from probtensor.labelled.tables import PointData, points
from probtensor.observations.domain import Domain


@dataclasses.dataclass(frozen=True)
class Places:
    """A domain of the core with the labels of its answer.

    Attributes:
        domain: where.
        dims: of the answer, in the user's order.
        coords: of the answer.
        order: how the domain's axes are transposed to ``dims``.
        shape: of the axes that values on the domain have; None: its own. A list of entries may stand for a grid.
    """

    domain: Domain
    dims: tuple[str, ...]
    coords: dict[str, Any]
    order: tuple[int, ...]
    shape: tuple[int, ...] | None = None

    def label(self, values: np.ndarray, leading: tuple[str, ...] = ()) -> xr.DataArray:
        """Values on the domain (behind any leading dimensions) as a DataArray in the user's order."""
        values, lead = np.asarray(values), len(leading)
        if self.shape is not None:
            values = values.reshape(*values.shape[:lead], *self.shape)
        shape = values.shape[:lead] + tuple(n for k, n in enumerate(values.shape[lead:]) if k in self.order)
        kept = sorted(self.order)
        ranks = tuple(kept.index(k) + lead for k in self.order)
        values = values.reshape(shape).transpose(*range(lead), *ranks)
        return xr.DataArray(values, self.coords, (*leading, *self.dims))


class Outer(NamedTuple):
    """A grid of coordinates.

    Attributes:
        labels: of each of the data's coordinates that is given, in the core's order; a scalar is one label.
        dims: of the answer, in the user's order.
        coords: of the answer.
    """

    labels: dict[str, np.ndarray]
    dims: tuple[str, ...]
    coords: dict[str, Any]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Of the dimensions."""
        return tuple(len(self.labels[name]) for name in self.dims)

    def places(self, encoded: Encoded, modes: tuple[str, ...]) -> Places:
        """The whole grid. Raises DataError for labels of another kind than the data's."""
        order = tuple(list(self.labels).index(name) for name in self.dims)
        return Places(encoded.domain(modes, self.labels, None), self.dims, self.coords, order)

    def block(self, place: Sequence[slice], sizes: Sequence[int]) -> Outer:
        """A part of the grid, with the last labels repeated up to these sizes; without coordinates."""
        own = dict(zip(self.dims, zip(place, sizes, strict=True), strict=True))
        cut = {n: padded(self.labels[n][part], size) for n, (part, size) in own.items()}
        return Outer({n: cut.get(n, labels) for n, labels in self.labels.items()}, self.dims, {})


class Rows(NamedTuple):
    """Coordinates one by one.

    Attributes:
        labels: (N,) of each of the data's coordinates that is given, in the core's order.
    """

    labels: dict[str, np.ndarray]

    @property
    def dims(self) -> tuple[str, ...]:
        """The only one."""
        return ("observation",)

    @property
    def sizes(self) -> tuple[int, ...]:
        """(N,)."""
        return (len(next(iter(self.labels.values()))),)

    @property
    def coords(self) -> dict[str, Any]:
        """Those that are given."""
        return {name: (self.dims, labels) for name, labels in self.labels.items()}

    def places(self, encoded: Encoded, modes: tuple[str, ...]) -> Places:
        """All of them. Raises DataError for labels of another kind than the data's."""
        labels, index = {}, []
        for name, own in self.labels.items():
            codes, distinct = pd.factorize(own)
            labels[name] = np.asarray(distinct, dtype=own.dtype)
            index.append(codes)
        return Places(encoded.domain(modes, labels, np.stack(index, axis=1)), self.dims, self.coords, (0,))

    def block(self, place: Sequence[slice], sizes: Sequence[int]) -> Rows:
        """Some of them, with the last one repeated up to a number."""
        return Rows({name: padded(own[place[0]], sizes[0]) for name, own in self.labels.items()})


def places(encoded: Encoded, modes: tuple[str, ...], at: Any) -> Places:
    """Coordinates to a domain. See `asked`."""
    return asked(encoded, modes, at).places(encoded, modes)


def asked(encoded: Encoded, modes: tuple[str, ...], at: Any) -> Outer | Rows:
    """Coordinates that are asked for.

    Args:
        encoded: the training data's coordinates.
        modes: what the model reads; extra coordinates are ignored.
        at: a dict of coordinates, a DataArray or Dataset with them (outer grid); points or a DataFrame (one by one).

    Raises:
        DataError: a coordinate that the model reads is absent, empty or missing somewhere.
    """
    read = {dimension for name in modes for dimension in encoded.dimensions(name)}
    needed = [n for n in encoded.coordinates if n in read]

    def placed(given: Mapping[str, Any]) -> list[str]:
        """The coordinates of the answer: those the model reads, which must be there, and others of the data."""
        _require(needed, given)
        return [n for n in encoded.coordinates if n in given]

    if isinstance(at, PointData):
        return _pointwise(placed(at.coords), at.coords)
    if isinstance(at, pd.DataFrame):
        columns = {c: at[c].to_numpy() for c in encoded.coordinates if c in at.columns}
        return _pointwise(placed(columns), columns)
    if isinstance(at, xr.DataArray | xr.Dataset):
        given = {str(n): at[n] for n in at.coords} | {str(d): at[d] for d in at.dims if d not in at.coords}
        order = [str(d) for d in at.dims]
    elif isinstance(at, Mapping):
        given, order = {str(k): v for k, v in at.items()}, [str(k) for k in at]
    else:
        raise DataError(
            f"at is a {type(at).__name__}; expected a dict of coordinates, a DataArray, a Dataset, pt.points or a "
            "DataFrame"
        )
    return _outer(placed(given), given, order)


def _require(needed: list[str], given: Mapping[str, Any]) -> None:
    absent = [n for n in needed if n not in given]
    if absent:
        raise DataError(
            f"the model reads coordinate {absent[0]!r}, which `at` does not have; it has {', '.join(given)}"
        )


def _outer(needed: list[str], given: Mapping[str, Any], order: list[str]) -> Outer:
    labels, attrs, scalar = {}, {}, []
    for name in needed:
        value = given[name]
        attrs[name] = dict(value.attrs) if isinstance(value, xr.DataArray) else {}
        array = value.to_numpy() if isinstance(value, xr.DataArray) else np.asarray(value)
        if array.ndim > 1:
            raise DataError(
                f"coordinate {name!r} in `at` has {array.ndim} dimensions; give one dimension, or use pt.points"
            )
        if array.ndim == 0:
            scalar.append(name)
        labels[name] = np.atleast_1d(array)
        if not labels[name].size:
            raise DataError(f"coordinate {name!r} in `at` is empty")
        _check_missing(name, labels[name])
    dims = [n for n in order if n in needed and n not in scalar]
    dims += [n for n in needed if n not in dims and n not in scalar]
    coords = {n: ((n,), labels[n], attrs[n]) for n in dims} | {n: labels[n][0] for n in scalar}
    return Outer(labels, tuple(dims), coords)


def _check_missing(name: str, labels: np.ndarray) -> None:
    bad = np.flatnonzero(pd.isna(labels))
    if bad.size:
        raise DataError(f"coordinate {name!r} in `at` is missing at index {bad[0]}")
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise DataError(f"coordinate {name!r} in `at` is infinite at index {int(np.argmax(~np.isfinite(labels)))}")


def _pointwise(needed: list[str], given: Mapping[str, np.ndarray]) -> Rows:
    at = points({n: given[n] for n in needed})
    for name in needed:
        _check_missing(name, at.coords[name])
    return Rows(at.coords)


def training_places(encoded: Encoded, domain: Domain) -> Places:
    """The training entries, in the core's order of modes and levels."""
    if encoded.index is not None:
        labels = {n: c.labels[encoded.index[:, k]] for k, (n, c) in enumerate(encoded.coordinates.items())}
        coords = {n: (("observation",), v) for n, v in labels.items()}
        return Places(domain, ("observation",), coords, (0,))
    coords = {n: ((n,), c.labels) for n, c in encoded.coordinates.items()}
    names = tuple(encoded.coordinates)
    return Places(
        domain, names, coords, tuple(range(len(names))), tuple(len(c.labels) for c in encoded.coordinates.values())
    )
