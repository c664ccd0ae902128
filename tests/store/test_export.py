"""What an exported posterior says to a program that knows nothing of this package: xarray alone reads it back here."""

import functools

import cftime
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import probtensor as pt
from tests.helpers import mostly_slow

RANDOM = np.random.default_rng(0)
QUICK = pt.MessagePassing(max_sweeps=5)
VALUES = 280 + np.sin(np.arange(6) / 2)[:, None] * np.arange(1, 5) + 0.1 * RANDOM.normal(size=(6, 4))
HIDDEN = RANDOM.random((6, 4)) < 0.2


def grid():
    """(time 6, lat 4): latitudes descend; two months come twice."""
    time = pd.to_datetime(
        [f"{month}-01" for month in ("2000-11", "2000-12", "2001-01", "2001-02", "2001-11", "2001-12")]
    )
    coords = {
        "time": time,
        "lat": ("lat", [50.0, 47.5, 45.0, 40.0], {"units": "degrees_north"}),
        "height": ((), 2.0, {"made": {"by": "hand"}, "certain": True, "note": None}),
        "mean": ("lat", list("abcd")),
    }
    attrs = {"units": "K", "standard_name": "air_temperature"}
    return xr.DataArray(VALUES, coords, ["time", "lat"], name="tas", attrs=attrs).where(~HIDDEN)


@functools.cache
def post():
    engine = pt.MessagePassing(max_sweeps=30)
    return pt.fit(grid(), pt.Climatology("time.month") + pt.Tucker({"time": 2, "lat": 2}), engine=engine)


def exported(posterior, folder):
    posterior.export(folder / "fit.nc")
    assert [path.name for path in folder.iterdir()] == ["fit.nc"]
    with xr.open_dataset(folder / "fit.nc") as found:
        return found.load()


def test_a_grid(tmp_path):
    found, predicted = exported(post(), tmp_path), post().predict(grid())
    for ours, theirs in (("mean_", "mean"), ("sd", "sd"), ("signal_sd", "signal_sd")):
        assert found[ours].dims == ("time", "lat")
        np.testing.assert_allclose(found[ours], predicted[theirs], rtol=1e-12)
    np.testing.assert_array_equal(found["observed"], grid())
    assert found["mean_"].attrs["ancillary_variables"] == "sd signal_sd"
    assert found["sd"].attrs["standard_name"] == "air_temperature standard_error"
    for name in ("time", "lat"):
        xr.testing.assert_identical(found[name].variable, grid()[name].variable)
    assert found["height"].attrs == {"made": "{'by': 'hand'}", "certain": 1}
    assert found["mean"].to_numpy().tolist() == list("abcd")
    assert found.attrs["comment"] == post().summary()


def test_functions_and_core_make_the_signal(tmp_path):
    """Read as any reader would: the core times the functions, and the table of months."""
    found = exported(post(), tmp_path)
    made = (found["term1_tucker_core_mean"] * found["term1_tucker_time_mean"] * found["term1_tucker_lat_mean"]).sum(
        ["term1_tucker_time_component", "term1_tucker_lat_component"]
    )
    table = found["term0_climatology_mean"]
    assert table.dims == ("time_month",)
    assert table["time_month"].to_numpy().tolist() == [1, 2, 11, 12]
    assert np.abs(made).max() > 0.1
    whole = made + table.sel(time_month=found["time"].dt.month)
    np.testing.assert_allclose(
        whole.transpose("time", "lat"), post().predict(grid(), scale="latent")["mean"], rtol=1e-6
    )
    sd = post().factors(1)["lat_sd"].sel(lat=found["lat"])
    np.testing.assert_allclose(found["term1_tucker_lat_sd"], sd)


def test_hyperparameters_and_objective(tmp_path):
    found, table = exported(post(), tmp_path), post().hyperparameters()
    np.testing.assert_allclose(found["hyperparameter_value"], table["value"])
    for column in ("term", "mode", "name", "unit"):
        assert found[f"hyperparameter_{column}"].to_numpy().tolist() == table[column].astype(str).tolist()
    np.testing.assert_array_equal(found["hyperparameter_learned"], table["learned"])
    np.testing.assert_allclose(found["objective"], post().objective)
    assert found["objective"].attrs["units"] == "nats"


@pytest.mark.slow
def test_an_updated_posterior_has_all_levels(tmp_path):
    fitted = pt.fit(grid(), pt.Offset(over="lat") + pt.CP(1), engine=QUICK)
    new = grid().isel(time=[0, 1]).assign_coords(time=pd.to_datetime(["2002-01-01", "2002-02-01"])).drop_vars("mean")
    found = exported(fitted.update(new), tmp_path)
    assert (found.sizes["time"], found.sizes["time_level"], found.sizes["lat_level"]) == (2, 8, 4)
    np.testing.assert_allclose(found["term1_cp_time_mean"], fitted.update(new).factors(1)["time_mean"])
    assert found["time_level"].to_numpy()[-1] == np.datetime64("2002-02-01")


KINDS = {
    "datetimes": pd.date_range("2020-01-01", periods=3),
    "dates of a calendar": np.array([cftime.Datetime360Day(2000, 2, day) for day in (30, 1, 5)]),
    "durations": np.array([1, 2, 5], "m8[D]"),
    "text": np.array(["b", "a", "a long one"]),
    "bytes": np.array([b"b", b"a", b"cc"]),
    "truth values and text": np.array([True, "a", b"c"], dtype=object),
    "numbers": np.array([3, 1, 2]),
}


@pytest.mark.parametrize("kind", mostly_slow(KINDS, "durations", "truth values and text"))
def test_a_table_with_any_kind_of_coordinate(kind, tmp_path):
    labels = KINDS[kind]
    rows = RANDOM.integers(0, 3, size=20)
    table = pt.points({"a/b": labels[rows], "x": RANDOM.integers(0, 4, size=20).astype(float)}, RANDOM.normal(size=20))
    fitted = pt.fit(table, pt.Offset(over="a/b") + pt.CP(1), engine=QUICK)
    found = exported(fitted, tmp_path)
    assert found["mean"].dims == ("observation",)
    assert found["term0_offset_mean"].dims == ("a_b_level",)
    assert found["term1_cp_a_b_mean"].dims == ("term1_cp_component", "a_b_level")
    assert set(found["a_b"].to_numpy().tolist()) == set(found["a_b_level"].to_numpy().tolist())
    again = pt.points({"a/b": labels[rows], "x": table.coords["x"]}, table.values)
    expected = fitted.predict(again)["mean"].to_numpy()
    np.testing.assert_allclose(np.sort(found["mean"]), np.sort(expected))
    np.testing.assert_array_equal(np.sort(found["observed"]), np.sort(table.values))


@pytest.mark.slow
def test_joined_modes_of_a_table_and_a_local_term(tmp_path):
    coords = {
        "a": RANDOM.integers(0, 3, 20),
        "b": RANDOM.integers(0, 3, 20),
        "c": RANDOM.integers(0, 2, 20).astype(str),
    }
    table = pt.points(coords, RANDOM.normal(size=20))
    fitted = pt.fit(table, pt.CP(1, {("a", "b"): None, "c": None}), engine=QUICK)
    found, factors = exported(fitted, tmp_path), fitted.factors()
    assert found["term0_cp_a_b_mean"].dims == ("term0_cp_component", "a_b_level")
    np.testing.assert_allclose(found["term0_cp_a_b_mean"], factors["a_b_mean"])
    for part in ("a", "b"):
        np.testing.assert_array_equal(found[f"a_b_level_{part}"], factors[part])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::probtensor.errors.ProbtensorWarning")
def test_a_local_term_adds_up(tmp_path):
    fitted = pt.fit(grid(), pt.Offset() + pt.Local(pt.Matern(1 / 2).on("time")))
    found = exported(fitted, tmp_path)
    local = fitted.predict(grid(), terms=[1], scale="latent")
    np.testing.assert_allclose(found["term1_local_mean"], local["mean"])
    np.testing.assert_allclose(found["term1_local_sd"], local["sd"])


@pytest.mark.slow
def test_what_cannot_be_predicted_is_missing(tmp_path):
    counts = xr.DataArray(RANDOM.poisson(4.0, (6, 4)).astype(float), {"t": np.arange(6.0)}, ["t", "s"])
    hours = xr.ones_like(counts)
    counts[0, 0] = hours[0, 0] = np.nan
    fitted = pt.fit(counts, pt.Offset() + pt.CP(1), likelihood=pt.Poisson(exposure=hours), engine=QUICK)
    assert np.argwhere(exported(fitted, tmp_path)["mean"].isnull().to_numpy()).tolist() == [[0, 0]]


@pytest.mark.slow
def test_a_multi_index(tmp_path):
    stacked = grid().drop_vars("mean").stack(place=["time", "lat"])
    found = exported(pt.fit(stacked, pt.Offset() + pt.CP(1), engine=QUICK), tmp_path)
    assert {"time", "lat"} <= set(found.coords)
    assert found["mean"].dims == ("place",)
    np.testing.assert_array_equal(found["observed"], stacked)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("", "is a folder; name a file in it, such as .*fit.nc"),
        ("absent/fit.nc", "there is no folder .*absent; make it first"),
        ("/proc/fit.nc", "export: /proc/fit.nc cannot be written"),
        ("file/fit.nc", "there is no folder"),
    ],
)
def test_places_that_cannot_be_written(place, words, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(pt.FormatError, match=words):
        post().export(tmp_path / place)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_is_no_path():
    with pytest.raises(pt.FormatError, match="3 is no path"):
        post().export(3)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    def half(self, path):
        path.write_text("half a fi")
        raise ValueError("no such type")

    monkeypatch.setattr(xr.Dataset, "to_netcdf", half)
    (tmp_path / "fit.nc").write_text("from another day")
    with pytest.raises(pt.FormatError, match="export: .*fit.nc cannot be written: no such type"):
        post().export(tmp_path / "fit.nc")
    assert [path.name for path in tmp_path.iterdir()] == ["fit.nc"]
    assert (tmp_path / "fit.nc").read_text() == "from another day"
