"""A local term that goes on as it last went: walks in time over places, against the dense Gaussian process."""

import numpy as np
import pytest
import xarray as xr

import probtensor as pt

TIMES, PLACES, AHEAD = 14, np.array([0.0, 1.0, 2.5, 6.0]), 5
SPAN, WIDTH, SIZE, NOISE = 6.0, 2.0, 0.7, 0.1


def covariance(t, x, s, y):
    """Of an integrated walk times an exponential kernel."""
    u, v = t[:, None] / SPAN, s[None] / SPAN
    near, far = np.minimum(u, v), np.maximum(u, v)
    return SIZE * (1 + u * v + near**2 * (3 * far - near) / 6) * np.exp(-np.abs(x[:, None] - y[None]) / WIDTH)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    t, x = np.meshgrid(np.arange(float(TIMES)), PLACES, indexing="ij")
    values = 0.3 * t * (1 + 0.2 * x) + rng.normal(0, 0.1, t.shape)
    values[rng.random(t.shape) < 0.2] = np.nan
    return xr.DataArray(values - np.nanmean(values), {"t": np.arange(float(TIMES)), "x": PLACES}, ["t", "x"])


def test_forecasts_are_those_of_the_dense_process(data):
    walk = pt.IntegratedRandomWalk(lengthscale=pt.fixed(SPAN), variance=pt.fixed(SIZE)).on("t")
    kernel = walk * pt.Matern(1 / 2, lengthscale=pt.fixed(WIDTH)).on("x")
    post = pt.fit(data, pt.Local(kernel, neighbours=int(data.count())), likelihood=pt.Gaussian(pt.fixed(NOISE)))
    ahead = {"t": np.arange(float(TIMES + AHEAD)), "x": PLACES}
    found = post.predict(ahead).transpose("t", "x", ...)

    seen = data.stack(e=("t", "x")).dropna("e")
    t, x = seen["t"].values, seen["x"].values
    s, y = (a.ravel() for a in np.meshgrid(*ahead.values(), indexing="ij"))
    weights = np.linalg.solve(covariance(t, x, t, x) + NOISE**2 * np.eye(len(t)), covariance(t, x, s, y))
    mean = (weights.T @ seen.values).reshape(found["mean"].shape)
    variance = np.diag(covariance(s, y, s, y) - covariance(s, y, t, x) @ weights) + NOISE**2
    np.testing.assert_allclose(found["mean"], mean, atol=0.02)
    np.testing.assert_allclose(found["sd"], np.sqrt(variance).reshape(mean.shape), rtol=0.02)
    steps = np.diff(found["mean"].values[-AHEAD:], axis=0)
    np.testing.assert_allclose(steps, np.broadcast_to(steps[:1], steps.shape), rtol=0.05)
    assert (steps > 0.1).all()
