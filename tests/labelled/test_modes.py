"""Kinds of modes in whole fits: what each says is seen in what is predicted."""

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import probtensor as pt


def step(s):
    """No correlation function: it falls from one to zero at once."""
    return jnp.where(s < 1, 1.0, 0.0).astype(s.dtype)


def series(values, times):
    return xr.DataArray(values, {"t": times}, ["t"], name="y")


def one(kernel):
    return pt.CP(1, modes={"t": pt.Markov(kernel)})


@pytest.mark.parametrize(
    "envelope", [pytest.param(None, marks=pytest.mark.slow), pt.Matern(1 / 2)], ids=["rbf", "matern"]
)
def test_a_spectral_mixture_finds_two_periods(envelope):
    """Within 2%, from 400 days of which a third are missing, at a third of the smaller wave's amplitude in noise."""
    rng, t = np.random.default_rng(0), np.arange(400.0)
    y = 1.5 * np.sin(2 * np.pi * t / 29.5 + 1) + np.sin(2 * np.pi * t / 7.3) + 0.3 * rng.normal(size=400)
    y[rng.random(400) < 1 / 3] = np.nan
    post = pt.fit(series(y, t), one(pt.SpectralMixture(2, envelope)))
    table = post.hyperparameters()
    kind = "RBF" if envelope is None else "Matern"
    assert {"Cosine 1.period", "Cosine 2.variance", f"{kind} 2.lengthscale"} <= set(table.name)
    periods = np.sort(table.value[table.name.str.endswith("period")])
    np.testing.assert_allclose(periods, [7.3, 29.5], rtol=0.02)
    assert post.noise_sd == pytest.approx(0.3, rel=0.15)


def days(seed):
    """A year and a month of a slow weather and a weekly cycle that changes its shape, with noise."""
    rng, t = np.random.default_rng(seed), np.arange(395.0)
    d = np.abs(t[:, None] - t)
    weather = np.exp(-d / 20)
    week = np.exp(-2 * np.sin(np.pi * d / 7) ** 2 - d / 200)
    root = np.linalg.cholesky(weather + week + 1e-9 * np.eye(395))
    return t, root @ rng.normal(size=395) + 0.2 * rng.normal(size=395)


@pytest.mark.slow
def test_a_sum_of_weather_and_a_cycle_forecasts_better_than_either():
    """A year of days, then the next month: mean over ten draws of RMSE and CRPS."""
    cycle = pt.Matern(1 / 2) * pt.Periodic(pt.fixed(7.0), order=4)
    kernels = {"both": pt.Matern(1 / 2) + cycle, "weather": pt.Matern(1 / 2), "cycle": cycle}
    found = {name: [] for name in kernels}
    for seed in range(10):
        t, y = days(seed)
        data = series(np.where(t < 365, y, np.nan), t).isel(t=slice(0, 365))
        for name, kernel in kernels.items():
            score = pt.fit(data, pt.Offset() + one(kernel)).score(series(y, t).isel(t=slice(365, None)))
            found[name].append((score["rmse"], score["crps"]))
    rmse, crps = (np.array([np.mean([s[k] for s in found[name]]) for name in kernels]) for k in (0, 1))
    assert rmse[0] < 0.97 * rmse[1:].min() and crps[0] < 0.97 * crps[1:].min()


@pytest.mark.slow
def test_forecasts_of_walks_and_lines():
    """A walk stays where it is, an integrated one goes on as it went, a line returns to none of these; sds grow."""
    t = np.arange(60.0)
    data = series(0.5 * t - 8 + 0.05 * np.random.default_rng(1).normal(size=60), t)
    later = {"t": np.array([60.0, 80.0, 120.0])}
    walk, trend = (pt.fit(data, one(k)).predict(later) for k in (pt.RandomWalk(), pt.IntegratedRandomWalk()))
    assert np.ptp(walk["mean"].values) == pytest.approx(0, abs=1e-6)
    np.testing.assert_allclose(trend["mean"], 0.5 * later["t"] - 8, atol=0.5)
    for found in (walk, trend):
        assert np.all(np.diff(found["signal_sd"].values) > 0)


def mixed():
    """A product of a season, a surface on the globe, a parabola and three names, a tenth of it seen with noise 0.05."""
    rng, x = np.random.default_rng(0), np.linspace(-1, 1, 5)
    t, lat, lon = np.arange(36.0), np.linspace(-60, 60, 5), np.arange(0, 360, 45.0)
    globe = np.cos(np.deg2rad(lat))[:, None] * np.cos(np.deg2rad(lon))
    truth = np.einsum("t,yl,x,s->tylxs", np.sin(2 * np.pi * t / 12), globe, 1 + x**2, [1.0, 0.8, 1.2])
    coords = {"t": t, "lat": lat, "lon": lon, "x": x, "s": list("abc")}
    truth = xr.DataArray(truth, coords, list(coords))
    seen = rng.random(truth.shape) < 0.1
    return truth, (truth + 0.05 * rng.normal(size=truth.shape)).where(seen)


MIXED = {
    "t": pt.Markov(pt.Matern(1 / 2) + pt.Matern(1 / 2) * pt.Periodic(12.0, order=2)),
    ("lat", "lon"): pt.Sphere(),
    "x": pt.Basis("chebyshev", 4),
    "s": pt.Categorical("learned"),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "term",
    [
        pt.CP(2, modes=MIXED),
        pt.Tucker({"t": 2, ("lat", "lon"): 2, "x": 2, "s": 1}, modes=MIXED),
        pt.TensorTrain(2, modes=MIXED),
    ],
    ids=["cp", "tucker", "train"],
)
def test_any_priors_go_together(term):
    truth, data = mixed()
    post = pt.fit(data, pt.Offset() + term)
    error = post.predict(truth)["mean"] - truth
    assert float(np.sqrt((error**2).mean())) < 0.015
    assert post.noise_sd == pytest.approx(0.05, rel=0.1)
    seam = post.predict({"t": [3.0], "lat": [10.0], "lon": [-1e-6, 359.999999], "x": [0.5], "s": ["b"]})["mean"]
    assert float(seam.std()) < 1e-6


@pytest.mark.parametrize(
    ("term", "message"),
    [
        (
            lambda: pt.CP(2, modes={"t": pt.Nearest(pt.RandomWalk()), "x": None}),
            "'t': Nearest: the kernel has",
        ),
        (
            lambda: pt.CP(2, modes={"t": pt.Nearest(pt.kernels.Custom(step)), "x": None}),
            "the kernel Custom is not",
        ),
        (lambda: one(pt.kernels.Custom(np.cos)), r"Custom\(cos\)"),
        (lambda: pt.Offset(over="x") + pt.Local(pt.kernels.Custom(step).on("t")), "Local: the kernel Custom is not"),
        (
            lambda: pt.CP(2, modes={("x", "t"): pt.Dense(pt.RandomWalk())}),
            r"CP: mode 't x x': RandomWalk is a covariance along one coordinate",
        ),
        (lambda: pt.Offset(over="x") + pt.Local(pt.Linear().on("t", "x")), "Linear is a covariance along one"),
    ],
)
def test_bad_modes(term, message):
    values = np.random.default_rng(0).normal(size=(20, 3))
    data = xr.DataArray(values, {"t": np.arange(20.0), "x": [0.0, 1.0, 3.0]}, ["t", "x"])
    with pytest.raises(pt.ModelError, match=message):
        pt.fit(data, term())
