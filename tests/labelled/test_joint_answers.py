"""Averages and residuals against one dense Gaussian process, which a CP over one mode is."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import probtensor as pt
from tests.oracles.gaussian_process import distances, matern

T, SD, LENGTHSCALE = 14, 0.3, 2.0
X = np.sort(np.random.default_rng(0).uniform(0, 10, T))
GAPS = np.isin(np.arange(T), [2, 7, 8, 9])
WEIGHTS = np.linspace(0.5, 2.0, T)
VALUES = np.where(GAPS, np.nan, np.sin(X) + SD * np.random.default_rng(1).normal(size=T))
DATA = xr.DataArray(VALUES, {"x": X}, ["x"], name="v", attrs={"units": "m"})
KERNEL = pt.Matern(3 / 2, lengthscale=pt.fixed(LENGTHSCALE), variance=pt.fixed(1.0))
MODEL = pt.CP(1, modes={"x": pt.Markov(KERNEL)})


def fit(data=DATA, model=MODEL, **arguments):
    return pt.fit(data, model, likelihood=pt.Gaussian(sd=pt.fixed(SD)), **arguments)


@pytest.fixture(scope="module")
def post():
    return fit(weights=WEIGHTS)


def dense(seen, new=X):
    """Mean and covariance at new places, from the observations that are seen."""
    K = matern(1.5, LENGTHSCALE, 1.0, distances(X[seen])) + np.diag(SD**2 / WEIGHTS[seen])
    cross = matern(1.5, LENGTHSCALE, 1.0, distances(new, X[seen]))
    prior = matern(1.5, LENGTHSCALE, 1.0, distances(new))
    gain = np.linalg.solve(K, cross.T).T
    return gain @ VALUES[seen], prior - gain @ cross.T


def test_an_average_has_the_sd_of_the_joint_posterior(post):
    """2000 draws know an sd to 1.6%; the marginal sds alone would give 0.6 of it."""
    mean, covariance = dense(~GAPS)
    share = WEIGHTS / WEIGHTS.sum()
    found = post.aggregate("x", weights=xr.DataArray(WEIGHTS, {"x": X}, ["x"]), quantiles=[0.1, 0.5])
    sd = np.sqrt(share @ covariance @ share)
    assert float(found["mean"]) == pytest.approx(share @ mean, abs=1e-8)
    assert float(found["sd"]) == pytest.approx(sd, rel=0.07)
    assert np.sqrt(share**2 @ np.diag(covariance)) < 0.8 * sd
    np.testing.assert_allclose(found["quantiles"], share @ mean + np.array([-1.2816, 0.0]) * sd, atol=0.12 * sd)
    assert found["sd"].attrs["units"] == "m"


def test_an_average_elsewhere(post):
    new = np.array([-1.0, 0.5, 12.0])
    mean, covariance = dense(~GAPS, new)
    found = post.aggregate(["x"], at={"x": new})
    assert float(found["mean"]) == pytest.approx(mean.mean(), abs=1e-8)
    assert float(found["sd"]) == pytest.approx(np.sqrt(covariance.mean()), rel=0.07)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"over": "y"}, "no dimension 'y' to average over; there are x"),
        ({"over": []}, "names no dimension"),
        ({"over": "x", "weights": np.zeros(T)}, "sum to zero over x"),
        ({"over": "x", "weights": -np.ones(T)}, "14 weights are negative"),
        ({"over": "x", "weights": np.ones(3)}, "its shape is"),
        ({"over": "x", "quantiles": [0.0]}, "strictly between 0 and 1"),
    ],
)
def test_bad_averages(post, arguments, message):
    with pytest.raises(pt.DataError, match=message):
        post.aggregate(**arguments)


def test_residuals_are_those_of_the_process_and_of_it_without_each_observation(post):
    found = post.residuals()
    mean, covariance = dense(~GAPS)
    noise = SD**2 / WEIGHTS
    np.testing.assert_allclose(found["residual"], VALUES - mean, atol=1e-8)
    np.testing.assert_allclose(found["standardised"], (VALUES - mean) / np.sqrt(np.diag(covariance) + noise), atol=1e-8)
    for t in np.flatnonzero(~GAPS):
        mean, covariance = dense(~GAPS & (np.arange(T) != t), X[[t]])
        expected = (VALUES[t] - mean[0]) / np.sqrt(covariance[0, 0] + noise[t])
        np.testing.assert_allclose(found["loo_residual"][t], VALUES[t] - mean[0], atol=1e-8)
        np.testing.assert_allclose(found["loo_standardised"][t], expected, atol=1e-8)
    assert np.isnan(found["loo_residual"][GAPS]).all() and found["residual"].attrs["units"] == "m"


def test_residuals_of_a_table_are_in_the_order_of_its_coordinates(post):
    rows = np.flatnonzero(~GAPS)[::-1]
    table = pt.table(pd.DataFrame({"x": X[rows], "v": VALUES[rows]}), value="v", coords=["x"])
    found = fit(table, weights=WEIGHTS[rows]).residuals()
    np.testing.assert_array_equal(found["x"], X[~GAPS])
    np.testing.assert_allclose(found["loo_residual"], post.residuals()["loo_residual"][~GAPS], atol=1e-8)


@pytest.mark.slow
def test_residuals_with_a_local_term_are_refused():
    post = fit(
        model=MODEL + pt.Local(pt.Matern(1 / 2, lengthscale=pt.fixed(1.0), variance=pt.fixed(0.1)), neighbours=2)
    )
    with pytest.raises(pt.ModelError, match="have no leave-one-out form"):
        post.residuals()
