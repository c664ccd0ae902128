"""Dimensions with a multi-index: their levels are modes, their entries points, and answers come back stacked."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import probtensor as pt
from tests.helpers import mostly_slow
from tests.labelled.fields import MODEL, field, fit

DATA, TRUTH = field()


@pytest.fixture(scope="module")
def grid():
    return fit(DATA)


#: name -> how the data are stacked.
STACKED = {
    "two": lambda d: d.stack(cell=("lat", "station")),
    "two, the other way": lambda d: d.stack(cell=("station", "lat")).transpose("cell", "time"),
    "all": lambda d: d.stack(entry=("time", "lat", "station")),
    "shuffled": lambda d: d.stack(cell=("lat", "station")).isel(cell=np.random.default_rng(0).permutation(15)),
}


@pytest.mark.parametrize("case", mostly_slow(STACKED, "shuffled"))
def test_a_stacked_grid_has_the_grids_answer(grid, case):
    stacked = STACKED[case](DATA.assign_coords(area=(("lat", "station"), np.ones((5, 3)))))
    stacked.encoding = {"dtype": "float32"}
    post = fit(stacked)
    filled = post.impute(samples=2)
    (dim,) = (d for d in stacked.dims if d != "time")
    assert filled["tas"].dims == stacked.dims and filled["tas"].attrs["units"] == "K"
    xr.testing.assert_identical(filled.coords.to_dataset(), stacked.coords.to_dataset())
    assert filled["tas"].encoding == stacked.encoding
    assert isinstance(filled.indexes[dim], pd.MultiIndex)
    back = filled["tas"].unstack(dim).transpose(*DATA.dims).sel(station=DATA["station"])
    np.testing.assert_allclose(back, grid.impute()["tas"], atol=1e-9)
    np.testing.assert_array_equal(filled["tas_filled"], stacked.isnull())
    at = {"time": DATA["time"][:2], "lat": [41.5], "station": ["a", "c"]}
    np.testing.assert_allclose(post.predict(at)["mean"], grid.predict(at)["mean"], atol=1e-9)


@pytest.fixture(scope="module")
def post():
    return fit(DATA.stack(cell=("lat", "station")))


@pytest.mark.slow
def test_every_answer_comes_back_on_the_stacked_dimension(grid, post):
    stacked = DATA.stack(cell=("lat", "station"))
    for found, expected in (
        (post.residuals(), grid.residuals()),
        (post.sample(3), grid.sample(3)),
        (post.predict(stacked), grid.predict(DATA)),
        (post.aggregate("time"), grid.aggregate("time")),
    ):
        assert isinstance(found.indexes["cell"], pd.MultiIndex)
        back = found.unstack("cell")
        expected = expected.reindex(lat=back["lat"], station=back["station"])
        for name in () if isinstance(found, xr.DataArray) else set(found.data_vars) - {"sd"}:
            # Averages are of the means, and residuals of the same entries.
            order = expected[name].dims
            np.testing.assert_allclose(back[name].transpose(*order), expected[name], atol=1e-8)


def test_scores_weights_and_masks_are_stacked_alike(post):
    stacked, truth = DATA.stack(cell=("lat", "station")), TRUTH.stack(cell=("lat", "station"))
    assert post.score(truth.where(stacked.isnull()))["n"] == int(stacked.isnull().sum())
    with pytest.raises(pt.DataError, match="used in training"):
        post.score(stacked)
    weighted = fit(stacked, weights=xr.ones_like(stacked["time"], dtype=float))
    np.testing.assert_allclose(weighted.impute()["tas"], post.impute()["tas"], atol=1e-9)
    sea = (stacked["lat"] > 41).drop_vars(["cell", "lat", "station"])
    for mask in (sea, (stacked["lat"] > 41).isel(cell=slice(None, None, -1))):
        where = post.impute(where=mask)
        np.testing.assert_array_equal(where["tas_filled"], stacked.isnull() & (stacked["lat"] > 41))


def scattered(seed=0):
    """60 stations at places of their own, of which a table makes no grid."""
    rng = np.random.default_rng(seed)
    lat, lon = np.round(rng.uniform(40, 60, 60), 3), np.round(rng.uniform(-20, 20, 60), 3)
    index = pd.MultiIndex.from_arrays([lat, lon], names=["lat", "lon"])
    shape = np.sin(np.arange(8) / 2)[:, None] * np.cos(lat / 8) * np.cos(lon / 15)
    time = pd.date_range("2020-01-01", periods=8)
    coords = xr.Coordinates.from_pandas_multiindex(index, "place").assign({"time": time})
    data = xr.DataArray(shape + 0.01 * rng.normal(size=shape.shape), coords, ["time", "place"], name="v")
    return data.where(rng.random(shape.shape) > 0.2), shape


@pytest.mark.slow
def test_scattered_stations_do_not_become_a_grid():
    data, truth = scattered()
    post = fit(data, pt.Offset() + pt.CP(1, {"time": None, ("lat", "lon"): None}))
    assert post._fitted.encoded.index.shape == (480, 3)
    filled = post.impute(quantiles=[0.1, 0.9])
    assert float(abs(filled["v"] - truth).where(data.isnull()).max()) < 0.1
    assert filled["v_quantiles"].dims == ("quantile", "time", "place")
    assert post.factors()["lat_lon_mean"].sizes["lat_lon_level"] == 60


def test_an_index_that_was_set():
    frame = pd.DataFrame({"day": np.repeat(np.arange(5.0), 3), "name": list("abc") * 5})
    frame["v"] = np.sin(frame["day"] / 2) * np.tile([1.0, 2.0, 3.0], 5)
    frame.loc[4, "v"] = np.nan
    array = frame.set_index(["day", "name"])["v"].to_xarray().stack(obs=("day", "name"))
    series = xr.DataArray(frame["v"], dims="obs", coords={"day": ("obs", frame["day"]), "name": ("obs", frame["name"])})
    series = series.set_index(obs=("day", "name")).rename("v")
    one, other = (fit(data, MODEL).impute()["v"] for data in (array, series))
    np.testing.assert_allclose(one, other, atol=1e-9)


@pytest.mark.slow
def test_a_stacked_posterior_is_stored_and_updated(post, tmp_path):
    post.save(tmp_path / "fit.zarr")
    loaded = pt.load(tmp_path / "fit.zarr")
    xr.testing.assert_identical(loaded.impute(), post.impute())
    later = DATA.assign_coords(time=DATA["time"] + np.timedelta64(100, "D")).stack(cell=("lat", "station"))
    filled = loaded.update(later).impute()
    xr.testing.assert_identical(filled.coords.to_dataset(), later.coords.to_dataset())


BAD = {
    "twice": (
        lambda: DATA.stack(cell=("lat", "station")).isel(cell=[0, 1, 2, 1]),
        r"'cell': lat=40.0, station=a stands at indices \[1, 3\].*pt.table",
    ),
    "one place twice": (
        lambda: xr.DataArray(
            np.arange(3.0),
            xr.Coordinates.from_pandas_multiindex(
                pd.MultiIndex.from_arrays([[0.0, 360.0, 90.0], [1.0, 1.0, 1.0]], names=["lon", "x"]), "cell"
            ),
            ["cell"],
        ),
        r"'cell': lon=0.0, x=1.0 stands at indices \[0, 1\]",
    ),
    "missing": (
        lambda: xr.DataArray(
            np.arange(3.0),
            xr.Coordinates.from_pandas_multiindex(
                pd.MultiIndex.from_arrays([[0.0, np.nan, 2.0], ["a", "b", "c"]], names=["x", "name"]), "cell"
            ),
            ["cell"],
        ),
        "'x': 1 of 3 labels are missing .first: index 1",
    ),
    "infinite": (lambda: 1 / (DATA.stack(cell=("lat", "station")) - DATA.max()), "infinite .first: lat="),
    "reserved": (lambda: DATA.rename(lat="sd").stack(cell=("sd", "station")), "a mode is called 'sd'"),
    "reserved dimension": (lambda: DATA.stack(observation=("lat", "station")), "a mode is called 'observation'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_indexes(case):
    make, words = BAD[case]
    with pytest.raises(pt.DataError, match=words):
        fit(make())


def test_a_calibrated_stacked_posterior(post):
    held = TRUTH.where(DATA.isnull()).stack(cell=("lat", "station"))
    assert post.calibrate(held).impute()["tas"].dims == ("time", "cell")
