"""A bar on the terminal that says how far a fit is, for how long it has run, and for how long it can at most go on."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


class TimeLeft:
    """Seconds that the steps left over take, at the speed so far.

    The first block of steps is not counted, because it compiles; nothing is known before the second is done, nor after
    a start from the beginning, as restarts make one.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first: tuple[int, float] | None = None
        self._last: int = 0

    def after(self, done: int, total: int) -> float | None:
        """Seconds left when ``done`` of ``total`` steps are done, at most; None: not known."""
        now = self._clock()
        if self._first is None or done <= self._last:
            self._first, self._last = (done, now), done
            return None
        self._last = done
        before, then = self._first
        return (now - then) / (done - before) * max(total - done, 0)


def shown(seconds: float) -> str:
    """A time as a clock shows it: ``0:07``, ``12:30``, ``1:02:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def telling_time_left(tell: Callable[[str], None], least: float) -> Callable[[int, int, float], None]:
    """A function for (steps done, steps at most, objective) that tells once what is left, if at least so many seconds.

    Steps from the beginning again, as restarts make them, are told of again.
    """
    left, told = TimeLeft(), 0

    def update(done: int, total: int, objective: float) -> None:
        nonlocal told
        seconds, told = left.after(done, total), told if done > told else 0
        if seconds is not None and seconds >= least and not told:
            tell(f"at most {shown(seconds)} left after {done} of at most {total} sweeps")
            told = done

    return update


@contextlib.contextmanager
def bar(console: Console | None = None, logs: bool = False) -> Iterator[Callable[[int, int, float], None]]:
    """Draws a bar while it lasts.

    console: where; None: the standard output. logs: show what the package logs, too.

    Gives a function to be called with (steps done, steps at most, objective in nats). A fit ends when it has converged,
    so what is left is said as "at most".
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[left]}"))
    with Progress(*columns, console=console, transient=True) as bars:
        task, left = bars.add_task("compiling", total=None, left=""), TimeLeft()

        def update(done: int, total: int, objective: float) -> None:
            seconds = left.after(done, total)
            said = "" if seconds is None else f"at most {shown(seconds)} left"
            text = f"sweep {done} of at most {total}, {objective:.6g} nats"
            # A task that is complete stops its clock, and another restart may follow.
            bars.update(task, completed=min(done, total - 0.5), total=total, description=text, left=said, refresh=True)

        def log(text: str) -> None:
            bars.update(task, description=text, left="", refresh=True)

        with _log_to(log) if logs else contextlib.nullcontext():
            yield update


class _Shown(logging.Handler):
    """Hands each message to a function."""

    def __init__(self, show: Callable[[str], None]) -> None:
        super().__init__()
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        self._show(record.getMessage())


@contextlib.contextmanager
def _log_to(show: Callable[[str], None]) -> Iterator[None]:
    """Shows the package's log messages while it lasts."""
    handler, logger = _Shown(show), logging.getLogger("probtensor")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
