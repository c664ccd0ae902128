"""Which observations a choice of model is judged on: gaps shaped like those of the data, in grids and in tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from probtensor.errors import DataError
from probtensor.evaluation import gaps
from probtensor.evaluation.entries import domain, key, laid_out, places
from probtensor.observations.domain import Observations
from probtensor.observations.layout import Points

#: Share of the observations that is held out; a hold-out that takes more than the second number is drawn again with
#: smaller boxes.
_HELD_OUT, _AT_MOST = 0.15, 0.4
#: Gaps are single entries along a mode unless missing neighbours are correlated by more than this.
_RANDOM = 0.2
#: Places without data whose neighbours have data, as a share of those with data, that ask for sites. Coasts have fewer.
_AMONG = 0.1
#: Times without data at the end, as a share of all, that ask for a forecast; of those up to the last with data a
#: forecast that is tried is at most so long.
_BEHIND, _FORECAST = 0.02, 0.25


class HoldOut(NamedTuple):
    """What is held out.

    Attributes:
        protocol: in words.
        mask: True where an observation is held out.
        sites: whether it is all that there is at some places, of which no other observation tells the mean.
        forecast: the time of which it is all that there is from some level on; None: it is no forecast.
    """

    protocol: str
    mask: np.ndarray
    sites: bool = False
    forecast: str | None = None


def hold_out(names: Sequence[str], observations: Observations, seed: int, along: Sequence[str] = ()) -> HoldOut:
    """Boxes with the extent of the data's own gaps; or the last times, where what is missing is the future; or sites.

    A table is seen as the grid of those modes that tell its places apart (day and station, say, where temperature and
    pressure are measured along); rows at the same coordinates are always held out together, since one of two twins
    would give the other away.

    Args:
        names: of the data's modes, in the layout's order.
        observations: the training data.
        seed: of the boxes.
        along: those of the modes that are times. Of other modes, last levels without data are the shape of the domain,
            such as land at the edge of a map.

    Raises:
        DataError: nothing would be left to train on.
    """
    weights = np.asarray(observations.weights) > 0
    layout = observations.domain.layout
    if not isinstance(layout, Points):
        future = _future(names, weights, seed, along)
        if future is not None:
            return future
        empty = _empty_sites(names, weights, along)
        if empty is not None:
            sites = gaps.sites(_HELD_OUT, empty)
            held = sites.mask(dict(zip(names, weights.shape, strict=True)), seed, weights)
            return HoldOut(str(sites), held, sites=True)
        extent = dict(zip(names, gap_extent(weights), strict=True))
        return HoldOut(*_boxes(weights, extent, seed))
    index = np.asarray(layout.index)
    telling = key(index[weights], [len(observations.domain.points[name]) for name in names])
    if telling is None:
        rows, extent = places(index)[:, None], {"place": 1}
        seen = laid_out(rows[weights], (int(rows.max()) + 1,))
    else:
        rows = index[:, telling]
        seen = laid_out(rows[weights], tuple(len(observations.domain.points[names[k]]) for k in telling))
        extent = dict(zip([names[k] for k in telling], gap_extent(seen), strict=True))
    protocol, held = _boxes(seen, extent, seed)
    if max(extent.values()) == 1:
        protocol = f"places ({', '.join(names)}) covering {_HELD_OUT:.0%}, rows at the same place together"
    return HoldOut(protocol, held[tuple(rows.T)] & weights)


def _future(names: Sequence[str], seen: np.ndarray, seed: int, along: Sequence[str]) -> HoldOut | None:
    """The last times that have data, where most of what is missing lies behind the last observation.

    As many as what is asked for there, but not more than a part of what there is. None where gaps are of other kinds.
    """
    missing = domain(seen, range(seen.ndim)) & ~seen
    for axis, name in enumerate(names):
        level = _levels(seen, axis)
        if name not in along or len(level) < 2:
            continue
        number = int(level[-1]) + 1
        behind = seen.shape[axis] - number
        # Times without data among others with data are gaps, too, and `domain` leaves them out.
        elsewhere = missing.sum() + (level[-1] - level[0] + 1 - len(level)) * seen.sum() / len(level)
        if behind < max(1, _BEHIND * seen.shape[axis]) or behind * seen.sum() / len(level) <= elsewhere:
            continue
        protocol = gaps.tail(max(1.0, min(behind, _FORECAST * number)) / number, name)
        held, known = np.zeros_like(seen), (slice(None),) * axis + (slice(number),)
        held[known] = protocol.mask(dict(zip(names, seen[known].shape, strict=True)), seed, seen[known])
        return HoldOut(f"a forecast, {protocol} that has data", held, forecast=name)
    return None


def _empty_sites(names: Sequence[str], seen: np.ndarray, along: Sequence[str]) -> tuple[str, ...] | None:
    """The dimensions of places, some of which were never observed while those around them were; None: no such.

    They are looked for along times, or where there are none along any dimension.
    """
    for axis, name in enumerate(names):
        if seen.ndim < 2 or (along and name not in along):
            continue
        known = np.asarray(seen.any(axis=axis))
        empty = ~known & _surrounded(known)
        by_chance = (1 - np.moveaxis(seen, axis, -1)[known].mean()) ** seen.shape[axis]
        if known.sum() >= 1 / _HELD_OUT and empty.sum() >= (_AMONG + 2 * by_chance) * known.sum():
            return tuple(other for other in names if other != name)
    return None


def _surrounded(known: np.ndarray) -> np.ndarray:
    """Whether more than half of the neighbours of a place, those beyond the edge left out, are known."""
    near, there = np.zeros(known.shape), np.zeros(known.shape)
    for axis in range(known.ndim):
        for values, into in ((known, near), (np.ones_like(known), there)):
            padded = np.moveaxis(np.pad(values, [(1, 1) if k == axis else (0, 0) for k in range(known.ndim)]), axis, 0)
            into += np.moveaxis(padded[:-2].astype(int) + padded[2:], 0, axis)
    return near > there / 2


def another(
    first: HoldOut, names: Sequence[str], observations: Observations, seed: int, along: Sequence[str]
) -> HoldOut | None:
    """Another hold-out of the same kind: gaps at other places, or of a forecast as many times before the first's.

    Args:
        first: the one before. If it is a forecast, its times are to be hidden from a fit, too.
        names: as in `hold_out`.
        observations: as there.
        seed: as there.
        along: as there.

    Returns:
        None where less than a third of the times would be left to forecast from.
    """
    if first.forecast is None:
        return hold_out(names, observations, seed, along)
    seen = np.asarray(observations.weights) > 0
    axis = list(names).index(first.forecast)
    levels, held = _levels(seen, axis), _levels(first.mask, axis)
    before = levels[levels < held[0]]
    if len(before) - len(held) < len(levels) / 3:
        return None
    mask, chosen = np.zeros_like(seen), (slice(None),) * axis + (before[-len(held) :],)
    mask[chosen] = seen[chosen]
    return HoldOut(f"{first.protocol}, and the {len(held)} times before", mask, forecast=first.forecast)


def _levels(mask: np.ndarray, axis: int) -> np.ndarray:
    """Those along an axis at which anything is True."""
    return np.flatnonzero(np.moveaxis(mask, axis, 0).reshape(mask.shape[axis], -1).any(axis=1))


def number_of_places(observations: Observations) -> int:
    """How many different coordinates are observed."""
    seen = np.asarray(observations.weights) > 0
    layout = observations.domain.layout
    return int(seen.sum()) if not isinstance(layout, Points) else len(np.unique(np.asarray(layout.index)[seen], axis=0))


def _boxes(seen: np.ndarray, extent: dict[str, int], seed: int) -> tuple[str, np.ndarray]:
    sizes = dict(zip(extent, seen.shape, strict=True))
    while True:
        single = max(extent.values()) == 1 and seen.sum() >= 1 / _HELD_OUT
        protocol = gaps.random(_HELD_OUT) if single else gaps.blocks(_HELD_OUT, size=extent)
        held = protocol.mask(sizes, seed, seen)
        if max(extent.values()) == 1 or held.sum() <= _AT_MOST * seen.sum():
            break
        extent = {name: (edge + 1) // 2 for name, edge in extent.items()}
    if held[seen].all():
        raise DataError("too few observations to hold any out; name a model, for example pt.Offset() + pt.CP(rank=1)")
    shape = " x ".join(f"{n} {e}" for n, e in extent.items())
    return f"blocks of {shape} covering {_HELD_OUT:.0%}", held


def gap_extent(seen: np.ndarray) -> tuple[int, ...]:
    """Typical edge of the gaps along each dimension: the mean run of missing entries, weighted by its length.

    One along a dimension in which a missing entry has missing neighbours no more often than chance would have it.
    Places never observed along any one dimension (land, dead stations) are not gaps but the shape of the domain. Data
    without gaps are judged by boxes of a tenth of each dimension.
    """
    inside = domain(seen, range(seen.ndim))
    missing = inside & ~seen
    if missing.mean() < 0.01:
        return tuple(max(1, round(n / 10)) for n in seen.shape)
    return tuple(
        _typical_run(np.moveaxis(missing, axis, -1)) if _clustered(inside, missing, axis) else 1
        for axis in range(seen.ndim)
    )


def _clustered(inside: np.ndarray, missing: np.ndarray, axis: int) -> bool:
    """Whether neighbours along an axis are missing together."""
    inside, missing = np.moveaxis(inside, axis, -1), np.moveaxis(missing, axis, -1)
    pairs = inside[..., 1:] & inside[..., :-1]
    share = missing.sum() / inside.sum()
    if not pairs.any():
        return False
    together = (missing[..., 1:] & missing[..., :-1])[pairs].mean()
    return bool(together - share**2 > _RANDOM * share * (1 - share))


def _typical_run(missing: np.ndarray) -> int:
    rows = missing.reshape(-1, missing.shape[-1])
    edges = np.diff(np.pad(rows, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    lengths = np.nonzero(edges == -1)[1] - np.nonzero(edges == 1)[1]
    return max(1, round(float(np.sum(lengths**2) / np.sum(lengths))))
