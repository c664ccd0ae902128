"""Which entries to condition on: candidates with a large prior correlation from trees, the most informative of them."""

from __future__ import annotations

import itertools

import jax.numpy as jnp
import numpy as np
from scipy.spatial import cKDTree

from probtensor.kernels.field import AbstractFieldKernel, On
from probtensor.nearest.conditionals import Entries
from probtensor.nearest.informative import most_informative
from probtensor.typing import Float, Int

#: How much a coordinate that one product of kernels does not read counts among entries that are equally near to it.
_TIE = 1e-3
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
    candidates = [earlier(place, targets, _CANDIDATES * number) for place in embeddings(kernel, entries.points)]
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
    for place in embeddings(kernel, np.concatenate([entries.points[sources], places])):
        candidates.append(nearest(place[:total], place[total:], _CANDIDATES * number))
        for thinned in (-(-total // 4), -(-total // 16)):
            candidates.append(nearest(place[:thinned], place[total:], number // 2 + 1))
    found = np.concatenate(candidates, axis=1)
    found = np.where(found >= 0, sources[found], -1)
    return most_informative(kernel, noise, entries, places, found, number)


def embeddings(kernel: AbstractFieldKernel, points: Float[np.ndarray, "N D"]) -> list[Float[np.ndarray, "N E"]]:
    """For each product of the kernel, coordinates in which near means correlated under that product.

    The unit of distance is where half of the correlation is left. Coordinates that a product does not read break ties.
    """
    scaled: dict[int, np.ndarray] = {}
    products = kernel.products()
    for part in {id(p): p for product in products for p in product}.values():
        scaled[id(part)] = _scaled(part, points)
    readers = [part for product in products for part in product]
    out = []
    for product in products:
        own = [scaled[id(part)] for part in product]
        read = {d for part in product for d in part.dims}
        others = [_TIE * scaled[id(p)] for p in readers if not set(p.dims) & read]
        out.append(np.concatenate([*own, *others], axis=1))
    return out


def _scaled(part: On, points: np.ndarray) -> np.ndarray:
    place = np.asarray(part.place(jnp.asarray(points)))
    extent = float(np.linalg.norm(np.ptp(place, axis=0))) or 1.0
    return place / part.reach(extent)


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
