"""The fit against the data: series of some sites, maps of some times, or observed against predicted values."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from probtensor import figures
from probtensor.errors import ModelError
from probtensor.labelled import comparing
from probtensor.labelled.fitted import Fitted
from probtensor.plotting import geography, maps
from probtensor.plotting.scales import Scale, scale_of
from probtensor.plotting.words import called, plain, with_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Levels of the quantiles that bands reach to, from outside to inside.
BANDS = (0.05, 0.25, 0.75, 0.95)
#: Sites that are drawn where none are named, and at most; times of maps, and at most.
_SITES, _MOST_SITES, _TIMES, _MOST_TIMES = 4, 12, 2, 6
#: Shares of the values that a colour scale spans.
_RANGE = (0.5, 99.5)
#: Maps wider than this are put below each other.
_WIDE = 2.2
#: Observations that are drawn as points; more are counted in cells.
_POINTS = 3000


def fit(fitted: Fitted, at: Mapping[str, Any] | None = None) -> Figure:
    """See `Plots.fit`."""
    encoded = fitted.encoded
    chosen = comparing.selected(fitted, at)
    if encoded.index is not None:
        if chosen:
            raise ModelError(
                "at= chooses sites or times of a grid, and a table has none; leave it out to see all its rows"
            )
        return _against(fitted)
    varying = [name for name, c in encoded.coordinates.items() if len(c.labels) > 1]
    labelled = {
        n: xr.DataArray(encoded.coordinates[n].labels, dims=[n], name=n, attrs=encoded.attrs_of(n)) for n in varying
    }
    pair = next((p for a in varying for b in varying if a < b and (p := _globe(labelled, a, b)) is not None), None)
    along = _along(fitted, varying, chosen)
    fixed = along is None or along in chosen or along in (pair or ())
    if pair is not None and fixed and not set(pair) & set(chosen):
        return _maps(fitted, pair, chosen)
    if along is None:
        return _against(fitted)
    if along in chosen:
        raise ModelError(
            f"at={dict(at or {})!r} fixes {along!r}, and there are no maps to draw without a latitude and a longitude; "
            "name levels of other dimensions, whose series are drawn"
        )
    return _series(fitted, along, chosen)


def _globe(labelled: Mapping[str, xr.DataArray], a: str, b: str) -> tuple[str, str] | None:
    return geography.latitude_longitude({n: labelled[n] for n in (a, b)})


def _along(fitted: Fitted, varying: Sequence[str], chosen: Mapping[str, Any]) -> str | None:
    """What a series runs along: the time, or else the longest mode of numbers that nothing was chosen of."""
    of = fitted.encoded.coordinates
    times = [n for n in varying if of[n].kind == "time"]
    numbers = [n for n in varying if of[n].kind == "numeric"]
    free = [n for n in numbers if n not in chosen]
    longest = sorted(free or numbers, key=lambda n: -len(of[n].labels))
    return next(iter([*times, *longest]), None)


def _series(fitted: Fitted, along: str, chosen: Mapping[str, np.ndarray]) -> Figure:
    number = int(np.prod([len(levels) for levels in chosen.values()]))
    if number > _MOST_SITES:
        raise ModelError(f"at= names {number} sites; at most {_MOST_SITES} are drawn, so name fewer")
    sites = comparing.sites(fitted, along, chosen, _SITES)
    parts = [comparing.compared(fitted, site, BANDS) for site in sites]
    figure = figures.empty(8.5, 0.9 + 1.55 * len(parts))
    panels = figure.subplots(len(parts), 1, sharex=True, squeeze=False)[:, 0]
    own = scale_of(parts[0][along])
    for axes, part in zip(panels, parts, strict=True):
        line = part.squeeze([d for d in part["mean"].dims if d != along])
        _one_series(axes, own, line)
        title = ", ".join(f"{d} {_place(part[d])}" for d in part["mean"].dims if d != along and _varies(fitted, d))
        axes.set_title(plain(title), loc="left", fontsize=9)
        axes.margins(x=0.01)
    own.dress(panels[-1].xaxis)
    panels[-1].set_xlabel(own.label, fontsize=9)
    figure.supylabel(_values(fitted), fontsize=9)
    handles, texts = panels[0].get_legend_handles_labels()
    figure.legend(handles, texts, loc="outside upper center", ncols=len(handles), fontsize=8, frameon=False)
    return figure


def _one_series(axes: Axes, own: Scale, line: xr.Dataset) -> None:
    order = np.argsort(own.positions, kind="stable")
    x = own.positions[order]
    low, lower, upper, high = line["quantiles"].to_numpy()[:, order]
    axes.fill_between(x, low, high, color="C0", alpha=0.18, linewidth=0.0, label="90% of observations")
    axes.fill_between(x, lower, upper, color="C0", alpha=0.32, linewidth=0.0, label="50%")
    axes.plot(x, line["mean"].to_numpy()[order], color="C0", linewidth=1.1, label="predictive mean")
    axes.plot(x, line["observed"].to_numpy()[order], "o", color="black", markersize=2.5, label="observed", zorder=3)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)


def _varies(fitted: Fitted, dim: Any) -> bool:
    return len(fitted.encoded.coordinates[str(dim)].labels) > 1


def _place(coordinate: xr.DataArray) -> str:
    """The label of a single level."""
    own = scale_of(coordinate)
    return own.said(coordinate.to_numpy()[0])


def _values(fitted: Fitted) -> str:
    return with_unit(called(fitted.encoded.name, fitted.attrs), fitted.attrs)


def _maps(fitted: Fitted, pair: tuple[str, str], chosen: Mapping[str, np.ndarray]) -> Figure:
    """Data, fill and its sd as maps, for each chosen combination of the other modes."""
    encoded = fitted.encoded
    others = [n for n in encoded.coordinates if n not in pair]
    positions = {n: chosen.get(n, _emptiest(fitted, n, pair)) for n in others}
    number = int(np.prod([len(levels) for levels in positions.values()]))
    if number > _MOST_TIMES:
        raise ModelError(f"at= names {number} maps; at most {_MOST_TIMES} are drawn, so name fewer")
    whole = positions | {n: np.arange(len(encoded.coordinates[n].labels)) for n in pair}
    found = comparing.compared(fitted, whole, BANDS)
    axis = tuple(k for k, n in enumerate(encoded.coordinates) if n not in pair)
    never = xr.DataArray(~encoded.seen.any(axis=axis), dims=[n for n in encoded.coordinates if n in pair])
    observed, filled = found["observed"], found["observed"].fillna(found["mean"])
    sd = found["sd"].where(observed.isnull())
    panels = [(observed, "observed"), (filled, "filled"), (sd, "sd of the fill")]
    shapes = [dict(zip(others, at, strict=True)) for at in np.ndindex(*(len(positions[n]) for n in others))]
    ratio = maps.proportions(found["mean"].isel(shapes[0]).transpose(*pair))
    figure, grid, bars = _laid_out(len(shapes), ratio)
    land = never.transpose(*pair).to_numpy()
    shared = _limits(filled.where(~never)) | {"cmap": "viridis"}
    spread = _limits(sd.where(~never)) | {"cmap": "magma_r"}
    for k, at in enumerate(shapes):
        drawn: list[Any] = []
        for axes, (field, title) in zip(grid[k], panels, strict=True):
            colours = spread if field is sd else shared
            note = axes is grid[-1][-1]
            drawn.append(maps.draw(axes, field.isel(at).transpose(*pair), land, note, **colours))
            when = ", ".join(f"{n} {_place(found[n][[i]])}" for n, i in at.items() if _varies(fitted, n))
            axes.set_title(plain(f"{title}, {when}" if when else title), loc="left", fontsize=9)
        texts = (called(encoded.name, fitted.attrs), "sd")
        for mesh, beside, text in zip((drawn[0], drawn[2]), bars[k], texts, strict=True):
            bar = figure.colorbar(mesh, ax=beside, extend="both", pad=0.015, aspect=12 * len(beside))
            bar.set_label(with_unit(_broken(text), fitted.attrs), fontsize=8)
            bar.ax.tick_params(labelsize=8)
    return figure


def _broken(text: str) -> str:
    """Text in lines of some twenty letters."""
    return "\n".join(textwrap.wrap(text, 22))


def _laid_out(number: int, ratio: float) -> tuple[Figure, list[list[Axes]], list[list[list[Axes]]]]:
    """Panels (time, what) of maps, and for each time those that its two colourbars belong to.

    Wide maps are below each other, others side by side.
    """
    wide = ratio > _WIDE
    ratio = float(np.clip(ratio, maps.NARROWEST, maps.WIDEST))
    if wide:
        figure = figures.empty(9.0, number * 3 * (7.4 / ratio + 0.55) + 0.2)
        flat = list(figure.subplots(3 * number, 1, squeeze=False)[:, 0])
        grid = [flat[3 * k : 3 * k + 3] for k in range(number)]
        return figure, grid, [[row[:2], row[2:]] for row in grid]
    width = float(np.clip(3.0 * np.sqrt(ratio), 2.4, 3.6))
    figure = figures.empty(3 * width + 2.0, number * (width / ratio + 0.6))
    grid = [list(row) for row in figure.subplots(number, 3, squeeze=False)]
    return figure, grid, [[row[1:2], row[2:]] for row in grid]


def _emptiest(fitted: Fitted, name: str, pair: tuple[str, str]) -> np.ndarray:
    """Levels of a mode at which most is missing of what was ever observed, but not all."""
    encoded = fitted.encoded
    place = list(encoded.coordinates).index(name)
    count = np.moveaxis(encoded.seen, place, 0).reshape(encoded.seen.shape[place], -1).sum(axis=1)
    some = np.flatnonzero(count > 0)
    return np.sort(some[np.argsort(count[some], kind="stable")[:1]])


def _limits(field: xr.DataArray) -> dict[str, Any]:
    values = field.to_numpy()
    values = values[np.isfinite(values)]
    low, high = np.percentile(values, _RANGE) if values.size else (0.0, 1.0)
    return {"vmin": low, "vmax": high if high > low else low + 1.0}


def _against(fitted: Fitted) -> Figure:
    """Observed against predicted values, and what they deviate by in sds."""
    found = comparing.compared_rows(fitted, BANDS)
    found = found.isel(observation=np.flatnonzero(np.isfinite(found["mean"].to_numpy())))
    y, mean, sd = (found[n].to_numpy() for n in ("observed", "mean", "sd"))
    low, _, _, high = found["quantiles"].to_numpy()
    figure = figures.empty(9.0, 4.0)
    left, right = figure.subplots(1, 2, width_ratios=[1.25, 1.0])
    lowest, highest = min(y.min(), mean.min()), max(y.max(), mean.max())
    if len(y) <= _POINTS:
        bars = np.stack([np.maximum(mean - low, 0.0), np.maximum(high - mean, 0.0)])
        left.errorbar(
            y, mean, yerr=bars, fmt="none", ecolor="C0", alpha=0.25, linewidth=0.8, label="90% of observations"
        )
        left.plot(y, mean, "o", color="C0", markersize=2.5, label="predictive mean")
    else:
        cells = left.hexbin(y, mean, gridsize=60, bins="log", mincnt=1, cmap="Blues", linewidths=0.1)
        figure.colorbar(cells, ax=left, label="observations in a cell")
    left.plot([lowest, highest], [lowest, highest], color="0.3", linewidth=0.9, linestyle="--", label="equal")
    left.set_xlabel(plain("observed ") + _values(fitted), fontsize=9)
    left.set_ylabel("predicted", fontsize=9)
    handles, texts = left.get_legend_handles_labels()
    left.legend(handles[::-1], texts[::-1], fontsize=8, frameon=False, loc="upper left")
    z = np.clip((y - mean) / sd, -4.99, 4.99)
    right.hist(z, bins=np.linspace(-5, 5, 41), density=True, color="C0", alpha=0.5, label="observations")
    t = np.linspace(-5, 5, 201)
    right.plot(t, np.exp(-0.5 * t**2) / np.sqrt(2 * np.pi), color="0.3", linewidth=0.9, linestyle="--", label="normal")
    right.set_xlabel("(observed - predicted) / sd", fontsize=9)
    right.set_ylabel("density", fontsize=9)
    right.legend(fontsize=8, frameon=False)
    left.set_title(f"{len(y):,} observations, all used in the fit", loc="left", fontsize=9)
    for axes in (left, right):
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.25)
    return figure
