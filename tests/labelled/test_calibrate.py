"""Calibrated intervals against the conformal quantile in plain NumPy, and what they cover of gaps never seen."""

import numpy as np
import pytest
import xarray as xr
from scipy.stats import norm

import probtensor as pt

X, Y = np.linspace(0, 10, 40), np.linspace(0, 6, 30)
#: Of rank one but for a part that a rank of one leaves over, smooth in both directions.
TRUTH = np.outer(np.sin(X), np.cos(Y)) + 0.4 * np.cos(1.3 * X[:, None] + 1.7 * Y)
FIELD = xr.DataArray(TRUTH + 0.1 * np.random.default_rng(0).normal(size=TRUTH.shape), {"x": X, "y": Y}, ["x", "y"])
GAPS = pt.gaps.blocks(0.25, size={"x": 5, "y": 5}).mask({"x": 40, "y": 30}, 1)
MODEL = pt.Offset() + pt.CP(1)
QUICK = pt.MessagePassing(max_sweeps=30)


@pytest.fixture(scope="module")
def post():
    return pt.fit(FIELD.where(~GAPS), MODEL, engine=QUICK)


def scores(post):
    return post.score(FIELD.where(GAPS))


def test_intervals_are_the_conformal_ones(post):
    half = np.arange(40)[:, None] < 20
    held_out = FIELD.where(GAPS & half)
    made = post.calibrate(held_out)
    found = post.predict(FIELD).transpose("x", "y")
    z = np.sort(np.abs((held_out - found["mean"]) / found["sd"]).to_numpy()[GAPS & half])
    n = len(z)
    for coverage in (0.5, 0.9):
        q = z[int(np.ceil(coverage * (1 + 1 / n) * (n - 1)))]
        low, high = (
            made.predict(FIELD, quantiles=[p])["quantiles"][0] for p in (0.5 - coverage / 2, 0.5 + coverage / 2)
        )
        np.testing.assert_allclose(high, found["mean"] + q * found["sd"], rtol=1e-6)
        np.testing.assert_allclose(low, found["mean"] - q * found["sd"], rtol=1e-6)
    np.testing.assert_allclose(made.predict(FIELD)["mean"], post.predict(FIELD)["mean"])
    np.testing.assert_allclose(made.predict(FIELD, quantiles=[0.5])["quantiles"][0], found["mean"], rtol=1e-8)


@pytest.mark.slow
def test_gaps_like_those_of_the_data_are_covered(post):
    """Intervals that believe in independent noise cover too little in gaps; calibrated ones what they say."""
    made = post.calibrate()
    assert scores(post)["coverage90"] < 0.83
    assert 0.85 < scores(made)["coverage90"] <= 1.0
    assert scores(made)["interval_score90"] < scores(post)["interval_score90"]
    assert scores(made)["rmse"] == pytest.approx(scores(post)["rmse"])
    filled = made.impute(quantiles=[0.05])
    assert made.calibration.factor > 1.1
    np.testing.assert_allclose(
        filled["value_sd"].to_numpy()[GAPS].mean(), made.predict(FIELD)["sd"].to_numpy()[GAPS].mean()
    )


@pytest.mark.slow
def test_counts_stay_whole():
    rng = np.random.default_rng(3)
    counts = FIELD.copy(data=rng.poisson(np.exp(TRUTH + 1)).astype(float))
    post = pt.fit(counts.where(~GAPS), MODEL, likelihood=pt.Poisson(), engine=QUICK).calibrate()
    found = post.score(counts.where(GAPS))
    assert 0.85 < found["coverage90"] <= 1.0
    quantiles = post.impute(quantiles=[0.1, 0.9])["value_quantiles"].to_numpy()
    np.testing.assert_array_equal(quantiles, np.round(quantiles))


@pytest.mark.slow
def test_a_normal_posterior_that_is_right_stays_as_it_is():
    rng = np.random.default_rng(4)
    white = xr.DataArray(rng.normal(size=(30, 30)), dims=["a", "b"]).where(rng.random((30, 30)) < 0.6)
    post = pt.fit(white, pt.Offset("a") + pt.Offset("b"), likelihood=pt.Gaussian(sd=pt.fixed(1.0)))
    made = post.calibrate()
    assert made.calibration.factor == pytest.approx(1.0, abs=0.2)
    wide = made.predict({"a": [0], "b": [0]}, quantiles=[0.95])["quantiles"].item()
    assert wide == pytest.approx(post.predict({"a": [0], "b": [0]})["mean"].item() + norm.ppf(0.95), abs=0.4)


def test_bad_calibrations(post):
    with pytest.raises(pt.DataError, match="used in training"):
        post.calibrate(FIELD)
    one = FIELD.where(GAPS & (np.cumsum(GAPS).reshape(GAPS.shape) <= 3))
    with pytest.raises(pt.DataError, match="3 separate gaps, and at least 4"):
        post.calibrate(one)
    with pytest.raises(pt.ModelError, match="seed"):
        post.calibrate(seed=-1)
