"""The accessor is another way to write the two functions."""

import numpy as np
import xarray as xr

import probtensor as pt


def test_it_is_the_functions():
    values = np.sin(np.arange(6.0))
    data = xr.DataArray(values, {"x": np.arange(6.0)}, ["x"], name="y").where(np.arange(6) != 3)
    model, engine = pt.Offset() + pt.CP(1), pt.MessagePassing(max_sweeps=5)
    post = pt.fit(data, model, engine=engine)
    xr.testing.assert_identical(data.probtensor.fit(model, engine=engine).predict(data), post.predict(data))
    filled = data.probtensor.impute(model, engine=engine, quantiles=[0.1])
    xr.testing.assert_identical(filled, post.impute(quantiles=[0.1]))
