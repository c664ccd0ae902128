"""A tree and its arrays as a folder: a zarr store, and a header with the digest of every file of it.

The header is read first, then every file is compared with its digest, and only then are arrays opened, after what they
ask for was compared with the memory that there is. A store is written beside its place and moved there when it is
whole. Packed, it is one file, which another replaces at one moment.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from probtensor import files
from probtensor.errors import FormatError
from probtensor.store import guard
from probtensor.store.tree import Stored

#: What the header calls the format, and the newest version of it.
FORMAT, VERSION = "probtensor posterior", 1
HEADER = "probtensor.json"
_TREE = "tree"
_CHUNK = 2**20


def write(path: Path, stored: Stored, written_by: str, fit: Mapping[str, str] | None = None) -> None:
    """Writes a store; one that is there is replaced when the new one is whole.

    fit: what tells the fit that this is the end of from others; None: it may be any.

    Raises:
        FormatError: there is something else at the path, or it cannot be written; nothing was changed then.
    """
    check_replaceable(path)
    with files.whole(path, "save", lasting=fit is not None) as part:
        _fill(part, stored, written_by, fit)


def write_packed(path: Path, stored: Stored, written_by: str, fit: Mapping[str, str]) -> None:
    """Writes a store as one file, which replaces that which is there; see `write`."""
    with files.whole(path, "checkpoint", lasting=True) as part:
        folder = part.parent / "unpacked"
        _fill(folder, stored, written_by, fit)
        with zipfile.ZipFile(part, "w") as packed:
            for name in _files(folder):
                packed.write(folder / name, name)


def read_packed(path: Path) -> tuple[dict[str, Any], Stored]:
    """The header and the content of such a file. Raises FormatError as `read` does."""
    if not guard.regular(path):
        raise FormatError(f"load: {path} is damaged: it is no file")
    with tempfile.TemporaryDirectory() as folder:
        try:
            with zipfile.ZipFile(path) as packed:
                _check_members(packed, path.stat().st_size)
                packed.extractall(folder)
        except Exception as error:  # zipfile raises many kinds for bytes that make no sense to it
            raise FormatError(f"load: {path} is damaged: {files.reason(error)}") from error
        try:
            return header(Path(folder)), read(Path(folder))
        except FormatError as error:
            raise FormatError(str(error).replace(folder, os.fspath(path))) from error


def _check_members(packed: zipfile.ZipFile, size: int) -> None:
    """Raises ValueError unless all are files as they were written: not squeezed, each its own part of the whole."""
    members = packed.infolist()
    for own in members:
        parts = PurePosixPath(own.filename).parts
        if own.is_dir() or ".." in parts or own.filename.startswith("/") or set(own.filename) & set("\\:"):
            raise ValueError(f"{own.filename!r} is no name of a file in it")
        if own.compress_type != zipfile.ZIP_STORED or own.file_size != own.compress_size:
            raise ValueError(f"{own.filename!r} is squeezed")
    if len({own.filename for own in members}) < len(members):
        raise ValueError("two files have one name")
    if sum(own.file_size for own in members) > size:
        raise ValueError("its files are longer than it is")


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


def _fill(folder: Path, stored: Stored, written_by: str, fit: Mapping[str, str] | None) -> None:
    import zarr
    from zarr.codecs import ZstdCodec

    folder.mkdir()
    root = zarr.create_group(folder, zarr_format=3)
    for number, array in enumerate(stored.arrays):
        data = np.ascontiguousarray(array).reshape(array.shape)
        root.create_array(str(number), data=data, compressors=ZstdCodec(level=0))
    (folder / f"{_TREE}.json").write_text(json.dumps(stored.tree, allow_nan=False))
    said = {
        "format": FORMAT,
        "version": VERSION,
        "written_by": written_by,
        "arrays": len(stored.arrays),
        "files": {name: _digest(folder / name) for name in _files(folder)},
    } | ({} if fit is None else {"fit": dict(fit)})
    (folder / HEADER).write_text(json.dumps(said | {"digest": _digest_of(said)}, indent=1))


def header(path: Path) -> dict[str, Any]:
    """What the header of a store says.

    Raises:
        FormatError: there is no store, it is of another format or of a newer version, or its header is damaged.
    """
    if not path.exists():
        raise FormatError(f"load: there is no {path}; check the path")
    if (path / HEADER).is_symlink():
        raise FormatError(
            f"load: {path / HEADER} is a link; a store has its files itself: copy what it leads to (cp -rL)"
        )
    if not guard.regular(path / HEADER):
        raise FormatError(f"load: {path} is no store of a posterior: it has no {HEADER}")
    found = guard.parsed(path / HEADER, guard.Room())
    try:
        known, version = found["format"] == FORMAT, found["version"]
        digest, whole = found.pop("digest"), _digest_of(found)
        if type(version) is not int:
            raise ValueError(f"its version is {version!r}")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
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
    tables = (found.get("files"), found.get("fit", {}))
    if type(found.get("arrays")) is not int or not all(
        isinstance(table, dict) and all(isinstance(own, str) for own in table.values()) for table in tables
    ):
        raise FormatError(f"load: {path / HEADER} is damaged: it does not say which arrays and files there are")
    return found


def read(path: Path) -> Stored:
    """The tree and the arrays of a store.

    Raises:
        FormatError: as `header`; a file of it is missing, added or changed; or it asks for more memory than there is.
    """
    found = header(path)
    listed = found["files"]
    there = set(_files(path)) - {HEADER}
    for name in sorted(set(listed) - there):
        raise FormatError(f"load: {path} is not whole: {name} is missing")
    for name in sorted(there - set(listed)):
        raise FormatError(f"load: {path} has a file that does not belong to it: {name}")
    for name, digest in listed.items():
        if not guard.regular(path / name):
            raise FormatError(f"load: {path / name} is a link; a store has its files itself")
        guard.Room().take((path / name).stat().st_size, path / name)
        if _digest(path / name) != digest:
            raise FormatError(f"load: {path / name} is damaged: it is not what was written")
    for name in (f"{_TREE}.json", *(f"{n}/zarr.json" for n in range(min(found["arrays"], len(listed) + 1)))):
        if name not in listed:
            raise FormatError(f"load: {path} is not whole: {name} is missing")
    chunks: dict[str, list[str]] = {}
    for name in listed:
        folder, _, own = name.partition("/")
        if own == "c" or own.startswith("c/"):
            chunks.setdefault(folder, []).append(own)
    room = guard.Room()
    arrays = [_array(path / str(n), chunks.get(str(n), []), room) for n in range(found["arrays"])]
    return Stored(guard.parsed(path / f"{_TREE}.json", room), arrays)


def _array(folder: Path, chunks: list[str], room: guard.Room) -> np.ndarray:
    import zarr

    guard.check_array(folder, chunks, room)
    try:
        return np.asarray(zarr.open_array(folder, mode="r", zarr_format=3)[...])
    except Exception as error:
        raise FormatError(f"load: {folder} is damaged: {files.reason(error)}") from error


def _files(folder: Path) -> list[str]:
    """Names from the folder on, of all but what file managers leave behind."""
    found = (file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("."))
    return sorted(file.relative_to(folder).as_posix() for file in found)


def _digest(file: Path) -> str:
    """SHA-256 of a file. Raises FormatError if it cannot be read."""
    own = hashlib.sha256()
    try:
        with file.open("rb") as stream:
            while block := stream.read(_CHUNK):
                own.update(block)
    except OSError as error:
        raise FormatError(f"load: {file} cannot be read: {files.reason(error)}") from error
    return own.hexdigest()


def _digest_of(said: dict[str, Any]) -> str:
    """SHA-256 of what a header says."""
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def digest(stored: Stored) -> str:
    """SHA-256 of a tree with its arrays, which need not be written for it."""
    own = hashlib.sha256(json.dumps(stored.tree).encode())
    for array in stored.arrays:
        own.update(repr((array.shape, array.dtype.str)).encode())
        own.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return own.hexdigest()
