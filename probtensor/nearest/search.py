"""Which entries to condition on: candidates with a large prior correlation from trees, the most informative of them."""

from __future__ import annotations

import itertools

import numpy as np
from scipy.spatial import cKDTree

from probtensor.kernels.field import AbstractFieldKernel
from probtensor.nearest.conditionals import Entries
from probtensor.nearest.embedding import Embedding
from probtensor.nearest.informative import most_informative
from probtensor.typing import Float, Int

#: Candidates from a tree as a multiple of the neighbours chosen from them; twice gives most of what four times gives.
_CANDIDATES = 2
#: A batch of targets ends this much further than it begins.
_GROWTH = 1.25


def before(
    kernel: AbstractFieldKernel,
    noise: float,
    entries: Entries,
    targets: Int[np.ndarray, "n"],
    number: int,
) -> Int[np.ndarray, "n k"]:
    """For each target, neighbours among the entries before it, -1 where there are fewer.

    noise: variance of an entry with unit noise 1; it says when a second entry at one place is worth having.
    """
    number = min(number, len(entries.points) - 1) or 1
    embedding = Embedding.of(kernel, entries.points)
    views = embedding.seen(embedding.joint(entries.points))
    candidates = [earlier(place, targets, _CANDIDATES * number) for place in views]
    return most_informative(kernel, noise, entries, entries.points[targets], np.concatenate(candidates, axis=1), number)


def around(
    kernel: AbstractFieldKernel,
    noise: float,
    entries: Entries,
    places: Float[np.ndarray, "M D"],
    number: int,
    sources: Int[np.ndarray, "m"] | None = None,
) -> Int[np.ndarray, "M k"]:
    """For each place, neighbours among all entries or among some sources, -1 where there are fewer.

    Inside a gap the nearest lie on its nearest edge, so candidates also come from thinned entries: the first quarter
    and the first sixteenth of them, which are in random order.
    """
    sources = np.arange(len(entries.points)) if sources is None else sources
    total = len(sources)
    number = min(number, total)
    candidates = []
    embedding = Embedding.of(kernel, entries.points)
    there = embedding.seen(embedding.joint(places))
    for known, asked in zip(embedding.seen(embedding.joint(entries.points[sources])), there, strict=True):
        candidates.append(nearest(known, asked, _CANDIDATES * number))
        for thinned in (-(-total // 4), -(-total // 16)):
            candidates.append(nearest(known[:thinned], asked, number // 2 + 1))
    found = np.concatenate(candidates, axis=1)
    found = np.where(found >= 0, sources[found], -1)
    return most_informative(kernel, noise, entries, places, found, number)


def earlier(places: Float[np.ndarray, "N E"], targets: Int[np.ndarray, "n"], number: int) -> Int[np.ndarray, "n k"]:
    """For each target the nearest entries before it, -1 where there are fewer.

    In batches of targets, each of which looks among a quarter more entries than come before it and drops the later
    ones; entries come in random order, so enough are left.
    """
    out = np.full((len(targets), number), -1)
    edges = [0]
    while edges[-1] < len(places):
        edges.append(min(len(places), max(edges[-1] + number + 1, int(_GROWTH * edges[-1]))))
    wider = int(np.ceil(1.1 * _GROWTH * number)) + 10
    for low, high in itertools.pairwise(edges):
        chosen = np.flatnonzero((targets >= low) & (targets < high))
        if chosen.size:
            found = nearest(places[:high], places[targets[chosen]], high if low == 0 else wider)
            out[chosen] = _first(np.where(found < targets[chosen, None], found, -1), number)
    return out


def _first(index: Int[np.ndarray, "n C"], number: int) -> Int[np.ndarray, "n k"]:
    """The first indices of each row that are not -1."""
    order = np.argsort(index < 0, axis=1, kind="stable")[:, :number]
    kept = np.take_along_axis(index, order, axis=1)
    return np.pad(kept, ((0, 0), (0, number - kept.shape[1])), constant_values=-1)


def nearest(places: Float[np.ndarray, "N E"], targets: Float[np.ndarray, "M E"], number: int) -> Int[np.ndarray, "M k"]:
    """For each target place the nearest entries, -1 where there are fewer."""
    found = min(number, len(places))
    out = np.full((len(targets), number), -1)
    out[:, :found] = cKDTree(places).query(targets, k=found)[1].reshape(len(targets), found)
    return out
