"""Observations of one place: their mean, and the differences between them, which are noise alone.

Only means are conditioned on neighbours, so that repeats do not take the place of entries elsewhere; nothing is lost,
since means and differences are independent under normal noise.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse

from probtensor.nearest.conditionals import Entries
from probtensor.typing import Float, Int


class Pooled(NamedTuple):
    """N observations as M means of places and N - M differences; the map to both has determinant 1 or -1.

    Attributes:
        entries: the places, in an order of their own, with the noise of the means.
        place: of each observation.
        mean: (M, N) matrix of weighted means.
        apart: (N - M, N) matrix of independent differences of means of some repeats.
        unit_noise: variance of the differences, relative to that of an observation with weight 1.
    """

    entries: Entries
    place: Int[np.ndarray, "N"]
    mean: sparse.csr_matrix
    apart: sparse.csr_matrix
    unit_noise: Float[np.ndarray, "A"]

    def means(self, values: Float[np.ndarray, "S N"]) -> Float[np.ndarray, "S M"]:
        """Of each draw of the observations."""
        return np.asarray((self.mean @ values.T).T)

    def differences(self, values: Float[np.ndarray, "S N"]) -> Differences:
        """What the differences in draws of the observations say of the noise."""
        squares = np.asarray(self.apart @ values.T) ** 2 / self.unit_noise[:, None]
        total = float(np.sum(squares)) / len(values)
        return Differences(len(self.unit_noise), total, float(np.sum(np.log(2 * np.pi * self.unit_noise))))


class Differences(NamedTuple):
    """A likelihood of the noise alone.

    Attributes:
        number: of differences.
        squares: sum of their squares over their unit noise.
        constant: sum of the logarithms of 2 pi times their unit noise.
    """

    number: int
    squares: float
    constant: float

    def log_density(self, noise: float) -> tuple[float, float]:
        """In nats for the variance of an observation with weight 1, and its derivative."""
        value = -0.5 * (self.number * np.log(noise) + self.constant + self.squares / noise)
        return value, -0.5 * (self.number - self.squares / noise) / noise


def pool(
    points: Float[np.ndarray, "N D"], unit_noise: Float[np.ndarray, "N"], turn: Int[np.ndarray, "N"] | None = None
) -> Pooled:
    """Observations at equal points together.

    Repeats are merged in pairs, and pairs of pairs: N log N numbers however many share a place.

    Args:
        points: of the observations.
        unit_noise: of each.
        turn: a permutation; places come in the order of the least turn of their observations. None: as they are named.
    """
    turn = np.arange(len(points)) if turn is None else turn
    distinct, inverse = np.unique(points, axis=0, return_inverse=True)
    inverse, earliest = inverse.ravel(), np.full(len(distinct), len(points))
    np.minimum.at(earliest, inverse, turn)
    first = np.argsort(turn)[np.sort(earliest)]
    place = np.argsort(np.argsort(earliest))[inverse]
    order = np.argsort(place, kind="stable")
    of, weight = place[order], 1 / unit_noise[order]
    mean = sparse.identity(len(points), format="csr")[order]
    apart, noise = [mean[:0]], [unit_noise[:0]]
    while len(of) > len(first):
        left = _paired(of)
        apart.append(mean[left] - mean[left + 1])
        noise.append(1 / weight[left] + 1 / weight[left + 1])
        stays = np.ones(len(of), dtype=bool)
        stays[left + 1] = False
        into = np.cumsum(stays) - 1
        total = np.bincount(into, weight).astype(float)
        mean = sparse.csr_matrix((weight / total[into], (into, np.arange(len(of)))), shape=(len(total), len(of))) @ mean
        of, weight = of[stays], total
    entries = Entries(points[first], 1 / weight)
    return Pooled(entries, place, mean, sparse.vstack(apart, format="csr"), np.concatenate(noise))


def _paired(of: Int[np.ndarray, "n"]) -> Int[np.ndarray, "p"]:
    """The first, third, ... in each run of equal numbers that has another behind it."""
    begins = np.flatnonzero(np.diff(of, prepend=of[0] - 1))
    number = np.arange(len(of)) - np.repeat(begins, np.diff(np.append(begins, len(of))))
    return np.flatnonzero((number[:-1] % 2 == 0) & (of[1:] == of[:-1]))
