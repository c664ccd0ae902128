"""Objects as a tree of JSON with arrays beside it, and back, bit for bit.

Numbers, text, None and truth values stand for themselves; everything else is ``{"kind": ..., ...}``. A record that is
met again is only named, so that what was one object is one again.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr
from scipy import sparse

from probtensor.errors import FormatError, ModelError
from probtensor.store import classes, guard

Json = Any

#: Of the trees that are no plain JSON.
_KINDS = frozenset(
    "again array blank bytes categories cftime complex date datetime dict distribution dtype duration ellipsis float "
    "intervals labelled labels list nat periods record set slice sparse timedelta timestamp tuple zoned".split()
)

#: Kinds of array that stand for themselves; times are stored as whole numbers.
_PLAIN, _TIMES, _LABELS = "biufc", "mM", "OUST"
#: How much longer a tree may be with its repetitions written out than it is, so that no walk over it is without end.
_REPEATED, _AT_LEAST = 1000, 10**6


class Stored(NamedTuple):
    """A tree, and the arrays that it counts."""

    tree: Json
    arrays: list[np.ndarray]


def described(value: Any, left_out: Mapping[str, Sequence[str]]) -> Stored:
    """An object as a tree.

    Args:
        value: records of this package, containers, arrays, labels.
        left_out: names of classes -> fields that are stored as None.

    Raises:
        ModelError: there is something in it that cannot be stored, such as a function.
    """
    writer = _Writer(left_out)
    return Stored(writer.tree(value), writer.arrays)


class _Writer:
    def __init__(self, left_out: Mapping[str, Sequence[str]]) -> None:
        self.arrays: list[np.ndarray] = []
        self._left_out = left_out
        #: Number and object by identity: an object that is gone could lend its identity to another.
        self._known: dict[int, tuple[int, Any]] = {}
        self._writers = self._by_kind()

    def tree(self, value: Any) -> Json:
        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"kind": "float", "value": repr(value)}
        for kinds, write in self._writers:
            if isinstance(value, kinds):
                return write(value)
        return self._record(value)

    def _by_kind(self) -> tuple[tuple[Any, Callable[[Any], Json]], ...]:
        return (
            (jax.Array, lambda v: self._array(np.asarray(v)) | {"device": True}),
            (np.ndarray, self._array),
            (np.generic, lambda v: self._array(np.asarray(v)) | {"scalar": True}),
            (type(...), lambda v: {"kind": "ellipsis"}),
            (complex, lambda v: {"kind": "complex", "value": repr(v)}),
            (bytes, lambda v: {"kind": "bytes", "value": v.hex()}),
            (np.dtype, lambda v: {"kind": "dtype", "value": v.str}),
            (slice, lambda v: {"kind": "slice", "items": [self.tree(x) for x in (v.start, v.stop, v.step)]}),
            (type(pd.NaT), lambda v: {"kind": "nat"}),
            (pd.Timestamp, self._timestamp),
            (pd.Timedelta, lambda v: {"kind": "timedelta", "value": v.value, "unit": v.unit}),
            (datetime.datetime, lambda v: {"kind": "datetime", "value": v.isoformat()}),
            (datetime.date, lambda v: {"kind": "date", "value": v.isoformat()}),
            (datetime.timedelta, lambda v: {"kind": "duration", "items": [v.days, v.seconds, v.microseconds]}),
            (xr.DataArray, self._data_array),
            (sparse.csr_matrix, self._sparse),
            (dict, self._dict),
            (list, lambda v: {"kind": "list", "items": [self.tree(x) for x in v]}),
            (frozenset | set, lambda v: {"kind": "set", "items": [self.tree(x) for x in sorted(v, key=repr)]}),
        )

    def _timestamp(self, value: pd.Timestamp) -> Json:
        zone = None if value.tz is None else str(value.tz)
        naive = value if zone is None else value.tz_convert("UTC").tz_localize(None)
        return {"kind": "timestamp", "value": naive.isoformat(), "zone": zone, "unit": value.unit}

    def _array(self, value: np.ndarray) -> dict[str, Json]:
        if value.dtype.kind not in _PLAIN + _TIMES + _LABELS or value.dtype in (np.longdouble, np.clongdouble):
            raise ModelError(f"save: an array of {value.dtype} is in the posterior and cannot be stored")
        if value.dtype.kind in _PLAIN and value.size > 1 and not any(value.strides):
            one = self.tree(np.array(value.flat[0], value.dtype))
            return {"kind": "blank", "value": one, "shape": list(value.shape)}
        if value.dtype.kind in _PLAIN:
            return {"kind": "array", "at": self._kept_at(value)}
        if value.dtype.kind in _TIMES:
            return {"kind": "array", "at": self._kept_at(value.view(np.int64)), "dtype": value.dtype.str}
        items = [self.tree(x) for x in value.ravel().tolist()]
        dtype = "T" if value.dtype.kind == "T" else value.dtype.str
        return {"kind": "labels", "dtype": dtype, "shape": list(value.shape), "items": items}

    def _kept_at(self, value: np.ndarray) -> int:
        self.arrays.append(value)
        return len(self.arrays) - 1

    def _dict(self, value: Mapping[Any, Any]) -> Json:
        return {"kind": "dict", "items": [[self.tree(k), self.tree(v)] for k, v in value.items()]}

    def _sparse(self, value: sparse.csr_matrix) -> Json:
        parts = [self.tree(x) for x in (value.data, value.indices, value.indptr)]
        return {"kind": "sparse", "items": parts, "shape": list(value.shape)}

    def _data_array(self, value: xr.DataArray) -> Json:
        coords = {name: self._variable(c.variable, value.indexes.get(name)) for name, c in value.coords.items()}
        indexes = {name: value.indexes[name] for name in value.dims if name in value.indexes}
        together = {name: list(own.names) for name, own in indexes.items() if isinstance(own, pd.MultiIndex)}
        return {
            "kind": "labelled",
            "name": self.tree(value.name),
            "data": self._variable(value.variable),
            "coords": [[self.tree(name), own] for name, own in coords.items()],
            "together": self.tree(together),
            "indexed": [self.tree(name) for name in value.xindexes],
        }

    def _variable(self, value: xr.Variable, index: pd.Index | None = None) -> Json:
        dims, attrs = self.tree(list(value.dims)), self.tree(dict(value.attrs))
        encoding = {k: v for k, v in value.encoding.items() if self._storable(v)}
        values = self._index(index) if index is not None else None
        values = self.tree(value.to_numpy()) if values is None else values
        return {"dims": dims, "values": values, "attrs": attrs, "encoding": self.tree(encoding)}

    def _index(self, index: pd.Index) -> Json | None:
        """Of those kinds of pandas that NumPy has not; None for all others."""
        if isinstance(index, pd.CategoricalIndex):
            parts = [np.asarray(index.codes), np.asarray(index.categories)]
            return {"kind": "categories", "items": [self.tree(x) for x in parts], "ordered": bool(index.ordered)}
        if isinstance(index, pd.DatetimeIndex) and index.tz is not None:
            naive = index.tz_convert("UTC").tz_localize(None).to_numpy()
            return {"kind": "zoned", "items": [self.tree(naive)], "zone": str(index.tz)}
        if isinstance(index, pd.PeriodIndex):
            return {"kind": "periods", "items": [self.tree(index.asi8)], "frequency": index.freqstr}
        if isinstance(index, pd.IntervalIndex):
            ends = [self.tree(np.asarray(end)) for end in (index.left, index.right)]
            return {"kind": "intervals", "items": ends, "closed": index.closed}
        return None

    def _storable(self, value: Any) -> bool:
        """Encodings may hold codecs of the library that read them, which the next one would not take."""
        try:
            described(value, {})
        except ModelError:
            return False
        return True

    def _record(self, value: Any) -> Json:
        if id(value) in self._known:
            return {"kind": "again", "number": self._known[id(value)][0]}
        kind = type(value)
        if hasattr(value, "calendar") and hasattr(value, "isoformat"):
            return {"kind": "cftime", "value": value.isoformat(), "calendar": value.calendar}
        if kind is tuple:
            return {"kind": "tuple", "items": [self.tree(x) for x in value]}
        if kind.__module__.startswith("numpyro.distributions"):
            own = {name: self.tree(getattr(value, name)) for name in kind.arg_constraints}
            return {"kind": "distribution", "class": kind.__name__, "arguments": own}
        name = classes.name_of(kind)
        self._known[id(value)] = len(self._known), value
        own = {field: getattr(value, field) for field in classes.fields(kind)}
        own |= dict.fromkeys(self._left_out.get(name, ()))
        return {"kind": "record", "class": name, "fields": {field: self.tree(v) for field, v in own.items()}}


def rebuilt(stored: Stored) -> Any:
    """The object of a tree; arrays follow JAX's precision, so this is called in the scope of 64 bits.

    Raises:
        FormatError: the tree is not one that `described` makes.
    """
    try:
        return _Reader(stored.arrays).value(stored.tree)
    except FormatError:
        raise
    except Exception as error:  # of the many constructors that are called with what the tree says
        raise FormatError(f"the store holds what this version cannot read: {type(error).__name__} {error}") from error


class _Reader:
    def __init__(self, arrays: list[np.ndarray]) -> None:
        self._arrays = arrays
        #: Each record, and how many values it has with repetitions written out.
        self._records: list[tuple[Any, int]] = []
        self._room = guard.Room()
        #: How many values there were, and with repetitions written out.
        self._read = self._written_out = 0

    def value(self, tree: Json) -> Any:
        self._read += 1
        self._written_out += 1
        if tree is None or type(tree) in (bool, int, float, str):
            return tree
        if not isinstance(tree, dict) or tree["kind"] not in _KINDS:
            said = tree["kind"] if isinstance(tree, dict) else tree
            raise FormatError(f"there is no kind {said!r:.50} of value; the store is damaged or of another version")
        return getattr(self, f"_{tree['kind']}")(tree)

    def _float(self, tree: Json) -> float:
        return float(tree["value"])

    def _complex(self, tree: Json) -> complex:
        return complex(tree["value"])

    def _bytes(self, tree: Json) -> bytes:
        return bytes.fromhex(tree["value"])

    def _dtype(self, tree: Json) -> np.dtype:
        return guard.dtype(tree["value"])

    def _ellipsis(self, tree: Json) -> Any:
        return ...

    def _slice(self, tree: Json) -> slice:
        return slice(*(self.value(x) for x in tree["items"]))

    def _timestamp(self, tree: Json) -> pd.Timestamp:
        naive = pd.Timestamp(tree["value"]).as_unit(tree["unit"])
        return naive if tree["zone"] is None else naive.tz_localize("UTC").tz_convert(guard.zone(tree["zone"]))

    def _nat(self, tree: Json) -> Any:
        return pd.NaT

    def _timedelta(self, tree: Json) -> pd.Timedelta:
        return pd.Timedelta(np.timedelta64(tree["value"], tree["unit"]))

    def _categories(self, tree: Json) -> pd.CategoricalIndex:
        codes, categories = (self.value(x) for x in tree["items"])
        return pd.CategoricalIndex(pd.Categorical.from_codes(codes, categories, ordered=tree["ordered"]))

    def _zoned(self, tree: Json) -> pd.DatetimeIndex:
        return pd.DatetimeIndex(self.value(tree["items"][0])).tz_localize("UTC").tz_convert(guard.zone(tree["zone"]))

    def _periods(self, tree: Json) -> pd.PeriodIndex:
        return pd.PeriodIndex.from_ordinals(self.value(tree["items"][0]), freq=tree["frequency"])

    def _intervals(self, tree: Json) -> pd.IntervalIndex:
        left, right = (self.value(x) for x in tree["items"])
        return pd.IntervalIndex.from_arrays(left, right, closed=tree["closed"])

    def _datetime(self, tree: Json) -> datetime.datetime:
        return datetime.datetime.fromisoformat(tree["value"])

    def _date(self, tree: Json) -> datetime.date:
        return datetime.date.fromisoformat(tree["value"])

    def _duration(self, tree: Json) -> datetime.timedelta:
        return datetime.timedelta(*tree["items"])

    def _cftime(self, tree: Json) -> Any:
        import cftime

        day, _, clock = tree["value"].partition("T")
        year, month, date = (int(x) for x in day.rsplit("-", 2))
        hour, minute, second = clock.split(":")
        whole, _, part = second.partition(".")
        micro = int(part.ljust(6, "0")) if part else 0
        numbers = (year, month, date, int(hour), int(minute), int(whole), micro)
        return cftime.datetime(*numbers, calendar=tree["calendar"])

    def _array(self, tree: Json) -> Any:
        if type(tree["at"]) is not int or tree["at"] < 0:
            raise FormatError(f"there is no array {tree['at']!r:.50}; the store is damaged")
        value = self._arrays[tree["at"]]
        if "dtype" in tree:
            dtype = guard.dtype(tree["dtype"])
            if dtype.kind not in _TIMES or value.dtype != np.int64:
                raise FormatError(f"an array of {value.dtype} is said to be of {dtype}; the store is damaged")
            value = value.view(dtype)
        if tree.get("scalar"):
            return value[()]
        return jnp.asarray(value) if tree.get("device") else value

    def _blank(self, tree: Json) -> np.ndarray:
        """One number that stands everywhere; whoever computes with it takes memory for all of it."""
        found = self._outline(tree)
        self._room.take(found.nbytes, f"an array of shape {found.shape}")
        return found

    def _outline(self, tree: Json) -> np.ndarray:
        """The same where it stands for data that were left out, with which nothing is computed."""
        if not all(type(size) is int for size in tree["shape"]):
            raise FormatError(f"there is no shape {tree['shape']!r:.50}; the store is damaged")
        return np.broadcast_to(self.value(tree["value"]), tree["shape"])

    def _labels(self, tree: Json) -> Any:
        dtype = guard.dtype(tree["dtype"])
        if dtype.kind not in _LABELS:
            raise FormatError(f"labels are said to be of {dtype}; the store is damaged")
        self._room.take(len(tree["items"]) * dtype.itemsize, "a coordinate's labels")
        found = np.empty(len(tree["items"]), dtype=object)
        found[:] = [self.value(x) for x in tree["items"]]
        found = found.astype(dtype).reshape(tree["shape"])
        return found[()] if tree.get("scalar") else found

    def _tuple(self, tree: Json) -> tuple[Any, ...]:
        return tuple(self.value(x) for x in tree["items"])

    def _list(self, tree: Json) -> list[Any]:
        return [self.value(x) for x in tree["items"]]

    def _set(self, tree: Json) -> frozenset[Any]:
        return frozenset(self.value(x) for x in tree["items"])

    def _dict(self, tree: Json) -> dict[Any, Any]:
        return {self.value(k): self.value(v) for k, v in tree["items"]}

    def _sparse(self, tree: Json) -> sparse.csr_matrix:
        found = sparse.csr_matrix(tuple(self.value(x) for x in tree["items"]), shape=tree["shape"])
        # Compiled code trusts the places, and would read beyond the arrays.
        found.check_format(full_check=True)
        return found

    def _labelled(self, tree: Json) -> xr.DataArray:
        data = self._variable(tree["data"])
        coords = {self.value(name): self._variable(own) for name, own in tree["coords"]}
        together = self.value(tree["together"])
        levels = {level for names in together.values() for level in names}
        plain = {name: c for name, c in coords.items() if name not in levels and name not in together}
        found = xr.DataArray(data, coords=plain, name=self.value(tree["name"]))
        for name, names in together.items():
            index = pd.MultiIndex.from_arrays([coords[level].values for level in names], names=names)
            found = found.assign_coords(xr.Coordinates.from_pandas_multiindex(index, name))
        indexed = [self.value(name) for name in tree["indexed"]]
        found = found.drop_indexes([name for name in found.xindexes if name not in indexed])
        for name in indexed:
            found = found if name in found.xindexes else found.set_xindex(name)
        for name, own in coords.items():
            found.coords[name].encoding = dict(own.encoding)
            found.coords[name].attrs = dict(own.attrs)
        found.encoding = dict(data.encoding)
        return found

    def _variable(self, tree: Json) -> xr.Variable:
        dims, attrs, encoding = (self.value(tree[k]) for k in ("dims", "attrs", "encoding"))
        blank = isinstance(tree["values"], dict) and tree["values"]["kind"] == "blank"
        values = self._outline(tree["values"]) if blank else self.value(tree["values"])
        return xr.Variable(dims, values, attrs, encoding)

    def _distribution(self, tree: Json) -> Any:
        import numpyro.distributions as dist

        kind = getattr(dist, tree["class"])
        if not (isinstance(kind, type) and issubclass(kind, dist.Distribution)):
            raise FormatError(f"numpyro has no distribution {tree['class']!r}")
        if set(tree["arguments"]) - set(kind.arg_constraints):  # type: ignore[attr-defined]
            raise FormatError(f"{tree['class']} has no such arguments: {', '.join(tree['arguments'])}")
        return kind(**{name: self.value(own) for name, own in tree["arguments"].items()})

    def _again(self, tree: Json) -> Any:
        if type(tree["number"]) is not int or tree["number"] < 0:
            raise FormatError(f"there is no record {tree['number']!r:.50}; the store is damaged")
        found, values = self._records[tree["number"]]
        if not values:
            raise FormatError("a record is in itself; the store is damaged")
        self._written_out += values
        if self._written_out > _REPEATED * self._read + _AT_LEAST:
            raise FormatError("it repeats itself without end; the store is damaged")
        return found

    def _record(self, tree: Json) -> Any:
        place, before = len(self._records), self._written_out
        self._records.append((None, 0))
        kind = classes.class_of(tree["class"])
        found = classes.made(kind, {field: self.value(own) for field, own in tree["fields"].items()})
        self._records[place] = found, self._written_out - before + 1
        return found
