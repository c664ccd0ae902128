"""A field around the globe: surfaces conditioned on nearest neighbours, and on the sphere."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import probtensor as pt
from tests.labelled.fields import QUICK


def field(seed=0):
    """(time, lat, lon) around the globe, without a seam; and the truth. Hidden: a box across the seam, and more."""
    generator = np.random.default_rng(seed)
    lat, lon = np.linspace(-75.0, 75.0, 6), np.arange(0.0, 360.0, 36.0)
    y, x = np.deg2rad(np.meshgrid(lat, lon, indexing="ij"))
    surface = np.sin(y) + np.cos(y) * np.cos(x - 0.5)
    truth = xr.DataArray(
        3 * np.cos(np.arange(10) / 2)[:, None, None] * surface,
        {"time": pd.date_range("2020-01-01", periods=10, freq="10D"), "lat": lat, "lon": lon},
        ["time", "lat", "lon"],
        name="tas",
    )
    seen = generator.random(truth.shape) > 0.2
    seen[2:5, 2:4, [0, 1, 9]] = False
    return (truth + 0.1 * generator.normal(size=truth.shape)).where(seen), truth


@pytest.mark.slow
@pytest.mark.parametrize(
    "prior",
    [
        pytest.param(pt.Sphere(), id="sphere"),
        pytest.param(pt.Nearest(pt.Matern(3 / 2), neighbours=12), id="nearest"),
    ],
)
def test_a_field_around_the_globe(prior):
    data, truth = field()
    model = pt.Offset() + pt.CP(1, {"time": None, ("lat", "lon"): prior})
    post = pt.fit(data, model, engine=QUICK)
    filled = post.impute()
    error = (filled["tas"] - truth).where(data.isnull())
    assert float(np.sqrt((error**2).mean())) < 0.1
    assert float((abs(error) < 1.645 * filled["tas_sd"]).where(data.isnull()).sum() / data.isnull().sum()) > 0.8
    # Between the last longitude and the first, from both sides.
    at = {"time": truth["time"][3:4], "lat": [0.0]}
    one, other = (post.predict({**at, "lon": [lon]})["mean"].item() for lon in (340.0, -20.0))
    assert one == pytest.approx(other, abs=1e-6)
    assert one == pytest.approx(3 * np.cos(1.5) * np.cos(np.deg2rad(-20.0) - 0.5), abs=0.3)
    draws = post.sample(200, at={**at, "lon": [0.0, 340.0]})
    assert float(abs(draws.mean("sample") - post.predict({**at, "lon": [0.0, 340.0]})["mean"]).max()) < 0.1
    units = post.hyperparameters().query("name == 'lengthscale' and mode != 'time'")["unit"]
    assert set(units) == {"km"}
