"""Coordinates along the axes of a figure: numbers, dates of any calendar, durations, degrees, names.

Positions are plain numbers whatever the labels are, and each scale writes its own ticks, so that dates of every
calendar can be drawn without a package for them.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from probtensor.plotting import geography
from probtensor.plotting.words import short, with_unit

if TYPE_CHECKING:
    from matplotlib.axis import Axis

#: Levels of a categorical mode whose names can be read along an axis.
MOST_NAMES = 40
#: Ticks of an axis of dates, at most.
_TICKS = 6
_DAY = 86400.0
#: Units of durations, the longest first, with their seconds.
_DURATIONS = {"days": _DAY, "hours": 3600.0, "minutes": 60.0, "seconds": 1.0}


class Scale(NamedTuple):
    """One coordinate as it is drawn.

    Attributes:
        positions: (T,) of the labels along the axis; dates as matplotlib counts them, or as days since the first.
        label: of the axis.
        kind: ``"number"``, ``"latitude"``, ``"longitude"``, ``"date"``, ``"calendar"`` or ``"name"``.
        labels: (T,) as they are.
    """

    positions: np.ndarray
    label: str
    kind: str
    labels: np.ndarray

    @property
    def is_ordered(self) -> bool:
        """Whether a line through the positions says something."""
        return self.kind != "name"

    def dress(self, axis: Axis, size: float = 8.0, centred: bool = True) -> None:
        """Gives an axis its ticks; a single level is called by its label, and stands in the middle if centred."""
        from matplotlib import ticker

        axis.set_tick_params(labelsize=size)
        if len(self.positions) == 1:
            place, text = float(self.positions[0]), self.said(self.labels[0])
            axis.set_major_locator(ticker.FixedLocator([place]))
            axis.set_major_formatter(ticker.FixedFormatter([text]))
            if centred:
                axis.set_view_interval(place - 1.0, place + 1.0, ignore=True)
        else:
            _DRESSES[self.kind](self, axis)

    def said(self, label: Any) -> str:
        """One label as text."""
        if self.kind in _DEGREES:
            return _DEGREES[self.kind](float(label))
        return short(label)


def scale_of(coordinate: xr.DataArray) -> Scale:
    """The scale of a coordinate; one of no labels counts from zero."""
    return scale(coordinate.name, coordinate.to_numpy(), coordinate.attrs)


def scale(name: Any, labels: np.ndarray, attrs: Mapping[str, Any]) -> Scale:
    """The scale of labels of any kind.

    Args:
        name: of the coordinate.
        labels: (T,) of one kind.
        attrs: of the coordinate, ``units`` and ``standard_name`` among them.
    """
    if labels.dtype.kind == "M":
        from matplotlib.dates import date2num

        return Scale(np.asarray(date2num(labels), dtype=float), str(name), "date", labels)
    if labels.dtype.kind == "m":
        seconds = labels / np.timedelta64(1, "s")
        longest = np.abs(seconds).max(initial=0.0)
        unit = next((u for u, length in _DURATIONS.items() if longest >= 2 * length), "seconds")
        return Scale(seconds / _DURATIONS[unit], with_unit(name, {"units": unit}), "number", labels)
    if labels.dtype.kind in "iuf":
        if geography.is_latitude(name, attrs):
            return Scale(labels.astype(float), str(name), "latitude", labels)
        if geography.is_longitude(name, attrs):
            return Scale(geography.unrolled(labels.astype(float)), str(name), "longitude", labels)
        return Scale(labels.astype(float), with_unit(name, attrs), "number", labels)
    if labels.size and hasattr(labels.flat[0], "calendar"):
        first = min(labels.tolist())
        days = np.array([(t - first).total_seconds() / _DAY for t in labels.tolist()])
        calendar = str(labels.flat[0].calendar)
        return Scale(days, with_unit(name, {"units": f"{calendar} calendar"}), "calendar", labels)
    return Scale(np.arange(labels.size, dtype=float), with_unit(name, {}), "name", labels)


def _number(own: Scale, axis: Axis) -> None:
    from matplotlib import ticker

    whole = bool(np.all(own.positions == np.round(own.positions))) and np.ptp(own.positions) < 12
    axis.set_major_locator(ticker.MaxNLocator(_TICKS, integer=whole))


def _degrees(own: Scale, axis: Axis) -> None:
    from matplotlib import ticker

    range_ = float(np.ptp(own.positions))
    steps = [1, 2, 3, 6, 10] if range_ > 50 else [1, 2, 5, 10]
    axis.set_major_locator(ticker.MaxNLocator(_TICKS, steps=steps))
    axis.set_major_formatter(ticker.FuncFormatter(_DEGREES[own.kind]))


def _date(own: Scale, axis: Axis) -> None:
    from matplotlib import dates

    locator = dates.AutoDateLocator(minticks=3, maxticks=_TICKS + 1)
    axis.set_major_locator(locator)
    axis.set_major_formatter(dates.ConciseDateFormatter(locator))
    axis.get_offset_text().set_fontsize(8.0)


def _calendar(own: Scale, axis: Axis) -> None:
    from matplotlib import ticker

    first, last = min(own.labels.tolist()), max(own.labels.tolist())
    ticks, texts = calendar_ticks(first, last)
    axis.set_major_locator(ticker.FixedLocator([(t - first).total_seconds() / _DAY for t in ticks]))
    axis.set_major_formatter(ticker.FixedFormatter(texts))


def _name(own: Scale, axis: Axis) -> None:
    from matplotlib import ticker

    if len(own.labels) > MOST_NAMES:
        axis.set_major_locator(ticker.NullLocator())
        return
    names = [short(label) for label in own.labels.tolist()]
    axis.set_major_locator(ticker.FixedLocator(own.positions.tolist()))
    axis.set_major_formatter(ticker.FixedFormatter(names))
    if axis is axis.axes.xaxis and sum(map(len, names)) > 18:
        axis.set_tick_params(rotation=90)


_DEGREES = {"latitude": geography.north, "longitude": geography.east}
_DRESSES = {
    "number": _number,
    "latitude": _degrees,
    "longitude": _degrees,
    "date": _date,
    "calendar": _calendar,
    "name": _name,
}


def calendar_ticks(first: Any, last: Any) -> tuple[list[Any], list[str]]:
    """Round dates between two of one calendar, at most six, and what they are called.

    Args:
        first: a ``cftime`` date.
        last: a later one.
    """
    days = (last - first).total_seconds() / _DAY
    year = first.replace(month=1, day=1, hour=0, minute=0, second=0, microsecond=0)
    if days > 730:
        years = np.arange(first.year, last.year + 1)
        step = next(s for s in _steps() if len(years) / s <= _TICKS)
        ticks, form = [year.replace(year=int(y)) for y in years if y % step == 0], "{0.year:04d}"
    elif days > 62:
        months = np.arange(12 * first.year + first.month - 1, 12 * last.year + last.month)
        step = next(s for s in (1, 2, 3, 6) if len(months) / s <= _TICKS or s == 6)
        ticks = [year.replace(year=int(m // 12), month=int(m % 12) + 1) for m in months if m % step == 0]
        form = "{0.year:04d}-{0.month:02d}"
    else:
        seconds = max(days * _DAY / (_TICKS - 1), 1.0)
        pace = next((s for s in _CLOCK if s >= seconds), _CLOCK[-1])
        midnight = first.replace(hour=0, minute=0, second=0, microsecond=0)
        number = int((last - midnight).total_seconds() // pace) + 1
        ticks = [midnight + datetime.timedelta(seconds=pace * k) for k in range(number)]
        form = "{0.month:02d}-{0.day:02d}" if pace >= _DAY else "{0.month:02d}-{0.day:02d} {0.hour:02d}:{0.minute:02d}"
    inside = [t for t in ticks if first <= t <= last] or [first]
    return inside, [form.format(t) for t in inside]


#: Steps of an axis of days and hours, in seconds.
_CLOCK = [*(60.0 * m for m in (1, 5, 15, 30)), *(3600.0 * h for h in (1, 3, 6, 12)), *(_DAY * d for d in (1, 2, 5, 10))]


def _steps() -> list[int]:
    """Steps of years: 1, 2, 5, 10, 20 and so on."""
    return [digit * 10**power for power in range(8) for digit in (1, 2, 5)]
