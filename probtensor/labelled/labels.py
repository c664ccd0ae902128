"""Raw labels as arrays of one kind: pandas and Python keep times and numbers as objects, too."""

from __future__ import annotations

import datetime
import decimal
import numbers
from typing import Any

import numpy as np
import pandas as pd

from probtensor.errors import DataError

#: Kinds that may share a coordinate: all of them are categories.
_CATEGORIES = {"text", "bytes", "truth values", "objects"}

#: Subclasses stand before their parents: a bool is an int, and a timedelta64 counts as one.
_KINDS = (
    ("truth values", (bool, np.bool_)),
    ("text", (str,)),
    ("bytes", (bytes,)),
    ("time differences", (datetime.timedelta, np.timedelta64)),
    ("numbers", (numbers.Real, decimal.Decimal)),
    ("times", (datetime.date, np.datetime64)),
    ("periods", (pd.Period,)),
    ("intervals", (pd.Interval,)),
)
_DTYPES = {"b": "truth values", "U": "text", "S": "bytes", "i": "numbers", "u": "numbers", "f": "numbers"} | {
    "M": "times",
    "m": "time differences",
}


def plain(name: str, labels: Any) -> np.ndarray:
    """Labels as an array of one kind.

    Args:
        name: of the coordinate, for messages.
        labels: (T,) in any form that numpy reads.

    Returns:
        (T,) numbers, ``datetime64``, ``timedelta64``, or objects: cftime dates and categories. Times with a zone come
        in UTC, dates as their midnight, periods as their start, intervals as their middle.

    Raises:
        DataError: labels of kinds that do not go together, such as numbers and text, or times with and without a zone.
    """
    array = np.asarray(labels)
    if array.dtype.kind == "M" and np.datetime_data(array.dtype)[0] in ("Y", "M"):
        return array.astype("datetime64[s]")
    if array.dtype.kind == "T":  # numpy's text of any length
        array = array.astype(object)
    if array.dtype != object:
        return array
    found = _found(array)
    if len(found) > 1 and not set(found) <= _CATEGORIES:
        raise _mixed(name, array, found)
    convert = _CONVERT.get(next(iter(found), ""))
    if convert is None:
        return array
    try:
        return convert(name, array)
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"coordinate {name!r}: its labels look like {next(iter(found))}, but cannot be read as such: {error}. "
            "Convert them before, for example with pandas.to_datetime or pandas.to_numeric"
        ) from error


def said(label: Any) -> str:
    """A label in as few letters as it can be said: numbers to six digits, times without zero parts."""
    if isinstance(label, np.datetime64):
        whole = label.astype("datetime64[s]")
        return str(whole if whole == label else label).removesuffix("T00:00:00")
    if isinstance(label, float | np.floating):
        return f"{label:g}"
    return str(label).removesuffix(" 00:00:00")


def kinds(labels: np.ndarray) -> dict[str, int]:
    """What kinds of label there are, missing ones left out, and the index of the first of each."""
    if labels.dtype == object:
        return _found(labels)
    return {_DTYPES.get(labels.dtype.kind, "objects"): 0} if labels.size else {}


def _found(array: np.ndarray) -> dict[str, int]:
    here = np.flatnonzero(~pd.isna(array))
    types: dict[type, int] = {}
    for i, value in zip(here.tolist(), array[here].tolist(), strict=True):
        types.setdefault(type(value), i)
    found: dict[str, int] = {}
    for type_, i in types.items():
        found.setdefault(_kind(type_), i)
    return found


def _kind(type_: type) -> str:
    for kind, parents in _KINDS:
        if issubclass(type_, parents):
            return kind
    return "cftime dates" if hasattr(type_, "calendar") else "objects"


def _mixed(name: str, array: np.ndarray, found: dict[str, int]) -> DataError:
    (one, i), (other, k), *_ = sorted(found.items(), key=lambda item: item[0] in _CATEGORIES)
    return DataError(
        f"coordinate {name!r} mixes {one} (index {i}: {array[i]!r}) with {other} (index {k}: {array[k]!r}), so it is "
        "neither an axis nor a set of names; make all labels the same kind, as text with astype(str) if they are names"
    )


def _numbers(name: str, array: np.ndarray) -> np.ndarray:
    missing = pd.isna(array)
    if not missing.any() and all(isinstance(v, numbers.Integral) for v in array.tolist()):
        return array.astype(np.int64)
    return np.where(missing, np.nan, array).astype(float)


def _times(name: str, array: np.ndarray) -> np.ndarray:
    zoned = {getattr(v, "tzinfo", None) is not None: i for i, v in enumerate(array.tolist()) if not pd.isna(v)}
    if len(zoned) > 1:
        raise DataError(
            f"coordinate {name!r} mixes times with a zone (index {zoned[True]}: {array[zoned[True]]}) and without one "
            f"(index {zoned[False]}: {array[zoned[False]]}); give all of them a zone, or none"
        )
    try:
        times = pd.to_datetime(array, utc=True)
    except pd.errors.OutOfBoundsDatetime:  # pandas 2 counts nanoseconds, so that it ends in 2262
        times = pd.DatetimeIndex(array, dtype="datetime64[us, UTC]")
    return times.tz_localize(None).to_numpy()


def _time_differences(name: str, array: np.ndarray) -> np.ndarray:
    return pd.to_timedelta(array).to_numpy()


def _periods(name: str, array: np.ndarray) -> np.ndarray:
    return pd.PeriodIndex(array).to_timestamp(how="start").to_numpy()


def _intervals(name: str, array: np.ndarray) -> np.ndarray:
    return pd.IntervalIndex(array).mid.to_numpy()


def _cftimes(name: str, array: np.ndarray) -> np.ndarray:
    found = {v.calendar: i for i, v in reversed(list(enumerate(array.tolist()))) if not pd.isna(v)}
    if len(found) > 1:
        (one, i), (other, k), *_ = sorted(found.items(), key=lambda item: item[1])
        raise DataError(
            f"coordinate {name!r} mixes cftime dates of the {one} calendar (index {i}: {array[i]}) with those of the "
            f"{other} calendar (index {k}: {array[k]}), which lie on no common axis; convert them to one calendar, for "
            "example data.convert_calendar('standard') before they are put together"
        )
    return array


_CONVERT = {
    "numbers": _numbers,
    "times": _times,
    "time differences": _time_differences,
    "periods": _periods,
    "intervals": _intervals,
    "cftime dates": _cftimes,
}
