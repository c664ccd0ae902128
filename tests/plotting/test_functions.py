"""Factors: bands on real axes, maps the right side up, names that can be read."""

import cftime
import numpy as np
import pytest
import xarray as xr

from probtensor import plotting
from probtensor.errors import DataError, ModelError
from tests.plotting.fits import LAT, LON, band, calendar, centres, globe, meshes


@pytest.fixture
def parts():
    """Eight components over a time, an unsorted number and a name."""
    generator = np.random.default_rng(0)
    labels = {
        "time": np.arange("2001-01", "2003-01", dtype="datetime64[M]").astype("datetime64[ns]"),
        "depth": np.array([30.0, 10.0, 20.0]),
        "station": np.array(["Aarhus", "Bonn"]),
    }
    variables = {}
    for mode, values in labels.items():
        shape = (8, values.size)
        variables[f"{mode}_mean"] = (("component", mode), generator.standard_normal(shape))
        variables[f"{mode}_sd"] = (("component", mode), generator.uniform(0.1, 0.2, shape))
    return xr.Dataset(variables, coords=labels)


def test_factors_show_each_mode_and_the_first_components(parts):
    figure = plotting.factors(parts)
    panels = np.array(figure.axes).reshape(6, 3)
    assert [axes.get_title() for axes in panels[0]] == ["time", "depth", "station"]
    x, y = panels[2, 1].lines[1].get_data()
    np.testing.assert_array_equal(x, [10.0, 20.0, 30.0])
    np.testing.assert_array_equal(y, parts["depth_mean"].isel(component=2).sortby("depth"))
    figure.canvas.draw()
    assert [label.get_text() for label in panels[5, 2].get_xticklabels()] == ["Bonn", "Aarhus"]
    assert "first 6 of 8" in figure.get_suptitle()


def test_factors_refuse_what_holds_none(parts):
    with pytest.raises(DataError, match="no factors"):
        plotting.factors(parts[["time_mean"]])


def test_bands_are_two_sds_wide(parts):
    panels = np.array(plotting.factors(parts).axes).reshape(6, 3)
    sorted_ = parts.sortby("depth").isel(component=3)
    x, low, high = band(panels[3, 1].collections[0])
    np.testing.assert_array_equal(x, sorted_["depth"])
    np.testing.assert_allclose(low, sorted_["depth_mean"] - 2 * sorted_["depth_sd"])
    np.testing.assert_allclose(high, sorted_["depth_mean"] + 2 * sorted_["depth_sd"])


def test_names_are_sorted_by_the_first_component_that_is_shown(parts):
    figure = plotting.factors(parts, components=[3, 1])
    panels = np.array(figure.axes).reshape(2, 3)
    order = np.argsort(parts["station_mean"].to_numpy()[2])
    for row, component in enumerate((2, 0)):
        values = panels[row, 2].lines[1].get_ydata()
        np.testing.assert_array_equal(values, parts["station_mean"].to_numpy()[component][order])
    figure.canvas.draw()
    texts = [label.get_text() for label in panels[1, 2].get_xticklabels()]
    assert texts == parts["station"].to_numpy()[order].tolist()
    assert panels[0, 0].get_ylabel() == "component 3"
    assert "3, 1 of 8" in figure.get_suptitle()


@pytest.mark.parametrize(("components", "rows"), [(None, 6), (8, 8), (99, 8), ([2], 1)])
def test_as_many_components_as_are_asked_for(parts, components, rows):
    assert len(plotting.factors(parts, components).axes) == 3 * rows


@pytest.mark.parametrize("components", [0, -1, [], [0], [9], [1, 1], "two", 1.5, True, [1.5]])
def test_bad_components(parts, components):
    with pytest.raises(ModelError, match="between 1 and 8"):
        plotting.factors(parts, components)


def test_a_map_is_the_right_side_up_and_without_land():
    post = globe()
    found = post.factors()
    figure = post.plot.factors()
    axes = figure.axes[0]
    land, values = meshes(axes)
    x, y = centres(axes.collections[1])
    np.testing.assert_allclose(x, [-8, -4, 0, 4, 8])
    np.testing.assert_allclose(y, np.sort(LAT))
    expected = found["lat_lon_mean"].isel(component=0).sel(lat=y, lon=x % 360)
    sea = np.ones((4, 5), dtype=bool)
    sea[np.flatnonzero(y == LAT[0])[0], np.flatnonzero(x == LON[1])[0]] = False
    np.testing.assert_allclose(values, expected.where(xr.DataArray(sea, expected.coords, ["lat", "lon"])))
    np.testing.assert_array_equal(land == 1.0, ~sea)
    low, high = axes.collections[1].get_clim()
    assert low == -high == -np.nanmax(np.abs(values))
    # True to scale at its middle: a degree of latitude is 1 / cos(49) as long as one of longitude.
    np.testing.assert_allclose(axes.get_aspect(), 1 / np.cos(np.deg2rad(49)))
    figure.canvas.draw()
    texts = [t.get_text() for t in axes.get_xticklabels()]
    assert "5°W" in texts and "0°" in texts and "5°E" in texts
    assert axes.get_title() == "lat x lon [K]"


def test_land_is_found_by_its_labels():
    found = globe().factors().isel(lon=[3, 4, 0, 1, 2], lat=[2, 0, 1, 3])
    drawn = globe().plot._without_land(found)["lat_lon_mean"]
    assert int(drawn.isnull().sum()) == 1
    assert np.isnan(drawn.sel(lat=LAT[0], lon=LON[1])).all()


def test_dates_of_another_calendar_and_names_that_are_formulas():
    figure = calendar().plot.factors()
    figure.canvas.draw()
    panels = {axes.get_title(): axes for axes in figure.axes}
    (time,) = (axes for title, axes in panels.items() if title.startswith("time"))
    assert [label.get_text() for label in time.get_xticklabels()] == ["1995", "2000", "2005", "2010", "2015"]
    (station,) = (axes for title, axes in panels.items() if title.startswith("station"))
    texts = [label.get_text() for label in station.get_xticklabels()]
    assert sorted(texts) == ["<script>\\$x\\$</script>", "Aarhus", "Bonn"]


def dataset(**modes):
    """One component over modes: name -> (dims, coords, values)."""
    variables, coords = {}, {}
    for name, (dims, own, values) in modes.items():
        variables[f"{name}_mean"] = (("component", *dims), values[None])
        variables[f"{name}_sd"] = (("component", *dims), np.full_like(values, 0.1)[None])
        coords |= own
    return xr.Dataset(variables, coords)


def test_places_of_a_table_are_scattered():
    lat, lon, values = np.array([40.0, 42.0, 41.0]), np.array([179.0, -179.0, 180.0]), np.array([1.0, -2.0, 0.5])
    coords = {"lat": ("lat_lon_level", lat), "lon": ("lat_lon_level", lon)}
    figure = plotting.factors(dataset(lat_lon=(["lat_lon_level"], coords, values)))
    points = figure.axes[0].collections[0]
    np.testing.assert_allclose(points.get_offsets(), np.stack([[179.0, 181.0, 180.0], lat], axis=1))
    np.testing.assert_array_equal(points.get_array(), values)
    assert points.get_clim() == (-2.0, 2.0)
    assert figure.axes[0].get_title() == "lat x lon"


def test_combinations_of_names_are_points():
    coords = {"crop": ("crop_year_level", ["rye", "oats"]), "year": ("crop_year_level", [2001, 2002])}
    figure = plotting.factors(dataset(crop_year=(["crop_year_level"], coords, np.array([2.0, 1.0]))))
    figure.canvas.draw()
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["oats, 2002", "rye, 2001"]


def test_many_names_are_counted():
    names = np.array([f"n{k}" for k in range(60)])
    axes = plotting.factors(dataset(s=(["s"], {"s": names}, np.arange(60.0)[::-1]))).axes[0]
    assert axes.get_xlabel() == "60 names, sorted" and len(axes.get_xticks()) == 0
    np.testing.assert_array_equal(axes.lines[1].get_ydata(), np.arange(60.0))


def test_a_surface_of_time_and_depth_runs_to_the_right():
    values = np.arange(6.0).reshape(3, 2)
    coords = {"depth": [1.0, 2.0, 5.0], "time": np.array(["2001-01-01", "2001-01-02"], "M8[ns]")}
    axes = plotting.factors(dataset(depth_time=(["depth", "time"], coords, values))).axes[0]
    np.testing.assert_array_equal(meshes(axes)[1], values)
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("time", "component 1")
    turned = dataset(depth_time=(["time", "depth"], coords, values.T))
    np.testing.assert_array_equal(meshes(plotting.factors(turned).axes[0])[1], values)


def test_dots_are_where_zero_is_within_two_sds():
    mean = np.array([[1.0, -0.1, 0.19], [-0.3, 0.0, np.nan]])
    coords = {"lat": [2.0, 1.0], "lon": [10.0, 20.0, 30.0]}  # the sd is 0.1
    axes = plotting.factors(dataset(lat_lon=(["lat", "lon"], coords, mean))).axes[0]
    dots = {tuple(place) for place in axes.lines[0].get_xydata()}
    assert dots == {(20.0, 2.0), (30.0, 2.0), (20.0, 1.0)}
    sure = plotting.factors(dataset(lat_lon=(["lat", "lon"], coords, np.full((2, 3), 9.0)))).axes[0]
    assert not sure.lines


def test_of_three_joined_dimensions_the_middle_map_is_shown():
    values = np.arange(24.0).reshape(3, 2, 4)
    coords = {"depth": [1.0, 2.0, 5.0], "lat": [1.0, 2.0], "lon": [1.0, 2.0, 3.0, 4.0]}
    axes = plotting.factors(dataset(depth_lat_lon=(["depth", "lat", "lon"], coords, values))).axes[0]
    np.testing.assert_array_equal(meshes(axes)[1], values[1])


def test_single_levels_and_rank_one_of_a_tucker():
    own = xr.Dataset(
        {
            "time_mean": (("time_component", "time"), [[2.0]]),
            "time_sd": (("time_component", "time"), [[0.5]]),
            "lat_mean": (("lat_component", "lat"), np.ones((2, 3))),
            "lat_sd": (("lat_component", "lat"), np.ones((2, 3))),
        },
        {"time": [cftime.DatetimeNoLeap(2001, 2, 3)], "lat": [1.0, 2.0, 3.0]},
    )
    figure = plotting.factors(own)
    figure.canvas.draw()
    panels = np.array(figure.axes).reshape(2, 2)
    assert [t.get_text() for t in panels[0, 0].get_xticklabels()] == ["2001-02-03"]
    assert not panels[1, 0].axison and panels[1, 1].axison


def test_a_train_says_which_bonds_a_function_is_between():
    random = np.random.default_rng(0)
    variables = {}
    for mode, bonds, size in (("a", ["bond_1"], 3), ("b", ["bond_1", "bond_2"], 4), ("c", ["bond_2"], 5)):
        values = random.normal(size=(*[2] * len(bonds), size))
        variables |= {f"{mode}_mean": ((*bonds, mode), values), f"{mode}_sd": ((*bonds, mode), np.abs(values))}
    own = xr.Dataset(variables, {m: np.arange(float(n)) for m, n in (("a", 3), ("b", 4), ("c", 5))})
    figure = plotting.factors(own)
    panels = np.array(figure.axes).reshape(4, 3)
    assert [axes.get_title() for axes in panels[0]] == ["a (bond 1)", "b (bond 1, bond 2)", "c (bond 2)"]
    assert [panels[k, 1].texts[0].get_text() for k in range(4)] == ["1, 1", "1, 2", "2, 1", "2, 2"]
    np.testing.assert_array_equal(panels[2, 1].lines[1].get_ydata(), own["b_mean"][1, 0])
    assert panels[:, 0].tolist()[2].axison is False
