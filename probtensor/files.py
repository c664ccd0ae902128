"""Files and folders that appear whole or not at all: each is written beside its place and then moved there."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from probtensor.errors import FormatError

#: Seconds between two looks at a folder that is being removed; how often it must be away after a failure; how often
#: is looked at most.
_PAUSE, _SETTLED, _LOOKS = 0.05, 10, 1200


def given(path: str | os.PathLike[str]) -> Path:
    """A path as it was given, with the home folder for ``~``. Raises FormatError for what is no path."""
    try:
        return Path(path).expanduser()
    except (TypeError, ValueError, RuntimeError) as error:
        raise FormatError(f"{path!r} is no path: {error}") from error


def real(path: str | os.PathLike[str]) -> Path:
    """Where a path really is, links followed. Raises FormatError for what is no path."""
    own = given(path)
    try:
        return Path(os.path.realpath(own))
    except (OSError, ValueError) as error:  # such as a null character
        raise FormatError(f"{path!r} is no path: {error}") from error


@contextlib.contextmanager
def whole(path: Path, what: str, lasting: bool = False) -> Iterator[Path]:
    """A path beside ``path`` at which to write a file or a folder, which takes its place when the block is done.

    Whatever ends the block early, an interrupt too, leaves what was at ``path`` as it was and nothing beside it. A file
    takes the place of a file, and a folder that of a folder with all that is in it: ask before whether it may.

    Args:
        path: where it goes; of a link, what it points to.
        what: the begin of the message, such as ``"save"``.
        lasting: waits until it is on the disk, and so is that it has taken its place: it survives a power cut.

    Raises:
        FormatError: it cannot be written: no such folder, no permission, a full disk.
    """
    place = real(path)
    with told(path, what):
        part = Path(tempfile.mkdtemp(prefix=f".{place.name}.", suffix=".part", dir=place.parent))
    try:
        (part / "new").mkdir()
        with told(path, what):
            yield part / "new" / place.name
            if lasting:
                _flush_all(part / "new" / place.name)
            _put(part / "new" / place.name, place, part / "old")
            if lasting:
                flush(place.parent)
    except BaseException:
        _remove(part, _SETTLED)
        raise
    _remove(part)


def check_writable(path: Path, what: str) -> None:
    """Raises FormatError, as `whole` would, unless something can be written beside ``path``; changes nothing."""
    place = real(path)
    if not os.path.isdir(place.parent):
        raise FormatError(f"{what}: {path} cannot be written: there is no folder {path.parent}; make it first")
    if place.exists() and not os.access(place, os.W_OK):
        raise FormatError(f"{what}: {path} cannot be written: it exists and is read-only; choose another path")
    with told(path, what):
        os.rmdir(tempfile.mkdtemp(prefix=f".{place.name}.", suffix=".part", dir=place.parent))


def flush(path: Path) -> None:
    """Waits until a file is on the disk, or which names there are in a folder, so that it is after a power cut, too."""
    if path.is_dir() and os.name == "nt":  # where folders cannot be opened, and moves are not kept back
        return
    number = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _flush_all(path: Path) -> None:
    """A file, or a folder with all that is in it."""
    for inner in path.rglob("*") if path.is_dir() else ():
        flush(inner)
    flush(path)


def remove_unfinished(path: Path) -> None:
    """Removes what processes that were killed while they wrote ``path`` have left beside it."""
    place = real(path)
    for left in place.parent.glob(f".{glob.escape(place.name)}.????????.part"):
        shutil.rmtree(left, ignore_errors=True)


@contextlib.contextmanager
def told(path: Path, what: str) -> Iterator[None]:
    """Turns an error of the file system into a FormatError that names the path."""
    try:
        yield
    except FormatError:
        raise
    except (OSError, RuntimeError) as error:  # netCDF4 reports a full disk as a RuntimeError
        said = f"{what}: {path} cannot be written: {reason(error)}; nothing was changed there"
        raise FormatError(said) from error


def reason(error: BaseException) -> str:
    """What an error says, in one line."""
    return re.sub(r"\s+", " ", str(getattr(error, "strerror", None) or error)).strip() or type(error).__name__


def _put(new: Path, path: Path, old: Path) -> None:
    """Moves a file or a folder to its place; a folder that is there goes to ``old`` first, and back if that fails."""
    if path.is_dir() and not new.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    try:
        if path.is_dir():
            os.replace(path, old)
        os.replace(new, path)
    except BaseException:
        if old.exists() and not path.exists():
            os.replace(old, path)
        raise


def _remove(folder: Path, settled: int = 1) -> None:
    """Removes a folder, until it was away so often in a row: zarr's threads go on writing after one has failed."""
    away = 0
    for _ in range(_LOOKS):
        shutil.rmtree(folder, ignore_errors=True)
        away = 0 if folder.exists() else away + 1
        if away >= settled:
            return
        time.sleep(_PAUSE)
