"""The figures hold the numbers they were given, and leave matplotlib's state alone."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

from probtensor import datasets, plotting
from probtensor.errors import DataError, ModelError
from probtensor.evaluation import gaps


@pytest.fixture
def fields():
    """Truth, gaps, fill and sd."""
    truth = datasets.load("synthetic", times=5, latitudes=6, longitudes=12)
    held = gaps.blocks(0.3, size={"time": 2, "latitude": 2, "longitude": 4}).mask(
        dict(truth.sizes), 0, truth.notnull().values
    )
    sd = truth.copy(data=np.where(held, 0.5, np.where(truth.isnull(), np.nan, 0.0)))
    return truth, truth.where(~held), truth + 0.1 * held, sd


def meshes(axes):
    """Values of the meshes of a panel: its land, then its field."""
    return [np.ma.filled(mesh.get_array(), np.nan) for mesh in axes.collections if hasattr(mesh, "get_coordinates")]


def test_demo_picture_shows_the_four_fields(fields, tmp_path):
    figure = plotting.demo_picture(*fields, time_index=1)
    panels = figure.axes[:4]
    assert panels[0].get_title(loc="left") == "Truth, 2000-02"
    for axes, field in zip(panels, fields, strict=True):
        land, values = meshes(axes)
        np.testing.assert_array_equal(land == 1.0, fields[0][1].isnull())
        expected = field[1].where(fields[1][1].isnull()) if axes is panels[3] else field[1]
        np.testing.assert_array_equal(values, expected.values)
    figure.savefig(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 10_000


def test_demo_picture_shares_one_scale_and_names_units(fields):
    figure = plotting.demo_picture(*fields, time_index=0)
    limits = {axes.collections[1].get_clim() for axes in figure.axes[:3]}
    assert len(limits) == 1
    low, high = figure.axes[3].collections[1].get_clim()
    assert 0.4 < low <= 0.5 <= high < 0.6
    assert [axes.get_ylabel() for axes in figure.axes[4:]] == ["made sea-surface temperature [K]", "sd [K]"]


@pytest.mark.parametrize("flip", ["latitude", "longitude"])
def test_demo_picture_of_a_descending_grid(fields, flip):
    turned = [field.isel({flip: slice(None, None, -1)}) for field in fields]
    boxes = [
        {tuple(np.round(np.sort(segment.ravel()), 6)) for segment in figure.axes[1].collections[2].get_segments()}
        for figure in (plotting.demo_picture(*fields, 2), plotting.demo_picture(*turned, 2))
    ]
    assert boxes[0] == boxes[1] != set()


def test_demo_picture_without_gaps_land_or_coordinates():
    whole = xr.DataArray(np.arange(24.0).reshape(2, 3, 4), dims=("step", "row", "column"))
    figure = plotting.demo_picture(whole, whole, whole, xr.zeros_like(whole), 1)
    assert figure.axes[0].get_title(loc="left") == "Truth, 1"
    figure.canvas.draw()


def test_demo_picture_refuses_fields_of_other_shapes(fields):
    truth, gapped, filled, sd = fields
    with pytest.raises(DataError, match="sd has dimensions .*same three"):
        plotting.demo_picture(truth, gapped, filled, sd.isel(time=0), 0)


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
    assert [label.get_text() for label in panels[5, 2].get_xticklabels()] == ["Aarhus", "Bonn"]
    assert "first 6 of 8" in figure.get_suptitle()


def test_factors_refuse_what_holds_none(parts):
    with pytest.raises(DataError, match="no factors"):
        plotting.factors(parts[["time_mean"]])


def test_objective_shows_every_sweep():
    trace = xr.DataArray(-100.0 * np.exp(-np.arange(10.0)), dims="sweep")
    figure = plotting.objective(trace)
    x, y = figure.axes[0].lines[0].get_data()
    np.testing.assert_array_equal(x, np.arange(1, 11))
    np.testing.assert_array_equal(y, trace)
    np.testing.assert_array_equal(figure.axes[1].lines[0].get_ydata(), trace[5:])
    figure.canvas.draw()
    with pytest.raises(DataError, match="one dimension"):
        plotting.objective(trace.expand_dims("restart"))


def test_without_matplotlib(monkeypatch, fields):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else find(name))
    with pytest.raises(ModelError, match=r"pip install 'probtensor\[plot\]'"):
        plotting.demo_picture(*fields, 0)


def test_pyplot_is_never_imported(tmp_path):
    code = (
        "import sys, numpy as np, xarray as xr\n"
        "from probtensor import plotting\n"
        "assert 'matplotlib' not in sys.modules\n"
        "plotting.objective(xr.DataArray(np.arange(4.0), dims='sweep')).savefig(sys.argv[1])\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.png")], check=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
