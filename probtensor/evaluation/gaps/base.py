"""What every gap protocol answers."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from probtensor.errors import ModelError
from probtensor.evaluation import entries
from probtensor.evaluation.entries import Entries

if TYPE_CHECKING:  # it imports jax, which naming gaps does not need
    from probtensor.typing import Bool


class Fold(NamedTuple):
    """What one fold of a cross-validation hides, as bool arrays like the observed entries.

    Attributes:
        held: observations that are to be predicted, and scored.
        dropped: observations that are neither shown nor scored: what comes after a forecast's window. None: there is
            none.
    """

    held: Bool[np.ndarray, "..."]
    dropped: Bool[np.ndarray, "..."] | None = None


class AbstractProtocol(abc.ABC):
    """A rule that draws held-out entries."""

    def mask(self, sizes: Mapping[str, int], seed: int = 0, valid: np.ndarray | None = None) -> np.ndarray:
        """Draws the held-out entries of one grid.

        Args:
            sizes: length of each dimension, in the order of the array's axes, along which coordinates ascend.
            seed: a whole number, 0 or above.
            valid: bool array of that shape, True where there is an observation; None means everywhere.

        Returns:
            Bool array, True where an entry is held out; empty if ``fraction`` of the entries rounds to none.

        Raises:
            DataError: ``valid`` has another shape, or is nowhere True.
            ModelError: the protocol names a dimension that ``sizes`` lacks, or the seed is no whole number.
        """
        shape = tuple(sizes.values())
        observed = np.ones(shape, dtype=bool) if valid is None else np.asarray(valid, dtype=bool)
        return self.folds(Entries({str(name): int(n) for name, n in sizes.items()}, observed), 1, seed)[0].held

    def rows(self, coords: Mapping[str, np.ndarray], seed: int = 0, valid: np.ndarray | None = None) -> np.ndarray:
        """Draws the held-out rows of a table.

        Args:
            coords: (N,) labels of each coordinate, numbers, times or text.
            seed: a whole number, 0 or above.
            valid: (N,) True where there is an observation; None means everywhere.

        Returns:
            (N,) bool, True where a row is held out.

        Raises:
            DataError: lengths differ, labels cannot be put in order, or there is no observation.
            ModelError: the protocol names a coordinate that is not there, or the seed is no whole number.
        """
        return self.folds(entries.table(coords, valid), 1, seed)[0].held

    @abc.abstractmethod
    def folds(self, entries: Entries, folds: int, seed: int) -> list[Fold]:
        """Draws all folds of a cross-validation; of one fold that is what `mask` and `rows` give.

        Args:
            entries: where there are observations.
            folds: how many, 1 or more.
            seed: a whole number, 0 or above.

        Returns:
            As many as were asked for.

        Raises:
            DataError: there are too few levels for so many folds.
            ModelError: the protocol names a dimension that is not there, or the seed is no whole number.
        """


def generator(seed: int) -> np.random.Generator:
    """Random numbers of a seed. Raises ModelError unless it is a whole number, 0 or above."""
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise ModelError(f"seed={seed!r} must be a whole number, 0 or above")
    return np.random.Generator(np.random.PCG64(seed))


def check_fraction(protocol: str, fraction: float) -> None:
    """Raises ModelError unless it lies strictly between 0 and 1."""
    if not isinstance(fraction, int | float | np.number) or not 0.0 < fraction < 1.0:
        raise ModelError(
            f"gaps.{protocol}: fraction={fraction!r} must lie strictly between 0 and 1; it is the share of the "
            "observations (for sites, of the sites) that is held out"
        )


def check_dims(protocol: str, dims: Sequence[str] | Mapping[str, object], sizes: Mapping[str, int]) -> None:
    """Raises ModelError if the data lack a dimension."""
    unknown = [dim for dim in dims if dim not in sizes]
    if unknown:
        raise ModelError(f"gaps.{protocol}: the data have no dimension {unknown[0]!r}; they have {list(sizes)}")


def named(protocol: str, dims: str | Sequence[str]) -> tuple[str, ...]:
    """Dimensions as a tuple of names. Raises ModelError if there is none, or one is named twice."""
    found = (dims,) if isinstance(dims, str) else tuple(dims)
    if not found or len(set(found)) < len(found):
        raise ModelError(f"gaps.{protocol}: dims={dims!r} must name at least one dimension, and each only once")
    return found
