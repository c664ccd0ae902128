"""Durations in words, such as a lengthscale of ``"30D"``."""

from __future__ import annotations

import re

from probtensor.errors import ModelError

#: Days in a year, on average.
YEAR = 365.25
#: Days in a unit. A lone "m" or "M" is not among them: to numpy one is a minute and the other a month.
_DAYS = {
    ("ns",): 1e-9 / 86400,
    ("us",): 1e-6 / 86400,
    ("ms",): 1e-3 / 86400,
    ("s", "second", "seconds"): 1 / 86400,
    ("min", "minute", "minutes"): 1 / 1440,
    ("h", "H", "hour", "hours"): 1 / 24,
    ("D", "d", "day", "days"): 1.0,
    ("W", "w", "week", "weeks"): 7.0,
}
#: Years in a unit, whose days depend on the calendar.
_YEARS = {("month", "months"): 1 / 12, ("Y", "y", "year", "years"): 1.0}
_PART = re.compile(r"\s*(\d+\.?\d*|\.\d+)\s*([A-Za-z]+)")


def in_days(text: str, year: float = YEAR) -> float:
    """``"30D"``, ``"6h"``, ``"2W"``, ``"18 months"``, ``"1D 12h"`` in days; a month is a twelfth of a year of so many.

    Raises:
        ModelError: the text is not a duration, or could be minutes as well as months.
    """
    parts, units = _PART.findall(text), _units(year)
    known = "ns, us, ms, s, min, h, D, W, months, Y"
    if not parts or _PART.sub("", text).strip():
        raise ModelError(
            f"{text!r} is not a duration; write a number and a unit, as in '30D' or '1D 12h'; units: {known}"
        )
    for number, unit in parts:
        if unit in ("m", "M"):
            raise ModelError(
                f"{text!r} could be minutes or months; write '{number}min' or '{number} months'. Units: {known}"
            )
        if unit not in units:
            raise ModelError(f"{text!r} is not a duration: there is no unit {unit!r}; units: {known}")
    return sum(float(number) * units[unit] for number, unit in parts)


def _units(year: float) -> dict[str, float]:
    """Days in every spelling of every unit, in a calendar with years of so many days."""
    in_days = {**_DAYS, **{spellings: years * year for spellings, years in _YEARS.items()}}
    return {spelling: days for spellings, days in in_days.items() for spelling in spellings}
