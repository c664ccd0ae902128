"""Predictions along a track and on curvilinear grids: coordinates that share a dimension go together, as in xarray."""

import numpy as np
import pytest
import xarray as xr

import probtensor as pt
from tests.labelled.fields import field, fit

DATA, _ = field()
TRACK = {"time": ("obs", DATA["time"].to_numpy()[[0, 2, 1]]), "lat": ("obs", [41.0, 44.0, 49.0])}


@pytest.fixture(scope="module")
def post():
    return fit(DATA)


def expected(post, **at):
    frame = pt.points({n: np.ravel(v) for n, v in at.items()})
    return post.predict(frame)["mean"].to_numpy()


@pytest.mark.slow
def test_a_track(post):
    track = xr.Dataset(coords=TRACK | {"obs": [7, 8, 9], "depth": ("obs", [1, 2, 3]), "station": "a"})
    for at in (track, {n: track[n] for n in ("time", "lat", "station")}, xr.DataArray(np.zeros(3), track.coords)):
        found = post.predict(at, quantiles=[0.5])
        assert found["mean"].dims == ("obs",) and found["quantiles"].dims == ("quantile", "obs")
        np.testing.assert_array_equal(found["obs"], [7, 8, 9])
        np.testing.assert_allclose(
            found["mean"], expected(post, time=TRACK["time"][1], lat=TRACK["lat"][1], station=["a"] * 3), atol=1e-9
        )
    assert post.sample(4, at=track).dims == ("sample", "obs")


def test_a_track_and_another_dimension_make_an_outer_grid(post):
    found = post.predict({"station": ["a", "b"], **{n: xr.DataArray(v[1], dims="obs") for n, v in TRACK.items()}})
    assert found["mean"].dims == ("station", "obs")
    np.testing.assert_allclose(
        found["mean"].sel(station="b"),
        expected(post, time=TRACK["time"][1], lat=TRACK["lat"][1], station=["b"] * 3),
        atol=1e-9,
    )


def test_a_curvilinear_grid(post):
    lat = xr.DataArray(np.linspace(40, 50, 6).reshape(2, 3), dims=("y", "x"))
    time = xr.DataArray(DATA["time"].to_numpy()[:6].reshape(2, 3), dims=("y", "x"), attrs={"long_name": "when"})
    found = post.predict({"lat": lat, "time": time, "station": "c"})
    assert found["mean"].dims == ("y", "x") and found["lat"].dims == ("y", "x")
    assert found["time"].attrs == {"long_name": "when"}
    np.testing.assert_allclose(
        found["mean"].to_numpy().ravel(), expected(post, lat=lat, time=time, station=["c"] * 6), atol=1e-9
    )


BAD = {
    "sizes": (
        {"lat": xr.DataArray([41.0, 42.0], dims="obs"), "time": xr.DataArray(DATA["time"].to_numpy()[:3], dims="obs")},
        "do not go together",
    ),
    "labels": (
        {
            "lat": xr.DataArray([41.0, 42.0], {"obs": [1, 2]}, ["obs"]),
            "time": xr.DataArray(DATA["time"].to_numpy()[:2], {"obs": [2, 3]}, ["obs"]),
        },
        "lat, .*do not go together.*same labels",
    ),
    "missing": (
        {
            "lat": xr.DataArray([41.0, np.nan], dims="obs"),
            "time": xr.DataArray(DATA["time"].to_numpy()[:2], dims="obs"),
        },
        "'lat' in `at` is missing at index 1",
    ),
    "empty": (
        {"lat": xr.DataArray([], dims="obs").astype(float), "time": DATA["time"].to_numpy()[0]},
        "`at` is empty: its sizes are {'obs': 0}",
    ),
    "two dimensions beside a track": (
        {"lat": [[41.0]], "time": xr.DataArray(DATA["time"].to_numpy()[:2], dims="obs")},
        "'lat' in `at` has 2 dimensions.*dims=",
    ),
    "two dimensions": ({"lat": [[41.0]], "time": DATA["time"].to_numpy()[0]}, "has 2 dimensions"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_tracks(post, case):
    at, words = BAD[case]
    with pytest.raises(pt.DataError, match=words):
        post.predict(at | {"station": "a"})
