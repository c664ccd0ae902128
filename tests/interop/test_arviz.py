"""InferenceData: draws that mean what they are called, ArviZ's numbers against our own, labels of the data."""

import importlib.util
import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats

import probtensor as pt

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import arviz as az

TIMES, SITES = pd.date_range("2020-01-01", periods=5), list("cab")
MODEL = pt.Offset() + pt.CP(2, {"time": pt.Matern(1 / 2), "site": None})
FEW = pt.MessagePassing(max_sweeps=5)


def field():
    random = np.random.default_rng(0)
    values = np.outer(np.sin(np.arange(5)), [1, 2, 3]) + 0.3 * random.normal(size=(5, 3)) + 1
    values[2, 1] = np.nan
    return xr.DataArray(values, {"time": TIMES, "site": SITES}, ["time", "site"], name="sst", attrs={"units": "K"})


@pytest.fixture(scope="module")
def sampled():
    engine = pt.NUTS(samples=30, warmup=30, chains=2, max_tree_depth=3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pt.ProbtensorWarning)
        return pt.fit(field(), MODEL, engine=engine)


@pytest.fixture(scope="module")
def passed():
    return pt.fit(field(), MODEL, engine=FEW, weights=xr.full_like(field(), 2.0), errors=0.1)


@pytest.fixture(scope="module")
def drawn(passed):
    """The draws of all tests, so that one program gives them."""
    return passed.to_arviz(draws=1000, seed=1)


def at_observations(array, draws):
    """What is labelled by time, site or their derivatives, at the places of the signal's observations."""
    where = {name: draws.signal[f"observation_{name}"] for name in ("time", "site") if name in array.dims}
    return array.sel(where).drop_vars([*where], errors="ignore")


@pytest.mark.slow
def test_functions_add_up_to_the_signal(sampled, drawn):
    for idata, chains, number in ((sampled.to_arviz(), 2, 30), (drawn, 1, 1000)):
        draws = idata.posterior
        assert (draws.sizes["chain"], draws.sizes["draw"]) == (chains, number)
        product = at_observations(draws.term1_time, draws) * at_observations(draws.term1_site, draws)
        total = draws.term0 + product.sum("term1_component")
        np.testing.assert_allclose(total.transpose(*draws.signal.dims), draws.signal, atol=1e-7)
        # The functions of every mode but the first have mean square one in every draw.
        squares = [(draws[f"term1_{mode}"] ** 2).mean(mode) for mode in ("time", "site")]
        assert min(float(np.abs(own - 1).max()) for own in squares) < 1e-10


def test_draws_of_the_approximate_posterior_have_its_moments(passed, drawn):
    signal = drawn.posterior.signal
    expected = passed.predict(pt.points({name: signal[f"observation_{name}"].to_numpy() for name in ("time", "site")}))
    mean, sd = signal.mean(("chain", "draw")).to_numpy(), signal.std(("chain", "draw")).to_numpy()
    assert np.abs((mean - expected["mean"]) / expected["signal_sd"]).max() < 5 / np.sqrt(1000)
    assert np.abs(sd / expected["signal_sd"] - 1).max() < 0.15


@pytest.mark.slow
def test_functions_of_every_decomposition_add_up():
    model = pt.Offset("site") + pt.Tucker({"time": 2, "site": 2}) + pt.TensorTrain(2)
    draws = pt.fit(field(), model, engine=pt.MessagePassing(max_sweeps=1)).to_arviz(draws=3).posterior
    tucker = xr.dot(
        at_observations(draws.term1_time, draws), at_observations(draws.term1_site, draws), draws.term1_core,
        dim=["term1_time_component", "term1_site_component"],
    )  # fmt: skip
    train = xr.dot(
        at_observations(draws.term2_time, draws), at_observations(draws.term2_site, draws), dim="term2_bond1"
    )
    total = at_observations(draws.term0, draws) + tucker + train
    np.testing.assert_allclose(total.transpose(*draws.signal.dims), draws.signal, atol=1e-10)


@pytest.mark.slow
def test_r_hat_is_our_own(sampled):
    idata = sampled.to_arviz()
    worst = max(
        float(az.rhat(idata.posterior[["signal"]], method="split").signal.max()),
        float(az.rhat(idata.sample_stats[["lp"]], method="split").lp),
    )
    assert f"r-hat {worst:.3f}" in sampled._result.reason
    assert f"{int(idata.sample_stats.diverging.sum())} divergent" in sampled._result.reason
    noise = idata.posterior.noise_sd
    np.testing.assert_allclose(float(noise.mean()), sampled.noise_sd, rtol=1e-6)


@pytest.mark.slow
def test_arviz_works_on_it(sampled):
    idata = sampled.to_arviz()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of short chains, which have not mixed
        table = az.summary(idata, var_names=["~signal"])
        assert "term1_time_lengthscale[1]" in table.index and "noise_sd" in table.index
        assert np.isfinite(az.loo(idata).elpd_loo) and np.isfinite(az.waic(idata).elpd_waic)
        axes = az.plot_trace(idata, var_names=["noise_sd", "term0"])
        assert axes.shape == (2, 2)
        import matplotlib.pyplot as plt

        plt.close("all")


@pytest.mark.slow
def test_log_likelihoods_of_single_observations(sampled, passed, drawn):
    idata = sampled.to_arviz()
    scale = idata.posterior.noise_sd.to_numpy()[..., None]
    expected = stats.norm(idata.posterior.signal, scale).logpdf(idata.observed_data.sst)
    np.testing.assert_allclose(idata.log_likelihood.sst, expected, rtol=1e-8)
    # Weights of 2 halve the variance of the noise, and known errors add to it.
    scale = np.sqrt(passed.noise_sd**2 / 2 + 0.1**2)
    expected = stats.norm(drawn.posterior.signal, scale).logpdf(drawn.observed_data.sst)
    np.testing.assert_allclose(drawn.log_likelihood.sst, expected, rtol=1e-8)


@pytest.mark.slow
def test_counts_with_exposures():
    counts = xr.DataArray(np.arange(8.0) % 3, {"site": list("abcdefgh")}, ["site"], name="n")
    counts[3] = np.nan
    exposure = xr.full_like(counts, 2.0)
    post = pt.fit(counts, pt.Offset("site"), likelihood=pt.Poisson(exposure=exposure), engine=FEW)
    idata = post.to_arviz(draws=400)
    law = stats.poisson(2 * np.exp(idata.posterior.signal))
    np.testing.assert_allclose(idata.log_likelihood.n, law.logpmf(idata.observed_data.n), rtol=1e-8)
    drawn = idata.posterior_predictive.n.mean(("chain", "draw"))
    np.testing.assert_allclose(drawn, law.mean().mean(axis=(0, 1)), rtol=0.25)
    assert list(idata.observed_data.site.values) == list("abcefgh")


@pytest.mark.slow
def test_labels_are_those_of_the_data(sampled):
    idata = sampled.to_arviz()
    for group in ("observed_data", "posterior_predictive", "log_likelihood"):
        assert idata[group].sst.sizes["observation"] == 14
    observed = idata.observed_data.sst
    np.testing.assert_array_equal(observed, field().sel(time=observed.time, site=observed.site))
    assert observed.units == "K"
    assert list(idata.posterior.site.values) == sorted(SITES)
    np.testing.assert_array_equal(idata.posterior.time, TIMES)
    assert idata.posterior.attrs["draws"] == "chains of a sampler"


@pytest.mark.slow
def test_a_loaded_one_gives_the_same(sampled, tmp_path):
    sampled.save(tmp_path / "fit.zarr")
    one, other = sampled.to_arviz(), pt.load(tmp_path / "fit.zarr").to_arviz()
    for group in one.groups():
        xr.testing.assert_equal(one[group], other[group])


@pytest.mark.slow
def test_gibbs_and_local_terms():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pt.ProbtensorWarning)
        post = pt.fit(field(), MODEL, engine=pt.Gibbs(samples=10, warmup=10, chains=3, thin=1))
    idata = post.to_arviz()
    assert dict(idata.posterior.signal.sizes) == {"chain": 3, "draw": 10, "observation": 14}
    np.testing.assert_allclose(idata.log_likelihood.sst.sum("observation"), idata.sample_stats.lp, rtol=1e-8)
    table = pt.points({"x": np.arange(60.0)}, np.sin(np.arange(60) / 5))
    local = pt.fit(table, pt.Offset() + pt.Local(pt.Matern(3 / 2).on("x")))
    idata = local.to_arviz()
    assert idata.posterior.signal.shape == (1, 16, 60)
    assert np.abs(idata.posterior.signal.mean(("chain", "draw")) - np.sin(np.arange(60) / 5)).max() < 0.2


def test_what_it_refuses(passed, monkeypatch):
    post = pt.fit(pt.points({"draw": [1.0, 2.0]}, [1.0, 2.0]), pt.Offset(over="draw"), engine=FEW)
    with pytest.raises(pt.ModelError, match="dimension 'draw' of its own"):
        post.to_arviz()
    with pytest.raises(pt.ModelError, match="draws=0: expected a whole number, 1 or more"):
        passed.to_arviz(draws=0)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(pt.ModelError, match=r"pip install 'probtensor\[arviz\]'"):
        passed.to_arviz()
