"""Fields as maps: cells of a latitude and a longitude, or of any two coordinates, and scattered stations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from probtensor.plotting import geography
from probtensor.plotting.scales import Scale, scale_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable

#: The colour of what was never observed.
LAND = "0.82"
#: Colours on both sides of zero.
DIVERGING = "RdBu_r"
#: A map is drawn at most so many times as wide as high; a longer strip is stretched.
WIDEST = 5.0
#: And at most so many times as high as wide.
NARROWEST = 0.4


def upright(field: xr.DataArray) -> xr.DataArray:
    """A field of two dimensions with that one first which is drawn upwards.

    Longitudes go to the right, and times; names, and an ``x``, where the other does not.
    """
    first, second = (scale_of(field[dim]) for dim in field.dims)
    order = {"longitude": 5, "date": 4, "calendar": 4, "number": 2, "name": 1, "latitude": 0}
    weights = [
        order[s.kind] + (1 if str(d).lower() == "x" else 0) for s, d in zip((first, second), field.dims, strict=True)
    ]
    return field.transpose() if weights[0] > weights[1] else field


def is_geographic(field: xr.DataArray) -> bool:
    """Whether its two dimensions are a latitude and a longitude."""
    return geography.latitude_longitude({dim: field[dim] for dim in field.dims}) is not None


def proportions(field: xr.DataArray) -> float:
    """Width over height of a map that is true to scale at its middle; 1.5 for what is no map."""
    if not is_geographic(field):
        return 1.5
    y, x = _positions(field)
    own = geography.cells(y, x, around=True)
    return float(np.ptp(own.x) / (np.ptp(own.y) * geography.aspect(own.y)))


def draw(
    axes: Axes, field: xr.DataArray, land: np.ndarray | None = None, note: bool = True, **colours: Any
) -> ScalarMappable:
    """A field as coloured cells, the right side up whatever the order of its coordinates.

    Args:
        axes: to draw on.
        field: two dimensions, the first is drawn upwards (see `upright`); NaN is not coloured.
        land: what was never observed, is grey and not coloured either; like the field. None: where it is NaN.
        note: says below the map if it is stretched.
        **colours: of matplotlib's ``pcolormesh``.

    Returns:
        The coloured cells, for a colourbar.
    """
    from matplotlib.colors import ListedColormap

    geographic = is_geographic(field)
    scales = [scale_of(field[dim]) for dim in field.dims]
    own = geography.cells(scales[0].positions, scales[1].positions, around=geographic)
    values = field.to_numpy()
    land = np.isnan(values) if land is None else land
    ground = own.arranged(np.where(land, 1.0, np.nan), 1.0)
    axes.pcolormesh(own.x, own.y, ground, cmap=ListedColormap([LAND]), vmin=0, vmax=1, rasterized=True)
    mesh = axes.pcolormesh(own.x, own.y, own.arranged(np.where(land, np.nan, values)), rasterized=True, **colours)
    _dress(axes, scales, geographic, own.x, own.y, note)
    return mesh


def scatter(axes: Axes, values: xr.DataArray, across: str, up: str, **colours: Any) -> ScalarMappable:
    """Values at scattered places as coloured points.

    Args:
        axes: to draw on.
        values: one dimension, with two coordinates along it.
        across: name of the coordinate to the right.
        up: of the other.
        **colours: of matplotlib's ``scatter``.
    """
    scales = [scale_of(values[name]) for name in (up, across)]
    y, x = (s.positions for s in scales)
    size = float(np.clip(600.0 / max(values.size, 1), 6.0, 40.0))
    points = axes.scatter(x, y, c=values.to_numpy(), s=size, edgecolors="0.4", linewidths=0.4, **colours)
    geographic = geography.latitude_longitude({name: values[name] for name in (up, across)}) is not None
    axes.margins(0.08)
    _dress(axes, scales, geographic, x, y, False)
    return points


def even(values: np.ndarray) -> dict[str, Any]:
    """Colours on both sides of zero, as far to one side as to the other."""
    finite = np.abs(values[np.isfinite(values)])
    most = float(finite.max(initial=0.0)) or 1.0
    return {"cmap": DIVERGING, "vmin": -most, "vmax": most}


def _dress(axes: Axes, scales: list[Scale], geographic: bool, x: np.ndarray, y: np.ndarray, note: bool) -> None:
    """Ticks, names of axes and proportions."""
    from matplotlib.ticker import MaxNLocator

    for axis, scale in ((axes.yaxis, scales[0]), (axes.xaxis, scales[1])):
        scale.dress(axis, centred=False)
        if scale.kind not in ("latitude", "longitude"):
            axis.set_label_text(scale.label, fontsize=8)
    if not geographic:
        return
    true = geography.aspect(y)
    ratio = (float(np.ptp(x)) or 1.0) / ((float(np.ptp(y)) or 1.0) * true)
    shown = float(np.clip(ratio, NARROWEST, WIDEST))
    axes.set_aspect(true * ratio / shown)
    if shown < 1.3 and isinstance(locator := axes.xaxis.get_major_locator(), MaxNLocator):
        locator.set_params(nbins=3)  # there is no room for more longitudes below
    if note and ratio > 1.05 * shown:
        place: dict[str, Any] = {"xytext": (0, -19), "xycoords": "axes fraction", "textcoords": "offset points"}
        text = f"latitudes stretched {ratio / shown:.2g} times"
        axes.annotate(text, (1.0, 0.0), ha="right", va="top", fontsize=6, color="0.4", **place)


def _positions(field: xr.DataArray) -> list[np.ndarray]:
    return [scale_of(field[dim]).positions for dim in field.dims]
