"""The bar: what it says of the time left, and that it never says more than it knows."""

import io
import logging
import re

import pytest
from rich.console import Console

from probtensor import progress


def at(*times):
    """A clock that shows these times, one after another."""
    return iter(times).__next__


def test_nothing_is_known_before_the_second_block():
    left = progress.TimeLeft(at(0.0, 10.0, 16.0, 30.0))
    assert left.after(10, 100) is None  # it has compiled until then
    assert left.after(20, 100) == pytest.approx(80.0)  # 10 sweeps in 10 seconds
    assert left.after(40, 100) == pytest.approx(32.0)  # 30 in 16
    assert left.after(100, 100) == 0.0


def test_a_restart_is_a_new_begin():
    left = progress.TimeLeft(at(0.0, 10.0, 11.0, 13.0))
    left.after(10, 20)
    left.after(20, 20)
    assert left.after(10, 20) is None
    assert left.after(15, 20) == pytest.approx(2.0)


def test_more_steps_than_there_are():
    left = progress.TimeLeft(at(0.0, 1.0))
    left.after(1, 2)
    assert left.after(3, 2) == 0.0


def test_a_long_fit_is_told_once_for_how_long_it_can_go_on(monkeypatch):
    monkeypatch.setattr(progress.TimeLeft.__init__, "__defaults__", (at(0.0, 10.0, 20.0, 20.0, 30.0, 30.0, 31.0),))
    said = []
    update = progress.telling_time_left(said.append, 60.0)
    for done in (5, 10, 15):
        update(done, 100, 0.0)
    assert said == ["at most 3:00 left after 10 of at most 100 sweeps"]
    for done in (5, 10):  # a restart
        update(done, 100, 0.0)
    assert said[1:] == ["at most 3:00 left after 10 of at most 100 sweeps"]
    for done in (5, 10):  # and one that is quick
        update(done, 100, 0.0)
    assert len(said) == 2


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "0:00"), (59.6, "1:00"), (125, "2:05"), (3725, "1:02:05")])
def test_times_as_a_clock_shows_them(seconds, text):
    assert progress.shown(seconds) == text


def drawn(console):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())


def test_what_is_drawn():
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    logger = logging.getLogger("probtensor")
    before = (logger.level, list(logger.handlers))
    with progress.bar(console, logs=True) as report:
        logging.getLogger("probtensor").info("trying rank 2")
        report(10, 100, -12.5)
        report(20, 100, -11.5)
        report(100, 100, -11.0)
        report(1, 100, -13.0)
    text = drawn(console)
    for words in ("compiling", "trying rank 2", "sweep 20 of at most 100, -11.5 nats", "at most 0:00 left"):
        assert words in text, text
    assert (logger.level, list(logger.handlers)) == before


def test_logs_are_shown_only_where_they_are_asked_for():
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    with progress.bar(console):
        logging.getLogger("probtensor").info("trying rank 2")
    assert "trying" not in drawn(console)
