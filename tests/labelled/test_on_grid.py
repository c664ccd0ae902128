"""Sums of processes on a grid with many observations, against neighbours, and as a user sees it."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import probtensor as pt
from probtensor.engines.collapsed import block_learning
from probtensor.engines.collapsed import field as gridded
from probtensor.selection import automatic, grids

HELD = pt.fixed
PASSES = pt.Matern(3 / 2, lengthscale=HELD(2.0), variance=HELD(0.5)).on("x", "y", metric="euclidean") * pt.Matern(
    1 / 2, lengthscale=HELD(2.0)
).on("t")
STAYS = pt.Matern(3 / 2, lengthscale=HELD(4.0), variance=HELD(1.0)).on("x", "y", metric="euclidean")
NOISE = pt.Gaussian(HELD(0.1))
MODEL = pt.Offset() + pt.Local(STAYS + PASSES)


def field(seed=0, T=16):
    """A level at each place and what passes over it, a third hidden in boxes; and all of it."""
    rng = np.random.default_rng(seed)
    x, y, t = np.arange(6.0), np.arange(5.0), np.arange(float(T))
    places = np.stack([a.ravel() for a in np.meshgrid(x, y, indexing="ij")], axis=1)
    far = np.sqrt(3) * np.linalg.norm(places[:, None] - places[None], axis=-1)
    over = [(1 + far / length) * np.exp(-far / length) for length in (4.0, 2.0)]
    roots = [np.linalg.cholesky(K + 1e-9 * np.eye(30)) for K in over]
    along = np.linalg.cholesky(np.exp(-np.abs(t[:, None] - t[None]) / 2.0))
    truth = rng.normal(size=30) @ roots[0].T + np.sqrt(0.5) * along @ rng.normal(size=(T, 30)) @ roots[1].T
    truth = xr.DataArray(5 + truth.reshape(T, 6, 5), {"t": t, "x": x, "y": y}, ["t", "x", "y"])
    seen = truth + 0.1 * rng.normal(size=truth.shape)
    seen = seen.where(~((seen.t > 3) & (seen.t < 9) & (seen.x > 2) & (seen.y < 3)))
    return seen.where(~((seen.t > 10) & (seen.x < 2))), truth


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(gridded, "FEWEST", 50)


def fitted(data, model=MODEL, draws=200, **options):
    return pt.fit(data, model, likelihood=NOISE, engine=pt.MessagePassing(draws=draws), **options)


@pytest.mark.slow
def test_it_is_what_neighbours_say_where_these_are_all(monkeypatch):
    data, _ = field()
    everyone = pt.Offset() + pt.Local(STAYS + PASSES, neighbours=int(data.notnull().sum()) - 1)
    neighbours = fitted(data, everyone, draws=16)
    monkeypatch.setattr(gridded, "FEWEST", 50)
    whole = fitted(data)
    one, other = neighbours.predict(data), whole.predict(data)
    np.testing.assert_allclose(other["mean"], one["mean"], atol=0.02)
    np.testing.assert_allclose(other["sd"], one["sd"], rtol=0.2)
    assert float(np.abs(other["sd"] / one["sd"] - 1).mean()) < 0.06
    assert "on the whole grid" in whole.summary()


def test_gaps_are_filled_and_covered(few):
    data, truth = field()
    held = truth.where(data.isnull())
    scores = fitted(data).score(held)
    level = float(np.sqrt(((held - data.mean("t")) ** 2).mean()))
    assert scores["rmse"] < 0.8 * level
    assert 0.8 < scores["coverage90"] <= 1.0


def test_dimensions_in_another_order_are_the_same(few):
    data, _ = field()
    a, b = fitted(data, draws=8).predict(data), fitted(data.transpose("y", "t", "x"), draws=8).predict(data)
    np.testing.assert_allclose(a["mean"], b["mean"].transpose("t", "x", "y"), atol=2e-3)


def test_times_without_data_and_places_off_the_grid_have_answers(few):
    data, _ = field()
    data[dict(t=14)] = np.nan
    post = fitted(data)
    there, between = post.predict(data.isel(t=[14])), post.predict({"t": [13.5], "x": [2.5], "y": [1.0]})
    for found in (there, between):
        assert np.isfinite(found["mean"]).all()
        assert (found["sd"] > 0.1).all()
    assert float(there["sd"].mean()) > float(post.predict(data.isel(t=[7]))["sd"].isel(x=slice(4, 6), y=4).mean())


@pytest.mark.slow
def test_it_is_saved_and_forgotten_by_an_update(few, tmp_path):
    data, _ = field()
    post = fitted(data.isel(t=slice(0, 14)), draws=8)
    post.save(tmp_path / "fit.zarr")
    at = data.isel(t=slice(0, 14))
    xr.testing.assert_equal(pt.load(tmp_path / "fit.zarr").predict(at), post.predict(at))
    after = post.update(data.isel(t=slice(14, 16)))
    again = fitted(data, draws=8)
    np.testing.assert_allclose(after.predict(data)["mean"], again.predict(data)["mean"], atol=0.25)


@pytest.mark.slow
def test_a_model_with_factors_is_drawn_jointly_as_before(few):
    data, _ = field()
    post = fitted(data, MODEL + pt.CP(1), draws=4)
    assert "on the whole grid" not in post.summary()


@pytest.fixture
def tried_on_grids(few, monkeypatch):
    """Also on small ones, with small blocks and few other candidates."""
    monkeypatch.setattr(automatic, "_LOCAL_MOST", 100)
    monkeypatch.setattr(automatic, "RANKS", (1,))
    monkeypatch.setattr(block_learning, "_SIZE", 200)


@pytest.mark.slow
def test_the_automatic_model_tries_it_on_large_grids(tried_on_grids):
    data, truth = field(T=24)
    data = data.assign_coords(t=pd.date_range("2000-01-01", periods=24, freq="YS"))
    post = pt.fit(data, engine=pt.MessagePassing(draws=8))
    assert "processes that stay, last and pass" in str(post.choice)
    held = truth.assign_coords(t=data.t).where(data.isnull())
    assert post.score(held)["rmse"] < float(np.sqrt(((held - data.mean("t")) ** 2).mean()))


ADAPTED = pt.Offset() + pt.Local(
    STAYS
    + pt.Matern(3 / 2, lengthscale=HELD(2.0), variance=HELD(0.5)).on("x", "y", metric="euclidean").adapted(degree=None)
    * pt.Matern(1 / 2, lengthscale=HELD(2.0)).on("t")
)


def coast(T=40):
    """What passes is eight times as large on one side of the map as on the other."""
    data, truth = field(T=T)
    middle = truth.mean("t")
    factor = xr.where(truth.x > 2, 2.0, 0.25)
    noisy = middle + factor * (data - middle)
    return noisy, middle + factor * (truth - middle)


@pytest.mark.slow
def test_one_process_of_a_sum_follows_the_data_from_place_to_place(few, tmp_path):
    data, truth = coast()
    plain, post = fitted(data, draws=60), fitted(data, ADAPTED, draws=60)
    held = truth.where(data.isnull())
    assert post.score(held)["nlpd"] < plain.score(held)["nlpd"] - 0.1
    assert "adapted over x x y: covariances between 30 places" in " ".join(post.summary().split())
    sd = post.predict({"t": [60.0], "x": data.x, "y": data.y})["signal_sd"][0]
    assert float(sd[4].mean()) > 3 * float(sd[0].mean())
    post.save(tmp_path / "fit.zarr")
    off = {"t": [13.5], "x": [2.5, 3.0], "y": [1.0]}
    again = pt.load(tmp_path / "fit.zarr")
    xr.testing.assert_equal(again.predict(data), post.predict(data))
    xr.testing.assert_equal(again.predict(off), post.predict(off))
    assert np.isfinite(post.predict(off)["sd"]).all()
    assert np.isfinite(post.update(data.isel(t=slice(38, 40)).assign_coords(t=[40.0, 41.0])).predict(off)["mean"]).all()


@pytest.mark.slow
def test_places_that_were_never_observed_are_told_by_those_around_them(few):
    data, truth = coast()
    data = data.copy()
    data[dict(x=[1, 4], y=2)] = np.nan
    found = fitted(data, ADAPTED, draws=60).predict(data)
    assert np.isfinite(found["mean"]).all()
    sd = found["signal_sd"].isel(y=2).mean("t")
    assert float(sd[4]) > 1.5 * float(sd[1]) > 0
    never = truth.isel(x=4, y=2)
    error = np.sqrt(((found["mean"].isel(x=4, y=2) - never) ** 2).mean())
    assert float(error) < 0.8 * float(np.sqrt(((never - data.mean()) ** 2).mean()))


def test_an_adapted_sum_needs_a_grid():
    data, _ = field()
    with pytest.raises(pt.ModelError, match="goes with grids of 50,000 or more values"):
        fitted(data, ADAPTED)


@pytest.mark.slow
def test_the_automatic_model_adapts_where_it_gains(tried_on_grids):
    data, _ = coast(T=24)
    data = data.rename(x="lon", y="lat").assign_coords(t=pd.date_range("1950-01-01", periods=24, freq="YS"))
    post = pt.fit(data, engine=pt.MessagePassing(draws=8, max_sweeps=5, power=1.0))
    plain, adapted = post.choice.candidates[-2:]
    assert adapted.name == plain.name + ", adapted"
    assert adapted.has_adapted and not plain.has_adapted
    chosen = min(post.choice.candidates[:-2], key=lambda c: c.crps)
    chosen = plain if plain.crps <= chosen.crps * 0.995 else chosen
    assert ("degree=None" in post.summary()) == (adapted.crps <= chosen.crps * 0.995)


def axes_of(data):
    from probtensor.labelled.encode import encode

    return encode(data).axes(())


def test_where_there_is_no_time():
    data, _ = field()
    assert grids.time_of(axes_of(data)) is None
    assert grids.time_of(axes_of(data.rename(x="lat", y="lon"))) == "t"
    assert grids.time_of(axes_of(data.assign_coords(y=pd.date_range("2000", periods=5)))) == "y"


@pytest.mark.slow
def test_what_the_other_terms_know_stays_what_message_passing_left(few):
    data, _ = field()
    post = fitted(data, MODEL + pt.CP(1, modes=["x"]), draws=4)
    assert (post.factors()["x_sd"] > 0).all()


@pytest.mark.slow
def test_joint_draws_are_about_the_same_mean(few):
    data, _ = field(T=12)
    post = fitted(data, draws=64)
    answer, drawn = post.predict(data), post.sample(400, seed=1)
    signal = np.sqrt(answer["sd"] ** 2 - 0.1**2)
    off = (drawn.mean("sample") - answer["mean"]) / signal
    assert float(np.abs(off).max()) < 0.6  # of 64 independent draws
    ratio = drawn.std("sample") / signal
    assert 0.8 < float(ratio.min()) and float(ratio.max()) < 1.2
    # A mean over places is told far better than by draws of each place by itself.
    gap = drawn.sel(t=6.0, x=[3.0, 4.0], y=[0.0, 1.0])
    assert float(gap.mean(("x", "y")).std("sample")) > 0.7 * float(gap.std("sample").mean())
