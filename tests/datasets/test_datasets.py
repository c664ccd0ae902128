import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from probtensor import datasets
from probtensor.datasets import ostia
from probtensor.errors import DataError


def test_ostia():
    sst = datasets.load("ostia")
    assert sst.name == "surface_temperature"
    assert dict(sst.sizes) == {"time": 54, "latitude": 18, "longitude": 432}
    assert set(sst.coords) == {"time", "latitude", "longitude"}
    assert sst.attrs["units"] == "K"
    # Seas near the equator, and land on a quarter of the globe that is the same in every month.
    assert 285.0 < float(sst.min()) and float(sst.max()) < 306.0
    land = np.isnan(sst.values)
    np.testing.assert_array_equal(land.any(axis=0), land.all(axis=0))
    np.testing.assert_allclose(land.mean(), 0.26, atol=0.01)
    assert float(sst.sel(longitude=25.0, latitude=0.0, method="nearest").notnull().sum()) == 0  # the Congo basin


def test_ostia_can_be_written_again(tmp_path):
    import xarray as xr

    sst = datasets.load("ostia")
    sst.to_netcdf(tmp_path / "again.nc")
    with xr.open_dataarray(tmp_path / "again.nc") as again:
        xr.testing.assert_identical(again.load(), sst)


@pytest.mark.parametrize("module", ["iris_sample_data", "netCDF4"])
def test_ostia_names_the_package_that_is_missing(monkeypatch, module):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else find(name))
    package = module.replace("_", "-")
    with pytest.raises(DataError, match=rf"pip install {package} .*probtensor\[demo\].*synthetic"):
        datasets.load("ostia")


def test_ostia_names_the_file_that_is_missing(monkeypatch, tmp_path):
    find = importlib.util.find_spec

    def elsewhere(name):
        spec = find(name)
        if name == "iris_sample_data":
            spec.submodule_search_locations[:] = [str(tmp_path)]
        return spec

    monkeypatch.setattr(importlib.util, "find_spec", elsewhere)
    monkeypatch.delitem(sys.modules, "iris_sample_data", raising=False)
    with pytest.raises(DataError, match="holds no sample_data/ostia_monthly.nc"):
        datasets.load("ostia")


def test_the_demo_hides_thirty_per_cent_in_boxes():
    sst = datasets.load("ostia")
    held = ostia.CLOUDS.mask(dict(sst.sizes), 0, np.isfinite(sst.values))
    assert 0.30 <= held.sum() / np.isfinite(sst.values).sum() < 0.305


def test_synthetic_is_repeatable_and_its_seed_matters():
    first = datasets.load("synthetic", seed=4)
    np.testing.assert_array_equal(first.values, datasets.load("synthetic", seed=4).values)
    assert not np.array_equal(first.values, datasets.load("synthetic", seed=5).values, equal_nan=True)


def test_synthetic_looks_like_a_sea():
    sst = datasets.load("synthetic", times=120)
    land = np.isnan(sst.values)
    np.testing.assert_array_equal(land.any(axis=0), land.all(axis=0))
    assert 0.1 < land.mean() < 0.35
    assert 285.0 < float(sst.min()) < 300.0 < float(sst.max()) < 310.0
    # The seasons: a February differs from an August by some kelvin, with opposite signs north and south.
    by_month = sst.groupby("time.month").mean().mean("longitude")
    swing = by_month.sel(month=8) - by_month.sel(month=2)
    assert float(swing.isel(latitude=-1)) > 1.0 and float(swing.isel(latitude=0)) < -1.0
    # The oscillation: the eastern equator varies between years more than the west does.
    yearly = sst.isel(latitude=slice(8, 10)).mean("latitude").resample(time="YS").mean().std("time")
    assert float(yearly.sel(longitude=230)) > 2.0 * float(yearly.sel(longitude=100))


def test_noise_has_the_size_that_was_asked_for():
    noisy, clean = (datasets.load("synthetic", noise=noise, seed=1) for noise in (0.5, 0.0))
    # 60,000 values: their sd is within 1.5% of the truth except once in a million draws of the seed.
    np.testing.assert_allclose(float((noisy - clean).std()), 0.5, rtol=0.015)


@pytest.mark.parametrize("sizes", [(1, 1, 1), (1, 5, 8), (7, 1, 8), (7, 5, 1), (3, 4, 9)])
def test_synthetic_at_any_size_has_sea(sizes):
    times, latitudes, longitudes = sizes
    sst = datasets.load("synthetic", times=times, latitudes=latitudes, longitudes=longitudes)
    assert sst.shape == sizes
    assert sst.notnull().any("longitude").any("latitude").all()


def test_grid_coordinates():
    found = datasets.grid_coordinates(datasets.load("synthetic", times=14, longitudes=4))
    np.testing.assert_array_equal(found["months"], [*range(1, 13), 1, 2])
    np.testing.assert_array_equal(found["times"][[0, 1, 2, 13]], [0.0, 31.0, 60.0, 366.0 + 31.0])
    np.testing.assert_array_equal(found["longitudes"], [0.0, 90.0, 180.0, 270.0])


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("era5", {}, r"no data set 'era5'; choose one of \['ostia', 'synthetic'\]"),
        ("synthetic", {"times": 0}, "times=0 must be a whole number"),
        ("synthetic", {"latitudes": 2.5}, "latitudes=2.5"),
        ("synthetic", {"noise": -1.0}, "noise=-1.0 must be a standard deviation"),
        ("synthetic", {"noise": np.nan}, "noise=nan"),
    ],
)
def test_bad_input(name, options, text):
    with pytest.raises(DataError, match=text):
        datasets.load(name, **options)


def test_import_is_cheap():
    """The modules themselves need neither xarray nor pandas (the package's own __init__ may)."""
    code = (
        "import sys, types; package = types.ModuleType('probtensor'); package.__path__ = ['probtensor'];"
        "sys.modules['probtensor'] = package; import probtensor.datasets;"
        "print(sorted({'xarray', 'pandas', 'jax', 'netCDF4'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
