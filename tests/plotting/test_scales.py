"""Coordinates along axes: ticks of every kind, and the globe's conventions."""

import cftime
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from probtensor import figures
from probtensor.plotting import geography
from probtensor.plotting.scales import calendar_ticks, scale
from probtensor.plotting.words import short


def ticks(own, width=4.0):
    """Texts of the ticks of an axis with these labels."""
    figure = figures.empty(width, 2.0)
    axes = figure.subplots()
    axes.plot(own.positions, np.zeros(len(own.positions)))
    own.dress(axes.xaxis)
    figure.canvas.draw()
    low, high = axes.get_xlim()
    pairs = zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
    return [text.get_text() for place, text in pairs if low <= place <= high]


@pytest.mark.parametrize(
    ("name", "labels", "attrs", "label", "some"),
    [
        ("depth", np.array([1.0, 5.0]), {"units": "m"}, "depth [m]", "2"),
        ("lat", np.array([-10.0, 10.0]), {"units": "degrees_north"}, "lat", "10°S"),
        ("y", np.array([-10.0, 10.0]), {"standard_name": "latitude"}, "y", "10°N"),
        ("longitude", np.array([150.0, 210.0]), {}, "longitude", "180°"),
        ("lead", np.array([0, 6, 12], "m8[h]").astype("m8[ns]"), {}, "lead [hours]", "6"),
        ("lead", np.array([0, 60], "m8[D]").astype("m8[ns]"), {}, "lead [days]", "20"),
        ("time", np.array(["2001-01-01", "2004-01-01"], "M8[ns]"), {}, "time", "2002"),
        ("wet", np.array([False, True]), {}, "wet", "True"),
        ("price", np.array([1, 2]), {"units": "$ per $"}, r"price [\$ per \$]", "1"),
        ("lone", np.array([7.25]), {"units": "m"}, "lone [m]", "7.25"),
        ("lat", np.array([-7.25]), {"units": "degrees_north"}, "lat", "7.25°S"),
    ],
)
def test_ticks(name, labels, attrs, label, some):
    own = scale(name, labels, attrs)
    assert own.label == label
    assert some in ticks(own)


def test_long_names_are_turned_and_cut_and_many_left_out():
    names = np.array(["a" * 30, "b"], dtype=object)
    assert ticks(scale("s", names, {})) == ["a" * 21 + "...", "b"]
    assert ticks(scale("s", np.array([f"n{k}" for k in range(60)]), {})) == []


@pytest.mark.parametrize(
    ("first", "last", "texts"),
    [
        ((1860, 6, 1), (2099, 6, 1), ["1900", "1950", "2000", "2050"]),
        ((2001, 2, 30), (2004, 1, 1), ["2002", "2003", "2004"]),
        ((2001, 2, 30), (2001, 6, 1), ["2001-03", "2001-04", "2001-05", "2001-06"]),
        ((2001, 2, 28), (2001, 3, 6), ["02-28", "02-30", "03-02", "03-04", "03-06"]),
        ((2001, 2, 30), (2001, 2, 30, 6), ["02-30 00:00", "02-30 03:00", "02-30 06:00"]),
        ((2001, 2, 30), (2001, 2, 30), ["02-30 00:00"]),
    ],
)
def test_ticks_of_a_calendar_of_360_days(first, last, texts):
    found, said = calendar_ticks(cftime.Datetime360Day(*first), cftime.Datetime360Day(*last))
    assert said == texts
    assert all(type(t) is cftime.Datetime360Day for t in found)


@pytest.mark.parametrize("calendar", ["360_day", "noleap", "julian", "standard", "all_leap", "proleptic_gregorian"])
def test_every_calendar_is_drawn(calendar):
    times = xr.date_range("2000-01-03", periods=5, freq="YS", calendar=calendar, use_cftime=True).to_numpy()
    own = scale("time", times, {})
    assert own.label == f"time [{calendar} calendar]"
    assert ticks(own) == ["2001", "2002", "2003", "2004", "2005"][: len(ticks(own))]
    np.testing.assert_allclose(own.positions, [(t - times[0]).days for t in times])


@pytest.mark.parametrize(
    ("degrees", "text"),
    [
        (240.0, "120°W"),
        (-180.0, "180°"),
        (180.0, "180°"),
        (360.0, "0°"),
        (359.5, "0.5°W"),
        (10.0, "10°E"),
        (-5.0, "5°W"),
    ],
)
def test_longitudes_are_said_alike_in_both_conventions(degrees, text):
    assert geography.east(degrees) == text


@pytest.mark.parametrize(
    ("longitudes", "expected"),
    [
        ([350.0, 355.0, 0.0, 5.0], [-10.0, -5.0, 0.0, 5.0]),
        ([170.0, 175.0, -180.0, -175.0], [170.0, 175.0, 180.0, 185.0]),
        (np.arange(0.0, 360.0, 30), np.arange(0.0, 360.0, 30)),
        (np.arange(-180.0, 180.0, 30), np.arange(-180.0, 180.0, 30)),
        ([10.0, 20.0], [10.0, 20.0]),
        ([7.0], [7.0]),
    ],
)
def test_the_circle_is_cut_where_there_is_nothing(longitudes, expected):
    np.testing.assert_array_equal(geography.unrolled(np.asarray(longitudes)), expected)


def test_a_hole_between_longitudes_is_no_wide_cell():
    own = geography.cells(np.array([2.0, 1.0]), np.array([0.0, 10.0, 20.0, 100.0, 110.0]), around=True)
    np.testing.assert_array_equal(own.x, [-5, 5, 15, 25, 95, 105, 115])
    np.testing.assert_array_equal(own.columns, [0, 1, 2, -1, 3, 4])
    values = np.arange(10.0).reshape(2, 5)
    arranged = own.arranged(values)
    np.testing.assert_array_equal(arranged[:, [0, 1, 2, 4, 5]], values[::-1])
    assert np.isnan(arranged[:, 3]).all()


def test_cells_do_not_reach_beyond_the_poles():
    own = geography.cells(np.array([-90.0, 0.0, 90.0]), np.array([0.0, 180.0]), around=True)
    assert (own.y[0], own.y[-1]) == (-90.0, 90.0)


@pytest.mark.parametrize(
    ("coords", "expected"),
    [
        ({"lat": ([1.0, 2.0], {}), "lon": ([3.0], {})}, ("lat", "lon")),
        ({"x": ([3.0], {"units": "degrees_east"}), "y": ([1.0], {"units": "degrees_north"})}, ("y", "x")),
        ({"lat": ([1.0], {"units": "m"}), "lon": ([3.0], {"units": "m"})}, None),
        ({"lat": ([100.0], {}), "lon": ([3.0], {})}, None),
        ({"lat": (["a"], {}), "lon": ([3.0], {})}, None),
        ({"x": ([1.0], {}), "y": ([3.0], {})}, None),
    ],
)
def test_latitude_and_longitude_are_known(coords, expected):
    arrays = {n: xr.DataArray(v, dims=[n], name=n, attrs=a) for n, (v, a) in coords.items()}
    assert geography.latitude_longitude(arrays) == expected


def test_labels_are_short():
    assert short(np.datetime64("2001-02-03T00:00:00.000000")) == "2001-02-03"
    assert short(pd.Timestamp("2001-02-03")) == "2001-02-03"
    assert short(np.datetime64("2001-02-03T04:05:06.000000")) == "2001-02-03T04:05:06"
    assert short(0.1 + 0.2) == "0.3"
