"""Figures: the demo's picture, the factors, the objective. All give a ``matplotlib.figure.Figure`` and show nothing.

Matplotlib is imported when a figure is asked for, and its process-wide state (pyplot) is never touched, so that figures
can be made in a server or a thread. ``figure.savefig(path)`` writes one; a notebook shows the last value of a cell.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from probtensor import figures
from probtensor.errors import DataError

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from probtensor.labelled.posterior import Posterior

__all__ = ["Plots", "demo_picture", "factors", "objective"]

_LAND = "0.82"
#: Shares of the values that the shared colour scale spans; what lies beyond takes its end colours.
_RANGE = (0.5, 99.5)
#: Components drawn before the rest is only counted.
_MOST_COMPONENTS = 6
#: Levels of a categorical mode whose names can be read along an axis.
_MOST_NAMES = 40


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
    unit = f" [{truth.attrs['units']}]" if "units" in truth.attrs else ""

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
    name = str(truth.attrs.get("long_name") or truth.name or "value").replace("_", " ")
    figure.colorbar(images[0], ax=panels[:3], label=f"{name}{unit}", extend="both", pad=0.015, aspect=45)
    figure.colorbar(images[3], ax=panels[3:], label=f"sd{unit}", extend="both", pad=0.015, aspect=13)
    figure.supylabel(_axis_label(truth, truth.dims[1]), fontsize=10)
    return figure


def factors(dataset: xr.Dataset) -> Figure:
    """The functions of a term: one row a component, one column a mode, with bands of two standard deviations.

    Args:
        dataset: as ``post.factors()`` gives it.

    Returns:
        A figure. Categorical modes are drawn as points, the others as lines, and of two joined dimensions the mean as a
        map; beyond six components only the first six are drawn, which are those that explain most.

    Raises:
        DataError: the dataset holds no factors.
        ModelError: matplotlib is not installed.
    """
    modes = _modes(dataset)
    if not modes:
        raise DataError(
            f"there are no factors in a dataset with variables {list(dataset.data_vars)}; use post.factors()"
        )
    total = max(mean.sizes["component"] for mean, _ in modes.values())
    shown = min(total, _MOST_COMPONENTS)
    figure = figures.empty(3.4 * len(modes), 1.0 + 1.5 * shown)
    panels = figure.subplots(shown, len(modes), squeeze=False, sharex="col")
    for column, (mode, (mean, sd)) in enumerate(modes.items()):
        for row in range(shown):
            if row >= mean.sizes["component"]:
                panels[row, column].set_axis_off()
            elif mean.ndim == 3:
                _surface(panels[row, column], mean.isel(component=row))
            else:
                _function(panels[row, column], mean.isel(component=row), sd.isel(component=row))
        panels[0, column].set_title(mode, fontsize=10)
        panels[-1, column].set_xlabel(_axis_label(dataset, mean.dims[-1]))
    names = dataset["component"].values if "component" in dataset.coords else np.arange(total)
    for row in range(shown):
        panels[row, 0].set_ylabel(f"component {names[row]}", fontsize=9)
    if total > shown:
        figure.suptitle(f"the first {shown} of {total} components", fontsize=10)
    return figure


def objective(trace: xr.DataArray) -> Figure:
    """The objective over the sweeps, and again over the last half of them, where the gains are small.

    Args:
        trace: as ``post.objective`` gives it, one dimension.

    Raises:
        DataError: the trace has another shape.
        ModelError: matplotlib is not installed.
    """
    if trace.ndim != 1 or trace.size == 0:
        raise DataError(f"an objective has one dimension, of sweeps; got {dict(trace.sizes)}")
    values, sweeps = np.asarray(trace.values, dtype=float), np.arange(1, trace.size + 1)
    half = trace.size // 2
    figure = figures.empty(8.0, 3.0)
    panels = figure.subplots(1, 2)
    for axes, start, title in ((panels[0], 0, "all sweeps"), (panels[1], half, "the last half")):
        axes.plot(sweeps[start:], values[start:], marker=".", color="C0")
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel("sweep")
        axes.grid(alpha=0.3)
        axes.ticklabel_format(axis="y", useOffset=False)
        axes.xaxis.get_major_locator().set_params(integer=True)
    panels[0].set_ylabel(f"objective [{trace.attrs.get('units', 'nats')}]")
    return figure


def _modes(dataset: xr.Dataset) -> dict[str, tuple[xr.DataArray, xr.DataArray]]:
    """Mean and sd of each mode's functions, along ``component``: own ones and a train's bonds are renamed, stacked."""
    modes: dict[str, dict[str, xr.DataArray]] = {}
    for name, variable in dataset.data_vars.items():
        own = [dim for dim in variable.dims if str(dim).split("_")[-1] == "component" or str(dim).startswith("bond_")]
        others = [str(dim) for dim in variable.dims if dim not in own]
        if own and len(others) in (1, 2):
            stacked = variable.stack(function=own).transpose("function", *others).drop_vars(["function", *own])
            kind = "sd" if "sd" in str(name).split("_") else "mean"
            modes.setdefault(" x ".join(others), {})[kind] = stacked.rename(function="component")
    return {mode: (found["mean"], found["sd"]) for mode, found in modes.items() if len(found) == 2}


@dataclasses.dataclass(frozen=True, eq=False)
class Plots:
    """Figures of a posterior: ``post.plot.factors()`` and ``post.plot.objective()``."""

    posterior: Posterior

    def factors(self, term: int | None = None) -> Figure:
        """The functions of a term, by default the first that has some; see `factors`."""
        return factors(self.posterior.factors(term))

    def objective(self) -> Figure:
        """The objective over the sweeps; see `objective`."""
        return objective(self.posterior.objective)


def _map(axes: Axes, field: xr.DataArray, land: np.ndarray, **scale: Any) -> Any:
    """A map with its land grey; what is missing at sea stays white."""
    from matplotlib.colors import ListedColormap

    y, x = (_edges(_numbers(field, dim)) for dim in field.dims)
    axes.pcolormesh(x, y, np.where(land, 1.0, np.nan), cmap=ListedColormap([_LAND]), rasterized=True)
    return axes.pcolormesh(x, y, np.where(land, np.nan, field.values), rasterized=True, **scale)


def _outline(axes: Axes, field: xr.DataArray, hidden: np.ndarray) -> None:
    """Lines along the cell edges between what is hidden and what is not."""
    from matplotlib.collections import LineCollection

    y, x = (_edges(_numbers(field, dim)) for dim in field.dims)
    across = np.argwhere(np.diff(np.pad(hidden, 1).astype(int), axis=1)[1:-1])
    along = np.argwhere(np.diff(np.pad(hidden, 1).astype(int), axis=0)[:, 1:-1])
    lines = [((x[j], y[i]), (x[j], y[i + 1])) for i, j in across]
    lines += [((x[j], y[i]), (x[j + 1], y[i])) for i, j in along]
    axes.add_collection(LineCollection(lines, colors="black", linewidths=0.6), autolim=False)


def _function(axes: Axes, mean: xr.DataArray, sd: xr.DataArray) -> None:
    """One function of one mode."""
    (mode,) = mean.dims
    labels = mean[mode].values if mode in mean.coords else np.arange(mean.size)
    order = np.argsort(labels) if labels.dtype.kind in "iufM" else np.arange(mean.size)
    m, s = mean.values[order], sd.values[order]
    axes.axhline(0.0, color="0.7", linewidth=0.8)
    axes.tick_params(labelsize=8)
    if labels.dtype.kind in "iufM":
        axes.fill_between(labels[order], m - 2.0 * s, m + 2.0 * s, color="C0", alpha=0.25, linewidth=0.0)
        axes.plot(labels[order], m, color="C0", linewidth=1.2)
        if labels.dtype.kind == "M":
            from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

            locator = AutoDateLocator(minticks=3, maxticks=7)
            axes.xaxis.set_major_locator(locator)
            axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        return
    axes.errorbar(np.arange(mean.size), m, yerr=2.0 * s, fmt="o", markersize=3, color="C0", linewidth=1.0)
    if mean.size <= _MOST_NAMES:
        names = [str(label) for label in labels]
        axes.set_xticks(np.arange(mean.size), names, rotation=90 if max(map(len, names)) > 2 else 0)


def _surface(axes: Axes, mean: xr.DataArray) -> None:
    """The mean of one function of two joined dimensions, its colours even about zero."""
    y, x = (_numbers(mean, dim) for dim in mean.dims)
    # A coordinate of names, or one out of order, is drawn by number.
    y, x = (v if np.all(np.diff(v) > 0) else np.arange(v.size, dtype=float) for v in (y, x))
    most = float(np.abs(mean.values).max()) or 1.0
    axes.pcolormesh(_edges(x), _edges(y), mean.values, cmap="RdBu_r", vmin=-most, vmax=most, rasterized=True)
    axes.tick_params(labelsize=8)


def _numbers(field: xr.DataArray, dim: Any) -> np.ndarray:
    """A coordinate as numbers to draw against, 0..n-1 where it has none."""
    values = field[dim].values if dim in field.coords else np.arange(field.sizes[dim])
    return values.astype(float) if values.dtype.kind in "iuf" else np.arange(values.size, dtype=float)


def _edges(centres: np.ndarray) -> np.ndarray:
    """Cell edges half-way between the centres of a coordinate, in its own direction."""
    if centres.size == 1:
        return centres[0] + np.array([-0.5, 0.5])
    middle = 0.5 * (centres[1:] + centres[:-1])
    return np.concatenate([[1.5 * centres[0] - 0.5 * centres[1]], middle, [1.5 * centres[-1] - 0.5 * centres[-2]]])


def _axis_label(data: xr.DataArray | xr.Dataset, dim: Any) -> str:
    units = data[dim].attrs.get("units") if dim in data.coords else None
    degrees = {"degrees": "degrees", "degrees_north": "degrees north", "degrees_east": "degrees east"}
    return f"{dim} [{degrees.get(units, units)}]" if units else str(dim)
