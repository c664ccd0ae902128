"""Plain fills of grids and tables by hand."""

import numpy as np
import pytest

from probtensor.errors import DataError
from probtensor.evaluation import fills
from probtensor.evaluation.entries import Entries, table
from probtensor.evaluation.fills import Places
from tests.evaluation.fields import LONGITUDES, MONTHS, TIMES
from tests.oracles import floors as oracle


@pytest.fixture
def where(field):
    entries = Entries({"time": 16, "lat": 3, "lon": 5}, np.isfinite(field))
    return Places(entries, {"time": TIMES, "lat": np.arange(3.0), "lon": LONGITUDES}, {"time": MONTHS + 1})


def variants(kind, where, y):
    inner = np.zeros(y.shape, bool)
    inner[tuple(np.argwhere(np.isfinite(y))[:3].T)] = True
    return fills.fills(kind, where, y, [inner])


def test_means_of_levels_by_hand(field, where):
    found = variants("level means", where, field)
    assert list(found)[:6] == ["time", "lat", "lon", "time, lat", "time, lon", "lat, lon"]
    cells = found["lat, lon"](field)
    for at in np.ndindex(field.shape):
        own = field[:, at[1], at[2]]
        expected = np.nanmean(own) if np.isfinite(own).any() else np.nanmean(field)
        np.testing.assert_allclose(cells[at], expected, rtol=1e-13)
    np.testing.assert_allclose(found["lat, lon, time.month"](field), oracle.climatology(field, MONTHS), rtol=1e-13)


def test_lines_first_along_one_dimension(field, where):
    found = variants("linear interpolation", where, field)
    assert list(found) == ["along time", "along lat", "along lon"]
    # Along time, then latitude, then longitude: only the cell that was never observed is of the latter.
    expected = oracle.interpolation(field, TIMES, LONGITUDES)
    observed_cells = np.isfinite(field).any(axis=0)
    np.testing.assert_allclose(found["along time"](field)[:, observed_cells], expected[:, observed_cells], rtol=1e-13)


def test_departures_from_means(field, where):
    found = variants("level means + interpolation", where, field)
    means, lines = variants("level means", where, field), variants("linear interpolation", where, field)
    assert len(found) == 4 and len({name.split("; ")[1] for name in found}) == 1
    for name, fill in found.items():
        level, line = name.split("; ")
        mean = means[level](field)
        np.testing.assert_allclose(fill(field), mean + lines[line](field - mean), rtol=1e-13)


def test_the_nearest_in_a_grid(field, where):
    found = variants("nearest", where, field)
    assert list(found) == ["", "along time", "along lat", "along lon"]
    along = found["along time"](field)
    seen = np.isfinite(field)
    for at in np.argwhere(~seen):
        times = np.flatnonzero(seen[:, at[1], at[2]])
        if times.size:
            near = times[np.abs(times - at[0]) == np.abs(times - at[0]).min()]
            assert along[tuple(at)] in field[near, at[1], at[2]]


def test_names_have_no_neighbours(field):
    where = Places(
        Entries({"time": 16, "lat": 3, "station": 5}, np.isfinite(field)), {"time": TIMES, "lat": np.arange(3.0)}
    )
    found = fills.fills("nearest", where, field, [np.zeros(field.shape, bool)])
    filled, seen = found[""](field), np.isfinite(field)
    for at in np.argwhere(~seen):
        assert filled[tuple(at)] in field[:, :, at[2]]  # of the same station, which each was observed


# --- tables ---------------------------------------------------------------------------------------------------------


def rows(n=60, seed=0):
    """Days and stations, some days twice, with a gap; and a coordinate measured beside them."""
    generator = np.random.default_rng(seed)
    day, station = generator.integers(0, 25, n), generator.integers(0, 4, n)
    y = day + 10.0 * station
    y = np.where(generator.uniform(size=n) < 0.3, np.nan, y)
    entries = table({"day": day, "station": np.array(list("abcd"))[station]}, np.isfinite(y))
    return Places(entries, {"day": np.unique(day).astype(float)}), day, station, y


def test_rows_along_a_coordinate_within_the_same_names():
    where, day, station, y = rows()
    found = fills.fills("linear interpolation", where, y, [np.zeros(len(y), bool)])
    assert list(found) == ["along day"]
    for k in range(len(y)):
        own = np.flatnonzero((station == station[k]) & np.isfinite(y))
        days = np.unique(day[own])
        expected = np.interp(day[k], days, [np.mean(y[own][day[own] == d]) for d in days])
        np.testing.assert_allclose(found["along day"](y)[k], expected, rtol=1e-12)


def test_the_nearest_row_with_the_same_names():
    where, day, station, y = rows()
    filled = fills.fills("nearest", where, y, [np.zeros(len(y), bool)])[""](y)
    for k in np.flatnonzero(np.isnan(y)):
        own = np.flatnonzero((station == station[k]) & np.isfinite(y))
        away = np.abs(day[own] - day[k])
        assert filled[k] in [np.mean(y[own][day[own] == d]) for d in day[own][away == away.min()]]


def test_level_means_of_rows():
    where, day, station, y = rows()
    found = fills.fills("level means", where, y, [np.zeros(len(y), bool)])
    assert list(found) == ["day", "station", "day, station"]
    for k in range(len(y)):
        own = (station == station[k]) & np.isfinite(y)
        np.testing.assert_allclose(found["station"](y)[k], y[own].mean(), rtol=1e-13)


def test_months_of_rows():
    where, day, station, y = rows()
    month = np.unique(day) % 3 + 1
    where = Places(where.entries, where.numbers, {"day": month})
    found = fills.fills("level means", where, y, [np.zeros(len(y), bool)])
    assert list(found)[3:] == ["day.month", "station, day.month"]
    for k in range(len(y)):
        own = (day % 3 == day[k] % 3) & np.isfinite(y)
        np.testing.assert_allclose(found["day.month"](y)[k], y[own].mean(), rtol=1e-13)


def test_a_plane_is_hit_exactly_inside_its_corners():
    generator = np.random.default_rng(0)
    x = np.concatenate([[[0, 0], [0, 1], [1, 0], [1, 1]], generator.uniform(size=(40, 2))])
    y = 3.0 + 2.0 * x[:, 0] - x[:, 1]
    entries = table({"u": x[:, 0], "v": x[:, 1]})
    where = Places(entries, {"u": np.unique(x[:, 0]), "v": np.unique(x[:, 1])})
    hidden = np.arange(44) >= 30
    found = fills.fills("linear interpolation", where, y, [hidden])
    assert list(found) == ["along u", "along v", "over u, v"]
    filled = fills.best(found, np.where(hidden, np.nan, y), [(np.arange(44) >= 20) & ~hidden])
    assert filled.variant == "over u, v"
    np.testing.assert_allclose(filled.mean, y, atol=1e-9)


def test_places_on_one_line_make_no_triangles():
    u = np.arange(10.0)
    where = Places(table({"u": u, "v": 2 * u}), {"u": u, "v": 2 * u})
    y = np.where(u == 4, np.nan, u)
    filled = fills.fills("linear interpolation", where, y, [np.zeros(10, bool)])["over u, v"](y)
    assert np.isfinite(filled).all()


def test_only_names_leave_nothing_to_go_along():
    where = Places(table({"a": np.array(list("xyxy")), "b": np.array(list("ppqq"))}), {})
    y = np.array([1.0, 2.0, 3.0, np.nan])
    assert fills.fills("linear interpolation", where, y, [np.zeros(4, bool)]) == {}
    assert fills.fills("level means + interpolation", where, y, [np.zeros(4, bool)]) == {}
    assert fills.fills("nearest", where, y, [np.zeros(4, bool)])[""](y)[3] == 2.0


def test_the_variant_with_the_least_error_is_taken_and_that_is_its_sd():
    y = np.array([0.0, 0.0, 0.0, 4.0])
    inner = np.array([False, False, True, True])
    found = fills.best({"none": lambda z: np.zeros(4), "three": lambda z: np.full(4, 3.0)}, y, [inner])
    assert found.variant == "three"
    np.testing.assert_allclose(found.sd, np.sqrt(5.0))
    np.testing.assert_array_equal(found.mean, np.full(4, 3.0))


@pytest.mark.parametrize(
    ("inner", "text"), [(np.ones(3, bool), "every observation is hidden"), (np.zeros(3, bool), "nothing to")]
)
def test_bad_inner(inner, text):
    with pytest.raises(DataError, match=text):
        fills.best({"": lambda y: y}, np.arange(3.0), [inner])
