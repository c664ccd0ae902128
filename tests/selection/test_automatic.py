"""The automatic model: gap shapes read off the data, and a choice that says what it tried."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import probtensor as pt
from probtensor.selection.automatic import POWERS, gap_extent
from tests.labelled.fields import QUICK, field


def test_extent_of_boxes_of_one_size():
    seen = np.ones((40, 40), dtype=bool)
    for i, j in [(2, 3), (12, 20), (25, 8), (30, 30)]:
        seen[i : i + 3, j : j + 5] = False
    assert gap_extent(seen) == (3, 5)


def test_extent_of_single_entries_is_one():
    seen = np.ones((30, 31), dtype=bool)
    seen[::3, ::4] = False
    assert gap_extent(seen) == (1, 1)


def test_places_never_observed_are_no_gaps():
    seen = np.ones((20, 12, 9), dtype=bool)
    seen[:, 3:9, 2:7] = False
    assert gap_extent(seen) == (2, 1, 1)  # a tenth of each dimension: nothing is missing inside the domain
    for start, row, column in [(5, 0, 0), (12, 10, 8), (1, 1, 1), (2, 10, 2), (8, 10, 5), (14, 1, 4), (9, 0, 7)]:
        seen[start : start + 4, row, column] = False
    assert gap_extent(seen) == (4, 1, 1)


def test_the_choice_is_reported_and_reproducible():
    data, truth = field()
    one, two = pt.fit(data, engine=QUICK, seed=3), pt.fit(data, engine=QUICK, seed=3)
    np.testing.assert_array_equal(one.impute()["tas"], two.impute()["tas"])
    assert one.choice.candidates
    best = min(one.choice.candidates, key=lambda c: c.crps)
    assert one.engine.power == best.power
    assert one.model.terms[-1].rank == best.rank
    assert best.power in POWERS
    assert f"rank {best.rank:>3}, power {best.power:g}" in one.summary()
    held = truth.where(data.isnull())
    mean = float(np.sqrt(((held - float(data.mean())) ** 2).mean()))
    assert one.score(held)["rmse"] < 0.5 * mean


def test_values_of_gaps_are_never_seen():
    data, _ = field()
    weights = data.notnull().astype(float)
    junk = data.fillna(1e6)
    a = pt.fit(data, engine=QUICK).predict(data)["mean"]
    b = pt.fit(junk, engine=QUICK, weights=weights).predict(data)["mean"]
    np.testing.assert_allclose(a, b, atol=1e-9)


def test_a_year_of_months_gets_a_climatology():
    time = pd.date_range("2015-01-01", periods=48, freq="MS")
    season, x = 5 * np.cos(2 * np.pi * time.month.to_numpy() / 12), np.arange(3.0)
    data = xr.DataArray(280 + season[:, None] + x[None], {"time": time, "x": x}, ["time", "x"])
    data[6:12, 1] = np.nan
    post = pt.fit(data, engine=QUICK)
    assert "Climatology(time.month)" in post.summary()


@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (10,)])
def test_tiny_data_have_an_answer(shape):
    values = np.linspace(1, 2, int(np.prod(shape))).reshape(shape)
    data = xr.DataArray(values, dims=[f"d{k}" for k in range(len(shape))])
    post = pt.fit(data, engine=QUICK)
    found = post.predict(data)
    assert np.isfinite(found["mean"]).all()
    assert (found["sd"] > 0).all()
