"""A tree and its arrays as a folder: a zarr store, and a header with the digest of every file of it.

The header is read first, then every file is compared with its digest, and only then are arrays opened. A store is
written beside its place and moved there when it is whole.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from probtensor import files
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
    check_replaceable(path)
    with files.whole(path, "save") as part:
        _fill(part, stored, written_by)


def check_replaceable(path: Path) -> None:
    """Raises FormatError unless nothing is there, or an empty folder, or a store and nothing else."""
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    try:
        known = set(header(path)["files"]) | {HEADER}
    except FormatError as error:
        raise FormatError(f"save: {path} exists and is no store of a posterior; choose another path") from error
    strange = [name for name in _files(path) if name not in known]
    if strange:
        raise FormatError(f"save: {path} has a file that is not the store's, {strange[0]}; choose another path")


def _fill(folder: Path, stored: Stored, written_by: str) -> None:
    import zarr

    folder.mkdir()
    root = zarr.create_group(folder, zarr_format=3)
    for number, array in enumerate(stored.arrays):
        root.create_array(str(number), data=np.ascontiguousarray(array).reshape(array.shape))
    (folder / f"{_TREE}.json").write_text(json.dumps(stored.tree, allow_nan=False))
    said = {
        "format": FORMAT,
        "version": VERSION,
        "written_by": written_by,
        "arrays": len(stored.arrays),
        "files": {name: _digest(folder / name) for name in _files(folder)},
    }
    (folder / HEADER).write_text(json.dumps(said | {"digest": _digest_of(said)}, indent=1))


def header(path: Path) -> dict[str, Any]:
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
        digest, whole = found.pop("digest"), _digest_of(found)
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise FormatError(f"load: {path / HEADER} is damaged: {error}") from error
    if not known:
        raise FormatError(f"load: {path} is a {found['format']!r}, not a {FORMAT!r}")
    if version > VERSION:
        raise FormatError(
            f"load: {path} has version {version} of the format, written by probtensor {found.get('written_by')}; this "
            f"one reads up to version {VERSION}. Install a newer probtensor"
        )
    if whole != digest or version < 1:
        raise FormatError(f"load: {path / HEADER} is damaged: it does not have its own digest")
    return found


def read(path: Path) -> Stored:
    """The tree and the arrays of a store.

    Raises:
        FormatError: as `header`; or a file of it is missing, added or changed.
    """
    import zarr

    found = header(path)
    listed = found["files"]
    there = set(_files(path)) - {HEADER}
    for name in sorted(set(listed) - there):
        raise FormatError(f"load: {path} is not whole: {name} is missing")
    for name in sorted(there - set(listed)):
        raise FormatError(f"load: {path} has a file that does not belong to it: {name}")
    for name, digest in listed.items():
        if _digest(path / name) != digest:
            raise FormatError(f"load: {path / name} is damaged: it is not what was written")
    arrays = [np.asarray(zarr.open_array(path / str(n), mode="r")[...]) for n in range(found["arrays"])]
    return Stored(json.loads((path / f"{_TREE}.json").read_text()), arrays)


def _files(folder: Path) -> list[str]:
    """Names from the folder on, of all but what file managers leave behind."""
    found = (file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("."))
    return sorted(file.relative_to(folder).as_posix() for file in found)


def _digest(file: Path) -> str:
    """SHA-256 of a file."""
    own = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(_CHUNK):
            own.update(block)
    return own.hexdigest()


def _digest_of(said: dict[str, Any]) -> str:
    """SHA-256 of what a header says."""
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()
