"""Held-out entries are scored, training entries are refused, also in another precision."""

import numpy as np
import pandas as pd
import pytest
import scipy.ndimage
import xarray as xr

import probtensor as pt
from probtensor.evaluation.scores import energy
from tests.labelled.fields import field, fit

COORDS = ["time", "lat", "station"]


def test_scores_refuse_training_entries():
    data, truth = field()
    post = fit(data)
    held = truth.where(data.isnull())
    scores = post.score(held)
    assert scores["n"] == int(data.isnull().sum())
    found = post.predict(truth)
    error = (found["mean"] - truth).where(data.isnull())
    np.testing.assert_allclose(scores["rmse"], np.sqrt(float((error**2).mean())), rtol=1e-6)
    with pytest.raises(pt.DataError, match="were used in training"):
        post.score(truth)
    assert post.score(truth, allow_training=True)["n"] == truth.size


def test_a_table_refuses_its_own_rows_but_not_a_repeated_measurement():
    data, _ = field()
    frame = data.to_dataframe().reset_index().dropna()
    coords = ["time", "lat", "station"]
    post = fit(pt.table(frame, "tas", coords))
    with pytest.raises(pt.DataError, match="1 of 1 held-out entries were used in training"):
        post.score(pt.table(frame.iloc[:1], "tas", coords))
    again = frame.iloc[:1].assign(tas=frame["tas"].iloc[0] + 0.01)
    assert post.score(pt.table(again, "tas", coords))["n"] == 1


@pytest.mark.parametrize("fitted", ["float32", "float64"])
def test_another_precision_makes_no_training_entry_new(fitted):
    data, truth = field()
    other = {"float32": "float64", "float64": "float32"}[fitted]
    lat = np.array([40.1, 41.3, 42.7, 45.9, 50.2])
    post = fit(data.assign_coords(lat=lat.astype(fitted)))
    held = truth.assign_coords(lat=lat.astype(other))
    with pytest.raises(pt.DataError, match=f"{int(data.notnull().sum())} of 90 held-out entries"):
        post.score(held)
    assert post.score(held.where(data.isnull().to_numpy()))["n"] == int(data.isnull().sum())
    beside = truth.assign_coords(lat=lat + 0.01)
    assert post.score(beside)["n"] == 90


def test_a_table_refuses_any_of_its_own_rows():
    frame = field()[0].to_dataframe().reset_index().dropna()
    post = fit(pt.table(frame.astype({"lat": "float32", "tas": "float32"}), "tas", COORDS))
    new = frame.assign(tas=frame["tas"] + 0.01)
    few = pd.concat([frame.iloc[:2], new])
    with pytest.raises(pt.DataError, match=f"2 of {len(few)} held-out entries were used.*new measurements .* equal"):
        post.score(pt.table(few, "tas", COORDS))
    assert post.score(pt.table(few, "tas", COORDS), allow_training=True)["n"] == len(few)


@pytest.mark.filterwarnings("ignore:no term reads")
def test_a_table_with_more_cells_than_an_integer_can_number():
    generator = np.random.default_rng(0)
    places = {name: generator.normal(size=60) for name in "abcdefghijklm"}  # 60 ** 13 > 2 ** 63
    post = pt.fit(pt.points(places, places["a"]), pt.Offset(), engine=pt.MessagePassing(max_sweeps=2))
    with pytest.raises(pt.DataError, match="60 of 60"):
        post.score(pt.points(places, places["a"]))


@pytest.mark.slow
def test_energy_is_that_of_joint_draws_in_each_gap():
    data, truth = field(gaps=0.4)
    post = fit(data)
    held = truth.where(data.isnull())
    scores = post.score(held, joint=20)
    assert {k: v for k, v in scores.items() if k != "energy"} == post.score(held)
    # Order of the data's dimensions and labels is irrelevant; by hand with the gaps of the grid as it is.
    numbers = scipy.ndimage.label(held.notnull().transpose("time", "lat", "station").sortby("station").to_numpy())[0]
    gap = xr.DataArray(numbers, dims=["time", "lat", "station"]).assign_coords(station=["a", "b", "c"])
    gap = gap.sel(station=["b", "a", "c"]).to_numpy().ravel()
    seen = np.flatnonzero(held.notnull().to_numpy().ravel())
    at = {name: held[name].to_numpy()[k] for name, k in zip(held.dims, np.unravel_index(seen, held.shape), strict=True)}
    draws = post.sample(20, pt.points(at), observation_noise=True).to_numpy()
    expected = energy(draws, held.to_numpy().ravel()[seen], gap[seen])
    np.testing.assert_allclose(scores["energy"], expected, rtol=1e-12)
    np.testing.assert_allclose(post.score(held[::-1, ::-1], joint=20)["energy"], expected, rtol=0.3)


def test_energy_of_a_table_is_of_all_rows_or_of_groups():
    data, truth = field(gaps=0.4)
    frame = truth.where(data.isnull()).to_dataframe("tas").dropna().reset_index()
    post = fit(data)
    held = pt.table(frame, "tas", COORDS)
    draws = post.sample(20, held, observation_noise=True).to_numpy()
    whole = post.score(held, joint=20)["energy"]
    np.testing.assert_allclose(whole, energy(draws, held.values, np.zeros(held.size)), rtol=1e-12)
    by = post.score(held, joint=20, by=["time", "station"])["energy"]
    groups = frame.groupby(["time", "station"]).ngroup().to_numpy()
    np.testing.assert_allclose(by, energy(draws, held.values, groups), rtol=1e-12)
    with pytest.raises(pt.DataError, match=r"by=\['depth'\]: held_out has no coordinate 'depth'"):
        post.score(held, joint=20, by="depth")
    with pytest.raises(pt.ModelError, match="joint=1: expected a whole number, 2 or more"):
        post.score(held, joint=1)
