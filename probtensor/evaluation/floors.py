"""What one would do by hand: plain gap fills that a model has to beat.

All fill a field (time, latitude, longitude) with NaN at gaps and land, and look at nothing but its observed entries.
They give a number everywhere; what they say about land means nothing.

`compare` scores them side by side. Their predictive sd is one number, the root mean squared error on an inner split of
the observed entries, so it is as honest as the inner gaps are like the outer ones. ``probtensor.evaluation.fills`` has
plain fills of any grid or table.
"""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Sequence

import numpy as np

from probtensor.errors import DataError
from probtensor.evaluation.fills import Fill, along_axes, group_means, inner_sd
from probtensor.evaluation.scores import rmse, score_gaussian

__all__ = [
    "TENSORLY_RANKS",
    "Row",
    "anomaly_interpolation",
    "climatology",
    "compare",
    "inner_sd",
    "interpolation",
    "masked_cp",
]

#: Ranks tried for the masked CP of tensorly; the row reports the best on the test set, which favours it.
TENSORLY_RANKS = (5, 10, 20, 40)


@dataclasses.dataclass(frozen=True)
class Row:
    """One method's line in a table.

    Attributes:
        name: of the method, with its rank where it has one.
        scores: see `probtensor.evaluation.scores.score_gaussian`.
        seconds: CPU seconds of one fill; the inner split that gives the sd is not in it.
    """

    name: str
    scores: dict[str, float]
    seconds: float


def climatology(y: np.ndarray, months: np.ndarray) -> np.ndarray:
    """Mean of the same month in the same cell, else the cell's mean, else the mean of all.

    Args:
        y: (T, latitude, longitude), NaN where nothing was observed.
        months: (T,) month of each time, any labels.

    Returns:
        (T, latitude, longitude) means.

    Raises:
        DataError: no observed entry, or shapes that do not fit.
    """
    y = _field(y, months)
    cells = np.broadcast_to(np.arange(y[0].size).reshape(y[0].shape), y.shape)
    month = np.unique(months, return_inverse=True)[1].reshape(-1, 1, 1)
    return group_means(y, month * y[0].size + cells, group_means(y, cells, float(np.nanmean(y))))


def interpolation(y: np.ndarray, times: np.ndarray, longitudes: np.ndarray) -> np.ndarray:
    """Linear in time within each cell; cells without data linear along longitude, then from the nearest cell.

    Beyond the first and last observation the value is held.

    Args:
        y: (T, latitude, longitude), NaN where nothing was observed.
        times: (T,) distinct times as numbers, in any order.
        longitudes: distinct longitudes in one open range (no wrapping around), in any order.

    Returns:
        (T, latitude, longitude) filled field.

    Raises:
        DataError: no observed entry, or shapes that do not fit.
    """
    y = _field(y, times)
    if np.shape(longitudes) != y.shape[2:]:
        raise DataError(f"longitudes has shape {np.shape(longitudes)}; the field has {y.shape[2]} columns")
    return along_axes(y, [(0, times), (2, longitudes)])


def anomaly_interpolation(y: np.ndarray, months: np.ndarray, times: np.ndarray, longitudes: np.ndarray) -> np.ndarray:
    """The climatology plus the interpolated departure from it.

    Args:
        y: (time, latitude, longitude), NaN where nothing was observed.
        months: as in `climatology`.
        times: as in `interpolation`.
        longitudes: as in `interpolation`.

    Raises:
        DataError: no observed entry.
    """
    mean = climatology(y, months)
    return mean + interpolation(y - mean, times, longitudes)


def masked_cp(y: np.ndarray, rank: int, iterations: int = 100, seed: int = 0) -> np.ndarray:
    """The masked CP of tensorly, alternating least squares from a random start, about the mean of what was observed.

    Args:
        y: array of any order, NaN where nothing was observed.
        rank: number of components.
        iterations: at most; 100 is tensorly's own default, and more of them often help at rank 20.
        seed: of the start.

    Returns:
        The reconstruction, shaped as ``y``.

    Raises:
        DataError: no observed entry.
    """
    import tensorly
    from tensorly.decomposition import parafac

    y = _field(y)
    observed = np.isfinite(y)
    centre = y[observed].mean()
    with tensorly.backend_context("numpy"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of ranks above a mode's size, which are meant
        weights, factors = parafac(
            np.where(observed, y - centre, 0.0),
            rank,
            n_iter_max=iterations,
            init="random",
            random_state=seed,
            mask=observed.astype(float),
        )
        return centre + tensorly.cp_to_tensor((weights, factors))


def compare(
    truth: np.ndarray,
    held: np.ndarray,
    inner: np.ndarray,
    *,
    months: np.ndarray,
    times: np.ndarray,
    longitudes: np.ndarray,
    ranks: Sequence[int] = TENSORLY_RANKS,
    iterations: Sequence[int] = (100,),
) -> list[Row]:
    """Scores every floor on the held-out entries of a field.

    Args:
        truth: (T, latitude, longitude), NaN over land.
        held: bool, shaped as ``truth``, True at the entries to predict; the floors do not see them.
        inner: bool, the same shape, entries hidden a second time to learn each floor's sd (see
            ``probtensor.evaluation.fills.inner_sd``).
        months: (T,) month of each time.
        times: (T,) times as numbers.
        longitudes: longitudes as numbers.
        ranks: for the masked CP; its row is the best of them on the held-out entries. Empty: no such row.
        iterations: for the masked CP, a row for each number.

    Returns:
        One row a method.

    Raises:
        DataError: nothing held out or nothing left, or shapes that do not fit.
    """
    train, scored = np.where(held, np.nan, truth), held & np.isfinite(truth)
    floors: dict[str, Fill] = {
        "climatology by month": lambda y: climatology(y, months),
        "linear interpolation": lambda y: interpolation(y, times, longitudes),
        "climatology + interpolated anomaly": lambda y: anomaly_interpolation(y, months, times, longitudes),
    }
    fills = {name: _timed(floor, train) for name, floor in floors.items()}
    for limit in iterations if ranks else ():
        tried = {rank: _timed(_cp(rank, limit), train) for rank in ranks}
        best = min(tried, key=lambda rank: rmse(tried[rank][0][scored], truth[scored]))
        name = f"tensorly masked CP, {limit} iterations, rank {best} (best on the test set)"
        floors[name], fills[name] = _cp(best, limit), tried[best]
    rows = []
    for name, (mean, seconds) in fills.items():
        sd = inner_sd(floors[name], train, inner)
        scores = score_gaussian(mean[scored], np.full(np.count_nonzero(scored), sd), truth[scored])
        rows.append(Row(name, scores, seconds))
    return rows


def _cp(rank: int, iterations: int) -> Fill:
    return lambda y: masked_cp(y, rank, iterations)


def _timed(floor: Fill, y: np.ndarray) -> tuple[np.ndarray, float]:
    start = time.process_time()
    return floor(y), time.process_time() - start


def _field(y: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
    """The field in 64 bits, once its shape and content are known to do."""
    y = np.asarray(y, dtype=np.float64)
    if labels is not None and (y.ndim != 3 or np.shape(labels) != y.shape[:1]):
        raise DataError(
            f"a floor fills a field (time, latitude, longitude) with one label for each time; got a field of shape "
            f"{y.shape} and labels of shape {np.shape(labels)}"
        )
    if np.isinf(y).any():
        where = tuple(int(i) for i in np.argwhere(np.isinf(y))[0])
        raise DataError(f"the field has an infinite value at index {where}; make it NaN if it is missing")
    if not np.isfinite(y).any():
        raise DataError("the field has no observed entry: every value is NaN, so there is nothing to fill it from")
    return y
