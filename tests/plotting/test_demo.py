"""The demo's picture holds the fields it was given."""

import importlib.util

import numpy as np
import pytest
import xarray as xr

from probtensor import datasets, plotting
from probtensor.errors import DataError, ModelError
from probtensor.evaluation import gaps
from tests.plotting.fits import meshes


@pytest.fixture
def fields():
    """Truth, gaps, fill and sd."""
    truth = datasets.load("synthetic", times=5, latitudes=6, longitudes=12)
    held = gaps.blocks(0.3, size={"time": 2, "latitude": 2, "longitude": 4}).mask(
        dict(truth.sizes), 0, truth.notnull().values
    )
    sd = truth.copy(data=np.where(held, 0.5, np.where(truth.isnull(), np.nan, 0.0)))
    return truth, truth.where(~held), truth + 0.1 * held, sd


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


def test_without_matplotlib(monkeypatch, fields):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else find(name))
    with pytest.raises(ModelError, match=r"pip install 'probtensor\[plot\]'"):
        plotting.demo_picture(*fields, 0)
