"""Ctrl-C at moments at which it would leave JAX unusable."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Has an interrupt from the keyboard wait until the end of the block, where it is raised.

    JAX notes for a thread that it is tracing a program. An interrupt while it takes that back leaves the note, and
    every later computation of the process fails. Only the main thread is interrupted, and a handler of the user's own
    is left as it is.
    """
    own = signal.default_int_handler
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not own:
        yield
        return
    came: list[Any] = []

    def note(*given: Any) -> None:
        came.append(given)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) is note:
            signal.signal(signal.SIGINT, own)
        if came:
            raise KeyboardInterrupt


@contextlib.contextmanager
def around(enter: Callable[[], object], leave: Callable[[], object]) -> Iterator[None]:
    """Enters before a block and leaves after it, each at one go: what an interrupt finds entered is left again."""
    entered = False
    try:
        with deferred():
            enter()
            entered = True
        yield
    finally:
        with deferred():
            if entered:
                leave()
