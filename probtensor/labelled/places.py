"""Where to predict: coordinates in any labelled form to a domain of the core, and the shape of the answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

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


def places(encoded: Encoded, modes: tuple[str, ...], at: Any) -> Places:
    """Coordinates to a domain.

    Args:
        encoded: the training data's coordinates.
        modes: what the model reads; extra coordinates are ignored.
        at: a dict of coordinates, a DataArray or Dataset with them (outer grid); points or a DataFrame (one by one).

    Raises:
        DataError: a coordinate that the model reads is absent, empty or of another kind.
    """
    read = {dimension for name in modes for dimension in encoded.dimensions(name)}
    needed = [n for n in encoded.coordinates if n in read]

    def placed(given: Mapping[str, Any]) -> list[str]:
        """The coordinates of the answer: those the model reads, which must be there, and others of the data."""
        _require(needed, given)
        return [n for n in encoded.coordinates if n in given]

    if isinstance(at, PointData):
        return _pointwise(encoded, modes, placed(at.coords), at.coords)
    if isinstance(at, pd.DataFrame):
        columns = {c: at[c].to_numpy() for c in encoded.coordinates if c in at.columns}
        return _pointwise(encoded, modes, placed(columns), columns)
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
    return _outer(encoded, modes, placed(given), given, order)


def _require(needed: list[str], given: Mapping[str, Any]) -> None:
    absent = [n for n in needed if n not in given]
    if absent:
        raise DataError(
            f"the model reads coordinate {absent[0]!r}, which `at` does not have; it has {', '.join(given)}"
        )


def _outer(
    encoded: Encoded, modes: tuple[str, ...], needed: list[str], given: Mapping[str, Any], order: list[str]
) -> Places:
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
    where = encoded.domain(modes, labels, None)
    return Places(where, tuple(dims), coords, tuple(needed.index(n) for n in dims))


def _check_missing(name: str, labels: np.ndarray) -> None:
    bad = np.flatnonzero(pd.isna(labels))
    if bad.size:
        raise DataError(f"coordinate {name!r} in `at` is missing at index {bad[0]}")
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise DataError(f"coordinate {name!r} in `at` is infinite at index {int(np.argmax(~np.isfinite(labels)))}")


def _pointwise(encoded: Encoded, modes: tuple[str, ...], needed: list[str], given: Mapping[str, np.ndarray]) -> Places:
    at = points({n: given[n] for n in needed})
    labels, index = {}, []
    for name in needed:
        _check_missing(name, at.coords[name])
        codes, distinct = pd.factorize(at.coords[name])
        labels[name] = np.asarray(distinct, dtype=at.coords[name].dtype)
        index.append(codes)
    where = encoded.domain(modes, labels, np.stack(index, axis=1))
    coords = {n: (("observation",), at.coords[n]) for n in needed}
    return Places(where, ("observation",), coords, (0,))


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
