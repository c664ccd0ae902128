"""Entries of a grid or rows of a table by their levels: what gap protocols and plain gap fills look at."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from probtensor.errors import DataError

if TYPE_CHECKING:  # it imports jax, which naming gaps does not need
    from probtensor.typing import Bool, Int

#: Modes tell the entries of a table apart if at least this share of its places has levels of its own in them.
_TOLD_APART = 0.9
#: A table's grid of levels with more cells than this is not laid out.
_MOST_CELLS = 10_000_000
#: Modes make a grid if at least this share of its cells has a row.
_HALF = 0.5


@dataclasses.dataclass(frozen=True, eq=False)
class Entries:
    """Where there are observations.

    Attributes:
        sizes: number of levels of each dimension; of a grid in the order of its axes.
        observed: of a grid an array of these sizes, of a table (N,); True where there is an observation.
        levels: (N, D) levels of a table's rows, ascending with the coordinate; None for a grid.
        ranks: of those axes of a grid along which positions do not ascend with the coordinate, each position's place in
            the coordinate's order. Neighbours along an axis must be neighbours in it either way.
    """

    sizes: dict[str, int]
    observed: Bool[np.ndarray, "..."]
    levels: Int[np.ndarray, "N D"] | None = None
    ranks: Mapping[str, Int[np.ndarray, "T"]] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = tuple(self.sizes.values()) if self.levels is None else (len(self.levels),)
        if self.observed.shape != shape:
            raise DataError(
                f"valid has shape {self.observed.shape}, but the dimensions {dict(self.sizes)} have shape {shape}; "
                "give one entry for each entry of the data, in the same order of dimensions"
                if self.levels is None
                else f"valid has shape {self.observed.shape}, but there are {len(self.levels)} rows; give one for each"
            )
        if not self.observed.any():
            raise DataError(f"there is no observed entry to hold out among {dict(self.sizes)}; every value is missing")

    @property
    def names(self) -> tuple[str, ...]:
        """The dimensions."""
        return tuple(self.sizes)

    @property
    def count(self) -> int:
        """How many observations there are."""
        return int(self.observed.sum())

    def only(self, observed: Bool[np.ndarray, "..."]) -> Entries:
        """The same places with other observations. Raises DataError if there is none."""
        return dataclasses.replace(self, observed=observed)

    def level(self, name: str) -> Int[np.ndarray, "..."]:
        """The level along a dimension in the coordinate's order: of a grid one that broadcasts, of a table (N,)."""
        axis = self.names.index(name)
        if self.levels is not None:
            return self.levels[:, axis]
        ranks = self.ranks.get(name, np.arange(self.sizes[name]))
        return np.reshape(ranks, [-1 if k == axis else 1 for k in range(len(self.sizes))])

    def groups(self, names: Sequence[str]) -> tuple[Int[np.ndarray, "..."], int]:
        """A number for each entry, the same where levels along some dimensions are, and how many numbers there can be.

        Of a grid they count the combinations of positions in the order of its axes.
        """
        if not names:
            return np.zeros(self.observed.shape, dtype=int), 1
        if self.levels is not None:
            number = places(self.levels[:, [self.names.index(name) for name in self.names if name in names]])
            return number, int(number.max()) + 1
        shape = [size if name in names else 1 for name, size in self.sizes.items()]
        count = math.prod(shape)
        return np.broadcast_to(np.arange(count).reshape(shape), self.observed.shape), count


def table(coords: Mapping[str, np.ndarray], valid: np.ndarray | None = None) -> Entries:
    """Entries of a table from its labels.

    Args:
        coords: (N,) labels of each coordinate, numbers, times or text.
        valid: (N,) True where there is an observation; None: everywhere.

    Raises:
        DataError: there is no coordinate or no observation, lengths differ, or labels cannot be put in order.
    """
    if not coords or len({len(np.atleast_1d(labels)) for labels in coords.values()}) != 1:
        raise DataError("coordinates of rows must be arrays of one length, one for each coordinate")
    try:
        read = {str(name): np.unique(np.asarray(labels), return_inverse=True) for name, labels in coords.items()}
    except TypeError as error:
        raise DataError(
            f"labels of a coordinate cannot be put in order: {error}; give numbers, times or text"
        ) from error
    levels = np.stack([level.ravel() for _, level in read.values()], axis=1)
    observed = np.ones(len(levels), bool) if valid is None else np.asarray(valid, dtype=bool)
    return Entries({name: len(distinct) for name, (distinct, _) in read.items()}, observed, levels)


def laid_out(rows: Int[np.ndarray, "N D"], sizes: tuple[int, ...]) -> Bool[np.ndarray, "..."]:
    """The grid of these sizes, True where there is a row."""
    seen = np.zeros(sizes, dtype=bool)
    seen[tuple(rows.T)] = True
    return seen


def places(levels: Int[np.ndarray, "N D"]) -> Int[np.ndarray, "N"]:
    """A number for each row, the same for rows with the same levels."""
    order = np.lexsort(levels.T)
    new = np.any(np.diff(levels[order], axis=0) != 0, axis=1)
    place = np.empty(len(levels), dtype=int)
    place[order] = np.concatenate([[0], np.cumsum(new)])
    return place


def key(levels: Int[np.ndarray, "N D"], sizes: Sequence[int]) -> list[int] | None:
    """The fewest modes, at least two, that tell the places of a table apart; of several such sets the fullest grid.

    None where there is no such grid, or where all are so large that nearly every cell would be empty.
    """
    varying = [k for k, size in enumerate(sizes) if size > 1]
    enough = _TOLD_APART * (places(levels).max() + 1)
    for number in range(2, len(varying) + 1):
        sets = itertools.combinations(varying, number)
        found = [(math.prod(sizes[k] for k in modes), modes) for modes in sets]
        for cells, modes in sorted(found):
            shape = tuple(sizes[k] for k in modes)
            if enough <= cells <= _MOST_CELLS and laid_out(levels[:, modes], shape).sum() >= enough:
                return list(modes)
    return None


def full_grid(levels: Int[np.ndarray, "N D"], sizes: Sequence[int]) -> list[int] | None:
    """The modes, at least two, whose grid of levels has the most cells of those of which at least half have a row.

    None where there is no such grid.
    """
    varying, found = [k for k, size in enumerate(sizes) if size > 1], [(0, [0])]
    for number in range(2, len(varying) + 1):
        for modes in itertools.combinations(varying, number):
            cells = math.prod(sizes[k] for k in modes)
            if found[-1][0] < cells <= min(_MOST_CELLS, len(levels) / _HALF):
                filled = laid_out(levels[:, modes], tuple(sizes[k] for k in modes)).sum()
                found += [(cells, list(modes))] if filled >= _HALF * cells else []
    return found[-1][1] if len(found) > 1 else None


def domain(seen: Bool[np.ndarray, "..."], axes: Sequence[int]) -> Bool[np.ndarray, "..."]:
    """Where something could have been observed: no line along one of these axes that never was.

    Land and dead stations are never observed along time; they are not gaps but the shape of the domain.
    """
    inside = np.ones(seen.shape, dtype=bool)
    for axis in axes:
        inside &= seen.any(axis=axis, keepdims=True)
    return inside
