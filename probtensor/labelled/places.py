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
from probtensor.labelled.encoded import Encoded
from probtensor.labelled.tables import PointData, points
from probtensor.observations import magnitude
from probtensor.observations.domain import Domain


@dataclasses.dataclass(frozen=True)
class Places:
    """A domain of the core with the labels of its answer.

    Attributes:
        domain: where.
        dims: of the answer, in the user's order.
        coords: of the answer, by name or as xarray keeps them.
        order: how the domain's axes are transposed to ``dims``.
        shape: of the axes that values on the domain have; None: its own. A list of entries may stand for a grid.
    """

    domain: Domain
    dims: tuple[str, ...]
    coords: Any
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
    """Coordinates that go together, entry by entry.

    Attributes:
        labels: of each of the data's coordinates that is given, in the core's order; all in the shape of the answer.
        coords: of the answer.
        dims: of the answer.
    """

    labels: dict[str, np.ndarray]
    coords: Any
    dims: tuple[str, ...] = ("observation",)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Of the dimensions."""
        return next(iter(self.labels.values())).shape

    def places(self, encoded: Encoded, modes: tuple[str, ...]) -> Places:
        """All of them. Raises DataError for labels of another kind than the data's."""
        labels, index = {}, []
        for name, own in self.labels.items():
            codes, distinct = pd.factorize(own.ravel())
            labels[name] = np.asarray(distinct, dtype=own.dtype)
            index.append(codes)
        where = encoded.domain(modes, labels, np.stack(index, axis=1))
        return Places(where, self.dims, self.coords, tuple(range(len(self.dims))), self.sizes)

    def block(self, place: Sequence[slice], sizes: Sequence[int]) -> Rows:
        """Some of them, with the last ones repeated up to these sizes; without coordinates."""
        pairs = zip(place, sizes, strict=True)
        box = np.ix_(*(np.minimum(np.arange(own.start, own.start + size), own.stop - 1) for own, size in pairs))
        return Rows({name: own[box] for name, own in self.labels.items()}, {}, self.dims)


def places(encoded: Encoded, modes: tuple[str, ...], at: Any) -> Places:
    """Coordinates to a domain. See `asked`."""
    return asked(encoded, modes, at).places(encoded, modes)


def asked(encoded: Encoded, modes: tuple[str, ...], at: Any) -> Outer | Rows:
    """Coordinates that are asked for.

    Args:
        encoded: the training data's coordinates.
        modes: what the model reads; extra coordinates are ignored.
        at: a dict of coordinates, a DataArray or Dataset with them; points or a DataFrame (one by one). Coordinates of
            a dict, a DataArray or a Dataset make an outer grid, but for those that share a dimension (a track, the
            levels of a multi-index, latitudes and longitudes of a curvilinear grid): these go together.

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
    needed = placed(given)
    if all(_on_its_own(name, given[name]) for name in needed):
        return _outer(needed, given, order)
    return _along(needed, given, order)


def _on_its_own(name: str, value: Any) -> bool:
    """Whether a coordinate is a scalar or lies along a dimension of its own name, as in a grid."""
    return not isinstance(value, xr.DataArray) or value.dims in ((), (name,))


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
        _check_flat(name, array.ndim)
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


def _along(needed: list[str], given: Mapping[str, Any], order: list[str]) -> Rows:
    """Coordinates that lie along other dimensions: those that share one go together, as in xarray's own selection."""
    arrays = {name: _as_array(name, given[name]) for name in needed}
    used = {d for own in arrays.values() for d in own.dims}
    dims = [d for d in order if d in used]
    dims += dict.fromkeys(str(d) for own in arrays.values() for d in own.dims if d not in dims)
    kept = [own.coords.to_dataset() for own in arrays.values()]
    try:
        whole = xr.merge(kept, join="exact", compat="equals", combine_attrs="override")
    except (ValueError, xr.MergeError) as error:
        raise DataError(
            f"the coordinates {', '.join(needed)} in `at` do not go together: {str(error).splitlines()[0]}. Those that "
            "share a dimension need the same labels along it"
        ) from error
    sizes = {d: whole.sizes[d] for d in dims}
    if not np.prod(list(sizes.values())):
        raise DataError(f"`at` is empty: its sizes are {sizes}")
    labels = {}
    for name, own in arrays.items():
        _check_missing(name, own.to_numpy().ravel())
        labels[name] = own.variable.set_dims(sizes).transpose(*dims).to_numpy()
    return Rows(labels, whole.coords, tuple(dims))


def _as_array(name: str, value: Any) -> xr.DataArray:
    """A coordinate with itself among its coordinates; what has no dimensions of its own lies along its name."""
    if not isinstance(value, xr.DataArray):
        _check_flat(name, np.ndim(value))
        value = xr.DataArray(value, dims=(name,) * np.ndim(value))
    return value if name in value.coords else value.assign_coords({name: value.variable})


def _check_flat(name: str, dimensions: int) -> None:
    if dimensions > 1:
        raise DataError(
            f"coordinate {name!r} in `at` has {dimensions} dimensions; give one dimension, name them, as in "
            "xr.DataArray(values, dims=('y', 'x')), or use pt.points"
        )


def _check_missing(name: str, labels: np.ndarray) -> None:
    bad = np.flatnonzero(pd.isna(labels))
    if bad.size:
        raise DataError(f"coordinate {name!r} in `at` is missing at index {bad[0]}")
    if labels.dtype.kind in "iuf" and (first := magnitude.first_beyond(labels)) is not None:
        what = "infinite" if np.isinf(labels[first]) else f"not below {magnitude.LARGEST:g}"
        raise DataError(f"coordinate {name!r} in `at` is {what} at index {first}")


def _pointwise(needed: list[str], given: Mapping[str, np.ndarray]) -> Rows:
    at = points({n: given[n] for n in needed})
    for name in needed:
        _check_missing(name, at.coords[name])
    return Rows(at.coords, {n: (("observation",), at.coords[n]) for n in needed})


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
