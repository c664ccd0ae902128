"""Observations on disk: written part by part in any order, and read back as a source of batches."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from probtensor.compilation import on_device
from probtensor.errors import DataError
from probtensor.observations.domain import Domain
from probtensor.observations.sources import (
    ROWS,
    VALUES,
    WEIGHTS,
    AbstractDealt,
    Carried,
    Columns,
    part_of,
    parts_of,
    place_type,
)
from probtensor.typing import Int


class Spill:
    """Entries on their way to disk, one file a part.

    Args:
        folder: an empty one.
        entries: of the flattened domain, missing ones included.
        columns: what comes with each place, `VALUES` among them.
    """

    def __init__(self, folder: Path, entries: int, columns: Sequence[str]) -> None:
        self._folder, self._parts = folder, parts_of(entries)
        self._type = np.dtype([(ROWS, place_type(entries)), *((name, float) for name in columns)])
        self._counts = np.zeros(self._parts, dtype=int)
        self._lock, self._open = threading.Lock(), True

    @property
    def count(self) -> int:
        """Entries so far."""
        return int(self._counts.sum())

    def add(self, columns: Columns) -> None:
        """Some more entries; from several threads, if need be. Raises DataError if the disk is full."""
        dealt = part_of(columns[ROWS], self._parts)
        order, counts = np.argsort(dealt, kind="stable"), np.bincount(dealt, minlength=self._parts)
        records = np.empty(len(order), self._type)
        for name in records.dtype.names or ():
            records[name] = columns[name][order]
        ends = np.cumsum(counts)
        with self._lock:
            if not self._open:
                return
            self._counts += counts
            for part in np.flatnonzero(counts).tolist():
                self._write(part, records[ends[part] - counts[part] : ends[part]], "ab")

    def close(self) -> None:
        """Nothing is written any more, also not by threads that are still on their way when another has failed."""
        with self._lock:
            self._open = False

    def sealed(self, domain: Domain) -> OnDisk:
        """All entries as a source, each part in the order of its places, whatever order they came in."""
        for part in np.flatnonzero(self._counts).tolist():
            records = np.fromfile(_file(self._folder, part), self._type)
            self._write(part, records[np.argsort(records[ROWS], kind="stable")], "wb")
        return OnDisk(self._folder, self._type, self._counts, domain)

    def _write(self, part: int, records: np.ndarray, how: str) -> None:
        try:
            with _file(self._folder, part).open(how) as stream:
                stream.write(records.view(np.uint8).data)
        except OSError as error:
            needed = f"{self._type.itemsize} are needed for each observation, and {self.count:,} were written"
            raise unwritable(self._folder, error, needed) from error


class OnDisk(AbstractDealt):
    """Entries in files, read part by part; made by `Spill.sealed`."""

    def __init__(self, folder: Path, record: np.dtype, counts: Int[np.ndarray, "P"], domain: Domain) -> None:
        self._folder, self._type, self._counts, self.domain = folder, record, counts, domain

    @property
    def count(self) -> int:
        """Entries of all files."""
        return int(self._counts.sum())

    @property
    def parts(self) -> int:
        """The number of files."""
        return len(self._counts)

    @property
    def observations(self) -> None:
        """They are not in memory."""
        return None

    def part(self, number: int) -> Columns:
        """One file, as it is."""
        records = np.empty(0, self._type)
        if self._counts[number]:
            records = np.fromfile(_file(self._folder, number), self._type)
        return {name: records[name] for name in self._type.names or ()}

    def batches(self, columns: Columns) -> Carried:
        """With their values."""
        own = {name: on_device(column, fresh=True) for name, column in columns.items()}
        return Carried(self.domain, own.pop(ROWS), own.pop(VALUES), own.pop(WEIGHTS, None), own)


def _file(folder: Path, part: int) -> Path:
    return folder / f"{part}.records"


def unwritable(folder: Path, error: OSError, needed: str) -> DataError:
    """The refusal of a temporary folder; needed: how many bytes are."""
    return DataError(
        f"the observations are copied to the temporary folder {folder.parent}, which cannot be written: "
        f"{error.strerror or error}. Of its bytes {needed}. Make room, or name another folder in the environment's "
        "TMPDIR"
    )
