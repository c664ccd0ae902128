"""The demo's picture: a field, its gaps, the fill and how sure it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from probtensor import figures
from probtensor.errors import DataError
from probtensor.plotting.geography import edges
from probtensor.plotting.maps import LAND
from probtensor.plotting.words import called, with_unit

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Shares of the values that the shared colour scale spans; what lies beyond takes its end colours.
_RANGE = (0.5, 99.5)


def demo_picture(
    truth: xr.DataArray, gapped: xr.DataArray, filled: xr.DataArray, sd: xr.DataArray, time_index: int
) -> Figure:
    """One time of a field four times over: as it was, with its gaps, as filled, and how sure the fill is.

    Truth, gaps and fill share one colour scale; thin lines go around the hidden boxes. Maps are stretched to
    the width of the page, whatever the shape of the grid.

    Args:
        truth: (time, row, column), NaN where never observed (land).
        gapped: the same with the hidden entries NaN.
        filled: the same with the gaps filled.
        sd: standard deviation of the filled entries; other entries are not looked at.
        time_index: position along the first dimension.

    Returns:
        A figure with four maps.

    Raises:
        DataError: the fields are not of three dimensions in one order, or differ in shape.
        ModelError: matplotlib is not installed.
    """
    for name, field in {"truth": truth, "gapped": gapped, "filled": filled, "sd": sd}.items():
        if field.ndim != 3 or field.dims != truth.dims or field.shape != truth.shape:
            raise DataError(
                f"{name} has dimensions {dict(field.sizes)}; all four fields need the same three, such as "
                f"(time, latitude, longitude), as truth has: {dict(truth.sizes)}"
            )
    over = truth.dims[0]
    maps = [field.isel({over: time_index}) for field in (truth, gapped, filled, sd)]
    land = maps[0].isnull().values
    hidden = ~land & maps[1].isnull().values
    label = maps[0][over].values if over in maps[0].coords else np.asarray(time_index)
    when = np.datetime_as_string(label, unit="M") if label.dtype.kind == "M" else str(label)
    titles = (
        f"Truth, {when}",
        f"What the fit sees ({hidden.sum() / max((~land).sum(), 1):.0%} of this map is hidden)",
        "Fill (predictive mean)",
        "Standard deviation of the fill (white where observed)",
    )
    low, high = np.nanpercentile(maps[0].values, _RANGE) if not land.all() else (0.0, 1.0)
    uncertain = maps[3].values[hidden]
    sure, unsure = np.nanpercentile(uncertain, _RANGE) if np.isfinite(uncertain).any() else (0.0, 1.0)
    maps[3] = maps[3].where(hidden)

    figure = figures.empty(11.0, 8.0)
    panels = figure.subplots(4, 1, sharex=True, sharey=True)
    images = []
    for axes, field, title in zip(panels, maps, titles, strict=True):
        last = field is maps[3]
        scale = (
            {"vmin": sure, "vmax": unsure, "cmap": "magma_r"} if last else {"vmin": low, "vmax": high, "cmap": "turbo"}
        )
        images.append(_map(axes, field, land, **scale))
        axes.set_title(title, loc="left", fontsize=10)
        if field is not maps[0] and hidden.any():
            _outline(axes, field, hidden)
    panels[-1].set_xlabel(_axis_label(truth, truth.dims[2]))
    name = with_unit(called(truth.name, truth.attrs), truth.attrs)
    figure.colorbar(images[0], ax=panels[:3], label=name, extend="both", pad=0.015, aspect=45)
    figure.colorbar(images[3], ax=panels[3:], label=with_unit("sd", truth.attrs), extend="both", pad=0.015, aspect=13)
    figure.supylabel(_axis_label(truth, truth.dims[1]), fontsize=10)
    return figure


def _map(axes: Axes, field: xr.DataArray, land: np.ndarray, **scale: Any) -> Any:
    """A map with its land grey; what is missing at sea stays white."""
    from matplotlib.colors import ListedColormap

    y, x = (edges(_numbers(field, dim)) for dim in field.dims)
    axes.pcolormesh(x, y, np.where(land, 1.0, np.nan), cmap=ListedColormap([LAND]), rasterized=True)
    return axes.pcolormesh(x, y, np.where(land, np.nan, field.values), rasterized=True, **scale)


def _outline(axes: Axes, field: xr.DataArray, hidden: np.ndarray) -> None:
    """Lines along the cell edges between what is hidden and what is not."""
    from matplotlib.collections import LineCollection

    y, x = (edges(_numbers(field, dim)) for dim in field.dims)
    across = np.argwhere(np.diff(np.pad(hidden, 1).astype(int), axis=1)[1:-1])
    along = np.argwhere(np.diff(np.pad(hidden, 1).astype(int), axis=0)[:, 1:-1])
    lines = [((x[j], y[i]), (x[j], y[i + 1])) for i, j in across]
    lines += [((x[j], y[i]), (x[j + 1], y[i])) for i, j in along]
    axes.add_collection(LineCollection(lines, colors="black", linewidths=0.6), autolim=False)


def _numbers(field: xr.DataArray, dim: Any) -> np.ndarray:
    """A coordinate as numbers to draw against, 0..n-1 where it has none."""
    values = field[dim].values if dim in field.coords else np.arange(field.sizes[dim])
    return values.astype(float) if values.dtype.kind in "iuf" else np.arange(values.size, dtype=float)


def _axis_label(data: xr.DataArray, dim: Any) -> str:
    return with_unit(dim, data[dim].attrs if dim in data.coords else {})
