"""Which cycles the data show along a mode: starts for periods, from periodograms of the mode's means.

The likelihood of a period has a peak as narrow as the record is long, with others all around: from a start elsewhere
learning never finds it.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar

from probtensor.observations.domain import Observations
from probtensor.observations.marginal_means import marginal_means, mixed_means
from probtensor.typing import Float

#: A mode with fewer observed levels says nothing of its cycles.
_FEWEST_LEVELS = 10
#: Cycles that are looked for, and cells of the grid of the periodogram at most.
_MOST, _CELLS = 8, 2**17
#: Frequencies are fitted to so many points, at most.
_FITTED = 20_000
#: Series with random signs of the other modes' levels, beside the means themselves.
_MIXED = 8
#: The periodogram's frequencies are so many times closer than those that a record can tell apart.
_FINER = 8
#: What is left below this share of the sd is rounding.
_NOTHING = 1e-6


def periods(observations: Observations) -> dict[str, tuple[float, ...]]:
    """For each mode the periods of its strongest cycles, the strongest first, in the unit of its levels.

    Modes with fewer than 10 observed levels are left out, and derived and joined ones. Cost O(N + T log T).
    """
    every = [marginal_means(observations), *mixed_means(observations, _MIXED)]
    found = {}
    for name, (points, _, weight) in every[0].items():
        found[name] = strongest(points, np.stack([means[name].mean for means in every]), weight)
    return {name: cycles for name, cycles in found.items() if cycles}


def strongest(
    points: Float[np.ndarray, "T"], values: Float[np.ndarray, "K T"], weights: Float[np.ndarray, "T"]
) -> tuple[float, ...]:
    """Periods of the strongest waves in K series together about their straight lines, found one after the other.

    Each is the highest peak of the sum of periodograms of what the waves before it leave over, then fitted by least
    squares where there are no more than 20,000 points; more have it to a sixteenth of a cycle in the whole record.

    Args:
        points: where, in any order and unevenly spaced.
        values: one for each point in each series.
        weights: above zero.

    Returns:
        At most 8 periods, between twice the median distance of the points and their range; none with fewer than 10
        points, or for a straight line.

    Source: Roberts, Lehar and Dreher 1987, Time series analysis with CLEAN (one peak after the other).
    """
    if len(points) < _FEWEST_LEVELS or np.ptp(points) == 0:
        return ()
    x = (points - points.min()) / np.ptp(points)
    step = max(float(np.median(np.diff(np.unique(x)))), 1 / _CELLS)
    cell = np.round(x / step).astype(int)
    size = 1 << int(np.ceil(np.log2(_FINER * (cell.max() + 1))))
    frequency = np.arange(size // 2 + 1) / (size * step)
    possible = np.flatnonzero((frequency >= 1) & (frequency <= 0.5 / step))
    root = np.sqrt(weights / weights.sum())
    values = (values - np.median(values, axis=1, keepdims=True)).T
    left = _residual(np.stack([np.ones_like(x), x], axis=1), values, root)
    least = _NOTHING * np.sqrt(np.mean(values**2))
    near = 1 / (size * step)
    found: list[float] = []
    while len(found) < _MOST and np.sqrt(np.sum((root[:, None] * left) ** 2)) > least:
        series = np.stack([np.bincount(cell, weights * own, minlength=size) for own in left.T])
        power = np.sum(np.abs(np.fft.rfft(series)) ** 2, axis=0)
        peak = float(frequency[possible[np.argmax(power[possible])]])
        if len(x) <= _FITTED:
            peak = _fitted(x, left, root, (max(peak - near, 1.0), min(peak + near, 0.5 / step)))
        found.append(float(np.ptp(points) / peak))
        left = _residual(_wave(x, peak), left, root)
    return tuple(found)


def _fitted(
    x: Float[np.ndarray, "T"], left: Float[np.ndarray, "T K"], root: Float[np.ndarray, "T"], bounds: tuple[float, float]
) -> float:
    """The frequency between bounds whose waves leave least over."""

    def over(frequency: float) -> float:
        return float(np.sum((root[:, None] * _residual(_wave(x, frequency), left, root)) ** 2))

    return float(minimize_scalar(over, bounds=bounds, method="bounded").x)


def _wave(x: Float[np.ndarray, "T"], frequency: float) -> Float[np.ndarray, "T 3"]:
    angle = 2 * np.pi * frequency * x
    return np.stack([np.cos(angle), np.sin(angle), np.ones_like(x)], axis=1)


def _residual(
    columns: Float[np.ndarray, "T C"], values: Float[np.ndarray, "T K"], root: Float[np.ndarray, "T"]
) -> Float[np.ndarray, "T K"]:
    """What a weighted fit of some columns leaves over; root: of the weights."""
    fitted = np.linalg.lstsq(root[:, None] * columns, root[:, None] * values, rcond=None)[0]
    return values - columns @ fitted
