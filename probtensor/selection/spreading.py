"""How far values in gaps were from what was expected of them, place by place, beside how far they should have been.

A kernel has the same variance everywhere. Where errors are larger in some places than in others, or everywhere larger
than the kernel says, what was held out tells by how much the posterior standard deviation of the function must grow.

Source: Bowman 1984 (smoothing chosen by cross-validation); Romano, Patterson and Candes 2019 (sizes of errors that
differ, and one factor for all by which intervals cover what they should).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse, special, stats
from scipy.spatial import cKDTree

from probtensor.axes import Axis
from probtensor.engines.collapsed.entries import coordinates
from probtensor.engines.collapsed.spread import Spread
from probtensor.evaluation.scores import crps_gaussian
from probtensor.nearest.embedding import Embedding
from probtensor.observations.domain import Observations
from probtensor.selection.hiding import Held, gap_of
from probtensor.selection.roles import times
from probtensor.typing import Float, Int

#: Factors that are tried.
_FACTORS = np.geomspace(0.2, 5.0, 41)
#: How many places around one have their errors taken together; 0: all.
_AROUND = (0, 5, 25, 100, 400)
#: Factors that differ must be better than one for all by this share of the score.
_GAIN = 0.005
#: The central interval that the factors are to make right.
_COVERAGE = 0.9
#: Mean distance of a normal variable from its mean, in standard deviations.
_MEAN_DISTANCE = float(np.sqrt(2 / np.pi))
#: Prior standard deviation of the factors' common logarithm, and of its differences from gap to gap.
_PRIOR, _BETWEEN_GAPS = 0.5, 0.3


class Errors(NamedTuple):
    """Of values that were held out.

    Attributes:
        place: which of the places each was at.
        time: at which of all other coordinates.
        gap: in which gap.
        away: value minus mean.
        variance: of the function.
        noise: variance of the value given the function.
        draws: from how many, of known mean, the variance was estimated; infinity: it is known.
    """

    place: Int[np.ndarray, "E"]
    time: Int[np.ndarray, "E"]
    gap: Int[np.ndarray, "E"]
    away: Float[np.ndarray, "E"]
    variance: Float[np.ndarray, "E"]
    noise: Float[np.ndarray, "E"]
    draws: float = np.inf

    def some(self, chosen: np.ndarray) -> Errors:
        """Part of them."""
        place, time, gap, away, variance, noise = (column[chosen] for column in self.columns)
        return Errors(place, time, gap, away, variance, noise, self.draws)

    @staticmethod
    def joined(parts: Sequence[Errors]) -> Errors:
        """Those of several hold-outs."""
        columns = zip(*(one.columns for one in parts), strict=True)
        place, time, gap, away, variance, noise = (np.concatenate(column) for column in columns)
        return Errors(place, time, gap, away, variance, noise, parts[0].draws)

    @property
    def columns(self) -> tuple[np.ndarray, ...]:
        """What is known of each."""
        return self.place, self.time, self.gap, self.away, self.variance, self.noise

    def crps(self, factor: Float[np.ndarray, "E"]) -> float:
        """With so many times the standard deviation of the function."""
        return crps_gaussian(np.zeros(len(self.away)), np.sqrt(factor**2 * self.variance + self.noise), self.away)


def spread(axes: Mapping[str, Axis], observations: Observations, held: Sequence[Held]) -> Spread | None:
    """Factors of the standard deviations at the places of the data; None: nothing was held out.

    Args:
        axes: the data's modes.
        observations: all.
        held: of one model.
    """
    local = held[0].state.local if held else None
    if local is None:
        return None
    everywhere = np.arange(observations.values.size)
    points = coordinates(observations.domain, local.names, everywhere, local.names)
    along = times(axes)
    when = [local.names.index(name) for name in along]
    where = tuple(k for k in range(len(local.names)) if k not in when)
    time = np.unique(points[:, when], axis=0, return_inverse=True)[1].ravel()
    if not where:  # a function of time alone is at one place
        where, points = tuple(when), np.zeros_like(points)
    places, first, place = np.unique(points[:, where], axis=0, return_index=True, return_inverse=True)
    fixed = points[first]
    fixed[:, when] = points[:1, when]
    near = Embedding.of(local.kernel, points).joint(fixed)
    parts = []
    for number, one in enumerate(held):
        gap = gap_of(one.out, observations, along) + number * (len(points) + 1)
        parts.append(_errors(one, place.ravel()[one.rows], time[one.rows], gap))
    return Spread(where, places, learn(Errors.joined(parts), near))


def _errors(held: Held, place: np.ndarray, time: np.ndarray, gap: np.ndarray) -> Errors:
    found, local = held.predicted, held.state.local
    assert local is not None
    field = local.field
    variance = found.variance if field is None else field.unscaled(found.variance)
    draws = np.inf if field is None else len(field.draws)
    return Errors(place, time, gap, found.truth - found.mean, variance, found.noise, draws)


def learn(errors: Errors, coordinates: Float[np.ndarray, "n k"]) -> Float[np.ndarray, "n"]:
    """Factors of n places.

    Args:
        errors: of what was held out.
        coordinates: of all places, in a space in which near means alike.
    """
    scores = {number: _judged(errors, coordinates, number) for number in _AROUND}
    around = min(scores, key=lambda number: scores[number])
    around = around if scores[around] < (1 - _GAIN) * scores[0] else 0
    factors = _smoothed(errors, coordinates, around)
    common = _common(errors, factors[errors.place])
    unsure = _unsure(errors, common * factors[errors.place])
    believed = _PRIOR**2 / (_PRIOR**2 + unsure)
    return factors * common**believed * _widened(believed * unsure)


def _judged(errors: Errors, coordinates: Float[np.ndarray, "n k"], around: int) -> float:
    """The score of factors for gaps and times that they were not learned from."""
    gap = np.unique(errors.gap, return_inverse=True)[1]
    half = np.random.default_rng(0).permutation(gap.max() + 1)[gap] % 2 == 0
    late = errors.time > np.median(errors.time)
    parts = [(here & then, ~here & ~then) for here in (half, ~half) for then in (late, ~late)]
    if not late.any():
        parts = [(half, ~half), (~half, half)]
    total = 0.0
    for known, told in parts:
        if known.any() and told.any():
            factor = _smoothed(errors.some(known), coordinates, around)[errors.place[told]]
            total += errors.some(told).crps(factor) * np.sum(told)
    return total


def _smoothed(errors: Errors, coordinates: Float[np.ndarray, "n k"], around: int) -> Float[np.ndarray, "n"]:
    """The factor under which errors around each place are as large as they should be, on average."""
    n, known_to = len(coordinates), _mean_root(errors.draws)
    expected = np.zeros((n, len(_FACTORS)))
    for k, factor in enumerate(_FACTORS):
        sd = np.sqrt(factor**2 * errors.variance + errors.noise)
        expected[:, k] = _MEAN_DISTANCE / known_to * np.bincount(errors.place, sd, n)
    found = np.bincount(errors.place, np.abs(errors.away), n)
    known = np.flatnonzero(np.bincount(errors.place, minlength=n))
    found, expected = found[known, None], expected[known]
    if 0 < around < len(known):
        near = cKDTree(coordinates[known]).query(coordinates, k=around)[1]
        ends = np.arange(0, n * around + 1, around)
        together = sparse.csr_matrix((np.ones(n * around), near.ravel(), ends), shape=(n, len(known)))
        found, expected = together @ found, together @ expected
    else:
        found, expected = found.sum(axis=0, keepdims=True), expected.sum(axis=0, keepdims=True)
    above = np.clip(np.sum(expected < found, axis=1), 1, len(_FACTORS) - 1)
    row = np.arange(len(found))
    low, high = expected[row, above - 1], expected[row, above]
    part = np.clip((found[:, 0] - low) / np.where(high > low, high - low, 1.0), 0.0, 1.0)
    grid = np.log(_FACTORS)
    return np.broadcast_to(np.exp(grid[above - 1] + part * (grid[above] - grid[above - 1])), (n,))


def _common(errors: Errors, factor: Float[np.ndarray, "E"]) -> float:
    """The factor of all factors under which central intervals cover what they should."""
    end = float(stats.t.ppf(0.5 + 0.5 * _COVERAGE, errors.draws))

    def covered(common: float) -> float:
        sd = np.sqrt((common * factor) ** 2 * errors.variance + errors.noise)
        return float(np.mean(np.abs(errors.away) <= end * sd))

    return float(_FACTORS[np.argmin([abs(covered(common) - _COVERAGE) for common in _FACTORS])])


def _unsure(errors: Errors, factor: Float[np.ndarray, "E"]) -> float:
    """Variance of the logarithm of the common factor: how much the sizes of errors differ from gap to gap.

    With one gap that is the prior's, with more the data's and, as one gap more, the prior's.
    """
    sd = np.sqrt(factor**2 * errors.variance + errors.noise)
    _, gap, size = np.unique(errors.gap, return_inverse=True, return_counts=True)
    found = np.bincount(gap, np.abs(errors.away)) / np.bincount(gap, sd)
    size, found = size[found > 0], found[found > 0]  # a value that is met exactly tells no size
    if not len(size):
        return _BETWEEN_GAPS**2
    share, logs = size / np.sum(size), np.log(found)
    number = 1 / np.sum(share**2)
    differ = np.sum(share * (logs - share @ logs) ** 2) * number
    return float((_BETWEEN_GAPS**2 + differ) / number**2)


def _widened(variance: float) -> float:
    """How much wider intervals are that cover as much when a standard deviation's logarithm has a variance.

    They are those of a t distribution, of a chi-square variable with as many degrees of freedom.
    """
    end = 0.5 + 0.5 * _COVERAGE
    return float(stats.t.ppf(end, 0.5 / variance) / stats.norm.ppf(end))


def _mean_root(draws: float) -> float:
    """Mean standard deviation of so many draws of known mean and variance 1."""
    if np.isinf(draws):
        return 1.0
    return float(np.sqrt(2 / draws) * np.exp(special.gammaln((draws + 1) / 2) - special.gammaln(draws / 2)))
