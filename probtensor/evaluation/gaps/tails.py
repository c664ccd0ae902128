"""The end of a coordinate: forecasts."""

from __future__ import annotations

import dataclasses
from typing import final

import numpy as np

from probtensor.errors import DataError
from probtensor.evaluation.entries import Entries
from probtensor.evaluation.gaps.base import AbstractProtocol, Fold, check_dims, check_fraction, generator


@final
@dataclasses.dataclass(frozen=True)
class Tail(AbstractProtocol):
    """The last levels; see `tail`.

    Attributes:
        fraction: of the levels that is held out.
        dim: the dimension.
    """

    fraction: float
    dim: str

    def __post_init__(self) -> None:
        check_fraction("tail", self.fraction)

    def __str__(self) -> str:
        return f"the last {self.fraction:.3g} of {self.dim}"

    def folds(self, entries: Entries, folds: int, seed: int) -> list[Fold]:
        """See `AbstractProtocol.folds`; rolling origins, the latest first, without any randomness."""
        check_dims("tail", [self.dim], entries.sizes)
        generator(seed)  # refuses what is no seed, as other protocols do
        level, observed = entries.level(self.dim), entries.observed
        last = entries.sizes[self.dim]
        length = max(1, round(self.fraction * last))
        if not (observed & (level >= last - length)).any():
            # Nothing was observed there: the data end with the last level that was.
            last = int(np.max(np.where(observed, level, 0))) + 1
            length = max(1, round(self.fraction * last))
        first = last - length
        step = min(length, first // 2 // max(folds - 1, 1))
        if first < 1 or (folds > 1 and step < 1):
            raise DataError(
                f"gaps.tail: {self.dim!r} has {last} levels, too few for {folds} origins that leave something to "
                "train on; ask for fewer folds or a smaller fraction"
            )
        found = []
        for k in range(folds):
            start = first - k * step
            held = observed & (level >= start) & (level < start + length)
            found.append(Fold(held, observed & (level >= start + length) if k else None))
        return found
