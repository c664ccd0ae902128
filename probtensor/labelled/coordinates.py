"""Labels to numbers: one coordinate of the data as the core sees it, and back."""

from __future__ import annotations

import dataclasses
import datetime
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from probtensor import durations, earth
from probtensor.axes import Axis
from probtensor.errors import DataError, ModelError
from probtensor.labelled.labels import kinds, plain
from probtensor.observations import magnitude

_DAY = np.timedelta64(1, "D")
#: Days in a year of the calendars whose years are all alike.
_YEARS = {"360_day": 360.0, "noleap": 365.0, "365_day": 365.0, "all_leap": 366.0, "366_day": 366.0}
#: A pole, and what 32 bits may add to it.
_POLE = 90.001
#: What pandas calls an attribute whose older name it deprecates.
_PANDAS = {"dayofyear": "day_of_year", "dayofweek": "day_of_week"}
#: Attributes of a time coordinate that a term can read as a mode of its own.
CALENDAR = ("year", "season", "quarter", "month", "day", "dayofyear", "dayofweek", "hour", "minute")


@dataclasses.dataclass(frozen=True)
class Coordinate:
    """One mode's labels.

    Attributes:
        name: the dimension's or column's name.
        kind: ``"numeric"``, ``"time"``, ``"category"`` or ``"constant"``.
        labels: (T,) distinct labels in ascending order, of one kind (see `probtensor.labelled.labels`).
        unit: of the numbers: the coordinate's ``units``, ``"days"`` on a time axis, or empty.
        calendar: how labels become numbers: ``"number"``, ``"datetime"``, ``"timedelta"``, ``"cftime"``, ``"label"``.
        first: the label that times count from; None: the first.
        vocabulary: names in the order of their numbers; None: the labels.
        role: ``"latitude"`` or ``"longitude"`` in degrees, or empty; None: as name and unit say.
        cut: of a longitude, where the circle is cut open: numbers run from here to 360 further, and labels in their
            order. None: it is a line.
        closed: whether its functions go around by default.
    """

    name: str
    kind: str
    labels: np.ndarray
    unit: str
    calendar: str
    first: Any = None
    vocabulary: np.ndarray | None = None
    role: str | None = None
    cut: float | None = None
    closed: bool = False

    @property
    def closes(self) -> float | None:
        """After which it closes on itself; None: it does not."""
        return earth.TURN if self.closed else None

    @property
    def is_time(self) -> bool:
        """Whether the labels are times or time differences, of any calendar."""
        return self.calendar in ("datetime", "timedelta", "cftime")

    @property
    def ascending(self) -> np.ndarray:
        """(T,) places of the labels in ascending order, for answers: a longitude's stand in that of the circle."""
        return np.arange(len(self.labels)) if self.cut is None else np.argsort(self.labels, kind="stable")

    @property
    def extent(self) -> tuple[Any, Any]:
        """The first label and the last: from west to east, or where a longitude goes around the least and the most."""
        order = self.ascending if self.closed else np.arange(len(self.labels))
        return self.labels[order[0]], self.labels[order[-1]]

    @property
    def origin(self) -> Any:
        """The label that times count from."""
        return self.labels[0] if self.first is None else self.first

    @property
    def names(self) -> np.ndarray:
        """Labels in the order of their numbers, of categories."""
        return self.labels if self.vocabulary is None else self.vocabulary

    def numbers(self, labels: np.ndarray) -> np.ndarray:
        """Labels as numbers in ``unit``. Times count from `origin`, which is subtracted before any rounding.

        Raises:
            DataError: the labels are of another kind, or missing.
        """
        return _NUMBERS[self.calendar](self, plain(self.name, labels))

    def find(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The nearest training level of each label, and whether the label is that level but for rounding.

        Rounding is that of 32 bits, and at most a quarter of the smallest step between levels.
        """
        levels, wanted = self.numbers(self.labels), self.numbers(labels)
        order = np.argsort(levels, kind="stable")
        ascending = levels[order]
        above = np.clip(np.searchsorted(ascending, wanted), 0, len(levels) - 1)
        below = np.maximum(above - 1, 0)
        nearest = order[np.where(wanted - ascending[below] < ascending[above] - wanted, below, above)]
        rounding = 4 * float(np.finfo(np.float32).eps) * np.abs(levels).max()
        tolerance = min(rounding, np.diff(ascending).min(initial=np.inf) / 4)
        return nearest, np.abs(levels[nearest] - wanted) <= tolerance

    def shown(self, number: float) -> str:
        """The label of a number in ``unit``, as text."""
        if self.calendar == "datetime":
            return str(pd.Timestamp(self.origin) + pd.Timedelta(days=number).round("s")).removesuffix(" 00:00:00")
        if self.calendar == "cftime":
            return str(self.origin + datetime.timedelta(days=round(number, 6)))
        return f"{number:.10g}" + (" days" if self.calendar == "timedelta" else "")

    def _place(self, label: Any) -> float:
        return float(self.numbers(np.array([label]))[0])

    def axis(self) -> Axis:
        """The core's view of this coordinate."""
        kind = "constant" if len(self.labels) == 1 else self.kind
        parse = None
        if self.is_time:
            own = getattr(self.labels[0], "calendar", "") if self.calendar == "cftime" else ""
            parse = functools.partial(durations.in_days, year=_YEARS.get(own, durations.YEAR))
        extra: dict[str, Any] = {} if parse is None else {"parse": parse}
        if parse is not None or self.cut is not None:
            extra["place"] = self._place
        extra |= {"role": self.role, "period": earth.TURN if self.closed else None}
        return Axis(self.name, kind, self.numbers(self.labels), self.unit, show=self.shown, **extra)

    def derive(self, attribute: str, labels: np.ndarray) -> np.ndarray:
        """A calendar attribute of time labels, as numbers. Raises ModelError if there is no such attribute."""
        name = f"{self.name}.{attribute}"
        if self.calendar not in ("datetime", "cftime"):
            raise ModelError(f"{name!r}: {self.name!r} is not a time coordinate, so it has no {attribute}")
        if attribute not in CALENDAR:
            raise ModelError(f"{name!r}: no such calendar attribute; there are {', '.join(CALENDAR)}")
        labels = plain(self.name, labels)
        if self.calendar == "cftime":
            values = np.array([_cftime_attribute(t, attribute) for t in labels])
            return values.astype(float)
        index = pd.DatetimeIndex(_as_times(self, labels))
        named = _PANDAS.get(attribute, attribute)
        values = index.month % 12 // 3 if attribute == "season" else getattr(index, named)
        return np.asarray(values, dtype=float)


def _cftime_attribute(time: Any, attribute: str) -> int:
    derived = {
        "season": lambda t: t.month % 12 // 3,
        "quarter": lambda t: (t.month - 1) // 3 + 1,
        "dayofyear": lambda t: t.dayofyr,
        "dayofweek": lambda t: t.dayofwk,
    }
    return derived.get(attribute, lambda t: getattr(t, attribute))(time)


def _as_times(coordinate: Coordinate, labels: np.ndarray) -> np.ndarray:
    """Times as they are, and ISO 8601 text as times."""
    kind, texts = coordinate.labels.dtype.kind, set(kinds(labels)) <= {"text"}
    try:
        if labels.dtype.kind != kind and not texts:
            raise TypeError
        return labels if labels.dtype.kind == kind else labels.astype(coordinate.labels.dtype)
    except (TypeError, ValueError) as error:
        wanted = "times such as numpy.datetime64('2020-01-31')" if kind == "M" else "time differences"
        raise DataError(_wrong_kind(coordinate, labels, wanted)) from error


def _times(coordinate: Coordinate, labels: np.ndarray) -> np.ndarray:
    times = _as_times(coordinate, labels)
    if coordinate.calendar == "timedelta":
        return times / _DAY
    # Whole days apart from the rest: a difference in nanoseconds wraps around after 292 years.
    origin = coordinate.origin
    day, first = times.astype("datetime64[D]"), origin.astype("datetime64[D]")
    return (day - first) / _DAY + ((times - day) / _DAY - (origin - first) / _DAY)


def _cftimes(coordinate: Coordinate, labels: np.ndarray) -> np.ndarray:
    try:
        return np.array([(t - coordinate.origin).total_seconds() / 86400 for t in labels], dtype=float)
    except (TypeError, AttributeError) as error:
        calendar = getattr(coordinate.labels[0], "calendar", "")
        raise DataError(_wrong_kind(coordinate, labels, f"cftime dates of the {calendar} calendar")) from error


def _real(coordinate: Coordinate, labels: np.ndarray) -> np.ndarray:
    if labels.dtype.kind not in "iufb":
        raise DataError(_wrong_kind(coordinate, labels, "numbers"))
    found = labels.astype(float)
    if coordinate.role == earth.LATITUDE and coordinate.unit:
        _refuse_beyond_poles(coordinate.name, found)
    return found if coordinate.cut is None else earth.unwound(found, coordinate.cut)


def _refuse_beyond_poles(name: str, latitudes: np.ndarray) -> None:
    """Raises DataError for a latitude that is nowhere on Earth."""
    bad = np.flatnonzero(np.abs(latitudes) > _POLE)
    if bad.size:
        raise DataError(
            f"coordinate {name!r} is a latitude in degrees, by its attributes, and {bad.size} of its labels lie beyond "
            f"the poles (first: index {bad[0]}, {latitudes[bad[0]]:g}); correct them, or if they are no latitudes, "
            f"drop the units and standard_name from data[{name!r}].attrs"
        )


def _codes(coordinate: Coordinate, labels: np.ndarray) -> np.ndarray:
    """Position among the known names; labels never seen get numbers of their own behind the last.

    A label of a kind that training never had is a mistake rather than a new name: 3 is not "3".
    """
    trained = kinds(coordinate.names)
    for kind, i in kinds(labels).items():
        if kind not in trained:
            raise DataError(
                f"coordinate {coordinate.name!r} holds {' and '.join(trained)} in the training data, such as "
                f"{coordinate.names.tolist()[0]!r}; got {labels.tolist()[i]!r} at index {i}, of another kind "
                f"({kind}). Write it as in the data"
            )
    known = {label: k for k, label in enumerate(coordinate.names.tolist())}
    for label in labels.tolist():
        known.setdefault(label, len(known))
    return np.array([known[label] for label in labels.tolist()], dtype=float)


_NUMBERS = {"number": _real, "datetime": _times, "timedelta": _times, "cftime": _cftimes, "label": _codes}


def _wrong_kind(coordinate: Coordinate, labels: np.ndarray, wanted: str) -> str:
    return f"coordinate {coordinate.name!r} holds {wanted} in the training data; got {labels[:1]} of another kind"


def read(name: str, labels: np.ndarray, attrs: Mapping[str, Any] | None = None) -> tuple[Coordinate, np.ndarray]:
    """A coordinate from its raw labels, in any order and with repeats.

    Args:
        name: of the coordinate.
        labels: (N,) of it.
        attrs: by the CF conventions: its unit, and what makes it a latitude or a longitude.

    Returns:
        The coordinate, and for each raw label its position among the sorted distinct ones.

    Raises:
        DataError: a label is missing (NaN, NaT, None) or infinite, labels are of kinds that do not go together, or a
            latitude lies beyond the poles.
    """
    attrs = attrs or {}
    labels = plain(name, labels)
    kind, calendar = _classify(labels)
    missing = np.flatnonzero(pd.isna(labels))
    if missing.size:
        raise DataError(
            f"coordinate {name!r}: {missing.size} of {labels.size} labels are missing (first: index {missing[0]}); "
            f"drop them, for example data.dropna({name!r}) or data.sel({name}=data[{name!r}].notnull())"
        )
    if calendar == "number" and (bad := magnitude.first_beyond(labels)) is not None:
        raise DataError(
            f"coordinate {name!r}: the label at index {bad} is {labels[bad]}; coordinates must be finite, and below "
            f"{magnitude.LARGEST:g}, so that distances can be squared"
        )
    if calendar in ("label", "cftime"):
        distinct, position = _unique_objects(labels)
    else:
        distinct, position = np.unique(labels, return_inverse=True)
    given = str(attrs.get("units", ""))
    unit = "days" if calendar in ("datetime", "timedelta", "cftime") else ("" if calendar == "label" else given)
    found = Coordinate(name, kind, distinct, unit, calendar, role=_role(name, calendar, distinct, attrs))
    if found.role == earth.LONGITUDE:
        return _opened(found, position, earth.says(attrs))
    if found.role == earth.LATITUDE:
        found.numbers(distinct)  # refuses what lies beyond the poles
    return found, position


def _role(name: str, calendar: str, distinct: np.ndarray, attrs: Mapping[str, Any]) -> str:
    """What the coordinate is on Earth; by its name alone only if its numbers can be degrees."""
    if calendar != "number":
        return ""
    unit, standard, axis = (str(attrs.get(key, "")) for key in ("units", "standard_name", "axis"))
    found = earth.role(name, unit, standard, axis)
    if found and not (unit or standard):
        numbers = distinct.astype(float)
        if found == earth.LATITUDE:
            possible = np.abs(numbers).max() <= _POLE
        else:  # within one turn, or in both conventions at once
            possible = np.ptp(numbers) <= earth.TURN or (numbers.min() >= -180 and numbers.max() <= earth.TURN)
        return found if possible else ""
    return found


def _opened(line: Coordinate, position: np.ndarray, said: bool | None) -> tuple[Coordinate, np.ndarray]:
    """A longitude as a circle that is cut open: labels whole turns apart are one level.

    said: whether it goes around, as far as its attributes say.
    """
    raw = line.labels.astype(float)
    cut = earth.opened(raw)
    numbers = earth.unwound(raw, cut.low)
    order = np.lexsort((np.abs(raw), numbers))
    # Rounding is that of the labels' own precision, and told from neighbours by the turns between them.
    rounding = 4 * earth.TURN * float(np.finfo(line.labels.dtype if line.labels.dtype.kind == "f" else float).eps)
    apart = (np.diff(numbers[order]) > rounding) | (np.abs(np.diff(raw[order])) < earth.TURN / 2)
    level = np.concatenate([[0], np.cumsum(apart)])
    place = np.empty(len(raw), dtype=int)
    place[order] = level
    first = order[np.concatenate([[True], apart])]
    closed = cut.closed if said is None else said
    found = dataclasses.replace(line, labels=line.labels[first], cut=cut.low, closed=closed and len(first) > 1)
    return found, place[position]


def merge(old: Coordinate, new: Coordinate) -> tuple[Coordinate, Coordinate]:
    """A coordinate with the labels of both, numbered as the old one; and the new one numbered so.

    Raises:
        DataError: they are of different kinds.
    """
    if new.calendar != old.calendar:
        raise DataError(
            f"coordinate {old.name!r} was {old.kind} ({old.calendar}s such as {old.labels[0]}) in the data before, and "
            f"holds {new.calendar}s such as {new.labels[0]} now; write it as before"
        )
    if old.calendar == "label":
        _codes(old, new.labels)  # refuses labels of another kind
        before = set(old.names.tolist())
        more = [label for label in new.labels.tolist() if label not in before]
        every = np.empty(len(old.names) + len(more), dtype=object)
        every[:] = [*old.names.tolist(), *more]
        return dataclasses.replace(old, labels=every), dataclasses.replace(new, vocabulary=every)
    own = dataclasses.replace(new, first=old.origin, unit=old.unit, role=old.role, cut=old.cut, closed=old.closed)
    labels = np.concatenate([old.labels, new.labels])
    numbers = np.concatenate([old.numbers(old.labels), own.numbers(new.labels)])
    order = np.argsort(numbers, kind="stable")
    labels, numbers = labels[order], numbers[order]
    keep = np.concatenate([[True], numbers[1:] != numbers[:-1] if old.cut is not None else labels[1:] != labels[:-1]])
    return dataclasses.replace(old, labels=labels[keep], first=old.origin), own


def _classify(labels: np.ndarray) -> tuple[str, str]:
    """Kind and calendar of labels of one kind."""
    if labels.dtype.kind in "Mm":
        return "time", "datetime" if labels.dtype.kind == "M" else "timedelta"
    if labels.dtype.kind in "iuf":
        return "numeric", "number"
    return ("time", "cftime") if "cftime dates" in kinds(labels) else ("category", "label")


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
