"""What several test files need: the precision of this run and the tolerances that go with it."""

import os

import jax
import numpy as np
import pytest

DTYPE = np.dtype(np.float64 if jax.config.read("jax_enable_x64") else np.float32)

#: What two ways to the same number may differ by, relative to its scale.
TOLERANCE = {np.dtype(np.float64): 1e-8, np.dtype(np.float32): 1e-3}


def tolerance(factor: float = 1.0) -> float:
    """The tolerance of this run's precision, times a factor whose reason the caller states."""
    return factor * TOLERANCE[DTYPE]


def assert_close(actual, expected, factor: float = 1.0) -> None:
    """Both agree, relative to the largest expected value (at least 1)."""
    expected = np.asarray(expected, dtype=np.float64)
    scale = max(1.0, float(np.max(np.abs(expected), initial=0.0)))
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=0.0, atol=scale * tolerance(factor))


def mostly_slow(cases, *quick):
    """Cases for `parametrize`, of which the quick tests run those named, or the first; the slow ones run the others."""
    cases = list(cases)
    assert all(case in cases for case in quick), f"{quick} are not all among {cases}"
    return [case if case in (quick or cases[:1]) else pytest.param(case, marks=pytest.mark.slow) for case in cases]


def partly_slow(cases, *slow):
    """Cases for `parametrize`, of which the slow tests run those named, and the quick tests the others."""
    assert all(case in cases for case in slow), f"{slow} are not all among {list(cases)}"
    return mostly_slow(cases, *(case for case in cases if case not in slow))


def joined(text: str) -> str:
    """Text on one line: a summary breaks long lines."""
    return " ".join(text.split())


def interrupted_once(monkeypatch, place):
    """Ctrl-C when something is first moved to a place; gives what was to be moved there, so far."""
    moves, move = [], os.replace

    def replace(one, other):
        if other == place:
            moves.append(one)
            if len(moves) == 1:
                raise KeyboardInterrupt
        move(one, other)

    monkeypatch.setattr(os, "replace", replace)
    return moves
