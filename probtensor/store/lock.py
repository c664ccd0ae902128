"""One process at a time: a lock beside a path, which the system lets go when the process that has it ends, however."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from probtensor import files
from probtensor.errors import FormatError

#: What the name of the lock beside the path ends with.
SUFFIX = ".lock"
#: Where the byte is that is locked on Windows, where no other process can read a locked one: behind what is written.
_BYTE = 2**30
#: What a system says when another has the lock; anything else means that there are no locks, as on some networks.
_HELD = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
#: How often a lock that another has just removed is made again.
_TRIES = 1000
_LOG = logging.getLogger("probtensor")


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keeps other processes, and other threads of this one, from what is at a path.

    The lock of a process that was killed is free: its file may still be there, and is taken over. Where the file system
    has no locks, as on some networks, there is none, which is logged.

    Raises:
        FormatError: another has it.
    """
    place = path.with_name(path.name + SUFFIX)
    number = _taken(place, path)
    try:
        yield
    finally:
        _let_go(place, number)


def _taken(place: Path, path: Path) -> int:
    """The open file of the lock, once it is ours."""
    for _ in range(_TRIES):
        with files.told(place, "checkpoint"):
            number = os.open(place, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            _lock(number)
        except OSError as error:
            if error.errno in _HELD:
                holder = _holder(number)
                os.close(number)
                raise FormatError(
                    f"checkpoint: {holder} fits to {path} now; wait for its end, or give another path"
                ) from error
            _LOG.warning("no lock for %s: %s; let no other process fit to it", path, files.reason(error))
        # Whoever had it before may have removed the file between the two.
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(number), os.stat(place)):
                break
        os.close(number)
    else:
        raise FormatError(f"checkpoint: {place} is made and removed again and again; give another path")
    with contextlib.suppress(OSError):  # such as a full disk; then it has no name
        os.ftruncate(number, 0)
        os.write(number, f"process {os.getpid()} on {socket.gethostname()}".encode())
    return number


def _let_go(place: Path, number: int) -> None:
    """Removes the file while it is still ours, or on Windows, where an open one cannot be, just after."""
    try:
        if os.name != "nt":
            _remove(place)
    finally:
        os.close(number)
    if os.name == "nt":
        _remove(place)


def _remove(place: Path) -> None:
    """Unless another has it by now, or the folder can be written to no more: a lock that nobody holds is free."""
    with contextlib.suppress(OSError):
        place.unlink(missing_ok=True)


def _holder(number: int) -> str:
    """What is written in the file."""
    with contextlib.suppress(OSError):
        os.lseek(number, 0, os.SEEK_SET)
        return os.read(number, 200).decode(errors="replace") or "another process"
    return "another process"


if sys.platform == "win32":
    import msvcrt

    def _lock(number: int) -> None:
        os.lseek(number, _BYTE, os.SEEK_SET)
        msvcrt.locking(number, msvcrt.LK_NBLCK, 1)
        os.lseek(number, 0, os.SEEK_SET)

else:
    import fcntl

    def _lock(number: int) -> None:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
