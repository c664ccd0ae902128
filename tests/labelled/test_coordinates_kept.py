"""Coordinates of every kind through fit, impute, predict, factors, save and load: labels, attrs and encoding stay."""

import datetime

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import probtensor as pt
from tests.helpers import mostly_slow
from tests.labelled.fields import MODEL, field, fit

DATA, _ = field()


def objects(*values):
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


def cftimes(calendar):
    cftime = pytest.importorskip("cftime")
    return xr.date_range("2000-01-16", periods=6, freq="MS", calendar=calendar, use_cftime=True) if cftime else None


#: name -> (dimension, its labels, the same for `predict`, its kind)
KINDS = {
    "object text": ("station", lambda: objects("b", "a", "c"), "category"),
    "fixed-width text": ("station", lambda: np.array(["b", "a", "c"], "<U4"), "category"),
    "text of any length": ("station", lambda: np.array(["b", "a", "c"], np.dtypes.StringDType()), "category"),
    "pandas text": ("station", lambda: pd.Index(["b", "a", "c"], dtype="string"), "category"),
    "bytes": ("station", lambda: np.array([b"b", b"a", b"c"]), "category"),
    "tuples": ("station", lambda: objects(("b", 1), "a", "c"), "category"),
    "categories": ("station", lambda: pd.CategoricalIndex(["b", "a", "c"], categories=["c", "b", "a"]), "category"),
    "truth values": ("flag", lambda: np.array([True, False]), "category"),
    "intervals": ("station", lambda: pd.interval_range(0, 3), "numeric"),
    "durations": ("time", lambda: np.arange(6).astype("timedelta64[h]"), "time"),
    "times in microseconds": ("time", lambda: DATA["time"].to_numpy().astype("M8[us]"), "time"),
    "times with a zone": ("time", lambda: pd.date_range("2020", periods=6, tz="Asia/Tokyo"), "time"),
    "periods": ("time", lambda: pd.period_range("2020-01", periods=6, freq="M"), "time"),
    "dates": ("time", lambda: objects(*(datetime.date(2020, k, 1) for k in range(1, 7))), "time"),
    "360 days": ("time", lambda: cftimes("360_day"), "time"),
    "no leap years": ("time", lambda: cftimes("noleap"), "time"),
    "32 bits": ("lat", lambda: DATA["lat"].to_numpy().astype("float32"), "numeric"),
    "whole numbers": ("lat", lambda: np.array([5, 3, 1, 9, 2], "int16"), "numeric"),
    "unsigned": ("lat", lambda: np.array([5, 3, 1, 9, 2], "uint8"), "numeric"),
    "none": ("lat", lambda: None, "numeric"),
}

#: Text, times of three kinds and nothing.
QUICK = ("object text", "durations", "times with a zone", "360 days", "none")


def given(case):
    dim, make, _ = KINDS[case]
    data = DATA.rename(station="flag").isel(flag=slice(2)) if dim == "flag" else DATA
    labels = make()
    data = data.drop_vars(dim) if labels is None else data.assign_coords({dim: (dim, labels)})
    data = data.assign_coords(
        area=(("lat", "time"), np.ones((5, 6), "float32"), {"units": "m2"}),
        height=((), 2.0, {"positive": "up"}),
        code=("time", np.arange(6, dtype="int8")),
    )
    if dim in data.coords:
        data[dim].attrs["long_name"] = f"the {dim}"
        data[dim].encoding["zlib"] = True
    data["code"].encoding["_FillValue"] = np.int8(-1)
    return data


@pytest.mark.parametrize("case", mostly_slow(KINDS, *QUICK))
def test_coordinates_are_kept(case, tmp_path):
    dim, _, kind = KINDS[case]
    data = given(case)
    post = fit(data)
    assert post._fitted.encoded.coordinates[dim].kind == kind
    post.save(tmp_path / "fit.zarr")
    for one in (post, pt.load(tmp_path / "fit.zarr")):
        filled = one.impute()
        xr.testing.assert_identical(filled.coords.to_dataset(), data.coords.to_dataset())
        for name in data.coords:
            assert filled[name].dtype == data[name].dtype and filled[name].encoding == data[name].encoding
            assert type(filled.indexes.get(name)) is type(data.indexes.get(name))
    found = post.predict(data)
    mask = data.isnull().to_numpy()
    np.testing.assert_allclose(found["mean"].to_numpy()[mask], filled["tas"].to_numpy()[mask], atol=1e-9)
    assert post.factors()[f"{dim}_mean"].sizes[dim] == data.sizes[dim]
    assert post.score(data, allow_training=True)["n"] == int(data.notnull().sum())


@pytest.mark.slow
def test_cftime_axes_are_times_to_the_warning_of_sites_never_observed():
    """The longest dimension is not the one along which sites are observed."""
    data = DATA.isel(time=slice(3)).assign_coords(time=cftimes("noleap")[:3])
    data = data.where((data["lat"] != 41) | (data["station"] != "a"))
    with pytest.warns(
        pt.ProbtensorWarning, match=r"1 sites were never observed along 'time'.*notnull\(\).any\('time'\)"
    ):
        fit(data, MODEL).impute()
