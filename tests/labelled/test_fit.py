"""Labelled data in, labelled answers out: the same answer whatever the disguise."""

import jax
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import probtensor as pt
from tests.labelled.fields import MODEL, QUICK, field, fit


def same(a, b, tolerance=1e-9):
    b = b.transpose(*a.dims).reindex_like(a)
    np.testing.assert_allclose(a.to_numpy(), b.to_numpy(), rtol=0, atol=tolerance)


DISGUISES = {
    "transposed": lambda d: d.transpose("station", "time", "lat"),
    "descending": lambda d: d.isel(lat=slice(None, None, -1)),
    "shuffled": lambda d: d.isel(time=[3, 0, 5, 1, 2, 4], station=[2, 0, 1]),
    "masked values differ": lambda d: d.fillna(np.nan),
}


@pytest.mark.parametrize("disguise", DISGUISES)
def test_disguised_data_give_the_same_answer(disguise):
    data, _ = field()
    plain = fit(data).impute()
    other = fit(DISGUISES[disguise](data)).impute()
    same(plain["tas"], other["tas"])
    same(plain["tas_sd"], other["tas_sd"])


def test_impute_keeps_the_grid_and_fills_the_gaps():
    data, truth = field()
    disguised = data.transpose("station", "lat", "time").isel(lat=slice(None, None, -1))
    out = fit(disguised).impute(quantiles=[0.05, 0.95], samples=4)
    filled = out["tas"]
    assert filled.dims == disguised.dims
    xr.testing.assert_equal(filled["lat"], disguised["lat"])
    assert filled.attrs["units"] == "K"
    assert filled.attrs["ancillary_variables"] == "tas_sd tas_filled"
    assert out["tas_sd"].attrs["standard_name"] == "air_temperature standard_error"
    seen = disguised.notnull()
    np.testing.assert_array_equal(filled.where(seen), disguised)
    assert float(out["tas_sd"].where(seen).max()) == 0.0
    np.testing.assert_array_equal(out["tas_filled"], ~seen)
    gaps = ~seen.to_numpy()
    error = (filled - truth.transpose(*filled.dims).reindex_like(filled)).to_numpy()[gaps]
    assert np.sqrt(np.mean(error**2)) < 0.1
    z = 1.6448536269514722
    half = z * out["tas_sd"].to_numpy()[gaps]
    low = out["tas_quantiles"].sel(quantile=0.05).transpose(*filled.dims).to_numpy()[gaps]
    np.testing.assert_allclose(low, filled.to_numpy()[gaps] - half, atol=1e-8)
    draws = out["tas_samples"].transpose("sample", *filled.dims).to_numpy()
    np.testing.assert_array_equal(draws[:, ~gaps], np.tile(filled.to_numpy()[~gaps], (4, 1)))
    assert np.ptp(draws[:, gaps], axis=0).min() > 0


def test_where_leaves_the_rest_missing():
    data, _ = field()
    dead = data.where(data["station"] != "c")
    with pytest.warns(pt.ProbtensorWarning, match="never observed along 'time'"):
        fit(dead).impute()
    alive = dead.notnull().any("time")
    out = fit(dead).impute(where=alive)
    np.testing.assert_array_equal(out["tas"].sel(station="c").isnull(), True)
    np.testing.assert_array_equal(out["tas_sd"].sel(station="c").isnull(), True)
    assert not out["tas"].sel(station=["a", "b"]).where(alive.sel(station=["a", "b"]), 0.0).isnull().any()


@pytest.mark.slow
def test_data_of_whole_numbers_are_filled_with_fractions():
    whole = xr.DataArray(np.arange(12).reshape(3, 4), dims=["a", "b"])
    assert fit(whole).impute()["value"].dtype == float


def test_grid_and_table_agree():
    data, _ = field()
    frame = data.to_dataframe().reset_index().sample(frac=1, random_state=1)
    long = pt.table(frame, value="tas", coords=["time", "lat", "station"])
    grid, rows = fit(data), fit(long)
    at = frame.iloc[:7]
    a, b = grid.predict(at), rows.predict(at)
    np.testing.assert_allclose(a["mean"], b["mean"], atol=1e-7)
    np.testing.assert_allclose(a["sd"], b["sd"], atol=1e-7)
    with pytest.raises(pt.ModelError, match="use post.predict"):
        rows.impute()


def test_prediction_off_the_grid_and_at_points():
    data, truth = field()
    post = fit(data)
    grid = post.predict(truth)
    assert grid["mean"].dims == truth.dims
    point = post.predict(
        pt.points({"time": truth["time"].values[:3], "lat": truth["lat"].values[:3], "station": ["a"] * 3})
    )
    for k in range(3):
        one = grid.isel(time=k, lat=k).sel(station="a")
        np.testing.assert_allclose(point["mean"][k], one["mean"], atol=1e-8)
        np.testing.assert_allclose(point["sd"][k], one["sd"], atol=1e-8)
    between = post.predict({"time": np.datetime64("2020-01-16"), "lat": [43.0], "station": ["a", "new"], "extra": 1})
    assert between["mean"].dims == ("lat", "station")
    assert float(between["sd"].sel(station="new")[0]) > 3 * float(between["sd"].sel(station="a")[0])
    far = post.predict({"time": ["2020-02-01", "2030-01-01"], "lat": 42.0, "station": "a"})
    assert float(far["sd"][1]) > float(far["sd"][0])
    by_term = [post.predict(truth, terms=[k])["mean"] for k in range(2)]
    np.testing.assert_allclose(by_term[0] + by_term[1], grid["mean"], atol=1e-8)
    xr.testing.assert_identical(post.predict(truth, terms=0)["mean"], by_term[0])


def test_samples_have_the_predicted_moments():
    data, truth = field()
    post = fit(data)
    draws = post.sample(4000, seed=3)
    predicted = post.predict(truth)
    mean, sd = draws.mean("sample").transpose(*truth.dims), draws.std("sample").transpose(*truth.dims)
    mean, sd = mean.reindex_like(truth), sd.reindex_like(truth)
    error = np.abs(mean - predicted["mean"]) / (predicted["signal_sd"] / np.sqrt(4000))
    assert float(error.max()) < 5.0  # 90 entries, five standard errors: false alarm below 1e-4
    np.testing.assert_allclose(sd, predicted["signal_sd"], rtol=0.15)


def test_objective_never_falls_and_summary_says_what_happened():
    data, _ = field()
    post = fit(data)
    steps = np.diff(post.objective.to_numpy())
    assert steps.min() >= -1e-7 * abs(float(post.objective[-1]))
    text = post.summary()
    for word in ("tas", "station", "likelihood   Gaussian(), sd", "nats", "compiling", "K"):
        assert word in text


@pytest.mark.slow
def test_units_of_lengthscales_on_a_time_axis():
    data, _ = field()
    days = fit(data, pt.Offset() + pt.CP(1, modes={"time": pt.Matern(3 / 2, lengthscale=pt.fixed("3W")), ...: None}))
    table = days.hyperparameters()
    row = table[(table["mode"] == "time") & (table["name"] == "lengthscale")].iloc[0]
    assert row["unit"] == "days"
    np.testing.assert_allclose(row["value"], 21.0)
    hours = data.assign_coords(time=(data["time"] - data["time"][0]).astype("timedelta64[s]"))
    other = fit(hours, pt.Offset() + pt.CP(1, modes={"time": pt.Matern(3 / 2, lengthscale=pt.fixed(21.0)), ...: None}))
    np.testing.assert_allclose(days.impute()["tas"], other.impute()["tas"], atol=1e-9)


def test_factors_multiply_to_the_term():
    data, truth = field()
    post = fit(data)
    f = post.factors(1)
    product = f["time_mean"] * f["lat_mean"] * f["station_mean"]
    term = post.predict(truth, terms=[1])["mean"]
    np.testing.assert_allclose(product.sum("component").transpose(*term.dims).reindex_like(term), term, atol=1e-8)
    raw = post.factors(1, gauge="raw")
    again = (raw["time_mean"] * raw["lat_mean"] * raw["station_mean"]).sum("component")
    np.testing.assert_allclose(again.transpose(*term.dims).reindex_like(term), term, atol=1e-8)


@pytest.mark.slow
def test_a_mode_of_size_one_is_constant_and_kept():
    data, _ = field()
    deep = data.expand_dims(depth=[5.0]).transpose("time", "depth", "lat", "station")
    out = fit(deep)
    filled = out.impute()["tas"]
    assert filled.dims == deep.dims
    assert "single level" in out.summary()
    np.testing.assert_allclose(filled.isel(depth=0), fit(data).impute()["tas"], atol=1e-9)


def test_weight_zero_is_not_observed_and_its_value_is_replaced():
    data, _ = field()
    spoiled = data.fillna(280.0)
    spoiled[3, 2, 1] = 999.0
    out = fit(spoiled, weights=xr.where(spoiled == 999.0, 0.0, 1.0)).impute()
    assert bool(out["tas_filled"][3, 2, 1]) and float(out["tas_sd"][3, 2, 1]) > 0
    assert abs(float(out["tas"][3, 2, 1]) - 280) < 10
    assert int(out["tas_filled"].sum()) == 1


@pytest.mark.slow
def test_answers_keep_the_dimensions_that_no_term_reads():
    data, truth = field()
    post = fit(data, pt.Offset(over="station") + pt.Offset(over=("lat", "time")))
    assert fit(data.expand_dims(depth=[5.0])).predict(truth.expand_dims(depth=[5.0]))["mean"].dims[0] == "depth"
    assert post.predict(truth)["mean"].dims == truth.dims


def test_weights_and_labels():
    data, _ = field()
    weights = xr.ones_like(data).where(data["station"] != "c", 0.0)
    a = fit(data, weights=weights).predict({"time": data["time"], "lat": data["lat"], "station": ["a", "b"]})
    b = fit(data.sel(station=["a", "b"]))
    dropped = b.predict({"time": data["time"], "lat": data["lat"], "station": ["a", "b"]})
    assert float(np.abs(a["mean"] - dropped["mean"]).max()) < 0.1
    with pytest.raises(
        pt.DataError, match="weights: 5 of the data's 5 labels along 'lat' .* 40.0 against 40.000001.*assign_coords"
    ):
        fit(data, weights=weights.assign_coords(lat=weights["lat"] + 1e-6))


def test_weights_matter_only_where_there_is_a_value_and_come_in_any_order():
    data, _ = field()
    weights = 1 + xr.DataArray(np.arange(90.0).reshape(data.shape), data.coords, data.dims) / 90
    plain = fit(data, weights=weights).impute()
    nowhere = weights.where(data.notnull()).isel(lat=slice(None, None, -1)).transpose("lat", ...)
    xr.testing.assert_identical(fit(data, weights=nowhere).impute(), plain)
    frame = data.to_dataframe().reset_index()
    rows = pt.table(frame, "tas", ["time", "lat", "station"])
    w = weights.to_numpy().ravel()
    gaps = np.where(frame["tas"].notna(), w, np.nan)
    np.testing.assert_allclose(
        fit(rows, weights=gaps).predict(frame)["mean"], fit(rows, weights=w).predict(frame)["mean"], atol=1e-9
    )


@pytest.mark.parametrize("kind", ["bool", "object", "cftime", "no coordinate"])
def test_every_kind_of_coordinate(kind):
    data, _ = field()
    if kind == "bool":
        data = data.isel(station=[0, 1]).assign_coords(station=[True, False])
    elif kind == "object":
        data = data.assign_coords(station=np.array([("x", 1), "y", ("z", 2)], dtype=object))
    elif kind == "cftime":
        pytest.importorskip("cftime")
        data = data.assign_coords(
            time=xr.date_range("2020-01-01", periods=6, freq="10D", calendar="360_day", use_cftime=True)
        )
    else:
        data = data.drop_vars("lat")
    filled = fit(data).impute()["tas"]
    assert filled.notnull().all()
    seen = data.notnull().to_numpy()
    np.testing.assert_array_equal(filled.to_numpy()[seen], data.to_numpy()[seen])


@pytest.mark.slow
def test_a_column_with_a_dot_in_its_name():
    data, _ = field()
    frame = data.to_dataframe().reset_index().rename(columns={"lat": "PM2.5"})
    post = fit(pt.table(frame, "tas", ["time", "PM2.5", "station"]))
    np.testing.assert_allclose(
        post.predict(frame)["mean"], fit(data).predict(data.to_dataframe().reset_index())["mean"], atol=1e-6
    )


def test_nothing_global_is_changed():
    before = jax.config.jax_enable_x64
    data, _ = field()
    fit(data)
    assert jax.config.jax_enable_x64 == before


@pytest.mark.slow
def test_climatology_of_a_calendar_attribute():
    time = pd.date_range("2018-01-01", periods=36, freq="MS")
    season = np.where(time.month == 7, 5.0, 0.0)
    data = xr.DataArray(280 + season[:, None] + np.zeros((36, 2)), {"time": time, "site": ["a", "b"]}, ["time", "site"])
    holes = data.copy()
    holes[18, :] = np.nan
    post = pt.fit(holes, pt.Climatology("time.month", over="site"), engine=QUICK)
    np.testing.assert_allclose(post.impute()["value"], data, atol=1e-2)
    ahead = post.predict({"time": pd.to_datetime(["2025-07-01", "2025-08-01"]), "site": "a"})
    np.testing.assert_allclose(ahead["mean"], [285.0, 280.0], atol=1e-2)
    with pytest.raises(pt.ModelError, match="no such calendar attribute"):
        pt.fit(holes, pt.Climatology("time.moon", over="site"))
    assert MODEL.terms


@pytest.mark.slow
def test_coordinates_are_not_rounded_on_the_way_to_a_prediction():
    """Numbers that single precision does not have: a level of the training data stays that level."""
    rng = np.random.default_rng(0)
    levels = 100 * rng.random(6)
    frame = pd.DataFrame(
        {"lat": np.repeat(levels, 5), "v": np.repeat(10.0 * np.arange(6), 5) + 0.1 * rng.normal(size=30)}
    )
    post = pt.fit(pt.table(frame, "v", ["lat"]), pt.Offset() + pt.Offset(over="lat"), engine=QUICK)
    at = post.predict(frame)
    np.testing.assert_allclose(at["mean"], np.repeat(10.0 * np.arange(6), 5), atol=0.5)
    draws = post.sample(2, at=pt.points({"lat": frame["lat"].to_numpy()}))
    np.testing.assert_allclose(draws, np.tile(np.repeat(10.0 * np.arange(6), 5), (2, 1)), atol=0.5)


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        pt.Offset() + pt.CP(1),
        pt.Offset() + pt.Local(pt.Matern(1 / 2), neighbours=2),
    ],
)
def test_nothing_asked_is_nothing_answered(model):
    x = np.arange(70.0)
    post = pt.fit(pt.points({"x": x}, np.sin(x / 5)), model, engine=pt.MessagePassing(max_sweeps=5, draws=2))
    assert post.predict(pt.points({"x": x[:0]}))["mean"].shape == (0,)


@pytest.mark.slow
def test_a_fit_tells_the_packages_logger_and_nobody_else(caplog, capsys):
    data = xr.DataArray([1.0, 2.0, np.nan, 1.5], {"x": np.arange(4.0)}, ["x"])
    with caplog.at_level("INFO", "probtensor"):
        pt.fit(data, pt.Offset() + pt.CP(1), engine=pt.MessagePassing(max_sweeps=2))
    first, last = (record for record in caplog.records if record.name == "probtensor")
    assert first.getMessage() == "MessagePassing begins: terms 2, observed 3 of 4 entries"
    assert "max_sweeps=2" in last.getMessage() and "s running" in last.getMessage()
    assert capsys.readouterr() == ("", "")
