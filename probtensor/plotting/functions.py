"""The functions of a term: a column for each mode, a row for each component."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import xarray as xr

from probtensor import figures
from probtensor.errors import DataError, ModelError
from probtensor.plotting import geography, maps
from probtensor.plotting.scales import MOST_NAMES, Scale, scale, scale_of
from probtensor.plotting.words import plain, short, with_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.gridspec import GridSpec

#: Components drawn unless others are asked for; the rest is only counted.
_MOST_COMPONENTS = 6
#: Inches: of a function, and of the room for a colourbar beside a map.
_WIDTH, _HEIGHT, _BAR = 3.2, 1.45, 0.9
#: Levels up to which each is marked by a point.
_MARKED = 24


class _Mode(NamedTuple):
    """A mode's functions, (component, ...), those of a tensor train named by their places in its bonds."""

    mean: xr.DataArray
    sd: xr.DataArray
    names: tuple[str, ...]
    bonds: str

    @property
    def dims(self) -> tuple[str, ...]:
        return tuple(str(d) for d in self.mean.dims[1:])

    @property
    def title(self) -> str:
        along = [str(n) for n, c in self.mean.coords.items() if c.dims == self.mean.dims[1:]]
        names = self.dims if self.mean.dims[1] in along or len(self.dims) > 1 else along
        return with_unit(" x ".join(names or self.dims) + self.bonds, self.mean.attrs)

    @property
    def surface(self) -> xr.DataArray | None:
        """The mean as a field of two dimensions for each component; None for functions of one."""
        if len(self.dims) < 2:
            return None
        pair = geography.latitude_longitude({d: self.mean[d] for d in self.dims[-2:]}) or self.dims[-2:]
        for first in range(len(self.dims)):
            for second in range(first + 1, len(self.dims)):
                two = (self.dims[first], self.dims[second])
                pair = geography.latitude_longitude({d: self.mean[d] for d in two}) or pair
        extra = tuple(d for d in self.dims if d not in pair)
        return self.mean.isel({d: self.mean.sizes[d] // 2 for d in extra})

    @property
    def scattered(self) -> tuple[str, str] | None:
        """Coordinates (across, up) of functions of places that a table has, where both are numbers."""
        if len(self.dims) != 1:
            return None
        along = {str(n): c for n, c in self.mean.coords.items() if c.dims == self.mean.dims[1:]}
        along.pop(self.dims[0], None)
        if len(along) != 2 or any(c.dtype.kind not in "iufM" for c in along.values()):
            return None
        globe = geography.latitude_longitude(along)
        up, across = globe if globe is not None else tuple(along)
        return (across, up) if globe is not None or up.lower() != "x" else (up, across)


def factors(dataset: xr.Dataset, components: int | Sequence[int] | None = None) -> Figure:
    """The functions of a term: one row a component, one column a mode, with bands of two standard deviations.

    Numbers, dates of every calendar and durations are drawn as lines; names as points, sorted by the value of the first
    component that is shown. Of two joined dimensions the mean is drawn as a map, and of joined columns of a table as
    points at their places; colours are even about zero, each map has its own. NaN is not coloured.

    Args:
        dataset: as ``post.factors()`` gives it.
        components: how many are drawn, or which, counted from 1; None: the first six.

    Returns:
        A figure.

    Raises:
        DataError: the dataset holds no factors.
        ModelError: there are no such components, or matplotlib is not installed.
    """
    modes = _modes(dataset)
    if not modes:
        raise DataError(
            f"there are no factors in a dataset with variables {list(dataset.data_vars)}; use post.factors()"
        )
    total = max(mode.mean.shape[0] for mode in modes)
    rows = _chosen(components, total)
    widths = [_width(mode) for mode in modes]
    figure = figures.empty(sum(widths) + 0.4, 0.8 + max(map(_below, modes)) + _HEIGHT * len(rows))
    grid = figure.add_gridspec(len(rows), len(modes), width_ratios=widths)
    for row, component in enumerate(rows):
        for column, mode in enumerate(modes):
            last = (
                component == max(r for r in rows if r < mode.mean.shape[0]) if component < mode.mean.shape[0] else False
            )
            axes = _panel(figure, grid, row, column, mode, component, last, rows[0])
            if row == 0:
                axes.set_title(mode.title, fontsize=10)
            if column == 0:
                axes.set_ylabel(_component(dataset, mode, component), fontsize=9)
    if total > len(rows):
        figure.suptitle(f"{_said(rows)} of {total} components", fontsize=10)
    return figure


def _chosen(components: int | Sequence[int] | None, total: int) -> list[int]:
    """Positions of the components to draw. Raises ModelError if there are no such ones."""
    if components is None:
        return list(range(min(total, _MOST_COMPONENTS)))
    text = f"components={components!r}: expected a number of components, or numbers of some between 1 and {total}"
    try:
        if isinstance(components, str | bytes | bool):
            raise TypeError
        if np.ndim(components) == 0:
            count = operator.index(components)  # type: ignore[arg-type]
            wanted = list(range(1, min(count, total) + 1))
        else:
            wanted = [operator.index(c) for c in components]  # type: ignore[union-attr]
    except TypeError:
        raise ModelError(text) from None
    if not wanted or len(set(wanted)) < len(wanted) or not all(1 <= c <= total for c in wanted):
        raise ModelError(text)
    return [c - 1 for c in wanted]


def _said(rows: Sequence[int]) -> str:
    if list(rows) == list(range(len(rows))):
        return f"the first {len(rows)}" if len(rows) > 1 else "the first"
    return f"{', '.join(str(r + 1) for r in rows)}"


def _modes(dataset: xr.Dataset) -> list[_Mode]:
    """The modes of a term: own components and a train's bonds are stacked into one dimension."""
    modes = []
    for name in map(str, dataset.data_vars):
        if not name.endswith("_mean") or f"{name.removesuffix('_mean')}_sd" not in dataset:
            continue
        pair = [dataset[name], dataset[f"{name.removesuffix('_mean')}_sd"]]
        counts = [d for d in pair[0].dims if str(d).split("_")[-1] == "component" or str(d).startswith("bond_")]
        others = [d for d in pair[0].dims if d not in counts]
        if not counts or not others:
            continue
        shape = [pair[0].sizes[d] for d in counts]
        names = tuple(", ".join(str(k + 1) for k in at) for at in np.ndindex(*shape)) if len(counts) > 1 else ()
        flat = [
            part.transpose(*counts, *others)
            .drop_vars(counts, errors="ignore")
            .stack(_function=counts, create_index=False)
            .transpose("_function", *others)
            for part in pair
        ]
        bonds = [str(d).replace("_", " ") for d in counts if str(d).startswith("bond_")]
        modes.append(_Mode(flat[0], flat[1], names, f" ({', '.join(bonds)})" if bonds else ""))
    return modes


def _below(mode: _Mode) -> float:
    """Inches that names below a column need."""
    own = scale_of(_along(mode.mean))
    if mode.surface is not None or mode.scattered is not None or own.kind != "name" or len(own.labels) > MOST_NAMES:
        return 0.0
    return 0.075 * max(len(short(label)) for label in own.labels.tolist())


def _along(function: xr.DataArray) -> xr.DataArray:
    """The coordinate of functions of one dimension; combinations of several as their names."""
    dim = function.dims[-1]
    parts = [str(n) for n, c in function.coords.items() if c.dims == (dim,) and n != dim]
    if dim in function.coords or not parts:
        return function[dim]
    rows = zip(*(function[n].to_numpy().tolist() for n in parts), strict=True)
    labels = np.array([", ".join(map(str, row)) for row in rows], dtype=object)
    return xr.DataArray(labels, dims=[dim], name=dim)


def _width(mode: _Mode) -> float:
    """Inches of a column."""
    surface = mode.surface
    if surface is not None:
        ratio = maps.proportions(maps.upright(surface[0]))
    elif mode.scattered is not None:
        x, y = (np.ptp(scale_of(mode.mean[n]).positions) or 1.0 for n in mode.scattered)
        globe = geography.latitude_longitude({n: mode.mean[n] for n in mode.scattered})
        ratio = x / (y * geography.aspect(mode.mean[globe[0]].to_numpy())) if globe is not None else 1.5
    else:
        return _WIDTH
    return float(np.clip(ratio, 1.0, maps.WIDEST)) * 0.9 * _HEIGHT + 0.4 + _BAR


def _panel(
    figure: Figure, grid: GridSpec, row: int, column: int, mode: _Mode, component: int, last: bool, first: int
) -> Axes:
    """One function of one mode; last: of its column, which has the labels below."""
    axes = figure.add_subplot(grid[row, column])
    if component >= mode.mean.shape[0]:
        axes.set_axis_off()
        return axes
    mean, sd = mode.mean[component], mode.sd[component]
    surface = mode.surface
    if surface is not None:
        field = maps.upright(surface[component])
        drawn = maps.draw(axes, field, note=last, **maps.even(field.to_numpy()))
    elif mode.scattered is not None:
        drawn = maps.scatter(axes, mean, *mode.scattered, **maps.even(mean.to_numpy()))
    else:
        drawn = None
        labels = _along(mode.mean)
        own = scale(labels.name, labels.to_numpy(), labels.attrs)
        _function(axes, own, mean.to_numpy(), sd.to_numpy(), mode.mean[first].to_numpy())
        if last and own.label != mode.title:
            axes.set_xlabel(own.label, fontsize=8)
    if drawn is not None:
        figure.colorbar(drawn, ax=axes, pad=0.02, aspect=12).ax.tick_params(labelsize=7)
    if not last:
        axes.tick_params(axis="x", labelbottom=False)
        axes.xaxis.label.set_visible(False)
        axes.xaxis.get_offset_text().set_visible(False)
    if mode.names:
        axes.annotate(mode.names[component], (0.02, 0.95), xycoords="axes fraction", va="top", fontsize=7, color="0.4")
    return axes


def _function(axes: Axes, own: Scale, mean: np.ndarray, sd: np.ndarray, sorted_by: np.ndarray) -> None:
    """One function of one coordinate."""
    axes.axhline(0.0, color="0.7", linewidth=0.8)
    axes.tick_params(labelsize=8)
    if own.is_ordered and len(mean) > 1:
        # A part of the calendar has a label for each time: the same for the same part.
        x, order = np.unique(own.positions, return_index=True)
        m, s = mean[order], sd[order]
        axes.fill_between(x, m - 2.0 * s, m + 2.0 * s, color="C0", alpha=0.25, linewidth=0.0)
        axes.plot(x, m, color="C0", linewidth=1.2, marker="." if x.size <= _MARKED else None, markersize=4)
        axes.set_xlim(x[0], x[-1])
        axes.margins(x=0.02)
        own.dress(axes.xaxis)
        return
    order = np.arange(len(mean)) if own.is_ordered else np.argsort(sorted_by, kind="stable")
    m, s = mean[order], sd[order]
    own = own._replace(labels=own.labels[order])
    axes.errorbar(own.positions, m, yerr=2.0 * s, fmt="o", markersize=3, color="C0", linewidth=1.0)
    axes.set_xlim(own.positions[0] - 0.6, own.positions[-1] + 0.6)
    own.dress(axes.xaxis)


def _component(dataset: xr.Dataset, mode: _Mode, component: int) -> str:
    """What a row is called; with what it explains, where that is known."""
    name = f"component {component + 1}"
    if "explained_variance" not in dataset:
        return name
    explained = dataset["explained_variance"]
    unit = str(explained.attrs.get("units", ""))
    size = float(np.sqrt(explained.to_numpy()[component]))
    unit = unit.removeprefix("(").removesuffix(")^2") if unit else ""
    return plain(f"{name}\nrms {size:.2g} {unit}".rstrip())
