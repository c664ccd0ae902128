"""A power of the likelihood is, for one function, noise of the power-th part of the precision."""

import numpy as np
import pytest
import xarray as xr

import probtensor as pt


def regression(power, sd):
    x = np.array([0.0, 0.4, 1.0, 1.7, 2.5])
    y = xr.DataArray(np.sin(x), {"x": x}, ["x"])
    kernel = pt.Matern(3 / 2, lengthscale=pt.fixed(0.8), variance=pt.fixed(1.0))
    model = pt.CP(1, modes={"x": pt.Markov(kernel)})
    likelihood = pt.Gaussian(sd=pt.fixed(sd))
    post = pt.fit(y, model, likelihood=likelihood, engine=pt.MessagePassing(power=power, max_sweeps=5))
    return post.predict({"x": [0.2, 1.3, 4.0]})


@pytest.mark.slow
def test_power_scales_the_noise_precision():
    a, b = regression(0.25, 0.1), regression(1.0, 0.2)
    np.testing.assert_allclose(a["mean"], b["mean"], rtol=1e-10)
    np.testing.assert_allclose(a["signal_sd"], b["signal_sd"], rtol=1e-10)


def test_predictive_noise_is_that_of_one_observation():
    found = regression(0.25, 0.1)
    np.testing.assert_allclose(found["sd"] ** 2 - found["signal_sd"] ** 2, 0.01, rtol=1e-9)
