"""What a climatology is to the Gaussian-process scripts: a value for each cell, or for each month and cell."""

from __future__ import annotations

from typing import NamedTuple

import kernels
import numpy as np
from exchange import Task, climatology


class Cells(NamedTuple):
    """The cells that are not land, as one axis.

    Attributes:
        where: (latitude, longitude) bool.
        places: (C, 2) latitude and longitude.
        values: (T, C), NaN where nothing was observed.
        ask: (T, C) bool.
        groups: (T,) number of the climatology that each time has.
    """

    where: np.ndarray
    places: np.ndarray
    values: np.ndarray
    ask: np.ndarray
    groups: np.ndarray

    def spread(self, values: np.ndarray) -> np.ndarray:
        """(T, C) values on the grid, NaN over land."""
        grid = np.full((len(values), *self.where.shape), np.nan)
        grid[:, self.where] = values
        return grid


def cells(task: Task, season: bool = True) -> Cells:
    """The task without land; ``season`` False: all times share one climatology.

    Raises:
        ValueError: no season is wanted of times that have none anyway.
    """
    if not season and not task.months.any():
        raise ValueError("these times have no season: the same as the variant with one")
    where = (np.isfinite(task.y) | task.ask).any(axis=0)
    latitudes, longitudes = np.meshgrid(task.latitudes, task.longitudes, indexing="ij")
    places = np.stack([latitudes[where], longitudes[where]], axis=-1)
    groups = np.unique(task.months if season else 0 * task.months, return_inverse=True)[1]
    return Cells(where, places, task.y[:, where], task.ask[:, where], groups)


def given(task: Task, seen: Cells) -> np.ndarray:
    """(G, C) means over training entries, from the nearest cell where there are none."""
    mean = climatology(task.y, seen.groups)[:, seen.where]
    return np.stack([mean[np.argmax(seen.groups == group)] for group in range(seen.groups.max() + 1)])


def trend(places: np.ndarray, values: np.ndarray, known: np.ndarray, degree: int = 4) -> np.ndarray:
    """(C,) polynomial in latitude through the known values."""
    scaled = (places[:, 0] - places[:, 0].mean()) / np.ptp(places[:, 0])
    basis = scaled[:, None] ** np.arange(degree + 1)
    return basis @ np.linalg.lstsq(basis[known], values[known], rcond=None)[0]


def prior(places: np.ndarray, means: np.ndarray, known: np.ndarray, seed: int) -> tuple[np.ndarray, kernels.Kernel]:
    """What climatologies are like, learned from the current ones: their trend in latitude (G, C) and kernel about it.

    The kernel's noise belongs to the climatology: it may differ between neighbouring cells.

    Args:
        places: (C, 2).
        means: (G, C) current estimates.
        known: (G, C) bool, True where they rest on observations.
        seed: of the points that the likelihood is taken on.
    """
    trends = np.stack([trend(places, row, seen) for row, seen in zip(means, known, strict=True)])
    return trends, kernels.fit(places, np.where(known, means - trends, np.nan), seed=seed)
