"""A longitude is a circle: the same places however they are written, closed where they go around, labels as given."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import probtensor as pt
from probtensor.labelled import coordinates, filling
from probtensor.labelled.encode import encode
from probtensor.terms import modes
from probtensor.terms.base import DataScale
from tests.helpers import mostly_slow
from tests.labelled.fields import MODEL, fit

EAST = {"units": "degrees_east", "standard_name": "longitude"}
TIMES = pd.date_range("2020-01-01", periods=6, freq="10D")


def field(lon, attrs=EAST, name="lon", seed=0):
    """(time 6, longitude): a product, smooth around the globe, with gaps."""
    rng = np.random.default_rng(seed)
    values = np.sin(np.arange(6) / 2)[:, None] * np.cos(np.deg2rad(lon) - 0.5) + 0.02 * rng.normal(size=(6, len(lon)))
    coords = {"time": TIMES, name: (name, lon, attrs)}
    return xr.DataArray(values, coords, ["time", name], name="v").where(rng.random(values.shape) > 0.2)


GLOBE = np.arange(0.0, 360.0, 30.0)


def prior_of(post, mode):
    """Of the last term's functions of a mode."""
    term = post._fitted.state.model.terms[-1]
    return term.blocks[term.names.index(mode)].prior


#: name -> (longitudes of 12 places, whether they go around)
WAYS = {
    "globe": (GLOBE, True),
    "Greenwich": (np.arange(-60.0, 60.0, 10), False),
    "date line": (np.arange(125.0, 245, 10), False),
}


@pytest.fixture(scope="module", params=mostly_slow(WAYS))
def both(request):
    """A fit with longitudes from 0 to 360, and one of the same data from -180 to 180; whether these go around."""
    lon, closed = WAYS[request.param]
    data = field(lon).assign_coords(lon=("lon", lon % 360, EAST))
    other = data.assign_coords(lon=("lon", (lon + 180) % 360 - 180, EAST)).sortby("lon")
    return fit(data.sortby("lon")), fit(other), closed


def test_both_conventions_have_the_same_answer(both):
    one, other, _ = both
    filled, again = one.impute()["v"], other.impute()["v"]
    assert set(filled["lon"].to_numpy()) <= set(range(360)) and again["lon"].min() < 0
    back = again.assign_coords(lon=again["lon"] % 360).sortby("lon")
    np.testing.assert_allclose(back, filled.sortby("lon"), atol=1e-9)
    at = {"time": TIMES[2]}
    for lon in (-10.0, 350.0, 710.0):
        for post in both[:2]:
            expected = one.predict(at | {"lon": [350.0]})
            xr.testing.assert_allclose(post.predict(at | {"lon": [lon]}).drop_vars("lon"), expected.drop_vars("lon"))


def test_the_default_goes_around_where_the_longitudes_do(both):
    one, other, closed = both
    for post in (one, other):
        assert ("closes on itself" in post.summary()) is closed
        assert prior_of(post, "lon").period == (360.0 if closed else None)
        assert prior_of(post, "time").period is None


def test_labels_stay_as_written_and_in_order(both):
    one, other, closed = both
    for post in (one, other):
        own = np.sort(post.impute()["lon"].to_numpy())
        for found in (post.factors(), post.residuals(), post.sample(2), post.impute()):
            np.testing.assert_array_equal(found["lon"], own)
        mean = post.factors()["lon_mean"][0]
        assert abs(np.corrcoef(mean, np.cos(np.deg2rad(own) - 0.5))[0, 1]) > 0.99
    text = one.summary()
    assert ("0 to 330" in text) is closed


@pytest.mark.slow
def test_there_is_no_seam_by_default_and_one_on_a_line():
    data = field(GLOBE)
    at = {"time": TIMES[3:4], "lon": np.array([359.99, 0.01, 179.99, 180.01])}
    around = fit(data).predict(at)["mean"].to_numpy()[0]
    assert abs(np.diff(around[:2])) < 1e-3 and abs(np.diff(around[2:])) < 1e-3
    line = fit(data, pt.Offset() + pt.CP(1, {"lon": pt.Markov(pt.Matern(3 / 2)), "time": None})).predict(at)["mean"]
    jumps = abs(np.diff(line.to_numpy()[0]))
    assert max(jumps[0], jumps[2]) > 1e-4  # where the circle was cut for the line


SAID = {
    "yes, of a region": (np.arange(0.0, 100, 10), EAST | {"circular": True}, 360.0),
    "no, of the globe": (GLOBE, EAST | {"modulo": "false"}, None),
    "another name": (GLOBE, {"units": "degrees_east"}, 360.0),
    "no longitude": (GLOBE, {"units": "km"}, None),
}


@pytest.mark.parametrize("case", SAID)
def test_attributes_decide(case):
    lon, attrs, period = SAID[case]
    found, _ = coordinates.read("x" if "another" in case else "lon", lon, attrs)
    assert found.axis().period == period


@pytest.mark.slow
def test_a_bare_kernel_goes_around_and_one_that_cannot_stays_a_line():
    data = field(GLOBE)
    for kernel, period in ((pt.Matern(5 / 2), 360.0), (pt.Periodic(360.0, order=2), None)):
        post = fit(data, pt.CP(1, {"lon": kernel, "time": None}))
        assert prior_of(post, "lon").period == period


def test_many_functions_go_around_only_if_told():
    """By default they would cost eight times as much as on a line."""
    axis = coordinates.read("lon", GLOBE, EAST)[0].axis()
    for rank, declared, period in ((10, None, 360.0), (11, None, None), (11, pt.Markov(pt.Matern(1 / 2), 360), 360.0)):
        chosen = modes.choose("CP", (("lon", declared),), {"lon": axis}).active["lon"]
        bound = modes.bind("CP", chosen, axis, DataScale(0.0, 1.0).start(axis, np.ones(rank), True))
        assert isinstance(bound, pt.Markov) and bound.period == period


@pytest.mark.slow
def test_a_local_kernel_goes_around():
    """Along a longitude alone, where the edges of the grid are neighbours."""
    lon = np.arange(0.0, 360.0, 7.2)
    data = xr.DataArray(np.cos(np.deg2rad(lon)), {"lon": lon}, ["lon"], name="v").where(lon < 340)
    kernel = pt.Matern(3 / 2, lengthscale=pt.fixed(60.0), variance=pt.fixed(1.0)).on("lon")
    model = pt.Offset() + pt.Local(kernel, neighbours=20)
    filled = pt.fit(data, model, likelihood=pt.Gaussian(sd=pt.fixed(0.01))).impute()["v"]
    assert float(abs(filled - np.cos(np.deg2rad(lon))).max()) < 0.02


TWICE = {
    "0 and 360": (np.arange(0.0, 361.0, 30.0), r"0 \(index 0\) and 360 \(index 12\).*isel\(lon=slice\(0, -1\)\)"),
    "-180 and 180": (
        np.arange(-180.0, 181.0, 30.0),
        r"-180 \(index 0\) and 180 \(index 12\) are one place, given twice",
    ),
    "in the middle": (np.array([0.0, 30, 360, 90, 120]), r"0 \(index 0\) and 360 \(index 2\).*isel\(lon=...\)"),
    "32 bits": (np.arange(0.1, 361.0, 30.0).astype("float32"), "closes on itself"),
    "the same label": (np.array([0.0, 30.0, 30.0, 60.0]), r"label 30.0 stands at indices \[1, 2\]"),
}


@pytest.mark.parametrize("case", TWICE)
def test_one_place_twice_is_refused_in_a_grid(case):
    lon, words = TWICE[case]
    with pytest.raises(pt.DataError, match=words):
        fit(field(lon))


@pytest.mark.slow
def test_one_place_twice_is_one_level_in_a_table():
    lon = np.tile([0.0, 90.0, 360.0, 180.0, -90.0, 270.0, -180.0], 6)
    frame = pd.DataFrame({"lon": lon, "day": np.repeat(np.arange(6.0), 7)})
    frame["v"] = np.cos(np.deg2rad(frame["lon"])) * np.sin(frame["day"] / 2)
    post = fit(pt.table(frame, "v", ["lon", "day"]), MODEL)
    assert post.factors().sizes["lon"] == 4
    assert "lon 4 levels" in " ".join(post.summary().split())


@pytest.mark.slow
def test_updates_keep_the_circle():
    """New data in the other convention, at old places and at new ones."""
    data = field(GLOBE)
    post = fit(data[:4]).update(data[4:].assign_coords(lon=("lon", GLOBE - 360, EAST)))
    assert post.factors().sizes["lon"] == 12
    more = fit(data[:4]).update(data[4:].assign_coords(lon=("lon", GLOBE - 345, EAST)))
    assert more.factors().sizes["lon"] == 24
    filled = more.impute()
    np.testing.assert_array_equal(filled["lon"], GLOBE - 345)
    assert np.isfinite(filled["v"]).all()


def test_a_fit_of_an_earlier_version_keeps_its_line():
    """Its stored coordinate says nothing of a circle, and its levels ascend as they were written."""
    encoded = encode(field(GLOBE))
    line = coordinates.Coordinate("lon", "numeric", GLOBE, "degrees_east", "number")
    old = dataclasses.replace(encoded, coordinates=encoded.coordinates | {"lon": line})
    on_levels = xr.DataArray(np.broadcast_to(line.labels, (6, 12)), dims=["time", "lon"])
    np.testing.assert_array_equal(filling.on_template(on_levels, old)[0], GLOBE)
    now = xr.DataArray(np.broadcast_to(encoded.coordinates["lon"].labels, (6, 12)), dims=["time", "lon"])
    np.testing.assert_array_equal(filling.on_template(now, encoded)[0], GLOBE)
    assert (now[0] != GLOBE).any()


POLES = {
    "fit": lambda: pt.fit(pole([80.0, 90.0, 95.0])),
    "predict": lambda: fit(pole([70.0, 80.0, 90.0])).predict({"lat": [-91.0], "time": TIMES[0]}),
}


def pole(lat):
    values = np.outer(np.arange(3.0), np.arange(6.0) ** 2)
    return xr.DataArray(values, {"lat": ("lat", lat, {"units": "degrees_north"}), "time": TIMES}, ["lat", "time"])


@pytest.mark.slow
@pytest.mark.parametrize("case", POLES)
def test_no_latitude_beyond_the_poles(case):
    with pytest.raises(pt.DataError, match="'lat' is a latitude.*1 of its labels lie beyond the poles .first: index"):
        POLES[case]()


def test_numbers_called_lat_without_a_unit_may_be_anything():
    assert coordinates.read("lat", np.array([0.0, 500.0]))[0].axis().meaning == ""
    assert coordinates.read("lon", np.array([0.0, 500.0]))[0].cut is None
