"""Scores of predictions, averaged over entries.

All take the entries that are scored only (any common shape), and `sd` is that of a new observation, noise included.
Lower is better, except coverage, which should be near its level. Errors and scores are in the data's unit,
`nlpd_gaussian` in nats, coverage a share between 0 and 1. All raise DataError if shapes differ, there is nothing to
score, a value is not finite, or an sd is not above zero; ModelError for a level outside 0 to 1.

Source: Gneiting and Raftery, Strictly proper scoring rules, prediction, and estimation, JASA 102 (2007), section 4.2
(CRPS), section 4.3 (energy score) and section 6.2 (interval score). Oracle: tests/oracles/scores.py.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, ndtri

from probtensor.errors import DataError, ModelError
from probtensor.likelihoods.predictive import AbstractPredictive, Normal
from probtensor.typing import Float, Int

#: Draws of a distribution that stand for it.
_DRAWS = 256

__all__ = [
    "coverage",
    "crps_gaussian",
    "energy",
    "interval_score",
    "mae",
    "nlpd_gaussian",
    "rmse",
    "score",
    "score_gaussian",
]


def rmse(mean: np.ndarray, y: np.ndarray) -> float:
    """Root mean squared error.

    Args:
        mean: predictive means.
        y: what was observed, shaped like them.

    Raises:
        DataError: as in `score_gaussian`.
    """
    return float(np.sqrt(np.mean(_error(mean, y) ** 2)))


def mae(mean: np.ndarray, y: np.ndarray) -> float:
    """Mean absolute error.

    Args:
        mean: predictive means.
        y: what was observed, shaped like them.

    Raises:
        DataError: as in `score_gaussian`.
    """
    return float(np.mean(np.abs(_error(mean, y))))


def crps_gaussian(mean: np.ndarray, sd: np.ndarray, y: np.ndarray) -> float:
    """Continuous ranked probability score of N(mean, sd^2): the absolute error of a whole distribution.

    Args:
        mean: predictive means.
        sd: predictive standard deviations, shaped like them.
        y: what was observed, shaped like them.

    Raises:
        DataError: as in `score_gaussian`.
    """
    sd = _sd(sd, mean)
    z = _error(mean, y) / sd
    return float(np.mean(sd * (z * (2.0 * ndtr(z) - 1.0) + 2.0 * _density(z) - 1.0 / np.sqrt(np.pi))))


def nlpd_gaussian(mean: np.ndarray, sd: np.ndarray, y: np.ndarray) -> float:
    """Negative log predictive density of N(mean, sd^2), in nats.

    Args:
        mean: predictive means.
        sd: predictive standard deviations, shaped like them.
        y: what was observed, shaped like them.

    Raises:
        DataError: as in `score_gaussian`.
    """
    sd = _sd(sd, mean)
    z = _error(mean, y) / sd
    return float(np.mean(np.log(sd) + 0.5 * np.log(2.0 * np.pi) + 0.5 * z**2))


def coverage(mean: np.ndarray, sd: np.ndarray, y: np.ndarray, level: float = 0.9) -> float:
    """Share of y inside the central interval of mass ``level``, its ends included.

    Args:
        mean: predictive means.
        sd: predictive standard deviations, shaped like them.
        y: what was observed, shaped like them.
        level: mass of the interval, in (0, 1).

    Raises:
        DataError: as in `score_gaussian`.
    """
    half = _half_width(level) * _sd(sd, mean)
    return float(np.mean(np.abs(_error(mean, y)) <= half))


def interval_score(mean: np.ndarray, sd: np.ndarray, y: np.ndarray, level: float = 0.9) -> float:
    """Width of the central interval of mass ``level``, plus 2 / (1 - level) times how far y lies outside it.

    Args:
        mean: predictive means.
        sd: predictive standard deviations, shaped like them.
        y: what was observed, shaped like them.
        level: mass of the interval, in (0, 1).

    Raises:
        DataError: as in `score_gaussian`.
    """
    half = _half_width(level) * _sd(sd, mean)
    outside = np.maximum(np.abs(_error(mean, y)) - half, 0.0)
    return float(np.mean(2.0 * half + 2.0 / (1.0 - level) * outside))


def score_gaussian(mean: np.ndarray, sd: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """All scores of one set of predictions.

    Args:
        mean: predictive means.
        sd: predictive standard deviations of a new observation, the same shape.
        y: what was observed, the same shape.

    Returns:
        ``rmse``, ``mae``, ``crps``, ``nlpd``, ``coverage50``, ``coverage90``, ``coverage95``, ``interval_score90``, and
        ``n``, the number of entries.

    Raises:
        DataError: shapes differ, there is nothing to score, a value is not finite, or an sd is not above zero.
    """
    return {
        "rmse": rmse(mean, y),
        "mae": mae(mean, y),
        "crps": crps_gaussian(mean, sd, y),
        "nlpd": nlpd_gaussian(mean, sd, y),
        "coverage50": coverage(mean, sd, y, 0.5),
        "coverage90": coverage(mean, sd, y, 0.9),
        "coverage95": coverage(mean, sd, y, 0.95),
        "interval_score90": interval_score(mean, sd, y, 0.9),
        "n": np.size(y),
    }


def score(law: AbstractPredictive, y: np.ndarray) -> dict[str, float]:
    """All scores of one set of predictive distributions; keys, errors and units as `score_gaussian`.

    CRPS of other than normal distributions is from 256 draws of each, with a standard error that the mean over entries
    makes small; their intervals are between their quantiles, which for counts are whole numbers and cover more.

    Args:
        law: of a new observation at each entry.
        y: what was observed, the same shape.
    """
    if isinstance(law, Normal):
        return score_gaussian(law.mean, law.sd, y)
    random = np.random.default_rng(0)
    found = {"rmse": rmse(law.mean, y), "mae": mae(law.mean, y), "crps": _crps_of_draws(law.sampled(_DRAWS, random), y)}
    found["nlpd"] = -float(np.mean(law.log_density(_checked("y", y))))
    for level in (0.5, 0.9, 0.95):
        low, high = law.quantile(0.5 - 0.5 * level), law.quantile(0.5 + 0.5 * level)
        found[f"coverage{100 * level:.0f}"] = float(np.mean((low <= y) & (y <= high)))
        if level == 0.9:
            outside = np.maximum(low - y, 0.0) + np.maximum(y - high, 0.0)
            found["interval_score90"] = float(np.mean(high - low + 2.0 / (1.0 - level) * outside))
    return found | {"n": np.size(y)}


def _crps_of_draws(draws: np.ndarray, y: np.ndarray) -> float:
    """E|x - y| - E|x - x'| / 2 over the draws (n, ...), each pair of different ones once."""
    n = len(draws)
    ordered = np.sort(draws, axis=0)
    ranks = (2 * np.arange(1, n + 1) - n - 1).reshape(-1, *[1] * y.ndim)
    apart = np.sum(ranks * ordered, axis=0) / (n * (n - 1))
    return float(np.mean(np.mean(np.abs(draws - y), axis=0) - apart))


def energy(draws: Float[np.ndarray, "m n"], y: Float[np.ndarray, "n"], groups: Int[np.ndarray, "n"]) -> float:
    """Energy score of joint draws, ``E|X - y| - E|X - X'| / 2``, in the unit of the data: CRPS of vectors.

    The values of each group are one vector, and ``|.|`` is the root of the mean square over its entries, so that groups
    of all sizes are on one scale. Groups are averaged with their numbers of entries as weights: where each value is a
    group of its own it is their mean CRPS. Pairs of draws are different ones, which makes it unbiased.

    Cost: m^2 n.

    Args:
        draws: of new observations, noise included.
        y: what was observed.
        groups: the number of each value's group, such as its gap.

    Raises:
        DataError: shapes differ, there is nothing to score, or a value is not finite.
        ModelError: there is only one draw, so no pair.

    Source: Gneiting and Raftery 2007, equation 22 with exponent 1.
    """
    from scipy.spatial.distance import pdist

    draws, y = _checked("draws", draws), _checked("y", y)
    if draws.ndim != 2 or draws.shape[1:] != y.shape or np.shape(groups) != y.shape:
        raise DataError(
            f"draws have shape {draws.shape}, y {y.shape} and groups {np.shape(groups)}; expected (m, n), (n,) and (n,)"
        )
    if len(draws) < 2:
        raise ModelError("an energy score needs two draws at least, since it compares them with each other")
    order = np.argsort(groups, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(np.asarray(groups)[order])) + 1)
    alone = np.concatenate([np.zeros(0, int), *(part for part in parts if len(part) == 1)])
    total = _crps_of_draws(draws[:, alone], y[alone]) * len(alone) if len(alone) else 0.0
    for part in (part for part in parts if len(part) > 1):
        own = draws[:, part]
        away = np.sqrt(np.sum((own - y[part]) ** 2, axis=1)).mean() - 0.5 * pdist(own).mean()
        total += away * np.sqrt(len(part))  # divided by the root of the size, times the size
    return float(total / len(y))


def _density(z: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * z**2) / np.sqrt(2.0 * np.pi)


def _half_width(level: float) -> float:
    """Half the width of the central interval of mass ``level``, in standard deviations."""
    if not 0.0 < level < 1.0:
        raise ModelError(f"level={level!r} must lie strictly between 0 and 1; 0.9 is the interval that covers 90%")
    return float(ndtri(0.5 + 0.5 * level))


def _error(mean: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Observed minus predicted, in 64 bits."""
    mean, y = _checked("mean", mean), _checked("y", y)
    if mean.shape != y.shape:
        raise DataError(f"mean has shape {mean.shape} and y has {y.shape}; score one prediction for each observation")
    return y - mean


def _sd(sd: np.ndarray, mean: np.ndarray) -> np.ndarray:
    sd = _checked("sd", sd)
    if sd.shape != np.shape(mean):
        raise DataError(f"sd has shape {sd.shape} and mean has {np.shape(mean)}; give one sd for each prediction")
    _refuse("sd", sd, sd <= 0.0, "an sd must be above zero: it is that of a new observation, noise included")
    return sd


def _checked(name: str, values: np.ndarray) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise DataError(f"{name} is empty: there is nothing to score; give at least one held-out observation")
    _refuse(name, array, ~np.isfinite(array), "select the entries that were observed and predicted before scoring")
    return array


def _refuse(name: str, array: np.ndarray, bad: np.ndarray, remedy: str) -> None:
    if bad.any():
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        raise DataError(
            f"{name}: {np.count_nonzero(bad)} of {array.size} values cannot be scored (first: index {where}, "
            f"{array[where]}); {remedy}"
        )
