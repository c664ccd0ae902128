"""Latitudes and longitudes in figures: which coordinates they are, maps' cells, proportions and degrees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from probtensor import earth
from probtensor.typing import Float, Int

#: A step of the longitudes this many times as long as the median one is a place without data, and not a wide cell.
_GAP = 3.0
#: Beyond this latitude a map that is true to scale at its middle would be too narrow.
_POLAR = 75.0


def latitude_longitude(coords: Mapping[Any, xr.DataArray]) -> tuple[str, str] | None:
    """Names of the latitude and the longitude, if these two are all.

    By their CF attributes (``standard_name``, ``units``), else by their names.
    """
    if len(coords) != 2 or any(c.dtype.kind not in "iuf" for c in coords.values()):
        return None
    names = [str(name) for name in coords]
    lat = [n for n in names if is_latitude(n, coords[n].attrs)]
    lon = [n for n in names if is_longitude(n, coords[n].attrs)]
    if not (lat and lon):
        return None
    latitudes, longitudes = (np.asarray(coords[n], dtype=float) for n in (lat[0], lon[0]))
    possible = np.abs(latitudes).max(initial=0.0) <= 90 and np.ptp(longitudes) <= 360
    return (lat[0], lon[0]) if possible else None


def is_latitude(name: Any, attrs: Mapping[str, Any]) -> bool:
    """Whether one coordinate is a latitude, by its attributes or its name."""
    return _role(name, attrs) == earth.LATITUDE


def is_longitude(name: Any, attrs: Mapping[str, Any]) -> bool:
    """Whether one coordinate is a longitude, by its attributes or its name."""
    return _role(name, attrs) == earth.LONGITUDE


def _role(name: Any, attrs: Mapping[str, Any]) -> str:
    said = {key: str(attrs.get(key, "")) for key in ("units", "standard_name", "axis")}
    return earth.role(str(name), said["units"], said["standard_name"], said["axis"])


def north(degrees: float, _: Any = None) -> str:
    """A latitude as it is written on maps: 10°S."""
    degrees = round(degrees, 3)
    return f"{abs(degrees):g}°{'N' if degrees > 0 else 'S' if degrees < 0 else ''}"


def east(degrees: float, _: Any = None) -> str:
    """A longitude as it is written on maps, whichever convention the data have: 120°W for 240."""
    turned = round((degrees + 180.0) % 360.0 - 180.0, 3)
    if abs(turned) == 180.0:
        return "180°"
    return f"{abs(turned):g}°{'E' if turned > 0 else 'W' if turned < 0 else ''}"


def unrolled(longitudes: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    """Longitudes without a jump: the circle is cut open at its largest gap.

    They stay as they are where that gap is the one between the largest and the smallest. Else one side of the cut is
    turned around once: to below zero for longitudes in 0..360, to above 180 for those in -180..180.
    """
    distinct = np.unique(longitudes)
    gaps = np.diff(distinct)
    closing = 360.0 - np.ptp(distinct) if distinct.size else 0.0
    if not gaps.size or gaps.max() <= closing + 1e-6:
        return longitudes
    cut = distinct[np.argmax(gaps)]
    if distinct[-1] > 180.0:
        return np.where(longitudes > cut, longitudes - 360.0, longitudes)
    return np.where(longitudes <= cut, longitudes + 360.0, longitudes)


def edges(centres: Float[np.ndarray, "n"], alone: float = 1.0) -> Float[np.ndarray, "m"]:
    """(n + 1,) cell edges half-way between the centres of a coordinate, in its own direction.

    alone: the width of a single cell.
    """
    if centres.size == 1:
        return centres[0] + alone * np.array([-0.5, 0.5])
    middle = 0.5 * (centres[1:] + centres[:-1])
    return np.concatenate([[1.5 * centres[0] - 0.5 * centres[1]], middle, [1.5 * centres[-1] - 0.5 * centres[-2]]])


class Cells(NamedTuple):
    """A lattice of ascending cells.

    Attributes:
        x, y: edges of columns and rows.
        columns, rows: which column and row of the array each is; -1 for a column without data.
    """

    x: Float[np.ndarray, "n"]
    y: Float[np.ndarray, "m"]
    columns: Int[np.ndarray, "n"]
    rows: Int[np.ndarray, "m"]

    def arranged(self, values: np.ndarray, blank: Any = np.nan) -> np.ndarray:
        """(rows, columns) values of the array in the lattice's order, blank where it has no data."""
        whole = values[np.ix_(self.rows, np.maximum(self.columns, 0))]
        return np.where((self.columns < 0)[None, :], blank, whole)


def cells(y: Float[np.ndarray, "m"], x: Float[np.ndarray, "n"], around: bool = False) -> Cells:
    """Cells of a grid from the centres of rows and columns, in any order; repeated centres count once.

    around: x are longitudes, whose circle is cut open where there are no data.
    """
    x = unrolled(x) if around else x
    (y, rows), (x, columns) = (np.unique(centres, return_index=True) for centres in (y, x))
    step_y, step_x = (float(np.median(np.diff(c))) if c.size > 1 else np.nan for c in (y, x))
    y_edges, x_edges = edges(y, _either(step_y, step_x)), edges(x, _either(step_x, step_y))
    if around and x.size > 2:
        for k in np.flatnonzero(np.diff(x) > _GAP * step_x)[::-1]:
            half = 0.5 * step_x
            x_edges = np.concatenate([x_edges[: k + 1], [x[k] + half, x[k + 1] - half], x_edges[k + 2 :]])
            columns = np.insert(columns, k + 1, -1)
    if around:
        y_edges = np.clip(y_edges, -90.0, 90.0)
    return Cells(x_edges, y_edges, columns, rows)


def _either(first: float, second: float) -> float:
    return first if np.isfinite(first) else second if np.isfinite(second) else 1.0


def aspect(latitudes: Sequence[float] | np.ndarray) -> float:
    """How many times as long a degree of latitude is drawn as one of longitude: true to scale at the middle."""
    middle = min(abs(0.5 * (float(np.min(latitudes)) + float(np.max(latitudes)))), _POLAR)
    return 1.0 / float(np.cos(np.deg2rad(middle)))
