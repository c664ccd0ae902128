"""A fit that is kept on disk while it runs, so that it can go on after it was cut off.

While it runs there are two files beside the path: a packed store of how far it is, and a lock, so that no other process
fits to the same path. At its end there is the posterior at the path. Each takes its place at one moment, so that a
process that is killed leaves the last one whole.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from probtensor import files
from probtensor.engines.checkpoint import Checkpoint, Journal
from probtensor.errors import DataError, FormatError, ModelError
from probtensor.labelled.posterior import Posterior
from probtensor.model import BoundModel
from probtensor.precision import double_precision
from probtensor.store import archive
from probtensor.store.classes import LEFT_OUT
from probtensor.store.lock import locked
from probtensor.store.posterior import load, save, version
from probtensor.store.tree import Stored, described, rebuilt

#: What the name of the file beside the path ends with.
SUFFIX = ".checkpoint"
#: Seconds between two writes, at least, and the share of the time that they may take.
_SECONDS, _SHARE = 10.0, 0.05
#: Of what tells fits apart, what comes with the data.
_OF_DATA = ("data", "weights", "errors")
_LOG = logging.getLogger("probtensor")


def fitted(
    path: str | os.PathLike[str],
    asked: Mapping[str, Any],
    make: Callable[[Callable[[BoundModel], Journal]], Posterior],
) -> Posterior:
    """The posterior at a path, or one that is made and kept there.

    Args:
        path: of the posterior.
        asked: what tells this fit from others, by name.
        make: the fit, given what makes the journal of a model.

    Raises:
        DataError: what is there is of a fit to other data.
        ModelError: it is of another fit to these data; or there is something in this one that cannot be stored.
        FormatError: it is damaged, nothing can be written there, or another process fits to it.
    """
    kept = _Kept(files.real(path), asked)
    if (post := kept.finished()) is not None:
        return post
    files.check_writable(kept.place, "checkpoint")
    with locked(kept.place):
        if (post := kept.finished()) is not None:  # by another process, just now
            return post
        kept.open()
        try:
            post = make(kept.journal)
        except BaseException:
            with contextlib.suppress(FormatError):
                kept.write()
            raise
        save(post._fitted, post._made, kept.place, kept.fit)
        kept.running.unlink(missing_ok=True)
    return post


def running(path: Path) -> tuple[Mapping[str, str], str, Checkpoint]:
    """What a checkpoint's file holds: what tells its fit from others, the model's digest, and how far it is.

    Called in the scope of 64 bits. Raises FormatError if it is damaged, or something else.
    """
    said, stored = archive.read_packed(path)
    match rebuilt(stored):
        case (str() as structure, Checkpoint() as found):
            return said.get("fit", {}), structure, found
    raise FormatError(f"load: {path} holds no checkpoint")


class _Kept:
    """What is on disk of one fit."""

    def __init__(self, place: Path, asked: Mapping[str, Any]) -> None:
        self.place, self.running = place, place.with_name(place.name + SUFFIX)
        self.fit = {name: archive.digest(described(own, LEFT_OUT)) for name, own in asked.items()}
        self.fit["version of probtensor"] = version()
        self._structure = ""
        self._found: tuple[str, Checkpoint] | None = None
        self._latest: Checkpoint | None = None
        self._written, self._pause = time.monotonic(), _SECONDS

    def finished(self) -> Posterior | None:
        """The posterior, if it is there."""
        if not self.place.exists() or (self.place.is_dir() and not any(self.place.iterdir())):
            return None
        with _advised(self.place):
            found = archive.header(self.place).get("fit")
        if found is None:
            raise ModelError(
                f"checkpoint: {self.place} is a posterior that was saved there, and not by a fit with this checkpoint; "
                "give another path, or delete it"
            )
        self._refuse_other(self.place, found)
        with _advised(self.place):
            post = load(self.place)
        _LOG.info("fitted before: read from %s", self.place)
        self.running.unlink(missing_ok=True)
        return post

    def open(self) -> None:
        """Reads how far the fit was, and makes sure that how far it will be can be written."""
        for path in (self.place, self.running):
            files.check_writable(path, "checkpoint")
            files.remove_unfinished(path)
        if not self.running.exists():
            return
        with _advised(self.running), double_precision():
            said, structure, found = running(self.running)
        self._refuse_other(self.running, said)
        self._found = structure, found

    def journal(self, model: BoundModel) -> Journal:
        """Of the fit of a model, with what is on disk of it. Raises ModelError if that is of another one."""
        self._structure = _structure(described(model, LEFT_OUT))
        if self._found is None:
            return Journal(Checkpoint(), self._keep)
        structure, found = self._found
        if structure != self._structure:
            raise ModelError(
                f"checkpoint: {self.running} is of another model than is chosen now from the same data, as can happen "
                "on another machine; go on where it was begun, or delete it, or give another path"
            )
        done = 0 if found.loop is None else len(found.loop.objective)
        _LOG.info("goes on from %s: %d starts ended, %d sweeps of the next", self.running, len(found.finished), done)
        return Journal(found, self._keep)

    def _keep(self, checkpoint: Checkpoint) -> None:
        self._latest = checkpoint
        if time.monotonic() - self._written >= self._pause:
            self.write()

    def write(self) -> None:
        """Writes how far the fit is, unless that is on disk."""
        if self._latest is None:
            return
        begun = time.monotonic()
        stored = described((self._structure, self._latest), LEFT_OUT)
        archive.write_packed(self.running, stored, version(), self.fit)
        self._latest, self._written = None, time.monotonic()
        self._pause = max(_SECONDS, (self._written - begun) / _SHARE)

    def _refuse_other(self, path: Path, found: Mapping[str, str]) -> None:
        """Raises DataError or ModelError if what is at a path is of another fit."""
        names = [name for name in self.fit if found.get(name) != self.fit[name]]
        if names:
            kind = DataError if any(name in _OF_DATA for name in names) else ModelError
            raise kind(
                f"checkpoint: {path} is of another fit: it had other {', '.join(names)}. Give the same again, or "
                "delete it, or give another path"
            )


def _structure(stored: Stored) -> str:
    """A digest of a tree without the numbers in its arrays, whose last bits can differ between machines."""
    shapes = [[list(array.shape), array.dtype.str] for array in stored.arrays]
    return archive.digest(Stored([stored.tree, shapes], []))


@contextlib.contextmanager
def _advised(path: Path) -> Iterator[None]:
    """Adds to a FormatError what to do."""
    try:
        yield
    except FormatError as error:
        said = str(error).removeprefix("load: ")
        raise FormatError(f"checkpoint: {said}. Delete {path}, or give another path") from error
