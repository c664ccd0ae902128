"""Whether a file can be read, found out in a process of its own; see `probtensor.cli.probe`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

from probtensor.cli import probe
from probtensor.labelled.memory import host_memory

#: Seconds without a part of the file being read after which reading counts as stuck: a part is of 64 MiB.
PATIENCE = 600.0
#: Seconds between two looks, and memory where the system does not say how much there is.
_LOOK, _MUCH = 0.5, 2**62


def check(path: Path, name: str | None = None) -> None:
    """Reads a file once, as it will be read again here: the same bytes give the same.

    Args:
        path: of a NetCDF file or a zarr store.
        name: of the variable that will be read, with what it refers to; None: all are.

    Raises:
        OSError: it cannot be read: with what the library says, or that it crashed, was stuck, or took too much memory.
    """
    room = host_memory()
    command = [sys.executable, "-P", probe.__file__, os.path.abspath(path), str(_MUCH if room is None else room)]
    command += [] if name is None else [name]
    # What this process finds, the other finds, however it got there.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OPENBLAS_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    ) as process:
        assert process.stdout is not None
        listener = _Listener(process.stdout)
        try:
            while process.poll() is None:
                listener.join(_LOOK)
                if time.monotonic() - listener.latest > PATIENCE:
                    raise OSError(f"nothing more of it could be read for {PATIENCE:g} seconds; it is damaged")
        finally:
            process.kill()
            listener.join()
    if process.returncode:
        raise OSError(listener.said or _end(process.returncode))


def _end(status: int) -> str:
    """How a process ended that said nothing."""
    try:
        name = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    except ValueError:
        name = f"signal {-status}"
    return f"the library that reads it ended with {name}; it is damaged"


class _Listener(threading.Thread):
    """Hears dots while they come, and what is said at the end."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(daemon=True)
        self.latest, self._stream, self._last = time.monotonic(), stream, b""
        self.start()

    def run(self) -> None:
        """Until the other process closes its end."""
        while heard := os.read(self._stream.fileno(), 65536):
            self.latest = time.monotonic()
            self._last = (self._last + heard).lstrip(b".")

    @property
    def said(self) -> str:
        """The reason of a failure, if there was one."""
        try:
            return str(json.loads(self._last))
        except ValueError:
            return ""
