"""Fits with an adapted kernel, from end to end: a table learned from many fields, and only a size from few."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import probtensor as pt
from probtensor.engines.collapsed import adapting, prediction
from probtensor.kernels.adapted import adapted_part
from probtensor.selection.automatic import Automatic
from tests.helpers import joined

T, LAT, LON = 24, np.linspace(30.0, 50.0, 6), np.linspace(-40.0, -10.0, 6)
TIMES = pd.date_range("2020-01-01", periods=T)
ENGINE = pt.MessagePassing(draws=4, max_sweeps=10)
TIME = pt.Matern(1 / 2, lengthscale=pt.fixed("2D")).on("time")
SPACE = pt.Matern(3 / 2).on("lat", "lon")
MODEL = pt.Offset() + pt.Local(TIME * SPACE.adapted(degree=1), neighbours=10)


def simulated():
    """Fields whose size grows fivefold from west to east, with gaps of single entries and a place that has no data."""
    rng = np.random.default_rng(0)
    lat, lon = (x.ravel() for x in np.meshgrid(LAT, LON, indexing="ij"))
    root = np.linalg.cholesky(np.exp(-np.hypot((lat[:, None] - lat) / 15, (lon[:, None] - lon) / 20)))
    fields = rng.normal(size=(T, 36)) @ root.T
    for t in range(1, T):
        fields[t] = 0.6 * fields[t - 1] + 0.8 * fields[t]
    values = 5 + (fields * np.exp((lon + 25) / 18)).reshape(T, 6, 6) + 0.1 * rng.normal(size=(T, 6, 6))
    seen = rng.random(values.shape) < 0.85
    seen[:, 2, 3] = False
    coords = {
        "time": TIMES,
        "lat": ("lat", LAT, {"units": "degrees_north"}),
        "lon": ("lon", LON, {"units": "degrees_east"}),
    }
    truth = xr.DataArray(values, coords, ["time", "lat", "lon"], name="sst", attrs={"units": "K"})
    return truth.where(seen), truth


DATA, TRUTH = simulated()
OFF = {"time": [TIMES[3], TIMES[-1] + pd.Timedelta("36h")], "lat": [33.3, 55.0], "lon": [LON[1], -12.3]}


def fit(data, model=MODEL):
    return pt.fit(data, model, engine=ENGINE)


@pytest.fixture(scope="module")
def post():
    return fit(DATA)


@pytest.fixture(scope="module")
def few():
    """Not enough fields for a table."""
    return fit(DATA[: adapting.FEWEST_FIELDS - 1])


def part_of(post):
    (kernel,) = [own for _, own in post._result.state.local.kernels]
    return adapted_part(kernel)


def assert_near(one, other, share):
    """Means within a share of an sd: learning makes much of rounding errors."""
    apart = np.abs(one["mean"] - other["mean"]) / other["signal_sd"]
    assert apart.max() < share


def test_the_table_has_the_places_with_data(post):
    part = part_of(post)
    assert len(part.table.places) == 35
    variance = np.diag(part.table.covariance)
    west, east = (variance[edge] for edge in (part.table.places[:, 1] < -30, part.table.places[:, 1] > -20))
    assert east.mean() > 4 * west.mean()
    assert np.linalg.eigvalsh(part.table.covariance).min() > 0


def test_gaps_are_filled_with_a_spread_that_differs_from_place_to_place(post):
    found = post.predict(TRUTH.coords)
    gap = DATA.isnull() & (TRUTH["lat"] != LAT[2])
    error = (found["mean"] - TRUTH).where(gap)
    assert float(np.abs(error / found["sd"]).mean()) < 1.2
    assert float(error.std()) < 0.6 * float(TRUTH.where(gap).std())
    sd = found["signal_sd"].where(gap)
    assert sd[..., 4:].mean() > 2 * sd[..., :2].mean()


@pytest.mark.slow
def test_off_the_grid_and_at_a_new_time(post):
    found = post.predict(OFF)
    assert found.sizes == {"time": 2, "lat": 2, "lon": 2}
    assert bool(np.isfinite(found["mean"]).all()) and bool((found["signal_sd"] > 0).all())
    # At the places of the data it is one answer, whichever other places are asked for.
    on = {"time": OFF["time"], "lat": LAT[[1, 4]], "lon": LON[[0, 5]]}
    wide = {"time": OFF["time"], "lat": np.sort([*LAT, 33.3]), "lon": LON}
    xr.testing.assert_allclose(post.predict(on), post.predict(wide).sel(on), atol=1e-8)
    # A long time after the last observation nothing is known but the size.
    late = post.predict({"time": [pd.Timestamp("2030-01-01")], "lat": LAT, "lon": LON})
    part = part_of(post)
    own = dict(zip(map(tuple, np.asarray(part.table.places)), np.diag(part.table.covariance), strict=True))
    share = (
        float(post.predict({**on, "time": late["time"]}, terms=[1])["signal_sd"][0, 0, 0]) ** 2 / own[LAT[1], LON[0]]
    )
    expected = np.sqrt([[share * own.get((a, b), np.nan) for b in LON] for a in LAT])
    at_data = post.predict({"time": late["time"], "lat": LAT, "lon": LON}, terms=[1])["signal_sd"][0]
    np.testing.assert_allclose(np.where(np.isnan(expected), np.nan, at_data), expected, rtol=1e-6)


def test_near_the_data_places_are_nearly_as_these(post):
    """New places are kriged: there is no step between a place with data and one beside it."""
    at = {"time": TIMES[[4, 11]], "lat": LAT[[1, 3]], "lon": LON[[2, 5]]}
    beside = {**at, "lat": LAT[[1, 3]] + 1e-4, "lon": LON[[2, 5]] + 1e-4}
    one, other = post.predict(at), post.predict(beside)
    np.testing.assert_allclose(other["mean"], one["mean"], atol=0.02)
    np.testing.assert_allclose(other["signal_sd"], one["signal_sd"], atol=0.02)


def test_in_pieces_new_places_have_the_same_answers(post, monkeypatch):
    whole = post.predict(OFF)
    monkeypatch.setattr(prediction, "_CELLS", 3)
    xr.testing.assert_allclose(post.predict(OFF), whole, atol=1e-8)


@pytest.mark.slow
def test_samples_are_about_the_prediction(post):
    found, values = post.predict(OFF), post.sample(400, OFF, seed=1)
    np.testing.assert_allclose(values.mean("sample"), found["mean"], atol=0.25 * float(found["sd"].max()))
    anywhere = DATA.notnull().any("time")
    filled = post.impute(where=anywhere)["sst"]
    np.testing.assert_array_equal(filled.where(DATA.notnull()), DATA)
    assert bool((filled.notnull() == anywhere).all())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["post", "few"])
def test_stored_bit_for_bit(name, request, tmp_path):
    post = request.getfixturevalue(name)
    post.save(tmp_path / "fit.zarr")
    again = pt.load(tmp_path / "fit.zarr")
    xr.testing.assert_identical(again.predict(OFF), post.predict(OFF))
    xr.testing.assert_identical(again.sample(2, OFF), post.sample(2, OFF))
    assert again.summary() == post.summary()
    pd.testing.assert_frame_equal(again.hyperparameters(), post.hyperparameters())
    assert (part_of(again).table is None) == (name == "few")


@pytest.mark.slow
def test_what_is_said_of_it(post, few):
    assert "Matern(3/2).on(lat, lon).adapted(degree=1)" in joined(post.summary())
    assert "adapted over lat x lon: covariances between 35 places, shrunk" in joined(post.summary())
    assert "only its size is learned; covariances need 16 or more fields" in joined(few.summary())
    table = post.hyperparameters()
    size = table[table.name.str.startswith("log size")].set_index("name")
    assert list(size.index) == ["log size P1(lon)", "log size P1(lat)"]
    assert size["mode"].unique().tolist() == ["lat x lon"]
    assert size.value["log size P1(lon)"] > 0.3
    assert size.learned.all()
    assert np.isfinite(table.value).all()


@pytest.mark.slow
def test_exported(post, tmp_path):
    post.export(tmp_path / "fit.nc")
    with xr.open_dataset(tmp_path / "fit.nc") as found:
        names = [n for n in found.data_vars if n.endswith("local_mean")]
        assert len(names) == 1
        assert bool(np.isfinite(found[names[0]]).all())


@pytest.mark.slow
def test_a_table_gives_the_same_as_the_grid(post):
    frame = DATA.to_dataframe().reset_index().dropna()
    shuffled = frame.sample(frac=1.0, random_state=0)
    other = fit(pt.table(shuffled, "sst", ["time", "lat", "lon"]))
    at = pt.points({"time": TIMES[[3, 9]], "lat": [33.3, LAT[2]], "lon": [LON[1], LON[3]]})
    assert_near(other.predict(at), post.predict(at), 0.1)


@pytest.mark.slow
def test_new_places_and_new_times(post):
    """What was learned stays; the update's answer is that of one Gaussian process given old and new observations."""
    new = TRUTH[-4:, 1:5:2].assign_coords(time=TIMES[-4:] + pd.Timedelta("4D"), lat=LAT[1:5:2] + 1.7)
    more = post.update(new[:2]).update(new[2:])
    part = part_of(more)
    assert len(part.table.places) == 35 + 12
    np.testing.assert_array_equal(part.table.covariance[:35, :35], part_of(post).table.covariance)
    assert more._result.state.model.terms[1].kernel.parts[1].table is part.table
    found = more.predict({n: new[n] for n in ("time", "lat", "lon")})
    before = post.predict({n: new[n] for n in ("time", "lat", "lon")})
    assert float(np.abs(found["mean"] - new).mean()) < 0.5 * float(np.abs(before["mean"] - new).mean())
    assert bool(np.isfinite(more.predict(OFF)["mean"]).all())
    assert bool(more.update(DATA[-1:] + 0.0, lag="3D").predict(OFF)["mean"].notnull().all())


@pytest.mark.slow
def test_few_fields_have_a_size_alone(few):
    part = part_of(few)
    assert part.table is None
    found = few.predict(OFF)
    assert bool(np.isfinite(found["mean"]).all())
    sd = few.predict({"time": [pd.Timestamp("2030-01-01")], "lat": LAT, "lon": LON})["signal_sd"][0]
    assert float(sd[:, 5].mean()) > 1.5 * float(sd[:, 0].mean())
    more = few.update(DATA[adapting.FEWEST_FIELDS :])
    assert part_of(more).table is None
    assert bool(np.isfinite(more.sample(2, OFF)).all())


def test_names_have_no_places():
    data = DATA[:3, 0].drop_vars("lat").rename(lon="station").assign_coords(station=list("abcdef"))
    with pytest.raises(pt.ModelError, match="Local: coordinate 'station' is a category"):
        fit(data, pt.Local(TIME * pt.Matern(1 / 2).on("station").adapted()))


def test_beside_another_local_term():
    with pytest.raises(pt.ModelError, match="in a sum of kernels, or beside another Local term, goes with grids"):
        fit(DATA[:3], pt.Local(TIME * SPACE.adapted(), neighbours=5) + pt.Local(TIME, neighbours=5))


@pytest.mark.slow
def test_the_future_is_chosen_on_the_past():
    """The last five of 24 times have no data: models are judged on the last quarter of the others."""
    data = DATA.where(DATA["time"] < TIMES[-5])
    post = pt.fit(data, Automatic(ranks=(1,)), engine=pt.MessagePassing(max_sweeps=5, power=1.0))
    assert "a forecast, the last 0.25 of time that has data" in joined(post.summary())


@pytest.mark.slow
def test_the_automatic_model_tries_an_adapted_kernel():
    post = pt.fit(DATA, engine=pt.MessagePassing(draws=4, max_sweeps=10, power=0.1))
    (own,) = [c for c in post.choice.candidates if c.name.endswith("local, adapted")]
    assert own.has_adapted and own.has_local
    local = next(c for c in post.choice.candidates if c.name.endswith("local"))
    assert not local.has_adapted
    assert own.crps < 1.05 * local.crps
    assert bool(np.isfinite(post.predict(OFF)["mean"]).all())
