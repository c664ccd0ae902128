"""Every likelihood through the labelled face: fill, predict, sample, score, what comes with the data, bad input."""

import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import probtensor as pt
from tests.helpers import mostly_slow

TIMES, PLACES = 8, 5
RNG = np.random.default_rng(4)
COORDS = {"time": np.arange(TIMES) * 1.0, "place": list("abcde")}
#: Levels that know nothing of each other compile in a moment.
MODEL = pt.CP(1, {"time": pt.Categorical(), "place": pt.Categorical()})
QUICK = pt.MessagePassing(max_sweeps=10)
SIGNAL = np.outer(np.linspace(0.5, 1.5, TIMES), np.linspace(0.2, 1.2, PLACES))
HIDDEN = RNG.random((TIMES, PLACES)) < 0.2
EXPOSURE = xr.DataArray(RNG.uniform(1.0, 30.0, (PLACES, TIMES)), COORDS, ["place", "time"])
TRIALS = xr.DataArray(RNG.integers(2, 40, TIMES).astype(float), {"time": COORDS["time"]}, ["time"])


def field(values, name="y"):
    return xr.DataArray(np.asarray(values, float), COORDS, ["time", "place"], name=name, attrs={"units": "K"})


def gaps(values):
    return field(values).where(~HIDDEN)


COUNTS = RNG.poisson(np.exp(SIGNAL) * EXPOSURE.transpose("time", "place").to_numpy())
CASES = {
    "gaussian": (pt.Gaussian(), SIGNAL + 0.1 * RNG.normal(size=SIGNAL.shape)),
    "levels": (pt.Gaussian(noise="place"), SIGNAL + 0.1 * RNG.normal(size=SIGNAL.shape)),
    "log": (pt.Gaussian(transform="log"), np.exp(SIGNAL + 0.1 * RNG.normal(size=SIGNAL.shape))),
    "sqrt": (pt.Gaussian(transform="sqrt"), (SIGNAL + 0.1 * RNG.normal(size=SIGNAL.shape)) ** 2),
    "student t": (pt.StudentT(), SIGNAL + 0.1 * RNG.standard_t(3, SIGNAL.shape)),
    "poisson": (pt.Poisson(EXPOSURE), COUNTS),
    "negative binomial": (pt.NegativeBinomial(exposure=2.0), RNG.negative_binomial(3, 0.3, SIGNAL.shape)),
    "bernoulli": (pt.Bernoulli(), RNG.random(SIGNAL.shape) < 0.6),
    "binomial": (pt.Binomial(TRIALS), RNG.binomial(TRIALS.to_numpy()[:, None].astype(int), 0.4, SIGNAL.shape)),
}
WHOLE = ("poisson", "negative binomial", "bernoulli", "binomial")


@pytest.fixture(scope="module")
def posts():
    """A fit for each likelihood, made on first use."""
    made = {}

    def post(name):
        if name not in made:
            likelihood, values = CASES[name]
            made[name] = pt.fit(gaps(values), MODEL, likelihood=likelihood, engine=QUICK)
        return made[name]

    return post


@pytest.mark.parametrize("name", mostly_slow(CASES, "gaussian", "poisson", "student t"))
def test_answers_are_finite_on_the_scale_of_the_data_and_agree(posts, name):
    post, (likelihood, values) = posts(name), CASES[name]
    filled = post.impute(quantiles=[0.1, 0.9], samples=50)
    given = ~HIDDEN
    np.testing.assert_array_equal(filled["y"].to_numpy()[given], np.asarray(values, float)[given])
    np.testing.assert_array_equal(filled["y_sd"].to_numpy()[given], 0.0)
    for part in filled.data_vars.values():
        assert np.isfinite(part).all()
    quantiles = filled["y_quantiles"].to_numpy()
    assert (quantiles[0] <= quantiles[1]).all()
    draws = filled["y_samples"].to_numpy()[:, HIDDEN]
    if name in WHOLE:
        assert (draws == np.round(draws)).all() and (draws >= 0).all()
        assert (quantiles[:, HIDDEN] == np.round(quantiles[:, HIDDEN])).all()
    if name in ("log", "sqrt"):
        assert (draws > 0).all() and (quantiles[:, HIDDEN] > 0).all()
    # The same by predict, where the data's exposure or trials are one number for all.
    if name not in ("poisson", "binomial"):
        there = post.predict(post.impute(), quantiles=[0.1, 0.9]).transpose("quantile", "time", "place", ...)
        np.testing.assert_allclose(there["mean"].to_numpy()[HIDDEN], filled["y"].to_numpy()[HIDDEN], rtol=1e-8)
        np.testing.assert_allclose(there["sd"].to_numpy()[HIDDEN], filled["y_sd"].to_numpy()[HIDDEN], rtol=1e-8)
        assert (there["signal_sd"] <= there["sd"] + 1e-12).all()
    latent = post.predict(post.impute(), scale="latent")
    assert np.isfinite(latent["mean"]).all()
    drawn = post.sample(4000, seed=1, observation_noise=True).transpose("sample", "time", "place")
    assert np.isfinite(drawn).all()
    # Joint draws are those of the product of factors; their mean is within five standard errors of the filled mean.
    sd = drawn.std("sample").to_numpy()[HIDDEN]
    away = np.abs(drawn.mean("sample").to_numpy()[HIDDEN] - filled["y"].to_numpy()[HIDDEN])
    assert (away <= 5 * sd / np.sqrt(4000) + 0.1 * sd).all()
    text = post.summary()
    assert type(likelihood).__name__ in text and "nan" not in text.split("\n")[0]
    table = post.hyperparameters()
    assert np.isfinite(table["value"]).all()


@pytest.mark.parametrize("name", CASES)
def test_held_out_values_are_scored(posts, name):
    post, (_, values) = posts(name), CASES[name]
    found = post.score(field(values).where(HIDDEN))
    assert found["n"] == HIDDEN.sum() and all(np.isfinite(v) for v in found.values())


def test_exposure_in_any_form_is_the_same(posts):
    """An array in the data's order, a DataArray in another, a column of a table; a number where it is one."""
    data = gaps(COUNTS)
    first = posts("poisson").impute()["y"]
    array = EXPOSURE.transpose("time", "place").to_numpy()
    second = pt.fit(data, MODEL, likelihood=pt.Poisson(array), engine=QUICK).impute()["y"]
    backwards = pt.Poisson(EXPOSURE.isel(time=slice(None, None, -1)))
    third = pt.fit(data.transpose("place", "time"), MODEL, likelihood=backwards, engine=QUICK).impute()["y"]
    short = pt.impute(data, MODEL, likelihood=pt.Poisson(EXPOSURE), engine=QUICK)["y"]
    for other in (second, third.transpose("time", "place"), short):
        np.testing.assert_allclose(other, first, rtol=1e-9)
    rows = data.to_dataframe().reset_index().dropna()
    rows["exposure"] = EXPOSURE.to_series().reindex(pd.MultiIndex.from_frame(rows[["place", "time"]])).to_numpy()
    rows = rows.sample(frac=1.0, random_state=0)
    table = pt.table(rows, value="y", coords=["time", "place"])
    own = pt.fit(table, MODEL, likelihood=pt.Poisson(rows["exposure"]), engine=pt.MessagePassing(max_sweeps=60))
    whole = pt.fit(data, MODEL, likelihood=pt.Poisson(EXPOSURE), engine=pt.MessagePassing(max_sweeps=60))
    at = pt.points({"time": [1.0, 3.0], "place": ["a", "d"]})
    one, other = (p.predict(at)["mean"] for p in (own, whole))
    np.testing.assert_allclose(one, other, rtol=1e-3)
    # Away from the data's grid a rate is of exposure 1; impute has the data's.
    grid = whole.impute()["y"].where(HIDDEN)
    rate = whole.predict(data)["mean"]
    np.testing.assert_allclose((rate * EXPOSURE).where(HIDDEN).transpose(*grid.dims), grid, rtol=1e-8)
    with pytest.raises(pt.ModelError, match="the exposure of rows that are not in the training table is not known"):
        own.score(pt.points({"time": [1.0], "place": ["a"]}, [2.0]), allow_training=True)


def test_a_gap_without_exposure_is_not_filled_with_nothing(posts):
    data = gaps(COUNTS)
    exposure = EXPOSURE.transpose("time", "place").copy()
    gap = tuple(np.argwhere(HIDDEN)[0])
    exposure[gap] = np.nan
    post = pt.fit(data, MODEL, likelihood=pt.Poisson(exposure), engine=QUICK)
    with pytest.raises(pt.DataError, match=r"exposure: missing or not above zero at 1 gaps \(first: time=.*where="):
        post.impute()
    filled = post.impute(where=exposure.notnull())
    assert np.isnan(filled["y"].to_numpy()[gap]) and int(filled["y"].isnull().sum()) == 1
    assert int(np.isnan(post.sample(2, observation_noise=True)).sum()) == 2
    with pytest.raises(pt.ModelError, match="the exposure at .* is not known"):
        post.score(field(COUNTS).where(HIDDEN))


def test_whatever_stands_at_weight_zero_is_not_seen():
    """Impossible values and exposures too, without a warning."""
    weights = field(~HIDDEN)
    for name, odd in (("poisson", -3.5), ("log", -1.0), ("bernoulli", 7.0), ("student t", 1e30)):
        likelihood, values = CASES[name]
        if name == "poisson":
            likelihood = pt.Poisson(EXPOSURE.where(field(~HIDDEN) > 0, 0.0))
        garbage = field(np.where(HIDDEN, odd, values))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            one = pt.fit(garbage, MODEL, likelihood=likelihood, weights=weights, engine=QUICK)
        other = pt.fit(gaps(values), MODEL, likelihood=CASES[name][0], engine=QUICK)
        np.testing.assert_allclose(one.objective, other.objective)


@pytest.mark.slow
def test_noise_of_levels(posts):
    """Over two modes, over a mode that the model does not read, at a level never seen, and held."""
    values = CASES["levels"][1]
    post = posts("levels")
    new = post.predict({"time": [1.0], "place": ["never"]})
    assert np.isfinite(new["sd"]).all()
    rows = post.hyperparameters().query("term == 'noise' and mode == 'place'")
    assert len(rows) == PLACES and rows["learned"].all() and set(rows["unit"]) == {"K"}
    both = pt.fit(gaps(values), MODEL, likelihood=pt.Gaussian(noise=("time", "place")), engine=QUICK)
    assert np.isfinite(both.impute()["y_sd"]).all()
    held = pt.fit(gaps(values), pt.Offset("place"), likelihood=pt.Gaussian(pt.fixed(0.3), noise="time"), engine=QUICK)
    rows = held.hyperparameters().query("term == 'noise'")
    np.testing.assert_allclose(rows["value"], 0.3)
    assert not rows["learned"].any()
    assert held.noise_sd == pytest.approx(0.3)


def test_known_errors_widen_and_are_in_either_form():
    values = CASES["gaussian"][1]
    errors = EXPOSURE / 100
    data = gaps(values)
    first = pt.fit(data, MODEL, errors=errors, engine=QUICK)
    second = pt.impute(data, MODEL, errors=errors.transpose("time", "place").to_numpy(), engine=QUICK)
    np.testing.assert_allclose(first.impute()["y"], second["y"], rtol=1e-9)
    one = pt.fit(data, MODEL, errors=0.2, likelihood=pt.Gaussian(pt.fixed(0.3)), engine=QUICK)
    other = pt.fit(data, MODEL, likelihood=pt.Gaussian(pt.fixed(float(np.hypot(0.2, 0.3)))), engine=QUICK)
    np.testing.assert_allclose(one.impute()["y"], other.impute()["y"], rtol=1e-6)


def test_terms_add_up_on_the_latent_scale(posts):
    post = posts("poisson")
    at = {"time": [1.0], "place": ["a"]}
    with pytest.raises(pt.ModelError, match='under Poisson terms do not add up.*scale="latent"'):
        post.predict(at, terms=0)
    np.testing.assert_allclose(
        post.predict(at, terms=0, scale="latent")["mean"], post.predict(at, scale="latent")["mean"]
    )
    with pytest.raises(pt.ModelError, match="scale='rate': expected 'response' or 'latent'"):
        post.predict(at, scale="rate")
    with pytest.raises(pt.ModelError, match="Poisson has no noise_sd"):
        _ = post.noise_sd


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "values"), [({"rule": "cep"}, "poisson"), ({"coupling": "component", "damping": 0.2}, "binomial")]
)
def test_engines_by_name(options, values):
    likelihood, data = CASES[values]
    post = pt.fit(gaps(data), MODEL, likelihood=likelihood, engine=pt.MessagePassing(max_sweeps=15, **options))
    assert np.isfinite(post.impute()["y"]).all()


def bad(values, at, odd):
    out = np.asarray(values, float).copy()
    out[at] = odd
    return field(out)


SEEN = tuple(np.argwhere(~HIDDEN)[0])
UNIT = xr.full_like(field(COUNTS), 1.0)


@pytest.mark.parametrize(
    ("data", "likelihood", "more", "error", "match"),
    [
        (
            bad(COUNTS, SEEN, -1),
            pt.Poisson(),
            {},
            pt.DataError,
            r"Poisson: counts must be zero or above; 1 of 40 .*-1 at ",
        ),
        (
            bad(COUNTS, SEEN, 0.5),
            pt.Poisson(),
            {},
            pt.DataError,
            r"counts must be whole numbers.*first: 0.5 at place=a",
        ),
        (bad(COUNTS, SEEN, -1), pt.NegativeBinomial(), {}, pt.DataError, "NegativeBinomial: counts must be zero or"),
        (bad(CASES["bernoulli"][1], SEEN, 2), pt.Bernoulli(), {}, pt.DataError, "labels must be 0 or 1; 1 of 40"),
        (field(COUNTS), pt.Binomial(3), {}, pt.DataError, "more successes than trials.*trials 3 at"),
        (field(COUNTS), pt.Binomial(0), {}, pt.DataError, "trials of observed values must be 1 or more"),
        (field(COUNTS), pt.Binomial(np.nan), {}, pt.DataError, "trials of observed values must be 1 or more"),
        (field(COUNTS), pt.Binomial(1000.5), {}, pt.DataError, "trials must be whole numbers"),
        (
            field(COUNTS),
            pt.Poisson(0.0),
            {},
            pt.DataError,
            "exposure of a count must be finite and above zero.*exposure 0",
        ),
        (field(COUNTS), pt.Poisson(UNIT.where(UNIT.time > 0)), {}, pt.DataError, "exposure nan at"),
        (field(COUNTS), pt.Poisson(np.ones(3)), {}, pt.DataError, r"exposure: its shape is \(3,\) and the data's"),
        (
            field(COUNTS),
            pt.Poisson("hours"),
            {},
            pt.DataError,
            "exposure: an array of .*; expected booleans or numbers",
        ),
        (
            field(SIGNAL - 1),
            pt.Gaussian(transform="log"),
            {},
            pt.DataError,
            "transform='log' takes values above zero only",
        ),
        (field(SIGNAL - 1), pt.Gaussian(transform="sqrt"), {}, pt.DataError, "takes values zero or above only"),
        (
            field(SIGNAL),
            pt.Gaussian(),
            {"errors": -0.1},
            pt.DataError,
            "errors of observed values must be finite and zero",
        ),
        (field(SIGNAL), pt.Gaussian(), {"errors": np.nan}, pt.DataError, "errors of observed values must be finite"),
        (
            field(COUNTS),
            pt.Poisson(),
            {"errors": 0.1},
            pt.ModelError,
            "errors: known standard errors .* not of Poisson",
        ),
        (
            field(SIGNAL),
            pt.Gaussian(transform="log"),
            {"errors": 0.1},
            pt.ModelError,
            "errors: they are on the scale of",
        ),
        (field(SIGNAL), pt.Gaussian(noise="site"), {}, pt.ModelError, "'site', which the data do not have; they have"),
        (field(COUNTS), pt.Poisson, {}, pt.ModelError, r"likelihood=Poisson: a class; call it, as in pt.Poisson\("),
        (field(COUNTS), "poisson", {}, pt.ModelError, "likelihood='poisson': expected a likelihood such as"),
        (
            field(COUNTS),
            pt.NegativeBinomial(dispersion=pt.fixed(0.0)),
            {},
            pt.ModelError,
            "dispersion=0.0 must be a finite",
        ),
    ],
    ids=lambda x: None,
)
def test_bad_input_is_refused_in_words(data, likelihood, more, error, match):
    with pytest.raises(error, match=match):
        pt.fit(data, MODEL, likelihood=likelihood, engine=QUICK, **more)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: pt.StudentT(2.0), r"StudentT\(df=2.0\): must be above 2"),
        (lambda: pt.StudentT(pt.fixed(1.5)), r"must be above 2"),
        (lambda: pt.StudentT("four"), "df='four'"),
        (lambda: pt.Gaussian(transform="box-cox"), "expected 'log', 'sqrt' or None"),
        (lambda: pt.Gaussian(noise=("a", "a")), "name each mode once"),
    ],
)
def test_declarations_that_cannot_be_are_refused(make, match):
    with pytest.raises(pt.ModelError, match=match):
        make()


@pytest.mark.parametrize("likelihood", [pt.Poisson(), pt.StudentT(), pt.Gaussian(noise="place")])
def test_a_local_term_says_what_it_goes_with(likelihood):
    local = pt.Offset() + pt.Local(pt.Matern(1 / 2).on("time"))
    data = xr.DataArray(
        RNG.poisson(3.0, (40, 5)) * 1.0, {"time": np.arange(40.0), "place": list("abcde")}, ["time", "place"]
    )
    with pytest.raises(pt.ModelError, match="a Local term is one with plain normal noise"):
        pt.fit(data, local + pt.Offset("place"), likelihood=likelihood)


def test_held_out_values_that_cannot_be_are_refused(posts):
    with pytest.raises(pt.DataError, match="Bernoulli: labels must be 0 or 1.*time="):
        posts("bernoulli").score(field(np.full(SIGNAL.shape, 0.5)).where(HIDDEN))


@pytest.mark.slow
@pytest.mark.parametrize("model", ["auto", "rank"])
def test_models_are_chosen_for_counts(model):
    rng = np.random.default_rng(0)
    t, x = np.linspace(0, 6, 30), np.linspace(0, 3, 12)
    rate = np.exp(2 + np.outer(np.sin(t), np.cos(x)))
    data = xr.DataArray(rng.poisson(rate) * 1.0, {"t": t, "x": x}, ["t", "x"])
    hide = rng.random(rate.shape) < 0.2
    post = pt.fit(
        data.where(~hide), "auto" if model == "auto" else pt.Offset() + pt.CP("auto"), likelihood=pt.Poisson()
    )
    found = post.score(data.where(hide))
    assert found["rmse"] < 1.3 * np.sqrt(rate[hide].mean())
    assert found["coverage90"] > 0.8
