"""Polynomials and circles with labels: fits that fill gaps, and questions outside a domain that are refused."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import probtensor as pt
from tests.labelled.fields import QUICK


def yearly(seed=0):
    """(year 4, doy 73): a cycle that closes around the new year, which one gap covers in every year; and the truth."""
    generator = np.random.default_rng(seed)
    doy, year = np.arange(1.0, 366.0, 5.0), np.arange(2001.0, 2005.0)
    cycle = np.cos(2 * np.pi * (doy - 5) / 365.25) + 0.3 * np.sin(4 * np.pi * doy / 365.25)
    truth = xr.DataArray(np.outer([1.0, 1.3, 0.8, 1.1], cycle), {"year": year, "doy": doy}, ["year", "doy"], name="t")
    seen = generator.random(truth.shape) > 0.2
    seen[:, :4] = seen[:, -4:] = False
    return (truth + 0.05 * generator.normal(size=truth.shape)).where(seen), truth


@pytest.mark.slow
def test_a_cycle_is_filled_across_the_new_year():
    data, truth = yearly()
    post = pt.fit(data, pt.CP(1, modes={"doy": pt.Cyclic(365.25), "year": pt.Categorical()}), engine=QUICK)
    filled = post.impute()
    error = (filled["t"] - truth).where(data.isnull())
    assert float(np.sqrt((error**2).mean())) < 0.05
    assert float((abs(error) < 1.645 * filled["t_sd"]).where(data.isnull()).mean()) > 0.8
    # The same day is the same value, in this year and in any other disguise.
    at = {"year": [2002.0], "doy": [0.5, 100.0]}
    one, other = (post.predict({**at, "doy": np.array(at["doy"]) + shift}) for shift in (0, 365.25))
    np.testing.assert_allclose(other["mean"], one["mean"].values, rtol=1e-9)
    np.testing.assert_allclose(other["sd"], one["sd"].values, rtol=1e-9)
    rows = post.hyperparameters().query("mode == 'doy'")
    assert "lengthscale" in set(rows["name"]) and not rows["name"].str.contains("features").any()


@pytest.fixture(scope="module")
def smooth():
    """(time 30, x 25), a smooth function of both with gaps; the truth; and its fit by polynomials."""
    generator = np.random.default_rng(1)
    time, x = pd.date_range("2020-01-01", periods=30, freq="D"), np.linspace(-2.0, 3.0, 25)
    values = np.outer(np.sin(np.arange(30) / 8), np.exp(-(x**2) / 3) + 0.2 * x)
    truth = xr.DataArray(values, {"time": time, "x": ("x", x, {"units": "m"})}, ["time", "x"], name="u")
    data = (truth + 0.01 * generator.normal(size=truth.shape)).where(generator.random(truth.shape) > 0.3)
    bounds = ("2019-12-31", np.datetime64("2020-02-01"))
    modes = {"time": pt.Basis("legendre", 12, bounds=bounds), "x": pt.Basis("chebyshev", 12)}
    return data, truth, pt.fit(data, pt.Offset() + pt.CP(1, modes=modes), engine=pt.MessagePassing(max_sweeps=60))


@pytest.mark.slow
def test_polynomials_fill_gaps(smooth):
    """Noise of 0.01 on 30 lines of 25 values, 24 weights."""
    data, truth, post = smooth
    error = (post.impute()["u"] - truth).where(data.isnull())
    assert float(np.sqrt((error**2).mean())) < 0.003
    at = {"time": np.array(["2019-12-31", "2020-01-31"], "M8[ns]"), "x": [-2.0, np.float32(3.0)]}
    assert np.isfinite(post.predict(at)["sd"]).all() and np.isfinite(post.sample(2, at=at)).all()


OUTSIDE = {
    "number": (
        {"time": "2020-01-02", "x": [0.0, 3.25]},
        r"term 1 \(CP\): mode 'x': 3.25 of coordinate 'x' is outside the domain of the mode's prior, -2 to 3, .*"
        r"pt.Markov\(kernel\) or pt.Basis\('hilbert'\).*bounds=\(low, high\)",
    ),
    "time": (
        {"time": np.array(["2020-01-02", "2020-02-01T06"], "M8[ns]"), "x": 0.0},
        "mode 'time': 2020-02-01 06:00:00 of coordinate 'time' .* 2019-12-31 to 2020-02-01,",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", OUTSIDE)
def test_questions_outside_a_domain_are_refused(smooth, case):
    at, words = OUTSIDE[case]
    post = smooth[2]
    for ask in (post.predict, lambda at: post.sample(2, at=at), lambda at: post.predict(pt.points(table(at)))):
        with pytest.raises(pt.ModelError, match=words):
            ask(at)
    assert np.isfinite(post.predict(at, terms=[0])["mean"]).all()


def table(at):
    """The same places one by one."""
    length = max(np.size(v) for v in at.values())
    return {n: np.resize(np.asarray(v, "M8[ns]" if n == "time" else float), length) for n, v in at.items()}


def test_bounds_of_a_time_axis_are_times(smooth):
    data = smooth[0]
    for bounds, words in {
        ("2020-01-05", "2020-02-01"): "CP: mode 'time': .*the level 2020-01-01 of 'time' .* 2020-01-05 to 2020-02-01;",
        ("soon", "2020-02-01"): "CP: mode 'time': .*of 'time': coordinate 'time' holds times",
        (0.0, 60.0): "coordinate 'time' holds times",
    }.items():
        with pytest.raises(pt.ModelError, match=words):
            pt.fit(data, pt.CP(1, modes={"time": pt.Basis("legendre", 5, bounds=bounds), "x": None}), engine=QUICK)
