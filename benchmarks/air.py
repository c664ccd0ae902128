"""The published Beijing task: daily air quality at twelve stations, its splits, and what one would do by hand.

The file holds daily means of the Beijing Multi-Site Air-Quality data (UCI Machine Learning Repository, CC BY 4.0) in
the columns date, station, temperature_degC, pressure_hPa, pm25_ugm3 and test0 to test4.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

#: Modes of the published task, and those of its variant in which the station is known.
THREE = ("temperature", "pressure", "day")
FOUR = (*THREE, "station")
#: Share of the observed rows that choices are judged on, and of the days that are held out whole.
_INNER, _DAYS = 0.2, 0.2
_RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
_SWEEPS, _RANK = 30, 2


class Forecast(NamedTuple):
    """Mean and sd of a new observation at every row, hidden or not."""

    mean: np.ndarray
    sd: np.ndarray


#: A method sees a table whose values ``y`` are NaN where they are hidden, and a seed.
Method = Callable[[pd.DataFrame, int], Forecast]


def load(path: Path) -> pd.DataFrame:
    """The rows with ``y``, PM2.5 standardised over all rows, and temperature and pressure rounded to one decimal."""
    rows = pd.read_csv(path, parse_dates=["date"]).rename(columns={"date": "day"})
    rows["y"] = (rows["pm25_ugm3"] - rows["pm25_ugm3"].mean()) / rows["pm25_ugm3"].std()
    rows["temperature"], rows["pressure"] = rows["temperature_degC"].round(1), rows["pressure_hPa"].round(1)
    return rows


def splits(rows: pd.DataFrame, folds: int) -> dict[str, list[np.ndarray]]:
    """For each way of splitting its folds: masks, True where a row is hidden."""
    generator = np.random.default_rng(0)
    days = rows["day"].unique()
    hidden = generator.choice(days, round(_DAYS * len(days)), replace=False)
    station = generator.choice(np.sort(rows["station"].unique()))
    return {
        "random rows": [rows[f"test{fold}"].to_numpy() == 1 for fold in range(folds)],
        "whole days": [rows["day"].isin(hidden).to_numpy()],
        f"one station ({station})": [(rows["station"] == station).to_numpy()],
    }


def twins(rows: pd.DataFrame, hidden: np.ndarray) -> float:
    """Share of hidden rows that share temperature, pressure and day with a row that is not."""
    seen = set(rows.loc[~hidden, list(THREE)].itertuples(index=False, name=None))
    return float(np.mean([row in seen for row in rows.loc[hidden, list(THREE)].itertuples(index=False, name=None)]))


def hide_more(frame: pd.DataFrame, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    """Hides a fifth of what is still observed: the table, and the mask of what was hidden now."""
    observed = np.flatnonzero(frame["y"].notna())
    chosen = np.random.default_rng(1000 + seed).choice(observed, round(_INNER * len(observed)), replace=False)
    inner = np.zeros(len(frame), dtype=bool)
    inner[chosen] = True
    return frame.assign(y=frame["y"].mask(inner)), inner


def _with_one_sd(means: Callable[[pd.DataFrame], np.ndarray]) -> Method:
    """A method without error bars gets one sd: its error on a fifth of the observed rows, hidden for the purpose."""

    def method(frame: pd.DataFrame, seed: int) -> Forecast:
        less, inner = hide_more(frame, seed)
        sd = np.sqrt(np.mean((means(less) - frame["y"].to_numpy())[inner] ** 2))
        return Forecast(means(frame), np.full(len(frame), sd))

    return method


def _day_mean(frame: pd.DataFrame) -> np.ndarray:
    return frame.groupby("day")["y"].transform("mean").fillna(frame["y"].mean()).to_numpy()


def _effects(frame: pd.DataFrame) -> np.ndarray:
    """A constant for each day and one for each station, by turns; a level never seen adds nothing."""
    day, station = np.zeros(len(frame)), np.zeros(len(frame))
    middle = frame["y"].mean()
    for _ in range(_SWEEPS):
        day = (frame["y"] - middle - station).groupby(frame["day"]).transform("mean").fillna(0.0).to_numpy()
        station = (frame["y"] - middle - day).groupby(frame["station"]).transform("mean").fillna(0.0).to_numpy()
    return middle + day + station


def _rank_two(frame: pd.DataFrame, ridge: float) -> np.ndarray:
    """Two numbers for each day times two for each station, least squares with a ridge, by turns."""
    seen = frame["y"].notna().to_numpy()
    middle = frame["y"].mean()
    y = (frame["y"] - middle).to_numpy()[seen]
    codes = [pd.factorize(frame[name])[0] for name in ("day", "station")]
    factors = [np.zeros((codes[0].max() + 1, _RANK)), np.random.default_rng(0).normal(size=(codes[1].max() + 1, _RANK))]
    factors[1][:, 0] = 1.0
    for _ in range(_SWEEPS):
        for k in range(2):
            a, level, size = factors[1 - k][codes[1 - k][seen]], codes[k][seen], len(factors[k])
            gram, right = np.zeros((size, _RANK, _RANK)), np.zeros((size, _RANK))
            np.add.at(gram, level, a[:, :, None] * a[:, None, :])
            np.add.at(right, level, a * y[:, None])
            factors[k] = np.linalg.solve(gram + ridge * np.eye(_RANK), right[..., None])[..., 0]
    return middle + np.sum(factors[0][codes[0]] * factors[1][codes[1]], axis=1)


def _ridge(frame: pd.DataFrame, seed: int) -> Forecast:
    """The ridge that is best on a fifth of the observed rows, hidden for the purpose."""
    less, inner = hide_more(frame, seed)
    truth = frame["y"].to_numpy()
    errors = {r: float(np.sqrt(np.mean((_rank_two(less, r) - truth)[inner] ** 2))) for r in _RIDGES}
    best = min(errors, key=errors.__getitem__)
    return Forecast(_rank_two(frame, best), np.full(len(frame), errors[best]))


FLOORS: dict[str, Method] = {
    "mean of the day": _with_one_sd(_day_mean),
    "day + station effects": _with_one_sd(_effects),
    "ridge rank 2, day x station": _ridge,
}
