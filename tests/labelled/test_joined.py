"""Joined dimensions with labels: a field with gaps, the same in any disguise, tables, and what is read of a fit."""

import itertools

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import probtensor as pt
from tests.labelled.fields import QUICK

SIZES = {"time": 12, "lat": 6, "lon": 8}
MODES = {"time": None, ("lat", "lon"): None}
BASIS = {"time": None, ("lat", "lon"): pt.Basis("hilbert", 30)}


def field(gaps=0.3, seed=0):
    """(time, lat, lon) around 10 degC: two surfaces, no products of functions of latitude and longitude; the truth."""
    generator = np.random.default_rng(seed)
    time = pd.date_range("2020-01-01", periods=12, freq="10D")
    lat, lon = np.linspace(35.0, 60.0, 6), np.linspace(-10.0, 25.0, 8)
    y, x = np.meshgrid(lat / 10, lon / 10, indexing="ij")
    surfaces = np.stack([np.sin(y + 0.7 * x), np.exp(-((y - 4.5 - 0.4 * x) ** 2))])
    times = np.stack([np.sin(np.arange(12) / 2), np.cos(np.arange(12) / 4)])
    truth = xr.DataArray(
        10 + 2 * np.einsum("kt,kij->tij", times, surfaces),
        {
            "time": time,
            "lat": ("lat", lat, {"units": "degrees_north"}),
            "lon": ("lon", lon, {"units": "degrees_east"}),
        },
        ["time", "lat", "lon"],
        name="tas",
        attrs={"units": "degC"},
    )
    seen = generator.random(truth.shape) >= gaps
    seen[3:6, 2:5, 3:6] = False
    return (truth + 0.1 * generator.normal(size=truth.shape)).where(seen), truth


def fit(data, modes=MODES, rank=2, **arguments):
    return pt.fit(data, pt.Offset() + pt.CP(rank, modes), engine=QUICK, **arguments)


@pytest.fixture(scope="module", params=["exact", pytest.param("basis", marks=pytest.mark.slow)])
def post(request):
    return fit(field()[0], BASIS if request.param == "basis" else MODES)


def test_gaps_are_filled(post):
    """Noise of 0.1: what is hidden comes back to half of that, and inside its intervals."""
    data, truth = field()
    filled = post.impute()
    hidden = data.isnull()
    error = (filled["tas"] - truth).where(hidden)
    assert float(np.sqrt((error**2).mean())) < 0.08
    assert 0.07 < post.noise_sd < 0.13
    assert float((abs(error) < 1.645 * filled["tas_sd"]).where(hidden).mean()) > 0.85
    assert np.diff(post.objective).min() > -1e-6
    np.testing.assert_array_equal(filled["tas"].where(~hidden), data)


@pytest.mark.slow
def test_predictions_anywhere(post):
    data, truth = field()
    found = post.predict({"lon": [-10.0, 3.3, 25.0], "time": truth["time"][2:4], "lat": [41.0, 60.0]})
    assert dict(found.sizes) == {"lon": 3, "time": 2, "lat": 2}
    one_by_one = pd.DataFrame(
        list(itertools.product([-10.0, 3.3, 25.0], truth["time"][2:4].values, [41.0, 60.0])),
        columns=["lon", "time", "lat"],
    )
    listed = post.predict(one_by_one)
    for name in ("mean", "sd"):
        np.testing.assert_allclose(listed[name], found[name].values.ravel(), rtol=1e-6)
    own = post.predict(data)
    np.testing.assert_allclose(own["mean"], post.impute()["tas"].where(data.isnull(), own["mean"]), rtol=1e-6)
    # Across the date line and back: the same longitudes in another disguise.
    turned = post.predict({"lon": [350.0, 363.3, 385.0], "time": truth["time"][2:4], "lat": [41.0, 60.0]})
    np.testing.assert_allclose(turned["mean"], found["mean"], rtol=1e-6)
    draws = post.sample(400, at={"lon": [0.0, 5.0], "lat": [45.0], "time": truth["time"][3:4]})
    exact = post.predict({"lon": [0.0, 5.0], "lat": [45.0], "time": truth["time"][3:4]})
    assert abs(float((draws.mean("sample") - exact["mean"]).max())) < 5 * float(exact["signal_sd"].max()) / 20
    np.testing.assert_allclose(draws.std("sample"), exact["signal_sd"].transpose(*draws.dims[1:]), rtol=0.25)


@pytest.mark.parametrize("gauge", ["canonical", "raw"])
def test_factors_are_surfaces(post, gauge):
    _, truth = field()
    f = post.factors(gauge=gauge)
    assert f["lat_lon_mean"].dims == f["lat_lon_sd"].dims == ("component", "lat", "lon")
    np.testing.assert_array_equal(f["lon"], truth["lon"])
    product = f["lat_lon_mean"].dot(f["time_mean"], dim="component")
    term = post.predict(truth, terms=[1])["mean"]
    np.testing.assert_allclose(product.transpose(*term.dims), term, atol=1e-6)


def test_reports(post):
    assert "CP(rank 2 over time, lat x lon)" in post.summary()
    table = post.hyperparameters()
    own = table[(table["mode"] == "lat x lon") & (table["name"] == "lengthscale")]
    assert own["unit"].tolist() == ["km", "km"] and own["value"].between(300, 30_000).all()
    stretches = table[table["name"] == "stretch of lon"]
    assert len(stretches) == (1 if "Basis" in repr(post.model) else 0)
    panels = [axes for axes in post.plot.factors().axes if axes.axison and axes.get_label() != "<colorbar>"]
    assert len(panels) == 4
    assert [len(axes.collections) for axes in panels] == [2, 1, 2, 1]  # a map has its land beside it


def test_the_same_data_in_any_disguise():
    data, _ = field()
    one = fit(data)
    other = fit(data.transpose("lon", "time", "lat").isel(lat=slice(None, None, -1)), {("lon", "lat"): None, ...: None})
    np.testing.assert_allclose(other.objective, one.objective, rtol=1e-9)
    np.testing.assert_allclose(
        other.impute()["tas"].transpose("time", "lat", "lon").sortby("lat"), one.impute()["tas"], rtol=1e-9
    )


@pytest.fixture(scope="module")
def table():
    frame = field()[0].to_dataframe().dropna().reset_index()
    return frame[(frame["lat"] != 40.0) | (frame["lon"] > 0.0)]


@pytest.mark.slow
def test_a_table_is_the_grid_with_gaps(table):
    """But for a start with fewer levels: those of places that never occur. They meet at the same optimum."""
    listed = fit(pt.table(table, value="tas", coords=["time", "lat", "lon"]), BASIS)
    data, truth = field()
    missing = (data["lat"] == 40.0) & (data["lon"] <= 0.0)
    grid = fit(data.where(~missing), BASIS)
    at = {"time": truth["time"], "lat": [37.0, 50.0], "lon": [3.0, 20.0]}
    np.testing.assert_allclose(listed.predict(at)["mean"], grid.predict(at)["mean"], atol=0.05)
    f = listed.factors()
    places = table[["lat", "lon"]].drop_duplicates().sort_values(["lat", "lon"])
    assert f["lat_lon_mean"].dims == ("component", "lat_lon_level")
    np.testing.assert_array_equal(np.stack([f["lat"], f["lon"]], 1), places)
    assert listed.plot.factors().axes


@pytest.mark.slow
def test_a_joined_mode_of_names_is_one_mode_of_their_pairs():
    """Exchangeable pairs of levels on a grid, and the same pairs as names of a table: one model."""
    data, _ = field()
    joined = fit(data, {("lat", "lon"): pt.Categorical(), "time": None})
    frame = data.to_dataframe().reset_index()
    places = frame[["lat", "lon"]].drop_duplicates().sort_values(["lat", "lon"]).reset_index(drop=True)
    number = {tuple(place): f"cell {k:03d}" for k, place in enumerate(places.to_numpy())}
    frame["cell"] = [number[place] for place in zip(frame["lat"], frame["lon"], strict=True)]
    listed = fit(pt.table(frame.dropna(), value="tas", coords=["time", "cell"]), {"cell": None, "time": None})
    np.testing.assert_allclose(listed.objective, joined.objective, rtol=1e-8)
    f, g = joined.factors(), listed.factors()
    np.testing.assert_allclose(f["lat_lon_mean"].stack(cell=["lat", "lon"]), g["cell_mean"], rtol=1e-5, atol=1e-8)


@pytest.mark.slow
def test_names_joined_with_numbers_are_pairs_of_their_own():
    data, _ = field()
    named = data.assign_coords(lon=list("hgfedcba")).rename(lon="site")
    post = fit(named, {("site", "lat"): None, "time": None})
    assert post.factors()["lat_site_mean"].dims == ("component", "lat", "site")
    new = post.predict({"site": ["a", "z"], "lat": [35.0, 36.0], "time": data["time"][:1]}, terms=[1])["mean"]
    assert abs(float(new.sel(site="a", lat=35.0).squeeze())) > 1e-3
    np.testing.assert_allclose(new.sel(site="z"), 0.0, atol=1e-12)
    np.testing.assert_allclose(new.sel(lat=36.0), 0.0, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(
    "term", [pt.Tucker({("lat", "lon"): 3, "time": 2}, MODES), pt.TensorTrain(2, MODES)], ids=["tucker", "train"]
)
def test_other_decompositions(term):
    data, truth = field()
    post = pt.fit(data, pt.Offset() + term, engine=QUICK)
    error = (post.impute()["tas"] - truth).where(data.isnull())
    assert float(np.sqrt((error**2).mean())) < 0.1
    f = post.factors()
    assert f["lat_lon_mean"].sizes["lat"] == 6 and f["lat_lon_mean"].sizes["lon"] == 8
    product = f["lat_lon_mean"]
    if isinstance(term, pt.Tucker):
        product = product.dot(post.core()["mean"], dim="lat_lon_component").dot(f["time_mean"], dim="time_component")
    else:
        product = product.dot(f["time_mean"], dim="bond_1")
    found = post.predict(truth, terms=[1])["mean"]
    np.testing.assert_allclose(product.transpose(*found.dims), found, atol=1e-6)
    assert post.plot.factors().axes


@pytest.mark.slow
def test_a_dimension_of_one_level():
    data, _ = field()
    post = fit(data.isel(lon=[0]), {("lat", "lon"): None, "time": None}, rank=1)
    assert post.factors()["lat_lon_mean"].dims == ("component", "lat", "lon")
    assert np.isfinite(post.impute()["tas"]).all()


REFUSED = {
    "alone, too": ({("lat", "lon"): None, "lat": None}, "CP: dimension 'lat' is in mode 'lat x lon' and in mode 'lat'"),
    "absent": ({("lat", "depth"): None}, "CP names mode 'depth', which the data do not have; they have lat, lon, time"),
    "markov": ({("lat", "lon"): pt.Markov(pt.Matern(1 / 2))}, "CP: mode 'lat x lon': Markov reads one coordinate"),
    "too many functions": (
        {("lat", "time"): pt.Basis("hilbert", 90), "lon": None},
        r"CP: mode 'lat x time': Basis.'hilbert'.: 90 functions of 60 components are 5,400 weights",
    ),
    "too many levels": (
        {("lat", "lon", "time"): pt.Dense(pt.Matern(1 / 2))},
        r"CP: mode 'lat x lon x time': Dense: 576 levels of 60 components are 34,560 values.* 76.4 GB",
    ),
}


@pytest.mark.filterwarnings("ignore:no term reads")
@pytest.mark.parametrize("case", REFUSED)
def test_bad_models(case):
    modes, words = REFUSED[case]
    with pytest.raises(pt.ModelError, match=words):
        fit(field()[0], modes, rank=60)
