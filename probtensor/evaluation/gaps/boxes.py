"""Boxes of neighbouring levels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, final

import numpy as np

from probtensor.errors import ModelError
from probtensor.evaluation.entries import Entries
from probtensor.evaluation.gaps.base import AbstractProtocol, Fold, check_dims, check_fraction, generator

if TYPE_CHECKING:  # it imports jax, which naming gaps does not need
    from probtensor.typing import Bool, Int


@final
@dataclasses.dataclass(frozen=True)
class Blocks(AbstractProtocol):
    """Boxes; see `blocks`.

    Attributes:
        fraction: of the observations that is held out.
        size: levels a box spans along each dimension, None for all of them.

    Raises:
        ModelError: a size that is no whole number of levels.
    """

    fraction: float
    size: Mapping[str, int | None]

    def __post_init__(self) -> None:
        check_fraction("blocks", self.fraction)
        if not isinstance(self.size, Mapping) or not self.size:
            raise ModelError(
                f"gaps.blocks: size={self.size!r} must map dimensions to numbers of levels, such as {{'time': 4}}"
            )
        for dim, edge in self.size.items():
            whole = isinstance(edge, int | np.integer) and not isinstance(edge, bool)
            if edge is not None and (not whole or edge < 1):
                raise ModelError(
                    f"gaps.blocks: size[{dim!r}]={edge!r} must be a whole number of levels, 1 or more, or None for all"
                )
        object.__setattr__(self, "size", {d: None if edge is None else int(edge) for d, edge in self.size.items()})

    def __str__(self) -> str:
        size = " x ".join(f"{'all' if edge is None else edge} {name}" for name, edge in self.size.items())
        return f"boxes of {size}, {self.fraction:.3g} of all values"

    def folds(self, entries: Entries, folds: int, seed: int) -> list[Fold]:
        """See `AbstractProtocol.folds`; the last box can overshoot the fraction by less than its own content."""
        check_dims("blocks", self.size, entries.sizes)
        if entries.levels is not None:
            unsaid = [name for name in entries.names if name not in self.size]
            if unsaid:
                raise ModelError(
                    f"gaps.blocks: size says nothing of {unsaid[0]!r}; of a table's coordinates say each, with a "
                    f"number of levels or None for all of them: size={ {**self.size, unsaid[0]: None} }"
                )
        edges = np.array([self._edge(name, size) for name, size in entries.sizes.items()])
        draw = _on_grid if entries.levels is None else _among_rows
        return [Fold(draw(entries, self.fraction, edges, generator(seed + k))) for k in range(folds)]

    def _edge(self, name: str, size: int) -> int:
        edge = self.size.get(name, 1)
        return 2 * size if edge is None else edge


def _on_grid(
    entries: Entries, fraction: float, edges: Int[np.ndarray, "D"], random: np.random.Generator
) -> Bool[np.ndarray, "..."]:
    observed, lengths = entries.observed, np.array(list(entries.sizes.values()))
    centres = np.argwhere(observed)
    held = np.zeros(observed.shape, dtype=bool)

    def hold(centre: Int[np.ndarray, "D"]) -> int:
        first = centre - edges // 2
        spans = zip(np.maximum(first, 0), np.minimum(first + edges, lengths), strict=True)
        box = tuple(slice(start, stop) for start, stop in spans)
        new = int(np.count_nonzero(observed[box] & ~held[box]))
        held[box] |= observed[box]
        return new

    _repeat(centres, fraction, random, hold)
    return held


def _among_rows(
    entries: Entries, fraction: float, edges: Int[np.ndarray, "D"], random: np.random.Generator
) -> Bool[np.ndarray, "N"]:
    assert entries.levels is not None
    levels, held = entries.levels, np.zeros(len(entries.levels), dtype=bool)
    # Rows are looked up along the coordinate of which a box spans the smallest part.
    along = int(np.argmax(np.array(list(entries.sizes.values())) / edges))
    order = np.argsort(levels[:, along], kind="stable")
    ascending = levels[order, along]

    def hold(centre: Int[np.ndarray, "D"]) -> int:
        first = centre - edges // 2
        start, stop = np.searchsorted(ascending, [first[along], first[along] + edges[along]])
        rows = order[start:stop]
        rows = rows[np.all((levels[rows] >= first) & (levels[rows] < first + edges), axis=1)]
        rows = rows[entries.observed[rows] & ~held[rows]]
        held[rows] = True
        return len(rows)

    _repeat(levels[entries.observed], fraction, random, hold)
    return held


def _repeat(
    centres: Int[np.ndarray, "n D"],
    fraction: float,
    random: np.random.Generator,
    hold: Callable[[Int[np.ndarray, "D"]], int],
) -> None:
    """Boxes around observations drawn at random until so large a share is held out; hold: says how many are new."""
    wanted, taken = fraction * len(centres), 0
    while taken < wanted:
        taken += hold(centres[random.integers(len(centres))])
