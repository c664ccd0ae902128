"""Period starts: the cycles that are in a series, found through gaps, noise and trends."""

import numpy as np
import pytest

from probtensor.observations.domain import domain, observations
from probtensor.observations.spectrum import periods, strongest


def series(number, regular, seed=0):
    rng = np.random.default_rng(seed)
    x = np.arange(number, dtype=float) if regular else np.sort(rng.uniform(0, number, number))
    x = x[(x < 0.4 * number) | (x > 0.55 * number)]
    waves = 2 * np.sin(2 * np.pi * x / 29.5 + 1) + np.cos(2 * np.pi * x / 7.3)
    return x, waves + 0.5 * rng.normal(size=len(x)) + 0.05 * x


@pytest.mark.parametrize("regular", [True, False])
@pytest.mark.parametrize("number", [200, 3000])
def test_known_cycles_are_found_in_order(regular, number):
    """To a sixteenth of a cycle in the whole record."""
    x, y = series(number, regular)
    found = strongest(x, y[None], np.ones(len(x)))
    for period, true in zip(found, (29.5, 7.3), strict=False):
        assert abs(1 / period - 1 / true) < 1 / (10 * number)
    assert strongest(x[::-1], y[None, ::-1], np.ones(len(x))) == pytest.approx(found, rel=1e-6)
    assert strongest(60 * x, y[None] + 1e5, np.ones(len(x))) == pytest.approx([60 * p for p in found], rel=1e-4)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (np.arange(9.0), np.sin(np.arange(9.0))),
        (np.arange(30.0), 3 * np.arange(30.0) - 7),
        (np.arange(30.0), np.full(30, 4.0)),
        (np.full(30, 2.0), np.sin(np.arange(30.0))),
    ],
)
def test_nothing_to_find(x, y):
    assert strongest(x, y[None], np.ones(len(x))) == ()


def test_of_each_mode():
    t, s = np.arange(120.0), np.array([0.0, 1.0, 2.0])
    values = np.sin(2 * np.pi * t / 12)[:, None] + s
    found = periods(observations(domain({"t": t, "s": s}, {}), values, np.ones(values.shape)))
    assert list(found) == ["t"]
    assert found["t"][0] == pytest.approx(12, rel=0.01)


@pytest.mark.parametrize("table", [False, True])
def test_cycles_in_opposite_phases_are_found(table):
    """They cancel in the means along the mode, under a weak ripple that does not."""
    t, s = np.arange(200.0), np.arange(4.0)
    values = np.sin(2 * np.pi * t / 17)[:, None] * np.array([1.0, -1.0, 1.0, -1.0])
    values = values + 0.05 * np.sin(2 * np.pi * t / 50)[:, None] + 300
    levels, index = {"t": t, "s": s}, np.stack(np.meshgrid(np.arange(200), np.arange(4), indexing="ij"), -1)
    where = domain(levels, {}, index.reshape(-1, 2)) if table else domain(levels, {})
    values = values.ravel() if table else values
    found = periods(observations(where, values, np.ones(values.shape)))["t"]
    assert found[0] == pytest.approx(17, rel=0.01) and found[1] == pytest.approx(50, rel=0.03)
