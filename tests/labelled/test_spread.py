"""Standard deviations beside a local term that grow or shrink from place to place, in every answer."""

import dataclasses

import numpy as np
import pytest
import xarray as xr

import probtensor as pt
from probtensor.engines.collapsed.spread import Spread

TIMES, PLACES, NOISE = 12, np.array([0.0, 1.0, 2.5, 6.0]), 0.05
FACTORS = np.array([1.0, 2.0, 0.5, 3.0])


@pytest.fixture(scope="module")
def post():
    rng = np.random.default_rng(0)
    values = np.cumsum(rng.normal(size=(TIMES, len(PLACES))), axis=0)
    data = xr.DataArray(values, {"t": np.arange(float(TIMES)), "x": PLACES}, ["t", "x"])
    kernel = pt.Matern(1 / 2, lengthscale=pt.fixed(6.0)).on("t") * pt.Matern(1 / 2, lengthscale=pt.fixed(2.0)).on("x")
    model = pt.Offset() + pt.Local(kernel, neighbours=10)
    return pt.fit(data.where(rng.random(data.shape) < 0.6), model, likelihood=pt.Gaussian(pt.fixed(NOISE)))


@pytest.fixture(scope="module")
def wide(post):
    fitted = post._fitted
    spread = Spread((1,), PLACES[:, None], FACTORS)
    return post._with(dataclasses.replace(fitted, state=fitted.state.with_spread(spread)), post._result)


def variances(post, **at):
    return np.asarray(post.predict({"t": np.arange(TIMES + 3.0), "x": PLACES} | at)["sd"].transpose("t", "x")) ** 2


@pytest.mark.slow
def test_the_functions_sd_is_multiplied_and_the_noise_is_not(post, wide):
    before, after = variances(post) - NOISE**2, variances(wide) - NOISE**2
    np.testing.assert_allclose(after, before * FACTORS**2, rtol=1e-6)


def test_means_stay(post, wide):
    np.testing.assert_array_equal(post.impute()["value_filled"], wide.impute()["value_filled"])


def test_elsewhere_it_is_that_of_the_nearest_place(post, wide):
    at = {"x": np.array([0.1, 5.0])}
    before, after = variances(post, **at) - NOISE**2, variances(wide, **at) - NOISE**2
    np.testing.assert_allclose(after, before * FACTORS[[0, 3]] ** 2, rtol=1e-6)


def test_draws_are_spread_alike(post, wide):
    at = {"t": np.array([4.5, 14.0]), "x": PLACES}
    before, after = (one.sample(2000, at, seed=1).transpose(..., "t", "x") for one in (post, wide))
    np.testing.assert_allclose(after.std("sample") / before.std("sample"), np.tile(FACTORS, (2, 1)), rtol=0.02)
    np.testing.assert_allclose(after.mean("sample"), before.mean("sample"), atol=0.15)


def test_it_is_saved(wide, tmp_path):
    wide.save(tmp_path / "fit.zarr")
    np.testing.assert_array_equal(variances(pt.load(tmp_path / "fit.zarr")), variances(wide))


def test_an_update_keeps_it(post, wide):
    new = xr.DataArray([[0.5, 0.1, -0.2, 0.3]], {"t": [float(TIMES)], "x": PLACES}, ["t", "x"])
    before, after = (variances(one.update(new)) - NOISE**2 for one in (post, wide))
    np.testing.assert_allclose(after, before * FACTORS**2, rtol=1e-6)
