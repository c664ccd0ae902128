"""Updates of models with a local term, at held numbers: parts are the whole, and a lag takes only what it should."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import probtensor as pt
from tests.oracles import gaussian_process as oracle

T, NOISE_SD = 40, 0.2
TIMES = pd.date_range("2020-01-01", periods=T)
DAYS = np.arange(T, dtype=float)
VALUES = 3 + np.sin(DAYS / 6) + 0.3 * np.random.default_rng(0).normal(size=T)
DATA = xr.DataArray(VALUES, {"time": TIMES}, ["time"], name="v").where(DAYS % 5 != 0)
LIKELIHOOD = pt.Gaussian(sd=pt.fixed(NOISE_SD))
ENGINE = pt.MessagePassing(draws=4, max_sweeps=10)
LOCAL = pt.Local(pt.Matern(1 / 2, lengthscale=pt.fixed("2D"), variance=pt.fixed(0.3)).on("time"))
EFFECT = pt.CP(1, modes={"time": pt.Matern(3 / 2, lengthscale=pt.fixed("8D"), variance=pt.fixed(9.0))})
ANYWHERE = {"time": pd.date_range("2019-12-25", "2020-02-20", freq="36h")}


def fit(data, model=LOCAL, **arguments):
    return pt.fit(data, model, likelihood=LIKELIHOOD, engine=ENGINE, **arguments)


def kept(post):
    return post._result.state.local.observations.count


def test_parts_are_the_dense_process():
    """Later days, earlier ones, and some days again: one Gaussian process given all of them."""
    post = fit(DATA[10:25] - 3).update(DATA[25:] - 3).update(DATA[:12] - 3)
    days = np.concatenate([DAYS[10:25], DAYS[25:], DAYS[:12]])
    seen = days % 5 != 0
    days, values = days[seen], (VALUES - 3)[days[seen].astype(int)]
    asked = np.linspace(-6, 50, 15)
    K = oracle.matern(0.5, 2.0, 0.3, np.abs(days[:, None] - days)) + NOISE_SD**2 * np.eye(len(days))
    cross = oracle.matern(0.5, 2.0, 0.3, np.abs(asked[:, None] - days))
    found = post.predict({"time": TIMES[0] + pd.to_timedelta(asked, unit="D")})
    np.testing.assert_allclose(found["mean"], cross @ np.linalg.solve(K, values), atol=1e-6)
    variance = 0.3 - np.sum(cross * np.linalg.solve(K, cross.T).T, axis=1)
    np.testing.assert_allclose(found["signal_sd"], np.sqrt(variance), atol=1e-6)


def test_what_is_forgotten_counts_less():
    post = fit(DATA).update(DATA[20:], forget=0.4)
    found, expected = (p.predict(ANYWHERE) for p in (post, fit(DATA, weights=np.where(DAYS >= 20, 1.6, 0.6))))
    for name in ("mean", "sd"):
        np.testing.assert_allclose(found[name], expected[name], atol=1e-8)


@pytest.fixture(scope="module")
def whole():
    return fit(DATA, EFFECT + LOCAL)


@pytest.fixture(scope="module")
def first():
    return fit(DATA[:20], EFFECT + LOCAL)


def assert_close(one, other, at, share, terms=None):
    """Means within a share of an sd: those of mirrored draws are exact up to the solver's tolerance of a tenth."""
    found, expected = (p.predict(at, terms=terms) for p in (one, other))
    assert (np.abs(found["mean"] - expected["mean"]) / expected["signal_sd"]).max() < share


@pytest.mark.slow
def test_parts_with_other_terms_are_the_whole(whole, first):
    post = first.update(DATA[20:30]).update(DATA[30:][::-1])
    assert_close(post, whole, ANYWHERE, 0.15)
    assert kept(post) == kept(whole) == 32
    assert post.factors(0).sizes["time"] == T
    filled = post.impute(samples=2)
    np.testing.assert_array_equal(filled["time"], TIMES[30:][::-1])
    gaps = DATA.isnull().to_numpy()[30:][::-1]
    np.testing.assert_array_equal(filled["v_filled"], gaps)
    np.testing.assert_allclose(filled["v"][~gaps], VALUES[30:][::-1][~gaps])
    np.testing.assert_allclose(filled["v"][gaps], whole.impute()["v"][30:][::-1][gaps], atol=0.05)
    with pytest.raises(pt.DataError, match="used in training"):
        post.score(DATA[35:])
    assert "32 observations that the local term keeps" in " ".join(post.summary().split())


@pytest.mark.slow
def test_a_lag_drops_old_observations_but_not_what_they_said(whole, first):
    """The local term keeps those of eight days; the effect is as if it had kept all of them."""
    post = first
    for begin in (20, 30):
        post = post.update(DATA[begin : begin + 10], lag="8D")
        said = post._result.state.local.said
        assert kept(post) == 8  # of nine days
        assert said[0][0].precision.shape == (begin + 10, begin + 10)
    assert said[1] == ()
    new = {"time": pd.date_range(TIMES[-3], "2020-02-20", freq="36h")}
    assert_close(post, whole, new, 0.15)
    assert_close(post, whole, ANYWHERE, 0.25, terms=[0])
    old = {"time": TIMES[:20]}
    local = post.predict(old, terms=[1])
    np.testing.assert_allclose(local["mean"], 0, atol=1e-3)
    np.testing.assert_allclose(local["signal_sd"], np.sqrt(0.3), atol=1e-3)


BAD = {
    "text": ({"lag": "soon"}, "'soon' is not a duration"),
    "negative": ({"lag": -1.0}, r"lag=-1.0: expected a length of 'time', at least zero"),
    "none": ({"lag": np.nan}, "lag=nan: expected a length"),
    "bool": ({"lag": True}, "lag=True: expected a length"),
    "unknown": ({"lag": {"day": 3}}, "update: lag: there is no mode 'day'"),
    "two": ({"lag": {"time": 3, "lat": 1}}, "expected a length along one dimension"),
    "forget": ({"forget": "much"}, "a share from 0 to below 1"),
    "errors": ({"errors": DATA * 0 + 0.1}, "a Local term is one with plain normal noise"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_updates(whole, case):
    arguments, message = BAD[case]
    with pytest.raises(pt.ModelError, match=message):
        whole.update(DATA, **arguments)


@pytest.mark.filterwarnings("ignore:no term reads")
def test_a_lag_needs_a_local_term_that_reads_it():
    with pytest.raises(pt.ModelError, match="lag= says which observations a Local term keeps, and the model has none"):
        fit(DATA, EFFECT).update(DATA, lag="3D")
    points = pt.points({"x": DAYS, "y": DAYS % 7}, VALUES)
    kernel = pt.Matern(1 / 2, lengthscale=pt.fixed(1.0), variance=pt.fixed(1.0))
    post = fit(points, pt.Local(kernel.on("y")) + pt.Local(kernel.on("y")))
    with pytest.raises(pt.ModelError, match="the local term does not read 'x', .* it reads y"):
        post.update(points, lag={"x": 1.0})
    with pytest.raises(pt.ModelError, match="the data have 0 time axes; say along which dimension"):
        post.update(points, lag=1.0)


@pytest.mark.slow
def test_a_product_and_a_joined_mode_over_new_levels():
    """Draws of a product, so means agree to their own error: of time times a surface, with new times and old cells."""
    rng = np.random.default_rng(1)
    t, x, y = np.arange(12.0), np.arange(4.0), np.arange(3.0)
    surface = np.cos(x)[:, None] + y / 3
    truth = 2 + np.sin(t / 2)[:, None, None] * surface
    field = xr.DataArray(truth + NOISE_SD * rng.normal(size=truth.shape), {"t": t, "x": x, "y": y}, ["t", "x", "y"])
    held = pt.fixed(1.0)
    cp = pt.CP(
        1,
        modes={
            "t": pt.Matern(3 / 2, lengthscale=pt.fixed(3.0), variance=held),
            ("x", "y"): pt.Dense(pt.Matern(3 / 2, lengthscale=pt.fixed(3.0), variance=held)),
        },
    )
    local = pt.Local(pt.Matern(1 / 2, lengthscale=pt.fixed(1.0), variance=pt.fixed(0.1)).on("t", "x"), neighbours=20)
    model, engine = pt.Offset(variance=held) + cp + local, pt.MessagePassing(draws=64)

    def fitted(data):
        return pt.fit(data, model, likelihood=LIKELIHOOD, engine=engine)

    whole, at = fitted(field), {"t": np.arange(0.5, 13.0), "x": x, "y": y}
    first = fitted(field[:6]).update(field[6:9, 1:, 1:], lag=None)
    for lag, terms in ((None, None), ({"t": 2.0}, [0, 1])):
        post = first.update(field[6:9, :1], lag=lag).update(field[6:9, 1:, :1], lag=lag).update(field[9:], lag=lag)
        found, expected = (p.predict(at, terms=terms) for p in (post, whole))
        away = (found["mean"] - expected["mean"]) / expected["signal_sd"]
        assert np.sqrt((away**2).mean()) < 0.4 and np.abs(away).max() < 1.2
        ratio = found["signal_sd"] / expected["signal_sd"]
        assert 0.6 < ratio.mean() < 1.4
    assert kept(post) == 36
