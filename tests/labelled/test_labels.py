"""Labels that pandas and Python keep as objects mean what they say, at fit and at predict."""

import datetime
import decimal

import numpy as np
import pandas as pd
import pytest

import probtensor as pt
from probtensor.labelled import coordinates, labels
from tests.labelled.fields import field, fit

ZONED = pd.date_range("2020-01-01", periods=6, freq="10D", tz="Europe/Berlin")


def objects(*values):
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


DATES = [datetime.date(2020, 1, 1) + datetime.timedelta(days=10 * k) for k in range(6)]
#: name -> (labels, the same as plain labels)
TIMES = {
    "with a zone": (ZONED, ZONED.tz_convert("UTC").tz_localize(None)),
    "dates": (objects(*DATES), pd.to_datetime(DATES)),
    "datetimes": (objects(*pd.to_datetime(DATES).to_pydatetime()), pd.to_datetime(DATES)),
    "dates and datetimes": (objects(*DATES[:5], datetime.datetime(2020, 2, 20)), pd.to_datetime(DATES)),
    "periods": (pd.period_range("2020-01", periods=6, freq="M"), pd.date_range("2020-01", periods=6, freq="MS")),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", TIMES)
def test_times_of_any_kind_are_a_time_axis(kind):
    given, plain = TIMES[kind]
    data, truth = field()
    model = pt.Climatology("time.month", over="station") + pt.CP(rank=1)
    asked = {"lat": 41.0, "station": "a"}
    shuffled = [3, 0, 5, 1, 2, 4]
    post = fit(data.assign_coords(time=given).isel(time=shuffled), model)
    expected = fit(data.assign_coords(time=plain), model)
    filled = post.impute()["tas"]
    np.testing.assert_allclose(filled, expected.impute()["tas"].isel(time=shuffled), atol=1e-9)
    np.testing.assert_array_equal(filled["time"].to_numpy(), np.asarray(given)[shuffled])
    want = expected.predict({"time": plain, **asked})["mean"]
    for labels_ in (given, plain, list(given), data.assign_coords(time=given)["time"]):
        np.testing.assert_allclose(post.predict({"time": labels_, **asked})["mean"], want, atol=1e-9)
    np.testing.assert_allclose(expected.predict({"time": given, **asked})["mean"], want, atol=1e-9)
    assert post.score(truth.assign_coords(time=given).where(data.isnull().to_numpy()))["n"] == data.isnull().sum()


@pytest.mark.slow
def test_a_table_with_zoned_times_is_read_like_a_grid():
    data, _ = field()
    frame = data.assign_coords(time=ZONED.tz_convert("UTC").tz_localize(None)).to_dataframe().reset_index()
    zoned = frame.assign(time=frame["time"].dt.tz_localize("UTC").dt.tz_convert("America/Lima"))
    plain, other = (fit(pt.table(f, "tas", ["time", "lat", "station"])) for f in (frame, zoned))
    np.testing.assert_allclose(other.predict(zoned)["mean"], plain.predict(frame)["mean"], atol=1e-9)


@pytest.mark.parametrize("values", [(1, 2, 4), (1.5, 2, np.float32(4)), (decimal.Decimal("1.5"), 2.0, np.int8(4))])
def test_numbers_in_an_object_array_are_numbers(values):
    found, position = coordinates.read("x", objects(*values[::-1]))
    assert (found.kind, found.calendar) == ("numeric", "number")
    np.testing.assert_array_equal(found.labels, np.array([float(v) for v in values]))
    np.testing.assert_array_equal(position, [2, 1, 0])
    np.testing.assert_array_equal(found.numbers(objects(3, values[0])), [3.0, float(values[0])])


def test_durations_in_an_object_array_are_durations():
    found, _ = coordinates.read("lead", objects(datetime.timedelta(hours=6), np.timedelta64(1, "D")))
    assert found.calendar == "timedelta"
    np.testing.assert_allclose(found.numbers(found.labels), [0.25, 1.0])


def cftime(calendar):
    return pytest.importorskip("cftime").datetime(2001, 2, 3, calendar=calendar)


MIXED = {
    "numbers and names": (objects(1, "b", 3), r"'x' mixes numbers \(index 0: 1\) with text \(index 1: 'b'\).*astype"),
    "numbers and truth values": (objects(True, 2), r"numbers \(index 1: 2\) with truth values"),
    "times and names": (objects(DATES[0], "soon"), "times .* with text"),
    "times and periods": (objects(DATES[0], pd.Period("2020")), "times .* with periods"),
    "with and without a zone": (
        objects(pd.Timestamp("2020-01-01"), pd.Timestamp("2020-01-02", tz="UTC")),
        "'x' mixes times with a zone .index 1: .* and without one .index 0: .*give all of them",
    ),
    "periods of two lengths": (objects(pd.Period("2020-01", "M"), pd.Period("2020", "Y")), "'x': .* look like periods"),
    "two calendars": (
        lambda: objects(cftime("360_day"), cftime("360_day"), cftime("noleap")),
        r"'x' mixes cftime dates of the 360_day calendar \(index 0: .*noleap calendar \(index 2: .*convert_calendar",
    ),
    "a calendar and times": (
        lambda: objects(cftime("noleap"), DATES[0]),
        "(times|cftime dates) .* with (cftime|times)",
    ),
    "missing cftime": (lambda: objects(cftime("noleap"), None), "'x': 1 of 2 labels are missing .first: index 1"),
    "NaT": (np.array(["2020-01-01", "NaT"], "M8[ns]"), "'x': 1 of 2 labels are missing .first: index 1"),
    "missing times": (objects(DATES[0], None), "'x': 1 of 2 labels are missing .first: index 1"),
    "missing numbers": (objects(1, pd.NA, None), "'x': 2 of 3 labels are missing .first: index 1"),
}


@pytest.mark.parametrize("case", MIXED)
def test_undecidable_labels_are_refused(case):
    given, words = MIXED[case]
    given = given() if callable(given) else given
    with pytest.raises(pt.DataError, match=words):
        coordinates.read("x", given)


def test_zones_may_be_mixed_and_calendars_have_one_kind():
    """Every time with a zone is one of UTC: the two are an hour apart, though their clocks say the same."""
    mixed = objects(pd.Timestamp("2020-01-01", tz="UTC"), pd.Timestamp("2020-01-01", tz="Europe/Berlin"))
    found, position = coordinates.read("x", mixed)
    np.testing.assert_allclose(found.numbers(found.labels), [0.0, 1 / 24])
    np.testing.assert_array_equal(position, [1, 0])


def test_intervals_are_numbers_or_times():
    found, _ = coordinates.read("x", pd.interval_range(0, 4, periods=2).to_numpy())
    np.testing.assert_array_equal(found.numbers(objects(pd.Interval(0, 2), pd.Interval(2, 4), 7.0)[:2]), [1.0, 3.0])
    spans = pd.interval_range(pd.Timestamp("2020-01-01"), periods=2, freq="2D").to_numpy()
    assert coordinates.read("x", spans)[0].labels[0] == np.datetime64("2020-01-02")


def test_names_of_any_kind_stay_names():
    for given in (objects("b", "a"), objects(("x", 1), "y"), np.array(["b", "a"]), np.array([True, False])):
        assert coordinates.read("x", given)[0].kind == "category"
    assert labels.kinds(np.array([True, False])) == {"truth values": 0}


@pytest.fixture(scope="module")
def post():
    return fit(field()[0])


@pytest.mark.parametrize("asked", [3, True, ["a", b"a"], [("a", 1)], objects("a", 3), objects(("a", 1))])
def test_a_label_of_another_kind_is_no_new_name(post, asked):
    at = {"time": np.datetime64("2020-01-01"), "lat": 41.0}
    if isinstance(asked, list) and isinstance(asked[0], tuple):
        asked = objects(*asked)
    elif isinstance(asked, list):
        asked = objects(*asked)
    with pytest.raises(pt.DataError, match="'station' (holds text in the training data, such as 'a'; got|mixes)"):
        post.predict(at | {"station": asked})
    assert post.predict(at | {"station": ["a", "new"]}).sizes["station"] == 2


def test_time_differences_are_no_times(post):
    at = {"station": "a", "lat": 41.0, "time": np.array([3], "timedelta64[D]")}
    with pytest.raises(pt.DataError, match="'time' holds times"):
        post.predict(at)


def test_the_far_future_does_not_wrap_around():
    found, _ = coordinates.read("time", np.array(["2020-01-01T06", "2020-01-02"], "datetime64[ns]"))
    far = found.numbers(objects(datetime.date(3020, 1, 1)))
    np.testing.assert_allclose(far, (np.datetime64("3020-01-01") - np.datetime64("2020-01-01")).astype(int) - 0.25)


def test_rounded_labels_are_found():
    lat = np.array([50.2, 40.1, 41.3])
    found, _ = coordinates.read("lat", lat)
    level, same = found.find(np.array([41.3, 40.1001, 50.2], "float32"))
    np.testing.assert_array_equal(level, [1, 0, 2])
    np.testing.assert_array_equal(same, [True, False, True])
    dense, _ = coordinates.read("x", 1e6 + np.array([0.0, 0.001, 0.002]))  # closer than 32 bits can tell apart
    np.testing.assert_array_equal(dense.find(1e6 + np.array([0.001, 0.0014]))[1], [True, False])


@pytest.mark.parametrize("attribute", coordinates.CALENDAR)
@pytest.mark.parametrize("calendar", ["datetime", "cftime"])
def test_every_calendar_attribute_is_read_without_a_warning(attribute, calendar):
    """pandas deprecates names of old, and pytest makes an error of its warnings."""
    expected = {"year": 2021, "season": 1, "quarter": 1, "month": 3, "day": 5, "dayofyear": 64, "dayofweek": 4}
    expected |= {"hour": 7, "minute": 9}
    if calendar == "cftime":
        cftime = pytest.importorskip("cftime")
        times = np.array([cftime.datetime(2021, 3, 5, 7, 9, calendar="standard")], dtype=object)
    else:
        times = np.array(["2021-03-05T07:09"], dtype="datetime64[ns]")
    coordinate, _ = coordinates.read("time", times)
    np.testing.assert_array_equal(coordinate.derive(attribute, times), [expected[attribute]])
