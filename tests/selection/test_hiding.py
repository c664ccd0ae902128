"""Hold-outs for the error bars of a chosen model."""

import jax
import numpy as np
import pytest
import xarray as xr

import probtensor as pt
from probtensor.selection import hiding
from probtensor.selection.hiding import hidden
from probtensor.selection.hold_out import hold_out

HELD = pt.fixed
TIMES, PLACES = 24, 8
PASSES = pt.Matern(1 / 2, lengthscale=HELD(3.0), variance=HELD(2.0)).on("time") * pt.Matern(
    1 / 2, lengthscale=HELD(3.0)
).on("x")
ENGINE = pt.MessagePassing(draws=2, power=1.0)


@pytest.fixture(params=["boxes", "forecast"])
def problem(request):
    """Axes, observations, the first hold-out, and a fit."""
    rng = np.random.default_rng(0)
    values = np.cumsum(rng.normal(size=(TIMES, PLACES)), axis=1) + 0.1 * rng.normal(size=(TIMES, PLACES))
    data = xr.DataArray(values, {"time": np.arange(float(TIMES)), "x": np.arange(float(PLACES))}, ["time", "x"])
    data.time.attrs["units"] = "days since 2000-01-01"
    if request.param == "forecast":
        data[20:] = np.nan
    else:
        data[3:8, 2:5] = data[15:20, 4:7] = np.nan

    post = pt.fit(data, pt.Local(PASSES, neighbours=15), likelihood=pt.Gaussian(HELD(0.1)), engine=ENGINE)
    axes, observations = post._fitted.encoded.axes(()), post._fitted.observations
    return axes, observations, hold_out(list(axes), observations, 0, ["time"]), post._fitted.state


def told(problem):
    axes, observations, first, state = problem
    with jax.enable_x64(True):
        return list(hidden(state, first, ENGINE, axes, observations, 0))


@pytest.mark.slow
def test_many_observations_have_one(problem, monkeypatch):
    monkeypatch.setattr(hiding, "_FEWEST", 5)
    monkeypatch.setattr(hiding, "_MANY", problem[1].count - 1)
    assert len(told(problem)) == 1


@pytest.mark.slow
def test_few_gaps_ask_for_more(problem, monkeypatch):
    monkeypatch.setattr(hiding, "_FEWEST", 5)
    _, observations, first, _ = problem
    found = told(problem)
    assert len(found) == 3
    np.testing.assert_array_equal(found[0].out.mask, first.mask)
    seen = np.asarray(observations.weights) > 0
    for one in found:
        np.testing.assert_array_equal(one.predicted.truth, np.asarray(observations.values)[one.out.mask])
        assert seen[one.out.mask].all()
        known = np.asarray(one.state.local.observations.weights) > 0
        assert not known[one.out.mask].any()
        assert one.state.local.neighbours == 15
    if first.forecast:  # nothing that comes later is known
        assert not known[first.mask].any()


def test_enough_gaps_are_enough(problem, monkeypatch):
    monkeypatch.setattr(hiding, "_FEWEST", 5)
    monkeypatch.setattr(hiding, "_ENOUGH", 1)
    assert len(told(problem)) == 1


def test_few_values_are_not_learned_from(problem):
    assert told(problem) == []
