"""Cells of space that entries alone define: where they lie there are a few of them in each, in gaps cells widen."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from probtensor.typing import Float, Int

#: Width of a cell in a gap, as a multiple of the distance to the nearest entry; rounded down to a power of two.
_WIDENING = 4.0


class Cells(NamedTuple):
    """A division of space.

    Where entries lie, a cell is a leaf of a k-d tree over them: what is nearer to one of its entries than the leaf is
    wide. Farther from all entries, in gaps and outside, it is a cube with a width in proportion to the distance: the
    function given the data varies there no faster than that.

    Attributes:
        tree: of the entries.
        leaf: (N,) of each entry.
        low, high: corners of the entries of each leaf.
    """

    tree: cKDTree
    leaf: Int[np.ndarray, "N"]
    low: Float[np.ndarray, "G E"]
    high: Float[np.ndarray, "G E"]

    @staticmethod
    def of(places: Float[np.ndarray, "N E"], size: int) -> Cells:
        """size: of a leaf, at most, but for repeated places. Cost O(N log N)."""
        groups = _leaves(places, size)
        leaf = np.empty(len(places), dtype=int)
        for g, rows in enumerate(groups):
            leaf[rows] = g
        low, high = (np.stack([f(places[rows], axis=0) for rows in groups]) for f in (np.min, np.max))
        return Cells(cKDTree(places), leaf, low, high)

    def occupied(self, targets: Float[np.ndarray, "M E"]) -> Occupied:
        """The cells with targets in them; a target's cell does not depend on the other targets."""
        distance, nearest = self.tree.query(targets)
        leaf = self.leaf[nearest]
        wide = np.max(self.high - self.low, axis=1)[leaf]
        with np.errstate(divide="ignore"):
            level = np.floor(np.log2(_WIDENING * distance))
        inside = ~(2.0**level > wide)
        width = np.where(inside, 1.0, 2.0**level)[:, None]
        corner = np.floor(targets / width) * width
        # A leaf is told by its number, a cube by its width and corner.
        number = np.where(inside, leaf, -1)[:, None]
        key = np.concatenate([number, np.where(inside[:, None], 0.0, np.concatenate([width, corner], axis=1))], axis=1)
        _, first, of = np.unique(key + 0.0, axis=0, return_index=True, return_inverse=True)
        low = np.where(inside[:, None], self.low[leaf], corner)[first]
        high = np.where(inside[:, None], self.high[leaf], corner + width)[first]
        return Occupied(of.ravel(), low, high)


class Occupied(NamedTuple):
    """Cells with targets: which one each target is in, and the cells' corners."""

    of: Int[np.ndarray, "M"]
    low: Float[np.ndarray, "C E"]
    high: Float[np.ndarray, "C E"]


def _leaves(places: Float[np.ndarray, "N E"], size: int) -> list[Int[np.ndarray, "n"]]:
    """Rows of each leaf: halved across the longest side until there are few, or all are at one place."""
    out, waiting = [], [np.arange(len(places))]
    while waiting:
        rows = waiting.pop()
        here = places[rows]
        extent = np.ptp(here, axis=0)
        widest = int(np.argmax(extent))
        if len(rows) <= size or extent[widest] == 0:
            out.append(rows)
            continue
        along = here[:, widest]
        middle = np.median(along)
        below = along <= middle if np.mean(along <= middle) + np.mean(along < middle) < 1 else along < middle
        waiting += [rows[~below], rows[below]]
    return out
