"""Absorbing data in parts. With one Gaussian process and held numbers it is the fit of all of them, exactly."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import probtensor as pt
from tests.helpers import mostly_slow

T = 30
TIMES = pd.date_range("2020-01-01", periods=T)
SD = pt.fixed(0.3)
MATERN = pt.Matern(3 / 2, lengthscale=pt.fixed("4D"), variance=pt.fixed(1.0))
MODEL = pt.CP(1, modes={"time": MATERN})
VALUES = np.sin(np.arange(T) / 4) + 0.3 * np.random.default_rng(0).normal(size=T)
DATA = xr.DataArray(VALUES, {"time": TIMES}, ["time"], name="v").where(np.arange(T) % 5 != 0)
ANYWHERE = {"time": pd.date_range("2019-12-20", "2020-02-10", freq="36h")}
QUICK = pt.MessagePassing(max_sweeps=10)


def fit(data, model=MODEL, **arguments):
    return pt.fit(data, model, likelihood=pt.Gaussian(sd=SD), engine=QUICK, **arguments)


def assert_same(one, other, at=ANYWHERE):
    found, expected = one.predict(at), other.predict(at)
    for name in ("mean", "sd"):
        np.testing.assert_allclose(found[name], expected[name], atol=1e-8)


@pytest.fixture(scope="module")
def whole():
    return fit(DATA)


#: Later days, earlier ones, the same days in part, days in between.
PARTS = {
    "later": [slice(0, 12), slice(12, 20), slice(20, T)],
    "earlier": [slice(20, T), slice(0, 20)],
    "between": [slice(0, T, 2), slice(1, T, 2)],
}


@pytest.mark.parametrize("name", mostly_slow(PARTS))
def test_parts_are_the_whole(whole, name):
    first, *others = (DATA.isel(time=part) for part in PARTS[name])
    post = fit(first)
    for part in others:
        post = post.update(part)
    assert_same(post, whole)
    assert post.factors(0).sizes["time"] == T


@pytest.mark.slow
def test_an_update_starts_from_what_is_known_whatever_the_restarts():
    """Of values around zero, whose old ones make the objective smaller than that of another start would be."""
    engine, small = pt.MessagePassing(max_sweeps=10, restarts=3), 0.1 * DATA
    first = pt.fit(small.isel(time=slice(0, 20)), MODEL, likelihood=pt.Gaussian(sd=SD), engine=engine)
    assert_same(first.update(small.isel(time=slice(20, T))), fit(small))


def test_repeated_days_and_tables_are_the_whole(whole):
    half = fit(DATA, weights=np.full(T, 0.25))
    rows = pd.DataFrame({"time": TIMES, "v": VALUES}).iloc[DATA.notnull().to_numpy()].sample(frac=1, random_state=0)
    post = half.update(pt.table(rows, value="v", coords=["time"]), weights=np.full(len(rows), 0.75))
    assert_same(post, whole)


def test_what_is_forgotten_counts_less():
    post = fit(DATA).update(DATA.isel(time=slice(20, T)), forget=0.4)
    weights = np.where(np.arange(T) >= 20, 1.6, 0.6)
    assert_same(post, fit(DATA, weights=weights))


@pytest.mark.slow
def test_the_posteriors_own_data_are_the_new_ones(whole):
    """Filled on their grid; scores refuse them; predictions know all."""
    post = fit(DATA.isel(time=slice(0, 20))).update(DATA.isel(time=slice(20, T))[::-1])
    filled = post.impute(samples=2)
    np.testing.assert_array_equal(filled["time"], TIMES[20:][::-1])
    gaps = DATA.isnull().to_numpy()[20:][::-1]
    np.testing.assert_array_equal(filled["v_filled"], gaps)
    np.testing.assert_allclose(filled["v"][gaps], whole.impute()["v"][20:][::-1][gaps], atol=1e-8)
    np.testing.assert_allclose(post.residuals()["residual"], whole.residuals()["residual"][20:], atol=1e-8)
    with pytest.raises(pt.DataError, match="used in training"):
        post.score(DATA.isel(time=slice(25, T)))
    assert "30 levels" in post.summary()


NAMES = ["b", "d", "e"]
TABLE = pd.DataFrame({"time": np.repeat(TIMES[:9], 3), "name": NAMES * 9})
TABLE["v"] = VALUES[:9].repeat(3) + np.array([0.5, -1.0, 2.0] * 9)
OFFSETS = pt.Offset() + pt.Offset("name") + MODEL


def of(df):
    return pt.table(df, value="v", coords=["time", "name"])


@pytest.mark.slow
def test_new_names_and_offsets():
    """A name that sorts before the known ones gets a level of its own; the others keep theirs."""
    post = fit(of(TABLE), OFFSETS)
    before = post.predict({"time": TIMES[3:5], "name": NAMES})["mean"]
    new = pd.DataFrame({"time": TIMES[5:9], "name": "a", "v": VALUES[5:9] + 3.0})
    post = post.update(of(new)).update(of(new.assign(name="c", v=new["v"] - 4.0)))
    found = post.predict({"time": TIMES[3:5], "name": ["a", *NAMES, "c"]})["mean"]
    np.testing.assert_allclose(found.sel(name=NAMES), before, atol=0.1)
    np.testing.assert_allclose(found.sel(name="a") - found.sel(name="b"), 2.5, atol=0.4)
    np.testing.assert_allclose(found.sel(name="c") - found.sel(name="b"), -1.5, atol=0.4)


SURFACE = {"time": TIMES[:8], "x": np.arange(3.0), "y": np.arange(4.0)}


@pytest.mark.slow
def test_joined_dimensions_keep_their_old_combinations():
    """New data at some combinations of a joined mode: what is said of their own places is what `predict` says."""
    rng = np.random.default_rng(1)
    truth = np.sin(np.arange(8) / 2)[:, None, None] * (np.cos(np.arange(3))[:, None] + np.arange(4) / 3)
    data = xr.DataArray(truth + 0.1 * rng.normal(size=truth.shape), SURFACE, list(SURFACE), name="v")
    post = fit(data[:5], pt.CP(1, modes={"time": MATERN, ("x", "y"): pt.Dense(pt.Matern(3 / 2))}))
    new = data[5:, 1:, 1:3]
    post = post.update(new.where(new != new[1, 1, 1]))
    there = post.predict({name: new[name] for name in new.dims})["mean"]
    np.testing.assert_allclose(post.impute()["v"][1, 1, 1], there[1, 1, 1], atol=1e-8)
    np.testing.assert_allclose(post.residuals()["residual"][0], (new - there)[0], atol=1e-8)


@pytest.mark.slow
def test_nearest_neighbours_are_found_again_among_new_levels(whole):
    """With as many neighbours as levels it is the exact process, and parts are the whole."""
    model = pt.CP(1, modes={"time": pt.Nearest(MATERN, neighbours=T)})
    post = fit(DATA.isel(time=slice(0, 20)), model).update(DATA.isel(time=slice(20, T)))
    assert_same(post, whole)


@pytest.mark.slow
def test_counts_come_with_their_own_exposure():
    rng = np.random.default_rng(2)
    exposure = DATA.copy(data=rng.uniform(50, 100, T))
    counts = DATA.copy(data=rng.poisson(exposure * np.exp(np.sin(np.arange(T) / 4))).astype(float))
    early, late = slice(0, 16), slice(16, T)
    post = pt.fit(counts[early], MODEL, likelihood=pt.Poisson(exposure[early]), engine=QUICK)
    post = post.update(counts[late], likelihood=pt.Poisson(exposure[late]))
    rates = post.predict({"time": TIMES})
    error = np.abs(np.log(rates["mean"]) - np.sin(np.arange(T) / 4))
    assert error.max() < 0.3 and error.mean() < 0.1


GRID = xr.DataArray(np.ones((4, 1)), {"time": TIMES[:4], "lat": [5.0]}, ["time", "lat"])


@pytest.mark.parametrize(
    ("new", "arguments", "error", "message"),
    [
        (DATA.rename(time="day"), {}, pt.DataError, "the data have the modes day; before: time"),
        (DATA.assign_coords(time=np.arange(T)), {}, pt.DataError, "'time' was time .* and holds numbers such as 0 now"),
        (DATA.where(False), {}, pt.DataError, "no entry is observed"),
        (DATA, {"forget": 1.0}, pt.ModelError, "a share from 0 to below 1"),
        (DATA, {"likelihood": pt.Gaussian(transform="sqrt")}, pt.ModelError, "had transform=None,? .* got 'sqrt'"),
        (DATA, {"likelihood": pt.Poisson()}, pt.ModelError, "the likelihood was Gaussian, and stays such"),
    ],
)
def test_bad_updates(whole, new, arguments, error, message):
    with pytest.raises(error, match=message):
        whole.update(new, **arguments)


def test_a_mode_of_one_level_stays_so():
    post = pt.fit(GRID, pt.Offset() + pt.CP(1), likelihood=pt.Gaussian(sd=SD), engine=QUICK)
    with pytest.raises(pt.ModelError, match=r"'lat' had a single level, 5.0, .* fit the old and the new data together"):
        post.update(GRID.assign_coords(lat=[6.0]))


@pytest.mark.slow
def test_a_hundred_batches_are_as_good_as_one_fit():
    """Scattered entries of a field of rank two, hyper-parameters from the first batches."""
    rng = np.random.default_rng(0)
    x, y = np.linspace(0, 9, 60), np.linspace(0, 5, 40)
    truth = np.outer(np.sin(x), np.cos(y)) + np.outer(np.cos(1.7 * x), y / 5) + 1
    field = xr.DataArray(truth + 0.3 * rng.normal(size=truth.shape), {"x": x, "y": y}, ["x", "y"])
    number = rng.integers(0, 125, truth.shape)
    model = pt.Offset() + pt.CP(2)
    seen = field.where(number < 120)
    batch = pt.fit(seen, model)
    post = pt.fit(field.where(number < 20), model)
    for k in range(20, 120):
        post = post.update(field.where(number == k))
    held = number >= 120
    errors = [np.sqrt(np.mean((p.predict(field)["mean"].to_numpy() - truth)[held] ** 2)) for p in (post, batch)]
    noisy = [np.sqrt(e**2 + 0.3**2) for e in errors]
    assert noisy[0] < 1.02 * noisy[1]


@pytest.mark.slow
def test_an_entry_with_another_value_is_a_second_measurement():
    """Both count: the same as two rows of a table at these coordinates, or as their mean with twice the weight."""
    other = (DATA + xr.where(DATA["time"] < TIMES[10], 0.8, -0.4)).rename("v")
    post = fit(DATA).update(other)
    assert_same(post, fit((DATA + other) / 2, weights=np.full(T, 2.0)))
    twice = pd.concat([own.to_dataframe().reset_index().dropna() for own in (DATA, other)])
    assert_same(post, fit(pt.table(twice, value="v", coords=["time"])))
