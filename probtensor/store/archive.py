"""A tree and its arrays as a folder: a zarr store, and a header with the digest of every file of it.

The header is read first, then every file is compared with its digest, and only then are arrays opened. A store is
written beside its place and moved there when it is whole.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from probtensor.errors import FormatError
from probtensor.store.tree import Stored

#: What the header calls the format, and the newest version of it.
FORMAT, VERSION = "probtensor posterior", 1
HEADER = "probtensor.json"
_TREE = "tree"
_CHUNK = 2**20


def write(path: Path, stored: Stored, written_by: str) -> None:
    """Writes a store; one that is there is replaced when the new one is whole.

    Raises:
        FormatError: there is something else at the path, or it cannot be written; nothing was changed then.
    """
    if path.exists() and not (path / HEADER).is_file():
        raise FormatError(f"save: {path} exists and is no store of a posterior; choose another path")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with _told(path):
            _fill(part, stored, written_by)
            _put(part, path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise FormatError(f"save: {path} cannot be written: {reason}; nothing was changed there") from error


def _fill(folder: Path, stored: Stored, written_by: str) -> None:
    import zarr

    folder.mkdir()
    root = zarr.create_group(folder, zarr_format=3)
    for number, array in enumerate(stored.arrays):
        root.create_array(str(number), data=np.ascontiguousarray(array).reshape(array.shape))
    (folder / f"{_TREE}.json").write_text(json.dumps(stored.tree, allow_nan=False))
    files = {str(file.relative_to(folder).as_posix()): _digest(file) for file in _files(folder)}
    header = {
        "format": FORMAT,
        "version": VERSION,
        "written_by": written_by,
        "arrays": len(stored.arrays),
        "digest": _digest_of(files),
        "files": files,
    }
    (folder / HEADER).write_text(json.dumps(header, indent=1))


def _put(part: Path, path: Path) -> None:
    """Moves a folder to its place; the old one there is only removed after that."""
    old = part.with_suffix(".old")
    if path.exists():
        os.replace(path, old)
    try:
        os.replace(part, path)
    except OSError:
        if old.exists():
            os.replace(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def header(path: Path) -> dict[str, object]:
    """What the header of a store says.

    Raises:
        FormatError: there is no store, it is of another format or of a newer version, or its header is damaged.
    """
    if not path.exists():
        raise FormatError(f"load: there is no {path}; check the path")
    if not (path / HEADER).is_file():
        raise FormatError(f"load: {path} is no store of a posterior: it has no {HEADER}")
    try:
        found = json.loads((path / HEADER).read_text())
        known, version = found["format"] == FORMAT, int(found["version"])
        files, digest = dict(found["files"]), str(found["digest"])
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"load: {path / HEADER} is damaged: {error}") from error
    if not known:
        raise FormatError(f"load: {path} is a {found['format']!r}, not a {FORMAT!r}")
    if version > VERSION:
        raise FormatError(
            f"load: {path} has version {version} of the format, written by probtensor {found.get('written_by')}; this "
            f"one reads up to version {VERSION}. Install a newer probtensor"
        )
    if _digest_of(files) != digest:
        raise FormatError(f"load: {path / HEADER} is damaged: its list of files does not have its own digest")
    return found


def read(path: Path) -> Stored:
    """The tree and the arrays of a store.

    Raises:
        FormatError: as `header`; or a file of it is missing, added or changed.
    """
    import zarr

    found = header(path)
    files = found["files"]
    assert isinstance(files, dict)
    there = {file.relative_to(path).as_posix() for file in _files(path)} - {HEADER}
    for name in sorted(set(files) - there):
        raise FormatError(f"load: {path} is not whole: {name} is missing")
    for name in sorted(there - set(files)):
        raise FormatError(f"load: {path} has a file that does not belong to it: {name}")
    for name, digest in files.items():
        if _digest(path / name) != digest:
            raise FormatError(f"load: {path / name} is damaged: it is not what was written")
    numbers = range(int(str(found["arrays"])))
    arrays = [np.asarray(zarr.open_array(path / str(number), mode="r")[...]) for number in numbers]
    return Stored(json.loads((path / f"{_TREE}.json").read_text()), arrays)


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file())


def _digest(file: Path) -> str:
    """SHA-256 of a file."""
    own = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(_CHUNK):
            own.update(block)
    return own.hexdigest()


def _digest_of(files: dict[str, str]) -> str:
    """SHA-256 of the names and digests of files."""
    return hashlib.sha256(json.dumps(sorted(files.items())).encode()).hexdigest()
