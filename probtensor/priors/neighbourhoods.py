"""Which earlier levels each level of a mode is conditioned on: a fixed order, its neighbours and its chunks.

Found on the host once, when a prior is bound. Levels are taken in the order of a balanced k-d tree's leaves with the
bits of their numbers reversed, so that every beginning of the order covers all places evenly, as a maximin order does,
at cost O(T log T). Runs of consecutive levels are chunks; no level has a neighbour in its own chunk, so a chunk is
worked on at once. Since consecutive levels are far apart, that costs nearly nothing: on 2,000 places in a square, with
30 neighbours and a Matern-3/2 kernel of lengthscale 0.3, the divergence from the exact process is 6.5 nats instead of
3.4; it is 59 in a random order.

Source: Guinness 2018 (orders); Schafer, Katzfuss and Owhadi 2021 (colouring levels that can be eliminated at once).
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from probtensor.nearest.search import earlier, nearest
from probtensor.priors.base import group_equal
from probtensor.typing import Array, Float, Int

#: Up to so many levels every level is a chunk of its own, and conditioned on its neighbours among all earlier ones.
STRICT = 1024
#: A chunk is at most this share of the levels before it, and has at most so many of them.
_SHARE, _LONGEST = 8, 128
#: Rows whose neighbours are compared at once.
_BLOCK = 2048
#: Rows that are all compared with a new place.
_FIRST = 4096
#: Neighbours of a new place are chosen from so many times their number.
_WIDER = 2


class Neighbourhoods(eqx.Module):
    """Levels as rows, in the order of conditioning, with their neighbours.

    A chunk's rows are consecutive; the last rows of a chunk may be padding: they repeat the first row's point,
    have no neighbours and are no one's.

    Attributes:
        points: (rows, ...) the levels' coordinates.
        neighbours: (rows, m) rows of the nearest levels of earlier chunks, the latest first; -1 where there are fewer.
        slots: (rows, m (m - 1) / 2) for each pair a < b of a row's neighbours, the place of the second among the
            neighbours of the first; -1 where it is none of them.
        around: (rows, 2 m + 2) rows of the nearest levels of all, itself included, the nearest first.
        levels: (U, ...) coordinates of all levels, in ascending (lexicographic) order.
        row: (U,) row of each of them; levels at one place have one.
        chunk: rows of a chunk.
    """

    points: Float[Array, "rows ..."]
    levels: Float[Array, "U ..."]
    neighbours: Int[Array, "rows m"]
    slots: Int[Array, "rows P"]
    around: Int[Array, "rows k"]
    row: Int[Array, "U"]
    chunk: int = eqx.field(static=True)

    def place(self, points: Float[Array, "T ..."]) -> Int[Array, "T"]:
        """The row of each point; -1 for one that is no level."""
        levels = self.levels.astype(points.dtype)
        group = group_equal(jnp.concatenate([levels, points]))
        row = jnp.full(group.shape, -1).at[group[: len(levels)]].set(self.row.astype(int))
        return row[group[len(levels) :]]

    def near(self, places: Float[Array, "rows E"], asked: Float[Array, "M E"]) -> Int[Array, "M k"]:
        """Rows of m + 1 levels near each place asked for: the nearest of those around the very nearest.

        Among many levels that one is found by walking from the nearest of the first ones to ever nearer neighbours.
        """

        def one(target: Float[Array, "E"]) -> Int[Array, "k"]:
            def squares(rows: Int[Array, "n"]) -> Float[Array, "n"]:
                return jnp.sum((places[rows] - target[None]) ** 2, axis=1)

            def nearest_of(rows: Int[Array, "n"]) -> tuple[Array, Array]:
                square = squares(rows)
                best = jnp.argmin(square)
                return rows[best], square[best]

            def walk(carry: tuple[Array, Array, Array]) -> tuple[Array, Array, Array]:
                row, square, _ = carry
                other, nearer = nearest_of(self.around[row])
                gains = nearer < square
                return jnp.where(gains, other, row), jnp.where(gains, nearer, square), gains

            first = nearest_of(jnp.arange(min(_FIRST, places.shape[0]), dtype=self.around.dtype))
            row = jax.lax.while_loop(lambda carry: carry[2], walk, (*first, jnp.ones((), bool)))[0]
            candidates = self.around[row]
            return candidates[jax.lax.top_k(-squares(candidates), wanted)[1]]

        wanted = min(self.neighbours.shape[1] + 1, self.around.shape[1])
        return jax.lax.map(one, asked)


def neighbourhoods(points: Float[np.ndarray, "U ..."], places: Float[np.ndarray, "U E"], number: int) -> Neighbourhoods:
    """Of distinct levels in ascending (lexicographic) order.

    Args:
        points: their coordinates.
        places: where they lie in the Euclidean space in which neighbours are near.
        number: of neighbours, at most.
    """
    # Levels at one place, such as all longitudes of a pole, are one row.
    _, first, same = np.unique(places, axis=0, return_index=True, return_inverse=True)
    chosen = np.ascontiguousarray(places[first])
    found = _found(chosen.tobytes(), chosen.shape, min(number, max(len(chosen) - 1, 1)))
    neighbours, slots, around, row = (
        jnp.asarray(x) for x in (found.before, found.slots, found.around, found.row[same])
    )
    rows = jnp.asarray(points[first[found.level]])
    return Neighbourhoods(rows, jnp.asarray(points), neighbours, slots, around, row, found.chunk)


class _Found(NamedTuple):
    """The place of each row, its neighbours, and the row of each place."""

    level: Int[np.ndarray, "rows"]
    before: Int[np.ndarray, "rows m"]
    slots: Int[np.ndarray, "rows P"]
    around: Int[np.ndarray, "rows k"]
    row: Int[np.ndarray, "U"]
    chunk: int


@functools.lru_cache(maxsize=8)
def _found(buffer: bytes, shape: tuple[int, int], number: int) -> _Found:
    """Kept, since terms and restarts share levels."""
    places = np.frombuffer(buffer).reshape(shape)
    order, edges = spread_order(places), chunk_edges(len(places))
    chunk = max(np.diff(edges))
    starts = chunk * np.arange(len(edges) - 1)
    rows = np.concatenate([start + np.arange(n) for start, n in zip(starts, np.diff(edges), strict=True)])
    total = chunk * (len(edges) - 1)
    ordered = places[order]
    index = earlier(ordered, np.arange(len(places)), number if chunk == 1 else number + number // 4 + 2)
    index = np.where(index < np.repeat(edges[:-1], np.diff(edges))[:, None], index, -1)
    index = np.take_along_axis(index, np.argsort(index < 0, axis=1, kind="stable")[:, :number], axis=1)
    before = np.full((total, number), -1, np.int32)
    before[rows] = -np.sort(-np.where(index >= 0, rows[index], -1), axis=1)
    around = np.zeros((total, min(_WIDER * (number + 1), len(places))), np.int32)
    around[:] = rows[nearest(ordered, ordered[:1], around.shape[1])]
    around[rows] = rows[nearest(ordered, ordered, around.shape[1])]
    level, row = np.full(total, order[0]), np.empty(len(places), np.int32)
    level[rows], row[order] = order, rows
    return _Found(level, before, _slots(before), around, row, int(chunk))


def spread_order(places: Float[np.ndarray, "U E"]) -> Int[np.ndarray, "U"]:
    """An order whose every beginning is spread evenly over all places."""
    group = code = np.zeros(len(places), int)
    for depth in range((len(places) - 1).bit_length()):
        number = 1 << depth
        low, high = np.full((number, places.shape[1]), np.inf), np.full((number, places.shape[1]), -np.inf)
        np.minimum.at(low, group, places)
        np.maximum.at(high, group, places)
        widest = np.argmax(high - low, axis=1)
        along = places[np.arange(len(places)), widest[group]]
        order, count = np.lexsort((along, group)), np.bincount(group, minlength=number)
        rank = np.empty(len(places), int)
        rank[order] = np.arange(len(places)) - (np.cumsum(count) - count)[group[order]]
        upper = (rank >= (count[group] + 1) // 2).astype(int)
        group, code = 2 * group + upper, code + (upper << depth)
    return np.argsort(code, kind="stable")


def chunk_edges(levels: int) -> Int[np.ndarray, "n"]:
    """Where chunks begin in the order, and the end."""
    if levels <= STRICT:
        return np.arange(levels + 1)
    longest, edges = min(_LONGEST, levels // 32), [0]
    while edges[-1] < levels:
        edges.append(min(levels, edges[-1] + int(np.clip(edges[-1] // _SHARE, 1, longest))))
    return np.array(edges)


def _slots(before: Int[np.ndarray, "rows m"]) -> Int[np.ndarray, "rows P"]:
    rows, m = before.shape
    out = np.zeros((rows, m * (m - 1) // 2), np.int8 if m <= 127 else np.int16)
    for at in range(0, rows, _BLOCK):
        some, done = before[at : at + _BLOCK], 0
        for a in range(m - 1):
            wanted, found = some[:, a + 1 :], out[at : at + _BLOCK, done : done + m - 1 - a]
            for slot, held in enumerate(before[some[:, a]].T):
                found += (slot + 1) * (wanted == held[:, None]).astype(out.dtype)
            found[wanted < 0] = 0
            done += m - 1 - a
    return out - 1
