"""Labels to numbers: one coordinate of the data as the core sees it, and back."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pandas as pd

from probtensor.axes import Axis
from probtensor.errors import DataError, ModelError

_DAY = np.timedelta64(1, "D")
#: Attributes of a time coordinate that a term can read as a mode of its own.
CALENDAR = ("year", "season", "quarter", "month", "day", "dayofyear", "dayofweek", "hour", "minute")


@dataclasses.dataclass(frozen=True)
class Coordinate:
    """One mode's labels.

    Attributes:
        name: the dimension's or column's name.
        kind: ``"numeric"``, ``"time"``, ``"category"`` or ``"constant"``.
        labels: (T,) distinct labels in ascending order, as the user gave them.
        unit: of the numbers: the coordinate's ``units``, ``"days"`` on a time axis, or empty.
        calendar: how labels become numbers: ``"number"``, ``"datetime"``, ``"timedelta"``, ``"cftime"``, ``"label"``.
    """

    name: str
    kind: str
    labels: np.ndarray
    unit: str
    calendar: str

    def numbers(self, labels: np.ndarray) -> np.ndarray:
        """Labels as numbers in ``unit``. Times count from the first training label, subtracted before any rounding.

        Raises:
            DataError: the labels are of another kind, or missing.
        """
        return _NUMBERS[self.calendar](self, labels)

    def axis(self) -> Axis:
        """The core's view of this coordinate."""
        kind = "constant" if len(self.labels) == 1 else self.kind
        parse = duration_in_days if self.calendar in ("datetime", "timedelta", "cftime") else None
        extra: dict[str, Any] = {} if parse is None else {"parse": parse}
        return Axis(self.name, kind, self.numbers(self.labels), self.unit, **extra)

    def derive(self, attribute: str, labels: np.ndarray) -> np.ndarray:
        """A calendar attribute of time labels, as numbers. Raises ModelError if there is no such attribute."""
        name = f"{self.name}.{attribute}"
        if self.calendar not in ("datetime", "cftime"):
            raise ModelError(f"{name!r}: {self.name!r} is not a time coordinate, so it has no {attribute}")
        if attribute not in CALENDAR:
            raise ModelError(f"{name!r}: no such calendar attribute; there are {', '.join(CALENDAR)}")
        if self.calendar == "cftime":
            values = np.array([_cftime_attribute(t, attribute) for t in labels])
            return values.astype(float)
        index = pd.DatetimeIndex(np.asarray(labels, dtype="datetime64[ns]"))
        values = index.month % 12 // 3 if attribute == "season" else getattr(index, attribute)
        return np.asarray(values, dtype=float)


def _cftime_attribute(time: Any, attribute: str) -> int:
    derived = {
        "season": lambda t: t.month % 12 // 3,
        "quarter": lambda t: (t.month - 1) // 3 + 1,
        "dayofyear": lambda t: t.dayofyr,
        "dayofweek": lambda t: t.dayofwk,
    }
    return derived.get(attribute, lambda t: getattr(t, attribute))(time)


def duration_in_days(text: str) -> float:
    """``"30D"``, ``"6h"``, ``"2W"`` in days. Raises ModelError for anything pandas does not read as a duration."""
    unit = re.sub(r"[\d.\s]", "", text)
    years = {"Y": 365.25, "y": 365.25, "M": 365.25 / 12}
    try:
        if not unit:
            raise ValueError("no unit")
        if unit in years:
            return float(text.replace(unit, "")) * years[unit]
        return pd.Timedelta(text) / pd.Timedelta(days=1)
    except ValueError as error:
        raise ModelError(f"{text!r} is not a duration; write for example '30D', '6h', '2W', '18M' or '10Y'") from error


def _times(coordinate: Coordinate, labels: np.ndarray) -> np.ndarray:
    times = np.asarray(labels)
    try:
        if times.dtype.kind in "iufb":
            raise TypeError("numbers are not times")
        if times.dtype.kind != coordinate.labels.dtype.kind:
            times = times.astype(coordinate.labels.dtype)
    except (TypeError, ValueError) as error:
        raise DataError(_wrong_kind(coordinate, labels, "times such as numpy.datetime64('2020-01-31')")) from error
    origin = coordinate.labels[0] if coordinate.calendar == "datetime" else np.timedelta64(0, "ns")
    return (times - origin) / _DAY


def _cftimes(coordinate: Coordinate, labels: np.ndarray) -> np.ndarray:
    try:
        return np.array([(t - coordinate.labels[0]).total_seconds() / 86400 for t in np.asarray(labels)], dtype=float)
    except (TypeError, AttributeError) as error:
        calendar = getattr(coordinate.labels[0], "calendar", "")
        raise DataError(_wrong_kind(coordinate, labels, f"cftime dates of the {calendar} calendar")) from error


def _plain(coordinate: Coordinate, labels: np.ndarray) -> np.ndarray:
    array = np.asarray(labels)
    if array.dtype.kind not in "iufb":
        raise DataError(_wrong_kind(coordinate, labels, "numbers"))
    return array.astype(float)


def _codes(coordinate: Coordinate, labels: np.ndarray) -> np.ndarray:
    """Position among the training labels; labels never seen get numbers of their own behind the last."""
    known = {label: k for k, label in enumerate(coordinate.labels.tolist())}
    for label in np.asarray(labels).tolist():
        known.setdefault(label, len(known))
    return np.array([known[label] for label in np.asarray(labels).tolist()], dtype=float)


_NUMBERS = {"number": _plain, "datetime": _times, "timedelta": _times, "cftime": _cftimes, "label": _codes}


def _wrong_kind(coordinate: Coordinate, labels: np.ndarray, wanted: str) -> str:
    first = np.asarray(labels).ravel()[:1].tolist()
    return f"coordinate {coordinate.name!r} holds {wanted} in the training data; got {first} of another kind"


def read(name: str, labels: np.ndarray, unit: str = "") -> tuple[Coordinate, np.ndarray]:
    """A coordinate from its raw labels, in any order and with repeats.

    Returns:
        The coordinate, and for each raw label its position among the sorted distinct ones.

    Raises:
        DataError: a label is missing (NaN, NaT, None) or infinite.
    """
    labels = np.asarray(labels)
    kind, calendar, labels = _classify(labels)
    missing = np.flatnonzero(pd.isna(labels))
    if missing.size:
        raise DataError(
            f"coordinate {name!r}: {missing.size} of {labels.size} labels are missing (first: index {missing[0]}); "
            f"drop them, for example data.dropna({name!r}) or data.sel({name}=data[{name!r}].notnull())"
        )
    if calendar == "number" and not np.isfinite(labels.astype(float)).all():
        bad = int(np.flatnonzero(~np.isfinite(labels.astype(float)))[0])
        raise DataError(f"coordinate {name!r}: the label at index {bad} is {labels[bad]}; coordinates must be finite")
    if calendar in ("label", "cftime"):
        distinct, position = _unique_objects(labels)
    else:
        distinct, position = np.unique(labels, return_inverse=True)
    unit = "days" if calendar in ("datetime", "timedelta", "cftime") else ("" if calendar == "label" else unit)
    return Coordinate(name, kind, distinct, unit, calendar), position


def _classify(labels: np.ndarray) -> tuple[str, str, np.ndarray]:
    if labels.dtype.kind == "M":
        coarse = np.datetime_data(labels.dtype)[0] in ("Y", "M")
        return "time", "datetime", labels.astype("datetime64[s]") if coarse else labels
    if labels.dtype.kind == "m":
        return "time", "timedelta", labels
    if labels.dtype.kind in "iuf":
        return "numeric", "number", labels
    if labels.dtype == object and labels.size and hasattr(labels.flat[0], "calendar"):
        return "time", "cftime", labels
    return "category", "label", labels


def _unique_objects(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct labels of any type: by value where they compare, else by their text."""
    values = labels.tolist()
    try:
        distinct = sorted(set(values))
    except TypeError:
        distinct = sorted(set(values), key=lambda v: (type(v).__name__, str(v)))
    position = {value: k for k, value in enumerate(distinct)}
    out = np.empty(len(distinct), dtype=labels.dtype if labels.dtype.kind != "O" else object)
    out[:] = distinct
    return out, np.array([position[v] for v in values], dtype=int)
