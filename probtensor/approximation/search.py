"""Where the function is large, and how far an approximation is from it, at points that were not used to make it."""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
import numpy as np
from numpy.polynomial.chebyshev import chebpts2

from probtensor.approximation.box import Box
from probtensor.approximation.sampling import Sampler, corners, spread
from probtensor.typing import Float

#: Quasi-random points of the first look, and the share of all evaluations (1 / SHARE) that it or a check may take.
FIRST_LOOK = 2_048
SHARE = 8

#: Points from which is climbed.
CLIMBERS = 3

#: Where a climber looks along an axis: everywhere, and ever nearer to where it stands.
EVERYWHERE = chebpts2(17)
NEAR = np.concatenate([sign * 0.5 * 0.4 ** np.arange(8) for sign in (-1.0, 1.0)])


def climb_cost(box: Box) -> int:
    """Evaluations of one climb."""
    return CLIMBERS * (len(EVERYWHERE) + len(NEAR)) * len(box.names)


def check_cost(sampler: Sampler, count: int) -> int:
    """Evaluations of one check of so many points."""
    return min(count, sampler.most // SHARE) + climb_cost(sampler.box)


def climb(
    sampler: Sampler,
    points: Float[np.ndarray, "N D"],
    values: Float[np.ndarray, "N"],
    height: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> tuple[Float[np.ndarray, "M D"], Float[np.ndarray, "M"]]:
    """Points of great height, and the function there: from the highest of some points along each axis in turn.

    Args:
        sampler: the function.
        points: where it is known.
        values: the function there.
        height: of points and the function's values at them.
    """
    box = sampler.box
    best = _apart(box, points, height(points, values))
    points, values = points[best], values[best]
    for axis in range(len(box.names)):
        start = box.unit(axis, points[:, axis])
        t = np.hstack([np.broadcast_to(EVERYWHERE, (len(points), len(EVERYWHERE))), start[:, None] + NEAR])
        lines = np.repeat(points[:, None], t.shape[1], axis=1)
        lines[:, :, axis] = box.place(axis, np.clip(t, -1.0, 1.0))
        along = sampler(lines.reshape(-1, lines.shape[2])).reshape(t.shape)
        lines = np.concatenate([lines, points[:, None]], axis=1)
        along = np.hstack([along, values[:, None]])
        heights = height(lines.reshape(-1, lines.shape[2]), along.reshape(-1)).reshape(along.shape)
        rows, top = np.arange(len(points)), np.argmax(heights, axis=1)
        points, values = lines[rows, top], along[rows, top]
    return points, values


def _apart(box: Box, points: Float[np.ndarray, "N D"], heights: Float[np.ndarray, "N"]) -> list[int]:
    """The highest points, none within a tenth of the box of a higher one where there are others."""
    order = np.argsort(-heights, kind="stable")[:512]
    t = points[order] / np.abs(box.half)
    chosen: list[int] = []
    for candidate in range(len(order)):
        if all(np.abs(t[candidate] - t[other]).max() > 0.2 for other in chosen):
            chosen.append(candidate)
        if len(chosen) == CLIMBERS:
            break
    return [int(order[position]) for position in chosen]


def look(sampler: Sampler, seed: int) -> Float[np.ndarray, "M D"]:
    """Points at which the function is large, from quasi-random points, corners and the middle of the box."""
    count = min(FIRST_LOOK, sampler.most // SHARE)
    points = np.vstack([corners(sampler.box, seed)[: sampler.most // SHARE], spread(sampler.box, count, seed)])
    values = sampler(points)
    return climb(sampler, points, values, lambda _, found: np.abs(found))[0]


class Check(eqx.Module):
    """The function at points that no approximation was made from: N quasi-random ones first."""

    points: Float[np.ndarray, "M D"]
    values: Float[np.ndarray, "M"]
    spread: int = eqx.field(static=True)


def check(
    sampler: Sampler, approximation: Callable[[np.ndarray], np.ndarray], count: int, seed: int
) -> tuple[Check, Float[np.ndarray, "C D"]]:
    """The function at fresh points, and the points where the approximation is worst.

    Args:
        sampler: the function.
        approximation: takes points.
        count: how many points, where evaluations allow it.
        seed: which points; one that was not used before.
    """

    def deviation(points: np.ndarray, values: np.ndarray) -> np.ndarray:
        return np.abs(sampler.scaled(values) - sampler.scaled(approximation(points)))

    points = spread(sampler.box, min(count, sampler.most // SHARE), seed, edges=0.25)
    values = sampler(points)
    worst, there = climb(sampler, points, values, deviation)
    return Check(np.vstack([points, worst]), np.concatenate([values, there]), len(points)), worst
