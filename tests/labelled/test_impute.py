"""Imputation: what it refuses before the fit, and what becomes of attributes and encoding."""

import numpy as np
import pytest
import xarray as xr

import probtensor as pt
from probtensor.labelled import storage
from tests.labelled.fields import MODEL, field, fit

DATA, TRUTH = field()
REFUSED = {
    "where of another dimension": ({"where": xr.DataArray([True], dims=["x"])}, "where: it has the dimension 'x'"),
    "where of another shape": ({"where": np.ones((2, 2), bool)}, r"where: its shape is \(2, 2\)"),
    "where of other labels": (
        {"where": xr.DataArray([True] * 5, {"lat": DATA["lat"].to_numpy() + 0.5}, ["lat"])},
        "where: 5 of the data's 5 labels along 'lat'.*index 0, 40.0 against 40.5",
    ),
    "where of more labels": (
        {"where": xr.DataArray([True] * 4, {"station": list("abcd")}, ["station"])},
        r"where: 4 labels along 'station', where the data have 3.*where.sel\(station=data\['station'\]\)",
    ),
    "where without labels": ({"where": xr.DataArray([True] * 4, dims=["lat"])}, "where: 4 entries along 'lat'"),
    "where in words": ({"where": np.full(DATA.shape, "yes")}, "where: an array of <U3; expected booleans or numbers"),
    "where of a dataset": ({"where": DATA.to_dataset()}, "where: a Dataset"),
    "quantiles": ({"quantiles": [0.5, 1.0]}, "quantiles=.*strictly between 0 and 1"),
    "quantiles in words": ({"quantiles": "low"}, "quantiles='low'"),
    "samples": ({"samples": 0}, "samples=0: expected a whole number, 1 or more"),
    "samples of a fraction": ({"samples": 2.0}, "samples=2.0"),
    "samples of truth": ({"samples": True}, "samples=True"),
}


@pytest.fixture
def no_fit(monkeypatch):
    monkeypatch.setattr("probtensor.engines.message_passing.MessagePassing.run", None)


@pytest.mark.parametrize("case", REFUSED)
def test_bad_requests_are_refused_before_the_fit(no_fit, case):
    arguments, words = REFUSED[case]
    with pytest.raises(ValueError, match=words):
        pt.impute(DATA, MODEL, **arguments)


def test_a_table_is_refused_before_the_fit(no_fit):
    with pytest.raises(pt.ModelError, match="a table has no grid"):
        pt.impute(pt.points({"x": [1.0, 2.0]}, [1.0, 2.0]), MODEL)


CLASHES = {
    "tas_sd": (lambda d: d.assign_coords(tas_sd=("lat", np.ones(5))), {}),
    "tas_filled": (lambda d: d.rename(lat="tas_filled"), {}),
    "tas": (lambda d: d.assign_coords(tas=("lat", np.ones(5))), {}),
    "tas_quantiles": (lambda d: d.rename(lat="tas_quantiles"), {"quantiles": [0.5]}),
    "quantile": (lambda d: d.assign_coords(quantile=0.5), {"quantiles": [0.5]}),
    "sample": (lambda d: d.assign_coords(sample=("station", [1, 2, 3])), {"samples": 2}),
}


@pytest.mark.parametrize("name", CLASHES)
def test_names_that_the_result_needs_are_refused_before_the_fit(no_fit, name):
    change, arguments = CLASHES[name]
    with pytest.raises(pt.DataError, match=f"'{name}' is a dimension or coordinate.*rename.*'{name}_given'"):
        pt.impute(change(DATA), MODEL, **arguments)


@pytest.fixture(scope="module")
def post():
    return fit(DATA)


def test_where_in_another_order_and_of_numbers(post):
    sea = xr.DataArray([1.0, np.nan, 0.0], {"station": ["c", "b", "a"]}, ["station"])
    out = post.impute(where=sea)
    np.testing.assert_array_equal(out["tas_filled"], DATA.isnull() & (DATA["station"] == "c"))


def test_ancillary_variables_are_added_to(post):
    given = DATA.assign_attrs(ancillary_variables="tas_qc")
    out = fit(given).impute(samples=1)["tas"]
    assert out.attrs["ancillary_variables"] == "tas_qc tas_sd tas_filled"
    again = fit(out.where(DATA.notnull())).impute()["tas"]
    assert again.attrs["ancillary_variables"] == "tas_qc tas_sd tas_filled"
    assert given.attrs["ancillary_variables"] == "tas_qc"


PACKED = {"dtype": "int16", "scale_factor": 0.001, "add_offset": 280.0, "_FillValue": -32768, "zlib": True}


def test_fine_packing_is_kept_and_coarse_packing_is_not(tmp_path):
    data = DATA.copy()
    data.encoding = dict(PACKED)
    out = fit(data).impute()
    assert out["tas"].encoding == PACKED
    out.to_netcdf(tmp_path / "out.nc")
    with xr.open_dataset(tmp_path / "out.nc") as back:
        np.testing.assert_allclose(back["tas"], out["tas"], atol=0.00051)
    data.encoding = PACKED | {"scale_factor": 0.1}
    with pytest.warns(
        pt.ProbtensorWarning, match="'tas' came packed as int16 in steps of 0.1; that rounds by up to 0.05"
    ):
        out = fit(data).impute()
    assert out["tas"].encoding == {"zlib": True}


VALUES, SD = np.array([[279.0, 280.0], [281.0, np.nan]]), np.array([[0.0, 0.2], [0.0, np.nan]])
DROPPED = {
    "out of range": (PACKED | {"add_offset": 0.0}, "lie beyond"),
    "becomes missing": (PACKED | {"_FillValue": 1000}, "would become the _FillValue"),
    "unmarked": ({k: v for k, v in PACKED.items() if k != "_FillValue"}, "no _FillValue"),
    "coarse": (PACKED | {"scale_factor": 0.05}, "rounds by up to 0.025.*least sd of a filled value, 0.2"),
    "negative step": (PACKED | {"scale_factor": -0.05}, "rounds by up to 0.025"),
    "signed after all": (
        {"dtype": "uint8", "_Unsigned": "false", "scale_factor": 0.01, "add_offset": 279.0, "_FillValue": 255},
        "lie beyond",
    ),
}


@pytest.mark.parametrize("case", DROPPED)
def test_packing_that_does_not_hold_the_values_is_dropped_with_a_warning(case):
    given, words = DROPPED[case]
    with pytest.warns(pt.ProbtensorWarning, match=f"'tas' came packed as .*{words}.*stored as plain"):
        kept = storage.encoding("tas", given, VALUES, SD)
    assert set(kept) <= {"zlib"}


def test_whole_numbers_are_widened_without_a_word():
    assert storage.encoding("n", {"dtype": "int32", "_FillValue": -1}, VALUES, SD) == {}
    assert storage.encoding("n", {"dtype": "float32", "_FillValue": np.nan}, VALUES, SD).keys() == {
        "dtype",
        "_FillValue",
    }


def test_unsigned_packing_is_honoured(tmp_path):
    given = {"dtype": "int8", "_Unsigned": "true", "scale_factor": 0.01, "add_offset": 279.0, "_FillValue": np.int8(-1)}
    kept = storage.encoding("tas", given, VALUES, SD)
    assert kept == given
    array = xr.DataArray(VALUES, dims=["a", "b"], name="tas")
    array.encoding = kept
    array.to_netcdf(tmp_path / "out.nc")
    with xr.open_dataset(tmp_path / "out.nc") as back:
        np.testing.assert_allclose(back["tas"], VALUES, atol=0.0051)
    with pytest.warns(pt.ProbtensorWarning, match="would become the _FillValue"):
        storage.encoding("tas", given, np.where(VALUES == 281.0, 281.55, VALUES), SD)
