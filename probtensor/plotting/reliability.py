"""Whether intervals cover what they say: a reliability diagram, and where values lie in their distributions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from probtensor import figures
from probtensor.errors import DataError
from probtensor.typing import Float, Int

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

#: Nominal coverages, and the share of them that the band has where all is well.
LEVELS = np.linspace(0.05, 0.95, 19)
_BAND = 0.95
#: Classes of the histogram.
_CLASSES = 10
#: Ink.
_FIT, _BAND_COLOUR = "C0", "0.6"


def calibration(judged: xr.Dataset) -> Figure:
    """A reliability diagram with the band of an honest posterior, and the histogram of places beside it.

    Args:
        judged: along ``observation``: ``place`` and ``coverage`` of each value, and the number of its ``gap``.

    Returns:
        A figure: coverage that was asked and observed; how often values are in each tenth of their distributions.
    """
    place, rank, gaps = (judged[name].to_numpy() for name in ("place", "coverage", "gap"))
    number, count = len(place), len(np.unique(gaps))
    figure = figures.empty(8.5, 3.9)
    left, right = figure.subplots(1, 2)
    inside = rank[None, :] < LEVELS[:, None]
    low, high = band(inside, LEVELS, gaps)
    many = "independent values" if count == number else f"{count:,} separate gaps"
    label = f"{_BAND:.0%} band if honest ({many})"
    left.fill_between(LEVELS, low, high, color=_BAND_COLOUR, alpha=0.3, linewidth=0.0, label=label)
    left.plot([0, 1], [0, 1], color="0.3", linewidth=0.9, linestyle="--", label="asked = observed")
    left.plot(LEVELS, inside.mean(axis=1), color=_FIT, marker="o", markersize=3, linewidth=1.2, label="this posterior")
    left.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    left.set_xlabel("coverage asked", fontsize=9)
    left.set_ylabel("coverage observed", fontsize=9)
    left.set_title(f"{number:,} held-out values", loc="left", fontsize=10)
    left.legend(fontsize=7.5, frameon=False, loc="upper left")
    within = np.minimum((place * _CLASSES).astype(int), _CLASSES - 1)[None, :] == np.arange(_CLASSES)[:, None]
    middles = (np.arange(_CLASSES) + 0.5) / _CLASSES
    low, high = band(within, np.full(_CLASSES, 1 / _CLASSES), gaps)
    ends = np.linspace(0, 1, _CLASSES + 1)
    stairs = {"color": _BAND_COLOUR, "alpha": 0.3, "linewidth": 0.0}
    right.stairs(high * _CLASSES, ends, baseline=low * _CLASSES, fill=True, label=f"{_BAND:.0%} band", **stairs)
    right.bar(middles, within.mean(axis=1) * _CLASSES, width=0.9 / _CLASSES, color=_FIT, alpha=0.6)
    right.axhline(1.0, color="0.3", linewidth=0.9, linestyle="--")
    right.set(xlim=(0, 1))
    right.set_xlabel("place of the value in its distribution", fontsize=9)
    right.set_ylabel("density", fontsize=9)
    right.set_title(f"mean place {place.mean():.2f} (0.50 is unbiased)", loc="left", fontsize=10)
    for axes in (left, right):
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.25)
    return figure


def coverages(scores: pd.DataFrame) -> Figure:
    """The reliability diagram of models that were judged side by side: coverage asked and observed of 50, 90 and 95%.

    Points are means over the folds, bars reach from the least to the most of them. Points below the dashed line are of
    intervals that are too narrow.

    Args:
        scores: what `probtensor.cross_validate` gives, or a part of its rows.

    Raises:
        DataError: it has no row with scores.
        ModelError: matplotlib is not installed.
    """
    columns = {0.5: "coverage50", 0.9: "coverage90", 0.95: "coverage95"}
    if not set(columns.values()) <= set(scores) or scores["coverage90"].isna().all():
        raise DataError("coverages: expected the table of pt.cross_validate, with a model that has scores")
    figure = figures.empty(5.5, 5.0)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.3", linewidth=0.9, linestyle="--", label="asked = observed")
    by_model = scores.dropna(subset=["coverage90"]).groupby("model", sort=False)[list(columns.values())]
    means, least, most = by_model.mean(), by_model.min(), by_model.max()
    for k, name in enumerate(means.index):
        # Beside each other, so that bars can be told apart.
        at = np.array(list(columns)) + 0.006 * (k - (len(means) - 1) / 2)
        middle = means.loc[name].to_numpy()
        reach = np.stack([middle - least.loc[name].to_numpy(), most.loc[name].to_numpy() - middle])
        axes.errorbar(at, middle, reach, marker="o", markersize=3.5, linewidth=1.0, elinewidth=0.8, label=str(name))
    axes.set(xlim=(0.4, 1.0), ylim=(min(0.4, float(least.min().min()) - 0.02), 1.0))
    axes.set_xlabel("coverage asked", fontsize=9)
    axes.set_ylabel("coverage observed", fontsize=9)
    axes.set_title(f"{scores['fold'].nunique()} folds", loc="left", fontsize=10)
    axes.legend(fontsize=7.5, frameon=False, loc="upper left")
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    return figure


def band(
    inside: Float[np.ndarray, "k n"], expected: Float[np.ndarray, "k"], gaps: Int[np.ndarray, "n"]
) -> tuple[Float[np.ndarray, "k"], Float[np.ndarray, "k"]]:
    """Between what shares of values inside lie, level by level, with a probability of 95% if they should be expected.

    Exact (binomial) where every value is a gap of its own. Else values in one gap go astray together, and the variance
    of the share is that between gaps, but never below the binomial; from one gap nothing can be told.

    Args:
        inside: for each level which values are inside.
        expected: the share of them that should be.
        gaps: the number of each value's gap.

    Source: Liang and Zeger 1986, Longitudinal data analysis using generalized linear models (variance of clusters).
    """
    from scipy.stats import binom, t

    n, (numbers, of) = inside.shape[1], np.unique(gaps, return_inverse=True)
    tail = 0.5 * (1 - _BAND)
    if len(numbers) == n:
        return binom.ppf(tail, n, expected) / n, binom.ppf(1 - tail, n, expected) / n
    if len(numbers) == 1:  # one gap can go astray as a whole
        return np.zeros(len(expected)), np.ones(len(expected))
    away = inside - inside.mean(axis=1, keepdims=True)
    sums = np.stack([np.bincount(of, weights=row, minlength=len(numbers)) for row in away])
    between = np.sum(sums**2, axis=1) / n**2 * len(numbers) / (len(numbers) - 1)
    sd = np.sqrt(np.maximum(between, expected * (1 - expected) / n))
    reach = t.ppf(1 - tail, len(numbers) - 1) * sd
    return np.maximum(expected - reach, 0.0), np.minimum(expected + reach, 1.0)
