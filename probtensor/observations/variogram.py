"""How fast the data decorrelate along a mode: lengthscale starts from the variogram of the mode's marginal means.

The variogram at distance h is half the mean square of the difference between two levels that far apart. It rises from
the noise (the nugget) to the variance of the function (the sill), and the distance over which it rises is the
lengthscale. A wrong start is not harmless: learning climbs to the next local optimum, and from a tenth of four years it
never finds two days.

Marginal means see the main effect of a mode alone. Interactions may live on other scales, which is why terms start at
several scales around what is found here.
"""

from __future__ import annotations

import numpy as np

from probtensor.observations.domain import Observations
from probtensor.observations.marginal_means import NORMAL_MEDIAN, marginal_means
from probtensor.typing import Float

#: A mode with fewer observed levels says nothing of its lengthscale.
_FEWEST_LEVELS = 10
#: How many index distances pairs of levels are taken at, and how many bins their distances fall into.
_STEPS, _BINS = 40, 16
#: Correlation over distance in lengthscales of the functions that are tried, rough to smooth: Matern 1/2, 3/2, 5/2.
_CORRELATIONS = (
    lambda s: np.exp(-s),
    lambda s: (1 + 3**0.5 * s) * np.exp(-(3**0.5) * s),
    lambda s: (1 + 5**0.5 * s + 5 / 3 * s**2) * np.exp(-(5**0.5) * s),
)
#: Lengthscales that are tried with each.
_TRIED = 60
#: Passes of weighted least squares.
_PASSES = 3
#: A shape that varies by a smaller share of its square is a second nugget.
_FLAT = 1e-28
#: A variogram that rises by a smaller share of its height shows no structure.
_LEAST_RISE = 0.1


def lengthscales(observations: Observations) -> dict[str, float]:
    """A lengthscale for each mode, in the unit of its levels; modes whose data show none are left out.

    Left out are modes with fewer than 10 observed levels, and those whose marginal means look like noise. Derived
    and joined modes are left out too. Cost O(N) for each mode. Robust: values are clipped, and a variogram is made of
    weighted medians, so that a tenth of the observations, or of the levels, can be anything.

    Source: Cressie 1993, Statistics for spatial data, section 2.4; Dowd 1984 (the variogram of medians).
    """
    found = {name: lengthscale(*own) for name, own in marginal_means(observations).items()}
    return {name: scale for name, scale in found.items() if scale is not None}


def lengthscale(
    points: Float[np.ndarray, "T"], values: Float[np.ndarray, "T"], weights: Float[np.ndarray, "T"]
) -> float | None:
    """The lengthscale of the Matern covariance (1/2, 3/2 or 5/2) plus noise that has the variogram of a series.

    Args:
        points: where, in any order.
        values: one for each point.
        weights: above zero; how many observations each value is the mean of.

    Returns:
        The lengthscale in the unit of the points, between half their median distance and their range; None with fewer
        than 10 points, or where the series looks like noise.
    """
    order = np.argsort(points, kind="stable")
    points, values, weights = points[order], values[order], weights[order]
    if len(points) < _FEWEST_LEVELS or points[0] == points[-1] or np.ptp(values) == 0:
        return None
    distance, height = _variogram(points, values, weights)
    if len(distance) < 3 or not height.max() > 0:
        return None
    spacing = float(np.median(np.diff(points)))
    tried = np.geomspace(max(0.5 * spacing, distance[0] / 4), points[-1] - points[0], _TRIED)
    shapes = np.stack([1 - correlation(distance / scale) for correlation in _CORRELATIONS for scale in tried])
    # A height's relative error falls with the number of independent pairs, about the range over the distance. The
    # model's own heights stand in it, since those of the data err to the low side where they get much weight.
    weight = 1 / distance
    for _ in range(_PASSES):
        parts, left = _two_parts(shapes, height, weight)
        k = int(np.argmin(left))
        nugget, sill = parts[k]
        weight = 1 / (distance * (nugget + sill * shapes[k]) ** 2)
    rise = sill * shapes[k][-1]
    return float(tried[k % _TRIED]) if rise > _LEAST_RISE * (nugget + rise) else None


def _variogram(points: np.ndarray, values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances up to half the range in bins of equal width in their logarithm, and the variogram at them."""
    T = len(points)
    steps = np.unique(np.geomspace(1, T - 1, _STEPS).astype(int))
    far = np.concatenate([points[k:] - points[:-k] for k in steps])
    difference = np.concatenate([np.abs(values[k:] - values[:-k]) for k in steps])
    # The variance of a difference of two means is that of one observation times 1/n + 1/m.
    weight = np.concatenate([1 / (1 / weights[k:] + 1 / weights[:-k]) for k in steps])
    near = (far > 0) & (far <= 0.5 * (points[-1] - points[0]))
    far, difference, weight = far[near], difference[near], weight[near]
    if not len(far):
        return far, difference
    shortest = np.quantile(far, 0.5 / len(steps))
    edges = np.geomspace(shortest, far.max() * (1 + 1e-9), _BINS + 1)
    bins = np.clip(np.searchsorted(edges, far, side="right") - 1, 0, _BINS - 1)
    distance, height = [], []
    for k in range(_BINS):
        inside = bins == k
        if np.count_nonzero(inside) >= 4:
            distance.append(np.average(far[inside], weights=weight[inside]))
            height.append(_weighted_median(difference[inside], weight[inside]) ** 2 / (2 * NORMAL_MEDIAN**2))
    return np.array(distance), np.array(height)


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, 0.5 * total[-1])])


def _two_parts(
    shapes: Float[np.ndarray, "K n"], height: Float[np.ndarray, "n"], weight: Float[np.ndarray, "n"]
) -> tuple[Float[np.ndarray, "K 2"], Float[np.ndarray, "K"]]:
    """For each shape the nugget and the sill, neither negative, of nugget + sill * shape nearest to the heights.

    Also gives the weighted squares that are left.
    """
    share = weight / weight.sum()
    middle, level = shapes @ share, height @ share
    apart = shapes - middle[:, None]
    square = apart**2 @ share
    flat = square <= _FLAT * middle**2
    slope = np.where(flat, level * middle / (1 + middle**2), apart @ (share * height) / np.where(flat, 1.0, square))
    free = np.stack([level - slope * middle, slope], axis=1)
    alone = (shapes @ (share * height)) / np.maximum(shapes**2 @ share, np.finfo(float).tiny)
    nothing = np.zeros_like(alone)
    candidates = np.stack([free, np.stack([nothing + level, nothing], 1), np.stack([nothing, alone], 1)])
    fitted = candidates[..., :1] + candidates[..., 1:] * shapes
    left = (height - fitted) ** 2 @ weight
    left[0, free.min(axis=1) < 0] = np.inf
    best = np.argmin(left, axis=0)
    every = np.arange(len(shapes))
    return candidates[best, every], left[best, every]
