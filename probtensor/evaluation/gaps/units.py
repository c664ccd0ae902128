"""Protocols that hold out units, each as a whole: single observations, sites, levels."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, final

import numpy as np

from probtensor.errors import DataError, ModelError
from probtensor.evaluation.entries import Entries
from probtensor.evaluation.gaps.base import AbstractProtocol, Fold, check_dims, check_fraction, generator, named

if TYPE_CHECKING:  # it imports jax, which naming gaps does not need
    from probtensor.typing import Int

#: Folds of `By` where only one is asked for.
_BY = 5


@final
@dataclasses.dataclass(frozen=True)
class Random(AbstractProtocol):
    """Single entries, uniformly at random; see `random`.

    Attributes:
        fraction: of the observations that is held out.
    """

    fraction: float

    def __post_init__(self) -> None:
        check_fraction("random", self.fraction)

    def __str__(self) -> str:
        return f"single values at random, {self.fraction:.3g} of all"

    def folds(self, entries: Entries, folds: int, seed: int) -> list[Fold]:
        """See `AbstractProtocol.folds`; the number held out is exact."""
        each = np.arange(entries.observed.size).reshape(entries.observed.shape)
        return _drawn(each, each.size, entries, self.fraction, folds, seed)


@final
@dataclasses.dataclass(frozen=True)
class Sites(AbstractProtocol):
    """All entries of some sites; see `sites`.

    Attributes:
        fraction: of the sites that is held out.
        dims: whose levels together name a site.
    """

    fraction: float
    dims: tuple[str, ...]

    def __post_init__(self) -> None:
        check_fraction("sites", self.fraction)
        object.__setattr__(self, "dims", named("sites", self.dims))

    def __str__(self) -> str:
        return f"all values at {self.fraction:.3g} of all {' x '.join(self.dims)}"

    def folds(self, entries: Entries, folds: int, seed: int) -> list[Fold]:
        """See `AbstractProtocol.folds`; a site counts if it has at least one observation."""
        check_dims("sites", self.dims, entries.sizes)
        if entries.levels is None and len(self.dims) == len(entries.sizes):
            raise ModelError(
                f"gaps.sites: dims={list(self.dims)} are all dimensions of the data, so a site would be a single "
                "entry; leave out the dimension a site's series runs along, or use gaps.random"
            )
        return _drawn(*entries.groups(self.dims), entries, self.fraction, folds, seed)


@final
@dataclasses.dataclass(frozen=True)
class By(AbstractProtocol):
    """Every level once; see `by`.

    Attributes:
        dims: whose combinations of levels are held out.
    """

    dims: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "dims", named("by", self.dims))

    def __str__(self) -> str:
        return f"every {' x '.join(self.dims)} once"

    def folds(self, entries: Entries, folds: int, seed: int) -> list[Fold]:
        """See `AbstractProtocol.folds`; a level counts if it has at least one observation."""
        check_dims("by", self.dims, entries.sizes)
        units, number = entries.groups(self.dims)
        present = np.unique(units[entries.observed])
        if len(present) < max(folds, 2):
            raise DataError(
                f"gaps.by: {' x '.join(self.dims)} has {len(present)} levels with observations, too few for "
                f"{max(folds, 2)} folds, in each of which some are held out and others are shown"
            )
        order, parts = generator(seed).permutation(present), folds if folds > 1 else min(_BY, len(present))
        ends = np.round(np.arange(parts + 1) * len(present) / parts).astype(int)
        return [_fold(units, number, entries, order[ends[k] : ends[k + 1]]) for k in range(folds)]


def _drawn(
    units: Int[np.ndarray, "..."], number: int, entries: Entries, fraction: float, folds: int, seed: int
) -> list[Fold]:
    """Each fold a random, exact fraction of the units with observations: no unit twice, if the fraction allows that."""
    present = np.unique(units[entries.observed])
    disjoint = fraction * folds <= 1 + 1e-9
    orders = [generator(seed + k).permutation(present) for k in range(1 if disjoint else folds)]
    ends = [min(round(k * fraction * len(present)), len(present)) for k in range(folds + 1)]
    if disjoint:
        return [_fold(units, number, entries, orders[0][ends[k] : ends[k + 1]]) for k in range(folds)]
    return [_fold(units, number, entries, order[: ends[1]]) for order in orders]


def _fold(units: Int[np.ndarray, "..."], number: int, entries: Entries, chosen: Int[np.ndarray, "n"]) -> Fold:
    """The observations of some units."""
    out = np.zeros(number, dtype=bool)
    out[chosen] = True
    return Fold(out[units] & entries.observed)
