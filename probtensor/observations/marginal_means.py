"""What the data look like along one mode: the means of all observations at each of its levels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from probtensor.observations.domain import Domain, Observations
from probtensor.observations.layout import Points
from probtensor.typing import Float

#: Values are drawn in to this many robust standard deviations from the median before levels are averaged.
_CLIP = 5.0
#: The standard normal distribution's median absolute value: turns a median into a standard deviation.
NORMAL_MEDIAN = 0.6744897501960817


class Means(NamedTuple):
    """Of the levels that have observations.

    Attributes:
        points: where they are.
        mean: of the observations there.
        weight: how many there are, or the sum of their weights.
    """

    points: Float[np.ndarray, "T"]
    mean: Float[np.ndarray, "T"]
    weight: Float[np.ndarray, "T"]


def marginal_means(observations: Observations) -> dict[str, Means]:
    """Of each mode of the data that is neither derived nor joined; values far from all others are clipped.

    Cost O(N) for each mode.
    """
    domain = observations.domain
    values, weights = np.asarray(observations.values, dtype=float), np.asarray(observations.weights, dtype=float)
    return _means(domain, _clipped(values, weights > 0), weights)


def mixed_means(observations: Observations, number: int) -> list[dict[str, Means]]:
    """So many times the same of values about their mean, each times a random sign for each level of the other modes.

    What the other modes' levels have in opposite phases cancels in marginal means, but not in these.
    """
    domain, rng = observations.domain, np.random.default_rng(0)
    values, weights = np.asarray(observations.values, dtype=float), np.asarray(observations.weights, dtype=float)
    seen = weights > 0
    values = _clipped(values, seen)
    values = np.where(seen, values - np.average(values, weights=weights), 0.0)
    return [_mixed(domain, values, weights, rng) for _ in range(number)]


def _mixed(domain: Domain, values: np.ndarray, weights: np.ndarray, rng: np.random.Generator) -> dict[str, Means]:
    base = _base(domain)
    signs = {name: rng.choice([-1.0, 1.0], len(domain.points[name])) for name in base.values()}
    for place, name in base.items():
        if isinstance(domain.layout, Points):
            values = values * signs[name][np.asarray(domain.layout.index)[:, place]]
        else:
            shape = [1] * values.ndim
            shape[place] = values.shape[place]
            values = values * signs[name][: shape[place]].reshape(shape)
    found = _means(domain, values, weights)
    back = {name: signs[name][np.isin(domain.points[name], own.points)] for name, own in found.items()}
    return {name: own._replace(mean=own.mean * back[name]) for name, own in found.items()}


def _base(domain: Domain) -> dict[int, str]:
    """The data's own modes by place."""
    base: dict[int, str] = {}
    for name, place in domain.position:
        if isinstance(place, int) and domain.points[name].ndim == 1:
            base.setdefault(place, name)
    return base


def _means(domain: Domain, values: np.ndarray, weights: np.ndarray) -> dict[str, Means]:
    found = {}
    for place, name in _base(domain).items():
        if isinstance(domain.layout, Points):
            mean, count = _of_points(values, weights, np.asarray(domain.layout.index)[:, place])
        else:
            mean, count = _of_grid(values, weights, place)
        seen = count > 0
        points = np.asarray(domain.points[name], dtype=float)[: len(seen)]
        found[name] = Means(points[seen], mean[seen], count[seen])
    return found


def _clipped(values: np.ndarray, seen: np.ndarray) -> np.ndarray:
    middle = np.median(values[seen])
    spread = np.median(np.abs(values[seen] - middle)) / NORMAL_MEDIAN
    return values if spread == 0 else np.clip(values, middle - _CLIP * spread, middle + _CLIP * spread)


def _of_points(values: np.ndarray, weights: np.ndarray, level: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    count = np.bincount(level, weights)
    return np.bincount(level, weights * values) / np.where(count > 0, count, 1.0), count


def _of_grid(values: np.ndarray, weights: np.ndarray, place: int) -> tuple[np.ndarray, np.ndarray]:
    others = tuple(k for k in range(values.ndim) if k != place)
    count = weights.sum(axis=others)
    return (weights * values).sum(axis=others) / np.where(count > 0, count, 1.0), count
