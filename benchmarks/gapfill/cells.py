"""The 20 cells of the suite: each data set under each gap protocol, with what every method sees and is asked."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

import probtensor as pt
from gapfill import data

INNER_SEED = 1000  # added to the seed for the inner hold-out, which is drawn among the training entries
PROTOCOLS = ("boxes", "large boxes", "random", "sites", "tail")
CELLS = tuple((name, protocol) for name in data.SOURCES for protocol in PROTOCOLS)


@dataclasses.dataclass(frozen=True)
class Problem:
    """One draw of a cell.

    Attributes:
        dataset: name of the data set.
        protocol: name of the protocol.
        seed: of the draw; a tail has only one.
        truth: (T, latitude, longitude), NaN over land.
        held: True at the entries that methods do not see and are scored on.
        inner: True at the training entries that are hidden a second time, by the same protocol.
    """

    dataset: str
    protocol: str
    seed: int
    truth: np.ndarray
    held: np.ndarray
    inner: np.ndarray

    @property
    def training(self) -> np.ndarray:
        """What a method sees: NaN at the held entries, too."""
        return np.where(self.held, np.nan, self.truth)

    @property
    def unit(self) -> float:
        """What errors are divided by."""
        return data.unit(self.dataset, self.training)


def edges(dataset: str, protocol: str) -> dict[str, int]:
    """Levels of a box along each dimension; large boxes are three times as long, and at most half of an axis."""
    edge = data.SOURCES[dataset].edge
    if protocol == "large boxes":
        edge = tuple(min(3 * length, size // 2) for length, size in zip(edge, _field(dataset).shape, strict=True))
    return dict(zip(data.DIMS, edge, strict=True))


def mask(dataset: str, protocol: str, seed: int, valid: np.ndarray) -> np.ndarray:
    """The held-out entries, all of them valid ones."""
    sizes = dict(zip(data.DIMS, valid.shape, strict=True))
    if protocol == "tail":
        gaps = pt.gaps.tail(0.2, data.DIMS[0])
    elif protocol == "random":
        gaps = pt.gaps.random(0.5)
    elif protocol == "sites":
        gaps = pt.gaps.sites(0.3, dims=data.DIMS[1:])
    else:
        gaps = pt.gaps.blocks(0.3, size=edges(dataset, protocol))
    return gaps.mask(sizes, seed, valid)


def problem(dataset: str, protocol: str, seed: int) -> Problem:
    """One draw of a cell."""
    truth = _field(dataset).values
    valid = np.isfinite(truth)
    held = mask(dataset, protocol, seed, valid)
    inner = mask(dataset, protocol, seed + INNER_SEED, valid & ~held)
    return Problem(dataset, protocol, seed, truth, held, inner)


@functools.cache
def _field(dataset: str):  # noqa: ANN202
    return data.load(dataset)
