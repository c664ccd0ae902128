"""What a file says of itself, looked at before it is given any memory.

A digest protects against damage, not against someone who writes another: nothing here relies on it. What a store asks
for (text, arrays, what a chunk unpacks to) is compared with the memory that there is, and only arrays as `archive`
writes them are opened: numbers in plain chunks, with no codec that could run code.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections.abc import Collection
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from probtensor import files
from probtensor.errors import FormatError
from probtensor.labelled.memory import host_memory, size

#: Bytes that objects take for each byte of their text, at most (``[],[],``).
_PER_CHARACTER = 40
#: Bytes of a number of each kind.
_BYTES = {"bool": 1, "complex64": 8, "complex128": 16} | {
    f"{kind}{bits}": bits // 8
    for kind, sizes in (("int", (8, 16, 32, 64)), ("uint", (8, 16, 32, 64)), ("float", (16, 32, 64)))
    for bits in sizes
}
#: Bytes of a chunk, at least, where there are many; that many of them may be smaller.
_CHUNK, _SMALL = 4096, 1024
#: The begin of what zstd has packed, and how many bytes of it tell its length.
_ZSTD, _HEAD = b"\x28\xb5\x2f\xfd", 18
#: What names of dtypes look like that are stored: one kind and its size, for times with their unit.
_DTYPE = re.compile(r"[<>|=]?(b1|[iufc]\d{1,2}|[mM]8(\[\d*[a-zA-Z]{1,2}\])?|[US]\d+|O|T)")
#: Names of time zones, which lead to no file but that of the zone.
_ZONE = re.compile(r"(?!dateutil)\w[\w+-]*(/\w[\w+-]*)*(:\d\d)?(:\d\d)?")
_PLAIN_GRID = {"name": "default", "configuration": {"separator": "/"}}


class Room:
    """Memory that reading may still take."""

    def __init__(self) -> None:
        there = host_memory()
        self._left = math.inf if there is None else there

    def take(self, number: int, what: object) -> None:
        """Counts bytes that are about to be taken. Raises FormatError if there are not so many."""
        if number > self._left:
            raise FormatError(
                f"load: {what} asks for {size(number)} of memory, and {size(self._left)} are left; it is damaged, or "
                "needs a larger machine"
            )
        self._left -= number


def regular(path: Path) -> bool:
    """Whether it is a file itself: no link, pipe or device."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (OSError, ValueError):
        return False


def parsed(path: Path, room: Room) -> Any:
    """JSON of a file. Raises FormatError if it is none, or too much."""
    try:
        room.take(path.stat().st_size * _PER_CHARACTER, path)
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except FormatError:
        raise
    except (ValueError, RecursionError, OSError, MemoryError) as error:
        raise FormatError(f"load: {path} is damaged: {files.reason(error)}") from error


def _refuse(token: str) -> NoReturn:
    raise ValueError(f"{token} is no number of JSON")


def dtype(text: Any) -> np.dtype:
    """A dtype that is stored. Raises FormatError for any other, such as one of objects behind numbers."""
    if not isinstance(text, str) or not _DTYPE.fullmatch(text):
        raise FormatError(f"there is no dtype {text!r:.50}; the store is damaged")
    return np.dtypes.StringDType() if text == "T" else np.dtype(text)


def zone(text: Any) -> str:
    """The name of a time zone. Raises FormatError for what could lead to another file."""
    if not isinstance(text, str) or not _ZONE.fullmatch(text):
        raise FormatError(f"there is no time zone {text!r:.50}; the store is damaged")
    return text


def check_array(folder: Path, names: Collection[str], room: Room) -> None:
    """Makes sure that an array is as `archive` writes it, and that there is room for it.

    Args:
        folder: of the array.
        names: of the files of its chunks, from the folder on.
        room: for all that is read.

    Raises:
        FormatError: it is another kind of array, or asks for more than there is.
    """
    said = parsed(folder / "zarr.json", room)
    try:
        number = _chunk_size(said, room, folder)
        packed = len(said["codecs"]) == 2
        for name in names:
            if _unpacked(folder / name, packed) != number:
                raise ValueError(f"{name} has another length than the array says")
    except FormatError:
        raise
    except Exception as error:
        raise FormatError(f"load: {folder} is damaged: {files.reason(error)}") from error


def _chunk_size(said: dict[str, Any], room: Room, folder: Path) -> int:
    """Bytes of each chunk of an array. Raises FormatError if there is no room, ValueError if it is another kind."""
    shape, grid = said["shape"], said["chunk_grid"]
    chunk, item = grid["configuration"]["chunk_shape"], _BYTES[said["data_type"]]
    first, *more = said["codecs"]
    plain = (
        (said["zarr_format"], said["node_type"], grid["name"]) == (3, "array", "regular")
        and said["chunk_key_encoding"] == _PLAIN_GRID
        and not said.get("storage_transformers")
        and first["name"] == "bytes"
        and [codec["name"] for codec in more] in ([], ["zstd"])
    )
    if not plain:
        raise ValueError("it is no array of a posterior")
    if not all(type(n) is int and n >= 0 for n in (*shape, *chunk)) or len(shape) != len(chunk):
        raise ValueError(f"it has the shape {shape}, in chunks of {chunk}")
    if any(not 1 <= part <= max(whole, 1) for whole, part in zip(shape, chunk, strict=True)):
        raise ValueError(f"it has the shape {shape}, in chunks of {chunk}")
    total, own = math.prod(shape) * item, math.prod(chunk) * item
    room.take(total, folder)
    room.take(0 if total else own, folder)
    if math.prod(-(-whole // part) for whole, part in zip(shape, chunk, strict=True)) > _SMALL + total // _CHUNK:
        raise ValueError(f"it has the shape {shape}, in chunks of {chunk}, which are too many")
    return own


def _unpacked(file: Path, packed: bool) -> int:
    """How many bytes a chunk says that it has, unpacked. Raises ValueError if it does not say so."""
    if not packed:
        return os.stat(file).st_size
    with file.open("rb") as stream:
        head = stream.read(_HEAD)
    if not head.startswith(_ZSTD) or len(head) < 6:
        raise ValueError(f"{file.name} is not packed by zstd")
    # RFC 8878, 3.1.1.1: a byte that says how long the parts behind it are, window, dictionary, and the length.
    flags = head[4]
    single = bool(flags & 0x20)
    start = 5 + (not single) + (0, 1, 2, 4)[flags & 3]
    length = (1 if single else 0, 2, 4, 8)[flags >> 6]
    if not length or len(head) < start + length:
        raise ValueError(f"{file.name} does not say how long it is")
    number = int.from_bytes(head[start : start + length], "little")
    return number + 256 if length == 2 else number
