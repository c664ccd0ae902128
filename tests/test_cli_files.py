"""From file to file: what goes in beside the values comes out again, and other programs read it."""

import os
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from typer.testing import CliRunner

import probtensor as pt
from probtensor import cli
from probtensor.labelled import fit as fitting
from tests.helpers import mostly_slow

iris_sample_data = pytest.importorskip("iris_sample_data")
netCDF4 = pytest.importorskip("netCDF4")
cf_xarray = pytest.importorskip("cf_xarray")

A1B, NAME = f"{iris_sample_data.path}/A1B_north_america.nc", "air_temperature"
RANDOM = np.random.default_rng(0)


def run(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def gapped(dataset):
    """The same with a fifth of the values hidden, everything else as it is in the file."""
    dataset = dataset.load()
    hidden = RANDOM.random(dataset[NAME].shape) < 0.2
    dataset[NAME].data = np.where(hidden, np.float32(np.nan), dataset[NAME].data)
    return dataset


def read(path):
    if path.suffix == ".zarr":
        return xr.open_zarr(path).load()
    with xr.open_dataset(path) as dataset:
        return dataset.load()


def same_encoding(one, other):
    own, theirs = ({k: str(v) for k, v in e.items() if k not in ("source", "original_shape")} for e in (one, other))
    assert own == theirs


def check_round_trip(given, path, data_like=None):
    """Coordinates, attributes, encodings, bounds and grid mapping are identical, observed values untouched."""
    found = read(path)
    for name in given.coords:
        xr.testing.assert_identical(found[name].variable, given[name].variable)
        same_encoding(found[name].encoding, given[name].encoding)
    for name in ("time_bnds", "latitude_longitude"):
        xr.testing.assert_identical(found[name].variable, given[name].variable)
        same_encoding(found[name].encoding, given[name].encoding)
    companions = {"ancillary_variables": f"{NAME}_sd {NAME}_filled"}
    assert found[NAME].attrs == given[NAME].attrs | companions
    assert found[NAME].dtype == given[NAME].dtype
    assert found[NAME].dims == given[NAME].dims
    seen = given[NAME].notnull().to_numpy()
    np.testing.assert_array_equal(found[NAME].to_numpy()[seen], given[NAME].to_numpy()[seen])
    assert not found[NAME].isnull().any()
    assert {k: v for k, v in found.attrs.items() if k != "history"} == given.attrs
    return found


def check_others_read_it(found, given):
    missing = given[NAME].isnull()
    np.testing.assert_array_equal(found.cf["status_flag"].cf == "filled", missing)
    assert found.cf[f"{NAME} standard_error"].name == f"{NAME}_sd"
    assert found.cf.get_bounds("time").name == "time_bnds"
    assert found.cf.grid_mapping_names == {"latitude_longitude": ["latitude_longitude"]}
    frame = found[[NAME, f"{NAME}_sd", f"{NAME}_filled"]].to_dataframe()
    assert len(frame) == missing.size
    assert frame[f"{NAME}_filled"].sum() == missing.sum()
    assert (frame.loc[~frame[f"{NAME}_filled"], f"{NAME}_sd"] == 0).all()


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The first 24 years of a coarse grid of the A1B run: a calendar of 360 days, scalar and auxiliary coordinates."""
    path = tmp_path_factory.mktemp("a1b") / "in.nc"
    with xr.open_dataset(A1B) as dataset:
        dataset.encoding["unlimited_dims"] = {"time"}
        gapped(dataset.isel(time=slice(24), latitude=slice(None, None, 6), longitude=slice(None, None, 8))).to_netcdf(
            path
        )
    return path, read(path)


@pytest.mark.slow
def test_a1b_through_the_command(small, monkeypatch):
    """Warnings are errors in all tests, so there is none."""
    path, given = small
    monkeypatch.setattr(sys, "argv", ["probtensor", "impute", "in.nc"])
    output = path.with_name("out.nc")
    result = run("impute", path, "--var", NAME, "-o", output, "--rank", 1)
    assert (result.exit_code, result.output) == (0, "")
    found = check_round_trip(given, output)
    check_others_read_it(found, given)
    same_encoding(found[NAME].encoding, given[NAME].encoding)
    assert found.attrs["history"].endswith(": probtensor impute in.nc (probtensor 0.1.0)")
    with netCDF4.Dataset(output) as file:
        assert file.dimensions["time"].isunlimited()
        for variable in file.variables.values():
            assert variable[...].shape == variable.shape
            assert all(variable.getncattr(key) is not None for key in variable.ncattrs())


@pytest.mark.slow
def test_the_whole_a1b_file(tmp_path):
    with xr.open_dataset(A1B) as dataset:
        gapped(dataset).to_netcdf(tmp_path / "in.nc")
    given = read(tmp_path / "in.nc")
    result = run("impute", tmp_path / "in.nc", "--var", NAME, "-o", tmp_path / "out.nc", "--rank", 4)
    assert (result.exit_code, result.output) == (0, "")
    check_others_read_it(check_round_trip(given, tmp_path / "out.nc"), given)


@pytest.fixture
def quick(monkeypatch):
    """A fit that takes a moment."""
    imputed, engine = fitting.imputed, pt.MessagePassing(max_sweeps=5)
    monkeypatch.setattr(
        fitting, "imputed", lambda data, model, **k: imputed(data, pt.Offset() + pt.CP(1), **(k | {"engine": engine}))
    )


@pytest.mark.parametrize("version", mostly_slow([3, 2]))
def test_zarr_in_and_out(small, quick, tmp_path, version):
    source = tmp_path / "in.zarr"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Consolidated metadata is currently not part")
        read(small[0]).to_zarr(source, zarr_format=version)
    given, before = read(source), sorted(tmp_path.rglob("*"))
    for _ in range(2):  # the second time over what the first has written
        result = run("impute", source, "--var", NAME, "-o", tmp_path / "out.zarr")
        assert (result.exit_code, result.output) == (0, "")
    found = check_round_trip(given, tmp_path / "out.zarr")
    check_others_read_it(found, given)
    assert [path for path in sorted(tmp_path.rglob("*")) if "out.zarr" not in path.parts] == before
    assert run("impute", source, "--var", NAME, "-o", tmp_path / "out.nc").exit_code == 0
    xr.testing.assert_allclose(read(tmp_path / "out.nc")[NAME], found[NAME])


def test_a_lazy_zarr_array_in_python(small, tmp_path):
    path, given = small
    given.drop_encoding().to_zarr(tmp_path / "in.zarr", zarr_format=2)
    opened = xr.open_zarr(tmp_path / "in.zarr")[NAME]
    assert opened.chunks is not None
    out = pt.impute(opened, pt.Offset() + pt.CP(1), engine=pt.MessagePassing(max_sweeps=5))
    out.to_zarr(tmp_path / "out.zarr", zarr_format=2)
    xr.testing.assert_identical(xr.open_zarr(tmp_path / "out.zarr").load(), out)


@pytest.fixture
def field():
    coords = {"time": pd.date_range("2000-01-01", periods=6), "lat": np.linspace(50, 40, 5)}
    made = xr.DataArray(280 + RANDOM.normal(size=(6, 5)), coords, ["time", "lat"], name="tas", attrs={"units": "K"})
    return made.where(RANDOM.random((6, 5)) > 0.2)


PACKED = {"dtype": "int16", "scale_factor": 0.001, "add_offset": 280.0, "_FillValue": -32768, "zlib": True}


@pytest.mark.slow
def test_packed_values_along_an_unlimited_time(field, quick, tmp_path):
    encoding = {"tas": PACKED | {"chunksizes": (2, 5)}}
    field.to_netcdf(tmp_path / "in.nc", encoding=encoding, unlimited_dims=["time"])
    assert run("impute", tmp_path / "in.nc", "--var", "tas", "-o", tmp_path / "out.nc").exit_code == 0
    given, found = read(tmp_path / "in.nc"), read(tmp_path / "out.nc")
    same_encoding(found["tas"].encoding, given["tas"].encoding)
    assert found.encoding["unlimited_dims"] == {"time"}
    seen = given["tas"].notnull().to_numpy()
    np.testing.assert_array_equal(found["tas"].to_numpy()[seen], given["tas"].to_numpy()[seen])


def test_what_a_variable_refers_to_comes_along_and_nothing_else(field, quick, tmp_path):
    field.attrs |= {"ancillary_variables": "tas_sd quality", "cell_measures": "area: area"}
    dataset = field.to_dataset().assign_attrs(history="2001: born\n2002: bred", Conventions="CF-1.5 ACDD-1.3")
    dataset["tas_sd"], dataset["other"] = field * 0, field
    dataset["quality"] = (("lat", "test"), np.ones((5, 2), "i1"))
    dataset["test"] = ["drift", "step"]
    dataset["area"] = ("lat", np.ones(5), {"formula_terms": "a: level"})
    dataset["level"] = 3.0
    dataset.to_netcdf(tmp_path / "in.nc")
    assert run("impute", tmp_path / "in.nc", "--var", "tas", "-o", tmp_path / "out.nc").exit_code == 0
    found = read(tmp_path / "out.nc")
    assert set(found.data_vars) == {"tas", "tas_sd", "tas_filled", "quality", "area", "level"}
    assert found["tas"].attrs["ancillary_variables"] == "tas_sd quality tas_filled"
    assert found["quality"]["test"].to_numpy().tolist() == ["drift", "step"]
    assert float(found["tas_sd"].max()) > 0  # the new one
    assert found.attrs["Conventions"] == "CF-1.5 ACDD-1.3"
    now, *before = found.attrs["history"].splitlines()
    assert before == ["2001: born", "2002: bred"]
    assert now.endswith("(probtensor 0.1.0)")


@pytest.mark.parametrize("coordinate", mostly_slow(["text", "bytes", "durations"], "durations"))
def test_coordinates_of_other_kinds(coordinate, field, quick, tmp_path):
    labels = {
        "text": np.array(["a", "bb", "c", "d", "e"]),
        "bytes": np.array([b"a", b"bb", b"c", b"d", b"e"]),
        "durations": np.arange(5).astype("m8[D]").astype("m8[ns]"),
    }[coordinate]
    field.assign_coords(own=("lat", labels)).swap_dims(lat="own").rename("sea temp").to_netcdf(tmp_path / "in.nc")
    assert run("impute", tmp_path / "in.nc", "--var", "sea temp", "-o", tmp_path / "out.nc").exit_code == 0
    given, found = read(tmp_path / "in.nc"), read(tmp_path / "out.nc")
    xr.testing.assert_identical(found["own"].variable, given["own"].variable)
    assert set(found.data_vars) == {"sea temp", "sea temp_sd", "sea temp_filled"}
    assert "ancillary_variables" not in found["sea temp"].attrs


def test_the_fit_is_saved_and_told(field, quick, tmp_path):
    field.to_netcdf(tmp_path / "in.nc")
    save = tmp_path / "fit.zarr"
    for _ in range(2):  # the second time over what the first has saved
        result = run("impute", tmp_path / "in.nc", "--var", "tas", "-o", tmp_path / "out.nc", "--save", save)
        assert result.exit_code == 0, result.output
    xr.testing.assert_allclose(pt.load(save).impute()["tas"], read(tmp_path / "out.nc")["tas"])
    assert "probtensor posterior of 'tas'" in run("info", save).output
    told = run("info", tmp_path / "in.nc")
    assert told.exit_code == 0
    missing = int(field.isnull().sum())
    assert f"tas: time x lat, float64, K, {missing} of 30 missing" in told.output
    assert "lat: 5, 50 to 40" in told.output
    assert told.output.strip().endswith("in.nc --var tas -o filled.nc")


LIKELIHOODS = {"log-gaussian": "Gaussian(transform='log')", "student-t": "StudentT", "poisson": "Poisson"}


@pytest.mark.parametrize("name", LIKELIHOODS)
def test_likelihoods(name, field, monkeypatch, tmp_path):
    asked = {}
    monkeypatch.setattr(fitting, "imputed", lambda *_, **k: asked.update(k) or (None, field.to_dataset()))
    field.to_netcdf(tmp_path / "in.nc")
    result = run("impute", tmp_path / "in.nc", "--var", "tas", "-o", tmp_path / "out.nc", "--likelihood", name)
    assert result.exit_code == 0, result.output
    assert type(asked["likelihood"]).__name__ == LIKELIHOODS[name].partition("(")[0]
    assert getattr(asked["likelihood"], "transform", None) == ("log" if name == "log-gaussian" else None)


CLASSIC = """
import sys
sys.modules |= {"netCDF4": None, "h5netcdf": None}
from probtensor import cli
from probtensor.labelled import fit as fitting
fitting.imputed = lambda data, *_, **__: (None, data.fillna(0.0).to_dataset().assign(tas_filled=data.isnull()))
cli.main()
"""


@pytest.mark.slow
def test_classic_files_need_no_netcdf4(field, tmp_path):
    field.to_netcdf(tmp_path / "in.nc", engine="scipy")
    field.to_netcdf(tmp_path / "four.nc")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = [
        subprocess.run(
            [sys.executable, "-W", "error", "-c", CLASSIC, "impute", name, "--var", "tas", "-o", "out.nc"],
            **{"cwd": tmp_path, "env": environment, "capture_output": True, "text": True},
        )
        for name in ("in.nc", "four.nc")
    ]
    assert (done[0].returncode, done[0].stderr) == (0, "")
    xr.testing.assert_identical(read(tmp_path / "out.nc")["tas"], field.fillna(0.0))
    assert done[1].returncode == 2
    assert "needs the package netCDF4 (pip install 'probtensor[io]')" in done[1].stderr
