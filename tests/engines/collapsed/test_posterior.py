"""Whole fits with everything held against the one dense Gaussian that they are, and laws of every fit."""

import functools

import numpy as np
import pytest
import xarray as xr

import probtensor as pt
from tests.helpers import mostly_slow
from tests.oracles import gaussian_process as oracle

N, NOISE_SD = 120, 0.2
ENGINE = pt.MessagePassing(draws=64)
LIKELIHOOD = pt.Gaussian(sd=pt.fixed(NOISE_SD))
SPACE = pt.Matern(3 / 2, lengthscale=pt.fixed(1.5), variance=pt.fixed(0.8)).on("x", "y", metric="euclidean")
ROUGH = pt.Matern(1 / 2, lengthscale=pt.fixed(3.0), variance=pt.fixed(0.4)).on("x")
EFFECT = pt.CP(1, modes={"y": pt.Markov(pt.Matern(3 / 2, lengthscale=pt.fixed(4.0), variance=pt.fixed(1.0)))})


def data():
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 10, N), rng.uniform(0, 10, N)
    values = 5 + np.sin(x) + np.cos(y / 2) + 0.1 * x + 0.2 * rng.normal(size=N)
    return x, y, values


def new_places():
    """Some of the data's own, and groups of five between them and outside."""
    rng = np.random.default_rng(1)
    x, y, _ = data()
    u, v = (np.repeat(rng.uniform(-1, 11, 5), 5) + 0.2 * rng.normal(size=25) for _ in range(2))
    return np.concatenate([x[:15], u]), np.concatenate([y[:15], v])


MODELS = {"offset and local": pt.Offset(), "with a main effect": pt.Offset() + EFFECT}


@functools.cache
def fitted(name):
    x, y, values = data()
    model = MODELS[name] + pt.Local(SPACE, neighbours=N) + pt.Local(ROUGH)
    return pt.fit(pt.points({"x": x, "y": y}, values), model, likelihood=LIKELIHOOD, engine=ENGINE)


def kernels(x, y, u, v, effect):
    space = oracle.matern(1.5, 1.5, 0.8, np.hypot(x[:, None] - u, y[:, None] - v))
    rough = oracle.matern(0.5, 3.0, 0.4, np.abs(x[:, None] - u))
    return space, rough, effect * oracle.matern(1.5, 4.0, 1.0, np.abs(y[:, None] - v))


@functools.cache
def dense(name):
    """Posterior mean and covariance at the new places, the offset integrated out with its prior as learned; by term."""
    x, y, values = data()
    u, v = new_places()
    table = fitted(name).hyperparameters()
    own = table[table.term == 0].set_index("name").value
    effect = float(name == "with a main effect")
    offset = own["variance"]
    among = offset + sum(kernels(x, y, x, y, effect)) + NOISE_SD**2 * np.eye(N)
    weights = np.linalg.solve(among, values - own["mean"])
    parts = [own["mean"] + np.full((len(u), N), offset) @ weights]
    parts += [k @ weights for k in kernels(u, v, x, y, effect)]
    cross = offset + sum(kernels(u, v, x, y, effect))
    covariance = offset + sum(kernels(u, v, u, v, effect)) - cross @ np.linalg.solve(among, cross.T)
    return parts, covariance


def at():
    u, v = new_places()
    return pt.points({"x": u, "y": v})


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_predictions_are_those_of_a_dense_process(name):
    parts, covariance = dense(name)
    found = fitted(name).predict(at())
    sd = np.sqrt(np.diag(covariance))
    away = (found["mean"].values - sum(parts)) / sd
    # Pairs of opposite draws have the exact mean; 64 draws the other terms' sd to a tenth.
    assert np.sqrt(np.mean(away**2)) < 0.02
    np.testing.assert_allclose(found["signal_sd"], sd, rtol=0.06)
    np.testing.assert_allclose(found["sd"], np.sqrt(sd**2 + NOISE_SD**2), rtol=0.04)


@pytest.mark.slow
def test_terms_sum_to_the_whole():
    post = fitted("with a main effect")
    whole = post.predict(at())["mean"].values
    each = [post.predict(at(), terms=[k])["mean"].values for k in range(4)]
    local = post.predict(at(), terms=[2, 3])["mean"].values
    np.testing.assert_allclose(each[2] + each[3], local, rtol=0, atol=1e-9)
    offset, space, rough, effect = dense("with a main effect")[0]
    scale = np.sqrt(np.diag(dense("with a main effect")[1])).mean()
    # Between the data's levels a function is drawn, anew in each call.
    np.testing.assert_allclose(sum(each), whole, rtol=0, atol=0.05 * scale)
    for found, expected in zip(each[2:], (space, rough), strict=True):
        assert np.sqrt(np.mean((found - expected) ** 2)) < 0.05 * scale
    assert np.sqrt(np.mean((each[0] + each[1] - offset - effect) ** 2)) < 0.05 * scale


def test_a_local_term_alone_is_no_surer_than_its_prior():
    found = fitted("offset and local").predict(at(), terms=[1])["signal_sd"].values
    assert (found < np.sqrt(0.8) + 1e-9).all()
    assert found.max() > found.min() > 0


@pytest.mark.parametrize("name", mostly_slow(MODELS))
def test_samples_have_the_dense_covariance(name):
    parts, covariance = dense(name)
    n = 1920  # every one of the 64 draws as often
    found = fitted(name).sample(n, at=at(), seed=1).transpose("sample", ...).values
    np.testing.assert_allclose(found.std(axis=0), np.sqrt(np.diag(covariance)), rtol=0.15)
    sd = np.sqrt(np.diag(covariance))
    away = (np.cov(found.T) - covariance) / sd[:, None] / sd[None]
    # Each entry by sqrt(2 / n) from the draws of the local term, and the other terms' share by sqrt(2 / 64).
    assert np.sqrt(np.mean(away**2)) < 0.1
    strong = np.abs(covariance / np.outer(sd, sd)) > 0.3
    assert strong.sum() > 2 * len(sd)  # places in a group are drawn together
    assert np.sqrt(np.mean(away[strong] ** 2)) < 0.15
    assert np.sqrt(np.mean(((found.mean(axis=0) - sum(parts)) / sd) ** 2)) < 0.1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:no term reads")
def test_what_the_kernel_does_not_read_makes_no_function_of_its_own():
    """A field of time alone at forty stations: one function in each draw, also in a gap."""
    t, names = np.arange(30.0), [f"s{k}" for k in range(40)]
    rng = np.random.default_rng(4)
    data = np.sin(t / 4)[:, None] + 0.1 * rng.normal(size=(30, 40))
    data[10:20] = np.nan
    field = xr.DataArray(data, {"t": t, "station": names}, ["t", "station"])
    local = pt.Local(pt.Matern(3 / 2, lengthscale=pt.fixed(5.0)).on("t"), neighbours=4)
    drawn = pt.fit(field, pt.Offset() + local).sample(4)
    assert drawn.dims == ("sample", "t", "station")
    np.testing.assert_allclose(drawn, drawn.isel(station=[0] * 40), rtol=0, atol=1e-9)
    assert float(drawn.std("sample").max()) > 0.01


def test_sampling_noise_and_seeds():
    post = fitted("offset and local")
    one, same, other = (post.sample(3, at=at(), seed=s).values for s in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, other)


@functools.cache
def grid():
    """A small field with gaps, in time, place and station."""
    rng = np.random.default_rng(2)
    t, lat, lon = np.arange(8.0), np.linspace(40, 50, 5), np.linspace(0, 20, 4)
    values = np.sin(t)[:, None, None] + np.cos(lat / 5)[:, None] * (1 + 0.05 * lon)
    values = values + 0.1 * rng.normal(size=values.shape)
    values[rng.random(values.shape) < 0.2] = np.nan
    return xr.DataArray(values, {"t": t, "lat": lat, "lon": lon}, ["t", "lat", "lon"], name="z")


MODEL = pt.Offset() + pt.CP(1, modes=["t"]) + pt.Local(pt.Matern(1 / 2).on("t") * pt.Matern(3 / 2).on("lat", "lon"))
DISGUISES = {
    "dimension order": lambda data: data.transpose("lon", "t", "lat"),
    "direction": lambda data: data.isel(lat=slice(None, None, -1), t=slice(None, None, -1)),
    "points": lambda data: _points(data, 0),
}


def _points(data, seed):
    frame = data.to_series().dropna().reset_index().sample(frac=1.0, random_state=seed)
    return pt.table(frame, value="z", coords=["lon", "t", "lat"])


@functools.cache
def answer(disguise):
    data = DISGUISES[disguise](grid()) if disguise else grid()
    post = pt.fit(data, MODEL)
    found = post.predict({n: grid()[n] for n in grid().dims}).transpose("t", "lat", "lon")
    return found["mean"].values, found["sd"].values, post.noise_sd


@pytest.mark.slow
@pytest.mark.parametrize("disguise", DISGUISES)
def test_the_same_data_in_disguise_give_the_same_answer(disguise):
    for found, expected in zip(answer(disguise), answer(""), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_row_order():
    one, other = (pt.fit(_points(grid(), seed), MODEL).predict(grid())["mean"].values for seed in (1, 2))
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_ten_rows_and_repeated_rows_at_one_place():
    rng = np.random.default_rng(3)
    x = np.array([0.0, 1.0, 1.0, 1.0, 2.0, 5.0, 5.0, 7.0, 8.0, 9.0])
    values = np.sin(x) + 0.1 * rng.normal(size=10)
    post = pt.fit(pt.points({"x": x}, values), pt.Offset() + pt.Local(pt.Matern(3 / 2)))
    found = post.predict(pt.points({"x": [1.0, 1.5, 5.0, 40.0]}))
    assert np.isfinite(found["mean"]).all()
    assert (found["signal_sd"] > 0).all()
    # Far away nothing is known of the local term: its prior's sd at least, about the offset.
    variance = post.hyperparameters().query("term == 1 and name == 'variance'").value.item()
    assert float(found["signal_sd"][3]) > 0.99 * np.sqrt(variance)
    assert float(found["signal_sd"][0]) < 0.9 * float(found["signal_sd"][3])
