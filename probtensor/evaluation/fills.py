"""Plain fills of any grid or table: what a model has to beat, made from nothing but the values shown.

A fill is given values, NaN where they are missing or hidden, and gives a number everywhere. What kind of level, which
axis first: each kind of fill has variants, and `best` takes the one that misses least what it was not shown of the
values it has, which also is its predictive standard deviation.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from probtensor.errors import DataError
from probtensor.evaluation.entries import Entries, places
from probtensor.evaluation.scores import rmse
from probtensor.typing import Float, Int

#: Fills values, NaN where they are missing.
Fill = Callable[[np.ndarray], np.ndarray]

#: Kinds of fills.
KINDS = ("mean", "level means", "nearest", "linear interpolation", "level means + interpolation")

#: The least sd, as a share of the spread of the observed values: values that a fill hits exactly still have a score.
_LEAST_SD = 1e-6
#: Steps along one axis are so much shorter than along others where neighbours along it are asked first.
_FIRST = 1e-4
#: Of level means so many are tried as what departures are interpolated from.
_FEW = 4
#: Of a table with more rows, or more coordinates, no triangulation is made.
_TRIANGULATED, _CORNERS = 5000, 3


@dataclasses.dataclass(frozen=True, eq=False)
class Places:
    """Where values are.

    Attributes:
        entries: of a grid or a table.
        numbers: of each dimension that is no list of names the coordinate at each position (of a table at each level).
        months: of dimensions of dates that cover more than a year the month at each position.
    """

    entries: Entries
    numbers: Mapping[str, Float[np.ndarray, "T"]]
    months: Mapping[str, Int[np.ndarray, "T"]] = dataclasses.field(default_factory=dict)


class Filled(NamedTuple):
    """A fill's answer: which variant, the means everywhere, and the sd of a new observation."""

    variant: str
    mean: np.ndarray
    sd: float


def fills(kind: str, where: Places, y: np.ndarray, inner: Sequence[np.ndarray]) -> dict[str, Fill]:
    """The variants of one of the `KINDS` of fills, by what they look at; none where there is no coordinate to go along.

    Args:
        kind: its name.
        where: the values are.
        y: NaN where nothing was observed.
        inner: as in `best`; by it the dimension is chosen along which departures from level means are interpolated.
    """
    if kind == "mean":
        return {"": lambda y: np.full(y.shape, np.nanmean(y))}
    if kind == "level means":
        return dict(_level_means(where))
    if kind == "nearest":
        return dict(_neighbours(where))
    lines = dict(_lines(where))
    if kind == "linear interpolation" or not lines:
        return lines
    # Not every level with every line: the line first, for the level that is best by itself, then the level.
    means = dict(_level_means(where))
    errors = inner_errors(means, y, inner)
    few = sorted(means, key=errors.__getitem__)[:_FEW]
    line = best({line: functools.partial(_departures, means[few[0]], own) for line, own in lines.items()}, y, inner)
    along = lines[line.variant]
    return {f"{name}; {line.variant}": functools.partial(_departures, means[name], along) for name in few}


def best(variants: Mapping[str, Fill], y: np.ndarray, inner: Sequence[np.ndarray]) -> Filled:
    """The variant with the least error on observations that it is not shown.

    Args:
        variants: by what they look at.
        y: NaN where nothing was observed.
        inner: for each of several draws bool, shaped as ``y``, True at the entries to hide; see `inner_sd`.

    Raises:
        DataError: ``inner`` hides no observation, or all of them.
    """
    errors = inner_errors(variants, y, inner)
    chosen = min(errors, key=errors.__getitem__)
    return Filled(chosen, variants[chosen](y), errors[chosen])


def inner_errors(variants: Mapping[str, Fill], y: np.ndarray, inner: Sequence[np.ndarray]) -> dict[str, float]:
    """The root mean square of `inner_sd` over several draws, of each variant."""
    return {
        name: float(np.sqrt(np.mean([inner_sd(fill, y, mask) ** 2 for mask in inner])))
        for name, fill in variants.items()
    }


def inner_sd(fill: Fill, y: np.ndarray, inner: np.ndarray) -> float:
    """Root mean squared error of a fill on observed entries that it is not shown.

    Args:
        fill: what is judged.
        y: NaN where nothing was observed.
        inner: bool, shaped as ``y``, True at the entries to hide; those without an observation do not count. Draw it
            with the protocol that made the outer gaps, so that the error is of the right kind.

    Returns:
        The error, in the data's unit, and never quite 0.

    Raises:
        DataError: ``inner`` hides no observation, or all of them.
    """
    hidden = inner & np.isfinite(y)
    shown = np.where(hidden, np.nan, y)
    if not np.isfinite(shown).any():
        raise DataError("every observation is hidden, so there is nothing to fill from; hide fewer")
    return max(rmse(fill(shown)[hidden], y[hidden]), _LEAST_SD * (float(np.nanstd(y)) or 1.0))


def group_means(
    y: Float[np.ndarray, "..."], groups: Int[np.ndarray, "..."], otherwise: np.ndarray | float
) -> Float[np.ndarray, "..."]:
    """The mean of what was observed in the same group, and ``otherwise`` where nothing was.

    Args:
        y: NaN where nothing was observed.
        groups: a number from 0 for each entry.
        otherwise: shaped as ``y``, or one number.
    """
    seen, flat = np.isfinite(y).ravel(), groups.ravel()
    size = int(flat.max()) + 1
    count = np.bincount(flat[seen], minlength=size)
    total = np.bincount(flat[seen], weights=y.ravel()[seen], minlength=size)
    mean = (total / np.maximum(count, 1))[flat].reshape(y.shape)
    return np.where((count > 0)[flat].reshape(y.shape), mean, otherwise)


def along_axes(y: np.ndarray, axes: Sequence[tuple[int, np.ndarray]]) -> np.ndarray:
    """A grid filled linearly along one axis after the other, each filling lines with an observation, then the nearest.

    Beyond the first and last value of a line the value is held.

    Args:
        y: NaN where nothing was observed.
        axes: axes with their distinct coordinates, in any order.
    """
    for axis, points in axes:
        y = _linear(y, points, axis)
    return nearest(y)


def nearest(y: np.ndarray, steps: Sequence[float] | None = None) -> np.ndarray:
    """A grid filled from the entry fewest steps away; steps: how long one is along each axis, None: all alike."""
    from scipy.ndimage import distance_transform_edt

    indices = distance_transform_edt(~np.isfinite(y), steps, return_distances=False, return_indices=True)
    return y[tuple(indices)]


def _linear(y: np.ndarray, points: np.ndarray, axis: int) -> np.ndarray:
    """Fills each line along an axis that has an observation; others stay as they are."""
    filled = np.moveaxis(y.copy(), axis, -1)
    order = np.argsort(points)
    points = np.asarray(points, dtype=float)[order]
    observed = np.isfinite(filled)
    for line in np.argwhere(observed.any(axis=-1) & ~observed.all(axis=-1)):
        values, seen = filled[tuple(line)][order], observed[tuple(line)][order]
        filled[tuple(line)][order] = np.interp(points, points[seen], values[seen])
    return np.moveaxis(filled, -1, axis)


def _departures(mean: Fill, along: Fill, y: np.ndarray) -> np.ndarray:
    """Level means plus what is interpolated of the departures from them."""
    level = mean(y)
    return level + along(y - level)


def _level_means(where: Places) -> Iterator[tuple[str, Fill]]:
    """Means over what has the same levels of some dimensions, and of some in the same month."""
    entries = where.entries
    names = [name for name, size in entries.sizes.items() if size > 1]
    # In a grid all dimensions together name one entry, in a table a place, which may have been observed repeatedly.
    most = min(len(names) - (entries.levels is None), 3)
    for number in range(1, max(most, 1) + 1):
        for chosen in itertools.combinations(names, number):
            groups = entries.groups(chosen)[0]
            yield ", ".join(chosen), functools.partial(_means, [groups])
    for name, months in where.months.items():
        month = months[_position(entries, name)]
        others = [other for other in names if other != name]
        for number in range(min(len(others), 2) + 1):
            for chosen in itertools.combinations(others, number):
                groups = entries.groups(chosen)[0]
                said = ", ".join([*chosen, f"{name}.month"])
                yield said, functools.partial(_means, [groups, groups * 13 + month])


def _means(steps: Sequence[Int[np.ndarray, "..."]], y: np.ndarray) -> np.ndarray:
    """Means over the finest groups, where these have no observation over coarser ones, else over all."""
    found = np.full(y.shape, np.nanmean(y))
    for groups in steps:
        found = group_means(y, groups, found)
    return found


def _position(entries: Entries, name: str) -> Int[np.ndarray, "..."]:
    """The position along a dimension of each entry."""
    axis = entries.names.index(name)
    if entries.levels is not None:
        return entries.levels[:, axis]
    shape = [-1 if k == axis else 1 for k in range(len(entries.sizes))]
    return np.broadcast_to(np.arange(entries.sizes[name]).reshape(shape), entries.observed.shape)


def _lines(where: Places) -> Iterator[tuple[str, Fill]]:
    """Linear along one dimension of numbers first."""
    entries = where.entries
    names = [name for name in entries.names if name in where.numbers and entries.sizes[name] > 1]
    for first in names:
        if entries.levels is None:
            order = [first, *(name for name in names if name != first)]
            axes = [(entries.names.index(name), where.numbers[name]) for name in order]
            yield f"along {first}", functools.partial(along_axes, axes=axes)
        else:
            yield f"along {first}", functools.partial(_rows_along, where, first)
    if entries.levels is not None and 1 < len(names) <= _CORNERS and entries.count <= _TRIANGULATED:
        yield f"over {', '.join(names)}", functools.partial(_triangulated, where, names)


def _rows_along(where: Places, name: str, y: np.ndarray) -> np.ndarray:
    """Rows with the same names, linear along a coordinate between the means of its levels; elsewhere of all rows."""
    x = where.numbers[name][_position(where.entries, name)]
    found = np.full(len(y), np.nan)
    for rows in [*_same_names(where), np.arange(len(y))]:
        seen, open_ = rows[np.isfinite(y[rows])], rows[np.isnan(found[rows])]
        if len(seen) and len(open_):
            levels, means = _place_means(x[seen, None], y[seen])
            found[open_] = np.interp(x[open_], levels[:, 0], means)
    return found


def _same_names(where: Places) -> list[Int[np.ndarray, "n"]]:
    """Rows in groups with the same levels of all dimensions that are names."""
    entries = where.entries
    assert entries.levels is not None
    columns = [k for k, name in enumerate(entries.names) if name not in where.numbers]
    if not columns:
        return []
    groups = places(entries.levels[:, columns])
    order = np.argsort(groups, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)


def _triangulated(where: Places, names: Sequence[str], y: np.ndarray) -> np.ndarray:
    """Linear in the triangles of a table's places, in units of standard deviations; the nearest place outside."""
    from scipy.interpolate import LinearNDInterpolator
    from scipy.spatial import QhullError

    x = _scaled(where, names)
    seen = np.isfinite(y)
    outside = _closest(x, y, [])
    try:
        inside = LinearNDInterpolator(*_place_means(x[seen], y[seen]))(x)
    except (QhullError, ValueError):  # too few places, or all on one line
        return outside
    return np.where(np.isfinite(inside), inside, outside)


def _neighbours(where: Places) -> Iterator[tuple[str, Fill]]:
    """The nearest observation: by steps in a grid, by standard deviations in a table; along one dimension first."""
    entries = where.entries
    names = [name for name in entries.names if name in where.numbers and entries.sizes[name] > 1]
    if entries.levels is None:
        far = [1.0 if name in where.numbers else 1.0 / _FIRST for name in entries.names]
        yield "", functools.partial(nearest, steps=far)
        for name in names if len(entries.sizes) > 1 else ():
            first = [step * (_FIRST if own == name else 1.0) for own, step in zip(entries.names, far, strict=True)]
            yield f"along {name}", functools.partial(nearest, steps=first)
        return
    groups = _same_names(where)
    yield "", functools.partial(_closest, _scaled(where, names), groups=groups)
    for name in names if len(names) > 1 else ():
        yield f"along {name}", functools.partial(_closest, _scaled(where, [name]), groups=groups)


def _scaled(where: Places, names: Sequence[str]) -> Float[np.ndarray, "N d"]:
    """Coordinates of a table's rows in units of their standard deviations."""
    columns = [where.numbers[name][_position(where.entries, name)] for name in names]
    x = np.stack(columns, axis=1) if columns else np.zeros((len(where.entries.observed), 1))
    return x / np.where(x.std(axis=0) > 0, x.std(axis=0), 1.0)


def _closest(x: Float[np.ndarray, "N d"], y: np.ndarray, groups: Sequence[Int[np.ndarray, "n"]]) -> np.ndarray:
    """The mean of the values at the nearest place with any, among rows in the same group if any has one."""
    from scipy.spatial import KDTree

    found = np.where(np.isfinite(y), y, np.nan)
    for rows in [*groups, np.arange(len(y))]:
        seen, open_ = rows[np.isfinite(y[rows])], rows[np.isnan(found[rows])]
        if len(seen) and len(open_):
            corners, means = _place_means(x[seen], y[seen])
            found[open_] = means[KDTree(corners).query(x[open_])[1]]
    return found


def _place_means(x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "n"]) -> tuple[np.ndarray, np.ndarray]:
    """Distinct places in ascending order, and the mean of the values at each."""
    distinct, at = np.unique(x, axis=0, return_inverse=True)
    return distinct, np.bincount(at.ravel(), weights=y) / np.bincount(at.ravel())
