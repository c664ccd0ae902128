"""Cells of space that entries alone define: where they lie there are a few of them in each, in gaps cells widen."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from probtensor.nearest.embedding import Embedding
from probtensor.typing import Float, Int

#: Sides of a cell in a gap, as a multiple of the distance to the nearest entry; rounded down to a power of two.
_WIDENING = 4.0


class Cells(NamedTuple):
    """A division of space.

    Where entries lie, a cell is a leaf of a k-d tree over them: what is nearer to one of its entries than the leaf is
    wide. Farther from all entries, in gaps and outside, it is a box with sides in proportion to the distance: the
    function given the data varies there no faster than that. A side that several products of the kernel read counts by
    the nearest entry to any of them, so that far in time a cell is not wide in space if a part of the sum is constant
    in time.

    Attributes:
        embedding: of the kernel.
        trees: of the entries as each product of the kernel sees them.
        places: of the entries.
        leaf: of each entry.
        low: corner of the entries of each leaf.
        high: the opposite corner.
    """

    embedding: Embedding
    trees: list[cKDTree]
    places: Float[np.ndarray, "N E"]
    leaf: Int[np.ndarray, "N"]
    low: Float[np.ndarray, "G E"]
    high: Float[np.ndarray, "G E"]

    @staticmethod
    def of(embedding: Embedding, points: Float[np.ndarray, "N D"], size: int) -> Cells:
        """size: of a leaf, at most, but for repeated places. Cost O(N log N)."""
        places = embedding.joint(points)
        groups = _leaves(places, size)
        leaf = np.empty(len(places), dtype=int)
        for g, rows in enumerate(groups):
            leaf[rows] = g
        low, high = (np.stack([f(places[rows], axis=0) for rows in groups]) for f in (np.min, np.max))
        return Cells(embedding, [cKDTree(view) for view in embedding.seen(places)], places, leaf, low, high)

    def occupied(self, points: Float[np.ndarray, "M D"]) -> Occupied:
        """The cells with targets in them; a target's cell does not depend on the other targets."""
        targets = self.embedding.joint(points)
        nearest, distance = self._distances(targets)
        leaf = self.leaf[nearest]
        wide = np.max(self.high - self.low, axis=1)[leaf][:, None]
        with np.errstate(divide="ignore"):
            side, least = (2 ** np.floor(np.log2(x)) for x in (_WIDENING * distance, wide))
        inside = np.all(side <= wide, axis=1, keepdims=True)
        # Never of no width: a leaf may be one place, which one product sees right there and another far away.
        width = np.maximum(side, np.where(wide > 0, least, side.max(axis=1, keepdims=True)))
        width = np.where(inside, 1.0, width)
        corner = np.floor(targets / width) * width
        # A leaf is told by its number, a box by its sides and corner.
        key = np.concatenate([leaf[:, None] * inside, ~inside * width, ~inside * corner], axis=1)
        _, first, of = np.unique(key + 0.0, axis=0, return_index=True, return_inverse=True)
        low = np.where(inside, self.low[leaf], corner)[first]
        high = np.where(inside, self.high[leaf], corner + width)[first]
        return Occupied(of.ravel(), low, high)

    def _distances(self, targets: Float[np.ndarray, "M E"]) -> tuple[Int[np.ndarray, "M"], Float[np.ndarray, "M E"]]:
        """The nearest entry, and for each column the least distance to an entry under a product that reads it."""
        out, best, shortest = np.full(targets.shape, np.inf), np.zeros(len(targets), dtype=int), np.inf
        for tree, view, asked in zip(self.trees, self.embedding.views, self.embedding.seen(targets), strict=True):
            found, reads = tree.query(asked)[1], view == 1
            apart = targets - self.places[found]
            out[:, reads] = np.minimum(out[:, reads], np.linalg.norm(apart[:, reads], axis=1)[:, None])
            whole = np.linalg.norm(apart, axis=1)
            best, shortest = np.where(whole < shortest, found, best), np.minimum(whole, shortest)
        return best, out


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
