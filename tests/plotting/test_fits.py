"""The fit against the data: what is drawn is what `predict` and `impute` give."""

import cftime
import numpy as np
import pytest
import xarray as xr

import probtensor as pt
from tests.plotting.fits import HIDDEN, LAT, TIME, TRUTH, band, calendar, centres, counts, frame, globe, meshes, table

QUANTILES = [0.05, 0.25, 0.75, 0.95]


def titles(figure):
    return [axes.get_title(loc="left") for axes in figure.axes]


def test_series_are_what_is_predicted_at_the_sites_with_the_longest_gaps():
    figure = globe().plot.fit()
    assert titles(figure)[0] == "lat 48°N, lon 4°W"
    assert len(figure.axes) == 4 and len(set(titles(figure))) == 4
    axes = figure.axes[0]
    where = {"lat": 48.0, "lon": 356.0}
    expected = globe().predict({"time": TIME, **where}, quantiles=QUANTILES)
    for collection, ends in zip(axes.collections, ((0, 3), (1, 2)), strict=True):
        _, low, high = band(collection)
        np.testing.assert_allclose(low, expected["quantiles"][ends[0]], rtol=1e-6)
        np.testing.assert_allclose(high, expected["quantiles"][ends[1]], rtol=1e-6)
    mean, observed = (line.get_ydata() for line in axes.lines)
    np.testing.assert_allclose(mean, expected["mean"], rtol=1e-6)
    np.testing.assert_array_equal(observed, TRUTH.where(~HIDDEN).sel(where))
    figure.canvas.draw()
    assert figure.axes[-1].get_xlabel() == "time"
    assert figure.get_supylabel() == "air temperature [K]"


def test_sites_that_are_named():
    figure = globe().plot.fit(at={"lat": [46.2, 52.0], "lon": 0})
    assert titles(figure) == ["lat 46°N, lon 0°", "lat 52°N, lon 0°"]
    one = globe().plot.fit(at={"lat": 52.0})
    (title,) = titles(one)
    assert title.startswith("lat 52°N") and "4°E" not in title  # there is land, without any observation


@pytest.mark.slow
def test_series_of_another_calendar():
    figure = calendar().plot.fit(at={"station": ["Bonn", "Aarhus"]})
    figure.canvas.draw()
    assert titles(figure) == ["station Aarhus", "station Bonn"]
    assert figure.axes[-1].get_xlabel() == "time [360_day calendar]"
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_xdata(), 360.0 * np.arange(30))


def test_maps_are_what_impute_gives():
    post = globe()
    figure = post.plot.fit(at={"time": ["2001-05", "2001-06-10"]})
    assert titles(figure)[:3] == [f"{what}, time 2001-05-01" for what in ("observed", "filled", "sd of the fill")]
    assert titles(figure)[3] == "observed, time 2001-06-01"
    filled = post.impute(where=~HIDDEN.all("time"))
    data = TRUTH.where(~HIDDEN)
    sd = filled["tas_sd"].where(filled["tas_filled"])
    for k, time in enumerate(("2001-05-01", "2001-06-01")):
        for axes, expected in zip(figure.axes[3 * k : 3 * k + 3], (data, filled["tas"], sd), strict=True):
            land, values = meshes(axes)
            x, y = centres(axes.collections[1])
            np.testing.assert_allclose(values, expected.sel(time=time, lat=y, lon=x % 360), rtol=1e-6)
            assert land[np.flatnonzero(y == LAT[0])[0], np.flatnonzero(x == 4.0)[0]] == 1.0
            assert np.nansum(land) == 1.0
    limits = {axes.collections[1].get_clim() for axes in (figure.axes[k] for k in (0, 1, 3, 4))}
    assert len(limits) == 1
    figure.canvas.draw()


@pytest.mark.slow
def test_maps_without_a_time():
    data = TRUTH.isel(time=3, drop=True)
    post = pt.fit(data.where(~HIDDEN[1]), pt.Offset() + pt.CP(1), engine=pt.MessagePassing(max_sweeps=5))
    figure = post.plot.fit()
    assert titles(figure)[:3] == ["observed", "filled", "sd of the fill"]


@pytest.mark.slow
def test_a_table_is_observed_against_predicted():
    post, rows = table(), frame()
    left, right = post.plot.fit().axes
    expected = post.predict(rows)["mean"].to_numpy()
    drawn = np.stack([left.lines[0].get_xdata(), left.lines[0].get_ydata()], axis=1)
    wanted = np.stack([rows["y"], expected], axis=1)
    np.testing.assert_allclose(drawn[np.lexsort(drawn.T)], wanted[np.lexsort(wanted.T)], rtol=1e-6)
    heights = np.array([bar.get_height() for bar in right.patches])
    np.testing.assert_allclose(heights.sum() * 0.25, 1.0)  # a density in classes of a quarter
    assert left.get_xlabel() == "observed y"


@pytest.mark.slow
def test_counts_have_bands_of_whole_numbers():
    figure = counts()[0].plot.fit(at={"site": [0, 2]})
    _, low, high = band(figure.axes[0].collections[0])
    assert (low == np.round(low)).all() and (high == np.round(high)).all() and (high > low).all()


@pytest.mark.parametrize(
    ("at", "error", "match"),
    [
        ({"depth": 1}, pt.DataError, "no dimension 'depth'; they have 'lat', 'lon', 'time'"),
        ({"lat": 80.0}, pt.DataError, "no lat=80"),
        ({"lat": "north"}, pt.DataError, "numbers"),
        ({"lat": []}, pt.DataError, "one label of 'lat' or a list"),
        ({"time": "soon"}, pt.DataError, "times"),
        (["lat"], pt.DataError, "expected a dict"),
        ({"lat": list(LAT), "lon": [0, 4, 352, 356]}, pt.ModelError, "names 16 sites; at most 12"),
        ({"time": TIME}, pt.ModelError, "names 12 maps; at most 6"),
        ({"time": TIME[0], "lat": 46.0}, pt.ModelError, "fixes 'time' and leaves no map"),
    ],
)
def test_bad_places(at, error, match):
    with pytest.raises(error, match=match):
        globe().plot.fit(at)


def test_names_and_dates_that_are_not_there():
    with pytest.raises(pt.DataError, match="no station=Paris; they have"):
        calendar().plot.fit({"station": "Paris"})
    with pytest.raises(pt.DataError, match="no date such as"):
        calendar().plot.fit({"time": "in spring"})
    with pytest.raises(pt.ModelError, match="a table has none"):
        table().plot.fit({"day": 3})
    with pytest.raises(pt.ModelError, match="fixes 'time' and leaves no map"):
        calendar().plot.fit({"time": cftime.Datetime360Day(1994, 2, 30)})


def test_longest_gaps_are_found():
    from probtensor.labelled.comparing import longest_gap

    seen = np.array([[1, 0, 0, 1, 0], [0, 1, 1, 1, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]], dtype=bool)
    np.testing.assert_array_equal(longest_gap(seen), [2, 1, 5, 0])


def test_sites_of_a_wide_grid_are_apart():
    """A hole of many neighbours that are all missing longest does not take every panel."""
    from probtensor.labelled.comparing import _spread

    rank = np.zeros((20, 20))
    rank[4:8, 4:8], rank[15, 15] = 9.0, 5.0
    found = _spread(rank, 3)
    assert found[0] == (4, 4) and len(set(found)) == 3
    assert min(np.hypot(*(np.subtract(a, b) / 19)) for a in found for b in found if a != b) >= 0.3
    assert _spread(np.array([[1.0, -1.0]]), 3) == [(0, 0)]
    assert sorted(_spread(np.zeros((1, 3)), 5)) == [(0, 0), (0, 1), (0, 2)]
    assert _spread(np.zeros(()), 4) == [()]


def test_only_named_entries_are_computed(monkeypatch):
    """A large grid is not predicted as a whole for a few of its sites."""
    from probtensor import arrays

    sizes = []
    whole = arrays.fitted
    monkeypatch.setattr(arrays, "fitted", lambda state, domain: sizes.append(domain.shape) or whole(state, domain))
    globe().plot.fit(at={"lat": 46.0, "lon": 0.0})
    assert sizes == [(12,)]


@pytest.mark.slow
def test_a_line_of_numbers():
    line = xr.DataArray(np.sin(np.arange(12.0)), {"$x$": np.arange(12.0)}, ["$x$"], name="v")
    post = pt.fit(line.where(np.arange(12) % 5 != 0), pt.CP(1), engine=pt.MessagePassing(max_sweeps=5))
    figure = post.plot.fit()
    (axes,) = figure.axes
    assert axes.get_title(loc="left") == "" and axes.get_xlabel() == r"\$x\$"
    figure.canvas.draw()
    figure = calendar().plot.fit()
    assert r"station <script>\$x\$</script>" in titles(figure)


@pytest.mark.slow
def test_a_grid_of_names_alone():
    names = xr.DataArray(np.arange(12.0).reshape(3, 4), {"user": list("abc"), "item": list("wxyz")}, ["user", "item"])
    post = pt.fit(names, pt.Offset() + pt.CP(1), engine=pt.MessagePassing(max_sweeps=5))
    assert post.plot.fit().axes[0].get_title(loc="left").startswith("12 observations")


def test_of_many_rows_a_sample_is_compared(monkeypatch):
    from probtensor.plotting import fits

    monkeypatch.setattr(fits, "_MOST_ROWS", 40)
    monkeypatch.setattr(fits, "_POINTS", 30)
    figure = table().plot.fit()
    assert figure.axes[0].get_title(loc="left").startswith("40 of 90 observations")
    figure.canvas.draw()
