"""Latitudes and longitudes: what makes a coordinate one, and where the circle of longitudes is cut open."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from probtensor.typing import Float

LATITUDE, LONGITUDE = "latitude", "longitude"
#: Degrees after which a longitude is the same again.
TURN = 360.0
#: Names, in lower case, by which they are known, and their CF standard names: those of a rotated pole measure a
#: rotated sphere.
_NAMES = {"lat": LATITUDE, "latitude": LATITUDE, "lon": LONGITUDE, "longitude": LONGITUDE}
_STANDARD = {"latitude": LATITUDE, "grid_latitude": LATITUDE, "longitude": LONGITUDE, "grid_longitude": LONGITUDE}
_AXES = {"y": LATITUDE, "x": LONGITUDE}
#: Units in which these are degrees: none, degrees_north, decimal degrees, °, but not degC.
_DEGREES = r"|(decimal )?deg(ree)?s?([ _.]?(north|south|east|west|n|s|e|w|t|true))?|[°º]( ?[nsew])?"
#: Those among them that have a direction; degrees themselves end as a south would.
_DIRECTIONS = {
    LATITUDE: r"(decimal )?deg(ree)?s?([ _.]?(north|south|n)|[ _.]s)|[°º] ?[ns]",
    LONGITUDE: r"(decimal )?deg(ree)?s?[ _.]?(east|west|e|w)|[°º] ?[ew]",
}
#: Attributes that say whether a coordinate closes, and what they say: of iris, of Ferret and of COARDS.
_SAYING = ("circular", "modulo", "topology")
_YES, _NO = ("", "true", "yes", "1", "t", "y", ".true.", "circular"), ("false", "no", "0", "f", "n", ".false.")
#: A gap so many times as wide as the next one is one in the data, not a step of theirs.
_WIDE = 1.5
#: Decimals of a degree that count.
_DIGITS = 9
#: Where, of several places that are as good, a circle of longitudes is cut.
_BORDER = 20.0
#: Degrees by which 32 bits can be off.
_ROUNDING = 1e-4


def is_degrees(unit: str) -> bool:
    """Whether a unit is degrees of an angle, or none."""
    return re.fullmatch(_DEGREES, unit.strip().lower()) is not None


def role(name: str, unit: str = "", standard_name: str = "", axis: str = "") -> str:
    """``"latitude"``, ``"longitude"`` or nothing, by the attributes of the CF conventions and by usual names.

    A standard name decides, then the coordinate's own name, a unit such as degrees_east, and ``axis="X"`` in degrees.
    """
    lower = unit.strip().lower()
    if not is_degrees(unit):
        return ""
    if standard_name:
        return _STANDARD.get(standard_name.strip().lower(), "")
    if name.lower() in _NAMES:
        return _NAMES[name.lower()]
    for found, direction in _DIRECTIONS.items():
        if re.fullmatch(direction, lower):
            return found
    return _AXES.get(axis.strip().lower(), "") if lower else ""


def says(attrs: Mapping[str, Any]) -> bool | None:
    """Whether a coordinate's attributes say that it closes after 360 degrees, or that it does not; None: neither.

    Read are ``circular`` (of iris), ``modulo`` (of Ferret: 360, or true or false in words) and
    ``topology="circular"``.
    """
    for name in _SAYING:
        if name not in attrs:
            continue
        value = attrs[name]
        text = str(value.item() if isinstance(value, np.generic) else value).strip().lower()
        if text in _NO:
            return False
        if text in _YES:
            return True
        try:
            if abs(float(text) - TURN) < _ROUNDING:
                return True
        except ValueError:
            continue
    return None


class Opened(NamedTuple):
    """A circle of longitudes, cut open in the middle of its widest gap.

    Attributes:
        low: where it is cut; longitudes are numbers from here to 360 degrees further.
        gap: the width of that gap, in degrees.
        closed: whether the gap is no wider than the other steps, so that the longitudes go around.
    """

    low: float
    gap: float
    closed: bool


def opened(longitudes: Float[np.ndarray, "T"]) -> Opened:
    """Where to cut, the same however the longitudes are written.

    They go around if no half of the circle is empty, and the widest gap is at most 1.5 times the next: so does a grid
    whose seam is about one step, and so do scattered places all around the globe. Among gaps of one width the cut is
    the nearest to 20 degrees east, the border of the Atlantic and the Indian Ocean: most of that meridian is land, so
    that data of the sea that are on a line nevertheless have no seam in the water.
    """
    wrapped = (longitudes + TURN / 2) % TURN - TURN / 2
    distinct = np.unique(np.round(np.where(wrapped > TURN / 2 - _ROUNDING, wrapped - TURN, wrapped), _DIGITS))
    gaps = np.diff(distinct, append=distinct[0] + TURN)
    widest = float(gaps.max())
    first = (np.flatnonzero(gaps >= widest - _ROUNDING) + 1) % len(distinct)
    middles = distinct[first] - gaps[first - 1] / 2
    behind = int(first[np.argmin(np.abs((middles - _BORDER + TURN / 2) % TURN - TURN / 2))])
    gap = float(gaps[behind - 1])
    closed = len(distinct) > 2 and widest < TURN / 2 and widest <= _WIDE * float(np.partition(gaps, -2)[-2])
    return Opened(float(distinct[behind]) - gap / 2, gap, closed)


def unwound(longitudes: Float[np.ndarray, "..."], low: float) -> Float[np.ndarray, "..."]:
    """Longitudes as numbers from ``low`` to 360 degrees further, to a tenth of a millimetre.

    Finer digits would tell how they were written, since 350.1 - 360 and -9.9 are different numbers.
    """
    return np.round(longitudes - TURN * np.floor((longitudes - low) / TURN), _DIGITS)
