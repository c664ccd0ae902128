"""Small fields for the tests of the labelled shell; few shapes, so that few programs are compiled."""

import numpy as np
import pandas as pd
import xarray as xr

import probtensor as pt

#: A quick fit of one component: what a test of the shell needs.
MODEL = pt.Offset() + pt.CP(rank=1)
QUICK = pt.MessagePassing(max_sweeps=20)


def field(gaps=0.2, seed=0):
    """(time 6, lat 5, station 3): a product of smooth functions around 280 K, with gaps; and the truth."""
    generator = np.random.default_rng(seed)
    time = pd.date_range("2020-01-01", periods=6, freq="10D")
    lat = np.array([40.0, 41.0, 42.5, 45.0, 50.0])
    shape = np.sin(np.arange(6) / 2)[:, None, None] * np.cos(lat / 10)[None, :, None] * np.array([1.0, 2.0, -1.5])
    truth = xr.DataArray(
        280 + shape + 0.01 * generator.normal(size=(6, 5, 3)),
        {"time": time, "lat": ("lat", lat, {"units": "degrees_north"}), "station": ["b", "a", "c"]},
        ["time", "lat", "station"],
        name="tas",
        attrs={"units": "K", "standard_name": "air_temperature"},
    )
    seen = generator.random(truth.shape) >= gaps
    return truth.where(seen), truth


def fit(data, model=MODEL, **arguments):
    return pt.fit(data, model, engine=QUICK, **arguments)
