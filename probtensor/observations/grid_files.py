"""Arrays on a grid on disk: written box by box in any order, and read back as a source of slabs."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from probtensor.observations.domain import Domain
from probtensor.observations.slabs import OnGrid
from probtensor.observations.sources import VALUES, Columns
from probtensor.observations.spilled import unwritable
from probtensor.typing import Int

#: Numbers that are written together where nothing is known yet.
_AT_ONCE = 2**20


class GridFiles:
    """Arrays on their way to disk, one file each.

    Args:
        folder: an empty one.
        shape: of each.
        names: of the arrays, `VALUES` among them.

    Raises:
        DataError: the disk is full.
    """

    def __init__(self, folder: Path, shape: tuple[int, ...], names: Sequence[str]) -> None:
        self._folder, self._shape, self._names = folder, shape, tuple(names)
        self._count, self._lock, self._open = 0, threading.Lock(), True
        # Written, and not only declared: a mapped file that the disk has no room for ends the process.
        nothing, left = np.full(_AT_ONCE, np.nan), int(np.prod(shape))
        try:
            for name in names:
                with self._file(name).open("wb") as stream:
                    for begin in range(0, left, _AT_ONCE):
                        stream.write(nothing[: left - begin].data)
        except OSError as error:
            raise unwritable(folder, error, f"{8 * left * len(names):,} are needed for {left:,} entries") from error

    @property
    def count(self) -> int:
        """Entries with a value so far."""
        return self._count

    def add(self, positions: Sequence[Int[np.ndarray, "n"]], columns: Columns) -> None:
        """What stands at some positions of each mode, NaN where nothing is observed; from several threads, if need be.

        Every entry is given once.
        """
        box, seen = np.ix_(*positions), int(np.count_nonzero(~np.isnan(columns[VALUES])))
        with self._lock:
            if not self._open:
                return
            self._count += seen
            for name in self._names:
                np.memmap(self._file(name), float, "r+", shape=self._shape)[box] = columns[name]

    def close(self) -> None:
        """Nothing is written any more, also not by threads that are still on their way when another has failed."""
        with self._lock:
            self._open = False

    def sealed(self, domain: Domain) -> OnGrid:
        """All entries as a source."""
        return OnGrid(domain, self._count, {name: functools.partial(self._read, name) for name in self._names})

    def _read(self, name: str, place: tuple[slice, ...]) -> np.ndarray:
        # Copied and closed: pages of an open map count as the process's memory.
        return np.array(np.memmap(self._file(name), float, "r", shape=self._shape)[place])

    def _file(self, name: str) -> Path:
        return self._folder / f"{name}.numbers"
