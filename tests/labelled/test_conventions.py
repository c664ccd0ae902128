"""What the filled data and their companions say to programs that know the CF conventions."""

import numpy as np
import pytest
import xarray as xr

import probtensor as pt
from probtensor.labelled import conventions, storage
from tests.labelled.fields import field, fit

cf_xarray = pytest.importorskip("cf_xarray")

DATA, _ = field()
ATTRS = {"cell_methods": "time: mean", "grid_mapping": "crs", "valid_min": np.float64(100.0), "made by": "hand"}


@pytest.fixture(scope="module")
def post():
    data = DATA.assign_attrs(ATTRS)
    data.encoding = {"zlib": True, "complevel": 4, "chunksizes": (3, 5, 3), "dtype": "float32", "source": "x.nc"}
    return fit(data)


@pytest.fixture(scope="module")
def written(post, tmp_path_factory):
    """As it comes back from a file."""
    path = tmp_path_factory.mktemp("written") / "out.nc"
    post.impute(quantiles=[0.1, 0.9], samples=2).assign(crs=0).to_netcdf(path)
    with xr.open_dataset(path) as found:
        return found.load()


def test_standard_names_are_found(written):
    assert written.cf.standard_names["air_temperature"] == ["tas"]
    assert written.cf.standard_names["air_temperature standard_error"] == ["tas_sd"]
    assert written.cf.standard_names["status_flag"] == ["tas_filled"]
    found = written.cf["air_temperature"]
    assert {"tas_sd", "tas_filled"} <= set(found.coords)
    assert found.cf.is_flag_variable is False
    associated = written.cf.get_associated_variable_names("tas", error=False)
    assert associated["ancillary_variables"] == ["tas_sd", "tas_filled"]


def test_the_flag_is_read(written):
    flag = written.cf["status_flag"]
    np.testing.assert_array_equal(flag.cf == "filled", DATA.isnull())
    np.testing.assert_array_equal(flag.cf == "as_given", DATA.notnull())
    np.testing.assert_array_equal(flag.cf.isin(["filled"]), DATA.isnull())


def test_the_flag_in_the_file_has_values_of_its_own_type(post, tmp_path):
    netCDF4 = pytest.importorskip("netCDF4")
    post.impute().to_netcdf(tmp_path / "out.nc")
    with netCDF4.Dataset(tmp_path / "out.nc") as file:
        flag = file["tas_filled"]
        assert flag.dtype == flag.getncattr("flag_values").dtype == np.int8
        assert flag.getncattr("flag_values").tolist() == [0, 1]
        assert flag.getncattr("flag_meanings") == "as_given filled"
        np.testing.assert_array_equal(np.asarray(flag), DATA.isnull())


def test_attributes_of_the_companions(written):
    assert {k: written["tas"].attrs[k] for k in ATTRS} == ATTRS
    assert written["tas_sd"].attrs["units_metadata"] == "temperature: difference"
    assert written["tas_sd"].attrs["units"] == "K"
    for name in ("tas_sd", "tas_filled", "tas_quantiles", "tas_samples"):
        assert written[name].attrs["grid_mapping"] == "crs"
        assert "valid_min" not in written[name].attrs
        assert written[name].attrs["long_name"]
    assert "units" not in written["tas_filled"].attrs
    for name, methods in {"tas_sd": None, "tas_quantiles": "time: mean", "tas_samples": "time: mean"}.items():
        assert written[name].attrs.get("cell_methods") == methods
    assert written["quantile"].attrs == {"long_name": "probability", "units": "1"}


def test_companions_are_compressed_like_the_data(post):
    out = post.impute(quantiles=[0.5])
    assert out["tas_sd"].encoding == out["tas_filled"].encoding
    assert out["tas_sd"].encoding == {"zlib": True, "complevel": 4, "chunksizes": (3, 5, 3)}
    assert out["tas_quantiles"].encoding == {}


def test_a_grid_mapping_that_xarray_decoded_stays_with_all(tmp_path):
    data = DATA.assign_attrs(grid_mapping="crs").to_dataset()
    data["crs"] = ((), 0, {"grid_mapping_name": "latitude_longitude"})
    data.to_netcdf(tmp_path / "in.nc")
    with xr.open_dataset(tmp_path / "in.nc", decode_coords="all") as opened:
        fit(opened["tas"].load()).impute().to_netcdf(tmp_path / "out.nc")
    with xr.open_dataset(tmp_path / "out.nc") as back:
        assert back["tas"].attrs["grid_mapping"] == back["tas_sd"].attrs["grid_mapping"] == "crs"
        assert back["crs"].attrs == {"grid_mapping_name": "latitude_longitude"}


def attributes(attrs, given=None, kept=None, values=(1.0, np.nan, 3.0), dtype=float, name="pr"):
    given = given or {}
    return conventions.attributes(name, attrs, given, given if kept is None else kept, np.array(values, dtype))


def test_names_with_blanks_are_not_listed():
    assert attributes({"units": "K"}, name="sea temperature") == {"units": "K"}


def test_ranges_are_those_of_the_new_values():
    found = attributes({"actual_range": np.array([1.0, 2.0], "f4")}, dtype="f4")["actual_range"]
    assert (found.dtype, found.tolist()) == (np.float32, [1.0, 3.0])


PACKED = {"dtype": "int16", "scale_factor": 0.01, "add_offset": 1.0, "_FillValue": -1}
KEPT = {
    "of the values": ({"valid_range": np.array([0.0, 5.0])}, {}, {}, [0.0, 5.0], np.float64),
    "of the stored numbers": ({"valid_max": np.int16(300)}, PACKED, PACKED, 300, np.int16),
    "of numbers no longer stored": ({"valid_max": np.int16(300)}, PACKED, {}, 4.0, np.float32),
    "of whole numbers": ({"valid_min": np.int32(0)}, {"dtype": "int32"}, {}, 0.0, np.float32),
    "a text": ({"valid_range": "any"}, {}, {}, "any", None),
}


@pytest.mark.parametrize("case", KEPT)
def test_limits_that_hold_are_kept(case):
    attrs, given, kept, value, dtype = KEPT[case]
    found = attributes(attrs, given, kept, dtype="f4")[next(iter(attrs))]
    assert dtype is None or np.asarray(found).dtype == dtype
    assert np.asarray(found).tolist() == value


BROKEN = {
    "below": ({"valid_min": 2.0}, {}, "valid_min=2.0, and 1 of its 2 values lie beyond"),
    "above": ({"valid_max": 2.0, "valid_min": 0.0}, {}, "valid_min=0.0 and valid_max=2.0, and 1 of its 2"),
    "a range": ({"valid_range": np.array([1.5, 2.5])}, {}, r"valid_range=\[1.5 2.5\], and 2 of its 2"),
    "stored numbers": ({"valid_range": np.array([0, 150], "i2")}, PACKED, r"valid_range=\[ *0 150\], and 1 of its 2"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_limits_that_values_lie_beyond_are_left_out(case):
    attrs, given, words = BROKEN[case]
    with pytest.warns(pt.ProbtensorWarning, match=f"'pr' has {words}"):
        found = attributes(attrs, given)
    assert set(found) == {"ancillary_variables"}


def test_marks_of_missing_values_become_encoding(tmp_path):
    """xarray refuses to write ``_FillValue`` as an attribute beside an encoding of its own."""
    out = fit(DATA.assign_attrs(missing_value=-9.0, _FillValue=-9.0)).impute()["tas"]
    assert out.encoding == {"_FillValue": -9.0}
    assert not {"missing_value", "_FillValue"} & set(out.attrs)
    out.to_netcdf(tmp_path / "out.nc")
    assert conventions.marks({"missing_value": -9.0}, {"_FillValue": -1.0}) == {}


def test_two_marks_that_differ_become_one(tmp_path):
    given = {
        "dtype": "int16",
        "scale_factor": 0.001,
        "add_offset": 280.0,
        "_FillValue": -32768,
        "missing_value": -32767,
    }
    data = DATA.copy()
    data.encoding = given
    out = fit(data).impute()
    assert "missing_value" not in out["tas"].encoding
    out.to_netcdf(tmp_path / "out.nc")
    given = {"_FillValue": np.float32(np.nan), "missing_value": np.float32(np.nan)}
    assert storage.encoding("x", given, np.ones(2), np.ones(2)) == given


VALUES, SD = np.array([279.0, 280.0, np.nan], "f4"), np.array([0.0, 0.2, np.nan])
ROUNDED = {
    "decimals": (
        {"dtype": "float32", "least_significant_digit": 1},
        "stored as float32 with least_significant_digit=1",
    ),
    "digits": ({"dtype": "float32", "significant_digits": 3, "quantize_mode": "BitGroom"}, "significant_digits=3"),
    "half": ({"dtype": "float16"}, "stored as float16; that rounds by up to 0.137"),
    "becomes missing": ({"dtype": "float32", "_FillValue": np.float32(280.0)}, "would become the _FillValue"),
    "whole steps": ({"dtype": "int16", "add_offset": 280.0, "scale_factor": 1.0, "_FillValue": 9}, "steps of 1; that"),
}


@pytest.mark.parametrize("case", ROUNDED)
def test_what_rounds_too_much_is_dropped(case):
    given, words = ROUNDED[case]
    with pytest.warns(pt.ProbtensorWarning, match=words):
        assert storage.encoding("tas", given | {"zlib": True}, VALUES, SD) == {"zlib": True}


def test_what_rounds_little_is_kept():
    for given in (
        {"dtype": "float32", "least_significant_digit": 3},
        {"dtype": "float32", "significant_digits": 6},
        {"dtype": "float32", "_FillValue": np.float32(1e20)},
        {"dtype": "float64"},
    ):
        assert storage.encoding("tas", given, VALUES, SD) == given
    with pytest.warns(pt.ProbtensorWarning, match="lie beyond what that can hold"):
        storage.encoding("tas", {"dtype": "float16"}, VALUES * 1000, SD)


def test_filled_truth_values_are_numbers(tmp_path):
    """A file marks truth values by a dtype in their encoding, which would make a chance of 0.3 true again."""
    truth = xr.DataArray([[True, False], [False, True]], dims=["a", "b"], name="wet")
    truth.encoding = {"dtype": "bool"}
    assert storage.encoding("wet", truth.encoding, np.array([0.3, np.nan]), np.array([0.1, np.nan])) == {}
