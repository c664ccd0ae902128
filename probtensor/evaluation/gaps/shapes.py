"""Gaps with the shapes of those that some data have."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, final

import numpy as np

from probtensor.errors import DataError, ModelError
from probtensor.evaluation import entries as places
from probtensor.evaluation.entries import Entries
from probtensor.evaluation.gaps.base import AbstractProtocol, Fold, check_dims, check_fraction, generator

if TYPE_CHECKING:  # it imports jax, which naming gaps does not need
    from probtensor.typing import Bool, Int

#: Where no fraction is given, so much is held out as the data miss, but not more than this share of the observations.
_AT_MOST = 0.3
#: A gap is put down at the first of so many places where this share of it falls on observations, else at the best.
_TRIES, _ENOUGH = 20, 0.9
#: Rounds in a row in which no gap found room before it is given up.
_PATIENCE = 3


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Like(AbstractProtocol):
    """Copies of gaps; see `like`.

    Attributes:
        dims: along which they extend.
        shapes: of each gap the positions of its entries (n, D), from its lowest corner.
        fraction: of the observations that is held out.
    """

    dims: tuple[str, ...]
    shapes: tuple[Int[np.ndarray, "n D"], ...] = dataclasses.field(repr=False)
    fraction: float

    def __post_init__(self) -> None:
        check_fraction("like", self.fraction)

    def __str__(self) -> str:
        return f"gaps with the shapes of {len(self.shapes)} given ones, {self.fraction:.3g} of all values"

    def folds(self, entries: Entries, folds: int, seed: int) -> list[Fold]:
        """See `AbstractProtocol.folds`; the last gap is cut where it would overshoot the fraction."""
        check_dims("like", self.dims, entries.sizes)
        if entries.levels is None:
            if len(self.dims) < len(entries.sizes):
                raise ModelError(
                    f"gaps.like: the gaps extend along {list(self.dims)}, the data along {list(entries.sizes)}; copy "
                    "gaps of data with the same dimensions"
                )
            order = [self.dims.index(name) for name in entries.names]
            shapes = [shape[:, order] for shape in self.shapes]
            return [Fold(_drawn(shapes, entries.observed, self.fraction, seed + k)) for k in range(folds)]
        rows = entries.levels[:, [entries.names.index(name) for name in self.dims]]
        seen = places.laid_out(rows[entries.observed], tuple(entries.sizes[name] for name in self.dims))
        masks = [_drawn(list(self.shapes), seen, self.fraction, seed + k) for k in range(folds)]
        return [Fold(mask[tuple(rows.T)] & entries.observed) for mask in masks]


def copied(data: Any, fraction: float | None) -> Like:
    """The gaps of a DataArray, or of a table of which some coordinates make a grid. See `like` for what is a gap."""
    return of_pattern(
        *(_rows_on_grid(data) if isinstance(getattr(data, "coords", None), dict) else _grid(data)), fraction
    )


def of_pattern(
    dims: tuple[str, ...], seen: Bool[np.ndarray, "..."], times: Sequence[int], fraction: float | None = None
) -> Like:
    """The gaps of a grid.

    Args:
        dims: names of its dimensions.
        seen: where it is observed, levels in ascending order.
        times: its axes of times, along which a site that was never observed is no gap; empty: along any.
        fraction: as in `like`.

    Raises:
        DataError: there are no gaps.
    """
    from probtensor.evaluation.calibration import gap_numbers

    inside = places.domain(seen, times or range(seen.ndim))
    missing = inside & ~seen
    if not missing.any():
        raise DataError(
            "gaps.like: the data have no gaps: where anything was ever observed, everything was. Say what gaps to make "
            "instead, for example pt.gaps.blocks(0.2, size={...}) or pt.gaps.random(0.2)"
        )
    numbers, cells = gap_numbers(missing), np.argwhere(missing)
    order = np.argsort(numbers, kind="stable")
    ends = np.flatnonzero(np.diff(numbers[order])) + 1
    shapes = tuple(shape - shape.min(axis=0) for shape in np.split(cells[order], ends))
    share = float(missing.sum() / inside.sum())
    return Like(dims, shapes, min(share, _AT_MOST) if fraction is None else fraction)


def _grid(data: Any) -> tuple[tuple[str, ...], Bool[np.ndarray, "..."], list[int]]:
    """Dimensions of a DataArray, where it is observed with ascending coordinates, and its axes of times."""
    if not hasattr(data, "dims") or not hasattr(data, "notnull") or not data.ndim:
        raise DataError(
            f"gaps.like: data is a {type(data).__name__}; expected a DataArray with dimensions, pt.table or pt.points"
        )
    seen, times = np.asarray(data.notnull()), []
    for axis, dim in enumerate(data.dims):
        if getattr(data.indexes.get(dim), "nlevels", 1) > 1:
            raise DataError(f"gaps.like: {dim!r} has a multi-index, and its entries are no grid; unstack it")
        labels = np.asarray(data[dim])
        if _are_times(labels):
            times.append(axis)
        if times[-1:] == [axis] or labels.dtype.kind in "iuf":
            seen = np.take(seen, np.argsort(labels, kind="stable"), axis=axis)
    return tuple(map(str, data.dims)), seen, times


def _rows_on_grid(data: Any) -> tuple[tuple[str, ...], Bool[np.ndarray, "..."], list[int]]:
    """The same of a table, on the grid of those coordinates of which most cells have a row."""
    observed = None if data.values is None else np.isfinite(data.values)
    table = places.table(data.coords, observed)
    assert table.levels is not None
    modes = places.full_grid(table.levels[table.observed], list(table.sizes.values()))
    if modes is None:
        raise DataError(
            "gaps.like: the table's rows do not lie on a grid of some of its coordinates, most cells of which are "
            "observed, so it has no gaps to copy; hold out whole levels or boxes of it, pt.gaps.by(...) or "
            "pt.gaps.blocks(...)"
        )
    names = tuple(table.names[k] for k in modes)
    seen = places.laid_out(table.levels[table.observed][:, modes], tuple(table.sizes[name] for name in names))
    return names, seen, [k for k, name in enumerate(names) if _are_times(np.asarray(data.coords[name]))]


def _are_times(labels: np.ndarray) -> bool:
    """Whether labels are times of any calendar."""
    return labels.dtype.kind in "Mm" or (labels.dtype.kind == "O" and hasattr(labels.flat[0], "calendar"))


def _drawn(
    shapes: list[Int[np.ndarray, "n D"]], seen: Bool[np.ndarray, "..."], fraction: float, seed: int
) -> Bool[np.ndarray, "..."]:
    """Each gap in random order, at a random place, and all of them again, until enough is held out."""
    random, held, cells = generator(seed), np.zeros(seen.shape, dtype=bool), np.argwhere(seen)
    room, in_vain = round(fraction * len(cells)), 0
    queue: list[int] = []
    while room > 0 and in_vain < _PATIENCE:
        batch, wanted = [], 0
        while wanted < room:
            queue = queue or random.permutation(len(shapes)).tolist()
            batch.append(queue.pop())
            wanted += len(shapes[batch[-1]])
        before = room
        # The largest first, while there is room for them.
        for k in sorted(batch, key=lambda k: -len(shapes[k])):
            if room > 0:
                found = _room_for(_cut(shapes[k], room, random), seen, held, cells, random)
                held[tuple(found.T)] = True
                room -= len(found)
        in_vain = in_vain + 1 if room == before else 0
    return held


def _cut(shape: Int[np.ndarray, "n D"], most: int, random: np.random.Generator) -> Int[np.ndarray, "m D"]:
    """A gap of so many entries at most: neighbouring levels along its longest side."""
    if len(shape) <= most:
        return shape
    ordered = shape[np.argsort(shape[:, int(np.argmax(shape.max(axis=0)))], kind="stable")]
    first = int(random.integers(len(shape) - most + 1))
    return ordered[first : first + most]


def _room_for(
    shape: Int[np.ndarray, "n D"],
    seen: Bool[np.ndarray, "..."],
    held: Bool[np.ndarray, "..."],
    cells: Int[np.ndarray, "N D"],
    random: np.random.Generator,
) -> Int[np.ndarray, "m D"]:
    """The observations, not held out yet, on which a gap falls where it is shifted to one of these cells."""
    best = shape[:0]
    for _ in range(_TRIES):
        moved = shape - shape[random.integers(len(shape))] + cells[random.integers(len(cells))]
        moved = moved[np.all((moved >= 0) & (moved < seen.shape), axis=1)]
        at = tuple(moved.T)
        moved = moved[seen[at] & ~held[at]]
        best = moved if len(moved) > len(best) else best
        if len(best) >= _ENOUGH * len(shape):
            break
    return best
