"""Several variables on one grid, each standardised: one model of all, every answer in each variable's own unit."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import probtensor as pt

TIMES, SITES = 24, 5
NAMES = ["temperature", "pressure", "rain"]
CENTRES, SIZES, NOISES = np.array([280.0, 1e5, 3.0]), np.array([9.0, -600.0, 0.5]), np.array([0.5, 100.0, 0.1])
MODEL = pt.Offset("variable") + pt.CP(1)
EACH = pt.Gaussian(noise="variable", scale="variable")
QUICK = pt.MessagePassing(max_sweeps=30)


def simulated(seed=0):
    """A Dataset of three variables that share one function of time and site, the signal among its coordinates."""
    random = np.random.default_rng(seed)
    shared = np.outer(np.sin(np.arange(TIMES) / 3), np.linspace(0.5, 1.5, SITES))
    signal = CENTRES[:, None, None] + SIZES[:, None, None] * shared
    values = signal + NOISES[:, None, None] * random.normal(size=signal.shape)
    coords = {"time": pd.date_range("2021-01-01", periods=TIMES), "site": list("cabed")}
    return xr.Dataset({n: (("time", "site"), v) for n, v in zip(NAMES, values, strict=True)}, coords)


ARRAY = simulated().to_array("variable")
HIDDEN = np.random.default_rng(7).random(ARRAY.shape) < 0.3
GAPS = ARRAY.where(~HIDDEN)


@pytest.fixture(scope="module")
def post():
    return pt.fit(GAPS, MODEL, likelihood=EACH, engine=QUICK)


def by_hand(data):
    """Means and standard deviations of the observed values of each variable."""
    return data.mean(("time", "site")), data.std(("time", "site"))


def assert_like(found, expected, tolerance=1e-8):
    """To a share of the size of each variable."""
    size = by_hand(GAPS)[1]
    away = np.abs(found - expected).max([d for d in expected.dims if d != "variable"]) / size
    assert (away < tolerance).all(), away.to_series()


def test_it_is_the_fit_of_values_standardised_by_hand(post):
    centre, size = by_hand(GAPS)
    other = pt.fit((GAPS - centre) / size, MODEL, likelihood=pt.Gaussian(noise="variable"), engine=QUICK)
    np.testing.assert_allclose(post.objective, other.objective, rtol=1e-9)
    one, two = post.impute(quantiles=[0.1, 0.9], samples=3), other.impute(quantiles=[0.1, 0.9], samples=3)
    assert_like(one["value"], two["value"] * size + centre)
    assert_like(one["value_sd"], two["value_sd"] * size)
    assert_like(one["value_quantiles"], two["value_quantiles"] * size + centre)
    assert_like(one["value_samples"], two["value_samples"] * size + centre)
    at = {"time": np.array(["2021-01-03T12", "2021-02-01"], "M8[ns]"), "site": ["a", "new"], "variable": NAMES}
    one, two = post.predict(at), other.predict(at)
    assert_like(one["mean"], two["mean"] * size + centre)
    for name in ("sd", "signal_sd"):
        assert_like(one[name], two[name] * size)
    xr.testing.assert_allclose(post.predict(at, scale="latent"), other.predict(at, scale="latent"), rtol=1e-8)
    one, two = post.residuals(), other.residuals()
    for name in ("residual", "loo_residual"):
        assert_like(one[name], two[name] * size)
        xr.testing.assert_allclose(
            one[name.replace("residual", "standardised")], two[name.replace("residual", "standardised")]
        )
    one, two = post.aggregate("site"), other.aggregate("site")
    assert_like(one["mean"], two["mean"] * size + centre)
    assert_like(one["sd"], two["sd"] * size)
    for name in NAMES:
        held = ARRAY.where(HIDDEN).sel(variable=[name])
        one, two = post.score(held), other.score((held - centre) / size)
        assert one["crps"] == pytest.approx(two["crps"] * float(size.sel(variable=name)), rel=1e-7)
        assert one["nlpd"] == pytest.approx(two["nlpd"] + np.log(float(size.sel(variable=name))), rel=1e-7)
        assert one["coverage90"] == two["coverage90"]
    numbers = ["term", "mode", "component", "level", "name", "value", "learned"]
    rows = post.hyperparameters().query("term != 'scale'")
    pd.testing.assert_frame_equal(rows[numbers], other.hyperparameters()[numbers])


@settings(max_examples=5, derandomize=True, deadline=None, database=None)
@given(
    factors=st.lists(st.floats(-6, 6).map(lambda power: 10**power), min_size=3, max_size=3),
    shifts=st.lists(st.floats(-10, 10), min_size=3, max_size=3),
)
def test_other_units_change_nothing_else(post, factors, shifts):
    """K or mK or degrees Celsius: the same numbers in the other unit."""
    factor, size = xr.DataArray(factors, {"variable": NAMES}), by_hand(GAPS)[1]
    shift = size * xr.DataArray(shifts, {"variable": NAMES})
    other = pt.fit(factor * (GAPS + shift), MODEL, likelihood=EACH, engine=QUICK)
    assert_like(other.impute()["value"] / factor - shift, post.impute()["value"], 1e-6)
    assert_like(other.impute()["value_sd"] / factor, post.impute()["value_sd"], 1e-6)
    np.testing.assert_allclose(other.objective, post.objective, rtol=1e-6)


def test_intervals_cover_in_each_variable(post):
    """Of some 36 hidden values each; at a true coverage of 0.9 fewer than 0.75 come once in 200 times."""
    for name in NAMES:
        found = post.score(ARRAY.where(HIDDEN).sel(variable=[name]))
        assert found["coverage90"] >= 0.75, name
        noise = NOISES[NAMES.index(name)]
        assert 0.8 * noise < found["rmse"] < 1.6 * noise, name


def test_variables_fill_each_others_gaps():
    """Twelve days without rain data are told by temperature and pressure, but not by rain before and after."""
    data = ARRAY.copy()
    data.loc[{"variable": "rain", "time": data["time"][8:18]}] = np.nan
    truth = ARRAY.sel(variable=["rain"]).where(data.sel(variable=["rain"]).isnull())
    together = pt.fit(data, MODEL, likelihood=EACH, engine=QUICK).score(truth)
    alone = pt.fit(data.sel(variable="rain", drop=True), pt.Offset() + pt.CP(1), engine=QUICK)
    assert together["crps"] < 0.7 * alone.score(truth.squeeze("variable", drop=True))["crps"]
    assert together["coverage90"] > 0.7


def test_the_filled_array_is_a_dataset_again(post):
    filled = post.impute()
    assert filled["value"].dims == GAPS.dims
    back = filled["value"].to_dataset("variable")
    assert list(back.data_vars) == NAMES
    assert back["time"].identical(simulated()["time"]) and back["site"].identical(simulated()["site"])
    kept = GAPS.to_dataset("variable")
    for name in NAMES:
        assert np.isfinite(back[name]).all()
        xr.testing.assert_equal(back[name].where(kept[name].notnull()), kept[name])


def test_what_is_said_of_levels(post):
    centre, size = by_hand(GAPS)
    table = post.hyperparameters()
    noise = table.query("term == 'noise' and mode == 'variable'").set_index("level")["value"]
    assert sorted(noise.index) == sorted(NAMES)
    scale = table.query("term == 'scale'").set_index(["level", "name"])
    text = post.summary()
    assert "Gaussian(noise=('variable',), scale=('variable',))" in text
    for name in NAMES:
        own = float(size.sel(variable=name))
        assert scale.loc[(name, "centre"), "value"] == pytest.approx(float(centre.sel(variable=name)))
        assert scale.loc[(name, "scale"), "value"] == pytest.approx(own)
        middle = float(centre.sel(variable=name))
        assert f"{name}: noise {noise[name] * own:.4g}; centre {middle:.4g}, scale {own:.4g}" in text
        assert noise[name] * own == pytest.approx(NOISES[NAMES.index(name)], rel=0.35)


@pytest.mark.filterwarnings("ignore:no term reads mode")
def test_a_combination_of_levels_is_named():
    both = pt.Gaussian(noise=("site", "variable"))
    post = pt.fit(GAPS, pt.Offset(), likelihood=both, engine=QUICK)
    levels = post.hyperparameters().query("term == 'noise' and level != ''")["level"].tolist()
    assert len(levels) == SITES * len(NAMES)
    assert levels[:2] == ["site a, variable pressure", "site a, variable rain"]
    assert "level " not in post.summary()  # there are too many
    days = pt.fit(GAPS, pt.Offset(), likelihood=pt.Gaussian(noise="time.month"), engine=QUICK)
    assert days.hyperparameters().query("mode == 'time.month'")["level"].tolist() == ["1"]
    assert "level        1: noise" in days.summary()


@pytest.mark.slow
def test_a_long_table_is_the_same(post):
    rows = GAPS.to_series().dropna().rename("y").reset_index().sample(frac=1.0, random_state=0)
    table = pt.table(rows, "y", ["time", "site", "variable"])
    own = pt.fit(table, MODEL, likelihood=EACH, engine=QUICK)
    at = {"time": GAPS["time"], "site": GAPS["site"], "variable": GAPS["variable"]}
    found, expected = own.predict(at), post.predict(at)
    for name in ("mean", "sd"):
        assert_like(found[name], expected[name], 1e-3)
    assert own.residuals()["residual"].shape == (len(rows),)


@pytest.mark.slow
def test_save_and_load(post, tmp_path):
    post.save(tmp_path / "fit.zarr")
    found = pt.load(tmp_path / "fit.zarr")
    xr.testing.assert_identical(found.impute(), post.impute())
    pd.testing.assert_frame_equal(found.hyperparameters(), post.hyperparameters())
    assert found.summary() == post.summary()
    more = ARRAY.isel(time=slice(0, 2)).assign_coords(time=ARRAY["time"][-2:] + np.timedelta64(2, "D"))
    xr.testing.assert_identical(found.update(more).impute(), post.update(more).impute())


@pytest.mark.slow
def test_updates_keep_the_scale_and_make_one_for_new_variables(post):
    """Old variables are read on the scale they had; a new one on that of its first values."""
    later = ARRAY["time"][-3:] + np.timedelta64(3, "D")
    more = ARRAY.isel(time=slice(3, 6)).assign_coords(time=later)
    after = post.update(more)
    rows = [p.hyperparameters().query("term == 'scale'") for p in (post, after)]
    pd.testing.assert_frame_equal(rows[0], rows[1])
    inside = {"time": later, "site": GAPS["site"], "variable": GAPS["variable"]}
    before, found = post.predict(inside), after.predict(inside)
    size = by_hand(GAPS)[1]
    assert float((np.abs(found["mean"] - more) / size).mean()) < 0.5 * float(
        (np.abs(before["mean"] - more) / size).mean()
    )
    new = (0.5 + 0.01 * (more.sel(variable=["rain"]) - 3)).assign_coords(variable=["humidity"])
    grown = post.update(new)
    scale = grown.hyperparameters().query("term == 'scale' and level == 'humidity'").set_index("name")["value"]
    assert scale["centre"] == pytest.approx(float(new.mean())) and scale["scale"] == pytest.approx(float(new.std()))
    filled = grown.predict({**inside, "variable": ["humidity"]})
    assert np.abs(filled["mean"] - new).max() < 0.01 and filled["sd"].max() < 0.05
    assert "humidity: noise" in grown.summary()
    with pytest.raises(pt.ModelError, match=r"scale=\('variable',\), and keeps them"):
        post.update(more, likelihood=pt.Gaussian(noise="variable"))


@pytest.mark.slow
def test_levels_with_nothing_one_value_or_always_the_same():
    data = GAPS.copy()
    four = ["none", "one", "same", "zero"]
    more = xr.full_like(data.isel(variable=0, drop=True), np.nan).expand_dims(variable=four).copy()
    more.loc["one"][2, 3] = 40.0
    more.loc["same"] = 7.0
    more.loc["zero"] = 0.0
    post = pt.fit(xr.concat([data, more], "variable"), MODEL, likelihood=EACH, engine=QUICK)
    rows = post.hyperparameters().query("term == 'scale'").set_index(["name", "level"])["value"]
    own = by_hand(GAPS)[1].to_numpy()
    usual = np.exp(np.log(own).mean())
    centres = [*by_hand(GAPS)[0].to_numpy(), 40.0, 7.0, 0.0]
    assert rows["scale"]["none"] == rows["scale"]["one"] == pytest.approx(usual)
    assert rows["scale"]["same"] == pytest.approx(0.007) and rows["scale"]["zero"] == pytest.approx(1e-3 * usual)
    assert rows["centre"][["one", "same", "zero"]].tolist() == [40.0, 7.0, 0.0]
    assert rows["centre"]["none"] == pytest.approx(np.mean(centres))
    with pytest.warns(pt.errors.ProbtensorWarning, match="sites were never observed"):
        filled = post.impute()
    assert np.isfinite(filled["value"]).all() and np.isfinite(filled["value_sd"]).all()
    new = post.predict({"time": GAPS["time"][:1], "site": ["a"], "variable": ["never"]})
    assert new["mean"].item() == pytest.approx(np.mean(centres), abs=3 * usual)


@pytest.mark.slow
def test_weights_and_errors(post):
    """Both are of the values as they were given: a weight of two is an observation twice, errors have their unit."""
    weights = xr.where(np.random.default_rng(3).random(GAPS.shape) < 0.5, 2.0, 1.0) * xr.ones_like(GAPS)
    rows = pd.DataFrame({"y": GAPS.to_series(), "w": weights.to_series()}).dropna().reset_index()
    twice = rows.loc[rows.index.repeat(rows["w"].astype(int))]
    one, two = (
        pt.fit(pt.table(r, "y", ["time", "site", "variable"]), MODEL, likelihood=EACH, weights=w, engine=QUICK)
        for r, w in ((rows, rows["w"]), (twice, None))
    )
    scales = [p.hyperparameters().query("term == 'scale'")["value"] for p in (one, two)]
    np.testing.assert_allclose(*scales, rtol=1e-12)
    errors = xr.DataArray([0.3, 50.0, 0.2], {"variable": NAMES})
    centre, size = by_hand(GAPS)
    found = pt.fit(GAPS, MODEL, likelihood=EACH, errors=errors, engine=QUICK)
    hand = pt.fit(
        (GAPS - centre) / size, MODEL, likelihood=pt.Gaussian(noise="variable"), errors=errors / size, engine=QUICK
    )
    assert_like(found.impute()["value_sd"], hand.impute()["value_sd"] * size)
    xr.testing.assert_allclose(found.residuals()["standardised"], hand.residuals()["standardised"])


@pytest.mark.slow
@pytest.mark.parametrize(("transform", "forward", "back"), [("log", np.log, np.exp), ("sqrt", np.sqrt, np.square)])
def test_a_transform_comes_first(transform, forward, back):
    """Quantiles are those of the standardised logarithm or root, brought back; draws keep to them."""
    likelihood = pt.Gaussian(noise="variable", scale="variable", transform=transform)
    found = pt.fit(GAPS, MODEL, likelihood=likelihood, engine=QUICK)
    on = forward(GAPS)
    centre, size = by_hand(on)
    hand = pt.fit((on - centre) / size, MODEL, likelihood=pt.Gaussian(noise="variable"), engine=QUICK)
    one, two = found.impute(quantiles=[0.2], samples=400), hand.impute(quantiles=[0.2], samples=400)
    assert_like(one["value_quantiles"], back(two["value_quantiles"] * size + centre), 1e-6)
    drawn = one["value_samples"]
    np.testing.assert_allclose(drawn, back(two["value_samples"] * size + centre), rtol=1e-8)
    away = np.abs(drawn.mean("sample") - one["value"]) / one["value_sd"].where(one["value_sd"] > 0)
    assert away.max() < 5 / np.sqrt(400)
    expected = found.sample(400)
    assert (
        float((np.abs(expected.mean("sample") - one["value"]).where(HIDDEN) / one["value_sd"].where(HIDDEN)).max())
        < 0.3
    )


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (
            {"scale": "depth"},
            "the model names mode 'depth', which the data do not have; they have site, time, variable",
        ),
        ({"scale": ("site", "site")}, r"Gaussian\(scale=\('site', 'site'\)\): name each mode once"),
        ({"scale": 2.0}, r"Gaussian\(scale=\(2.0,\)\): expected a mode's name, or several"),
        ({"noise": True}, r"Gaussian\(noise=\(True,\)\): expected a mode's name"),
        ({"scale": ("site", "time", "variable")}, "no level has more than one observation.*name modes whose"),
    ],
)
def test_bad_input(options, match):
    with pytest.raises(pt.ModelError, match=match):
        pt.fit(GAPS, MODEL, likelihood=pt.Gaussian(**options))


def test_a_dataset_is_shown_the_way():
    way = r"ds\['temperature'\].*ds.to_array\(.variable.\)\. Each then has a scale and a noise level of its own"
    with pytest.raises(pt.DataError, match=way) as caught:
        pt.fit(simulated())
    assert 'likelihood=pt.Gaussian(noise="variable", scale="variable")' in str(caught.value)


def test_terms_add_up_on_the_standardised_scale(post):
    at = {"time": GAPS["time"], "site": ["a"], "variable": NAMES}
    with pytest.raises(pt.ModelError, match="terms do not add up"):
        post.predict(at, terms=0)
    both = [post.predict(at, terms=k, scale="latent")["mean"] for k in (0, 1)]
    xr.testing.assert_allclose(both[0] + both[1], post.predict(at, scale="latent")["mean"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:no term reads mode")
def test_variables_are_standardised_where_a_model_is_chosen():
    """And nowhere else; nine values choose no more than an offset, in no time."""
    few = ARRAY.isel(time=slice(0, 3), site=slice(0, 1))
    chosen = pt.fit(few)
    assert chosen.likelihood.scale == chosen.likelihood.noise == ("variable",)
    assert "scale=('variable',)" in chosen.summary()
    written = [pt.fit(few, pt.Offset()), pt.fit(few, likelihood=pt.Gaussian()), pt.fit(few.rename(variable="site_of"))]
    numbered = pt.fit(few.assign_coords(variable=[1.0, 2.0, 3.0]))
    single = pt.fit(few.isel(time=slice(0, 1)))
    for other in (*written, numbered, single):
        assert other.likelihood.scale == other.likelihood.noise == ()


def test_units_are_told():
    """Of numbers of the model, which are relative to a level's scale, none; of centres and scales the data's."""
    data = GAPS.assign_attrs(units="K")
    post = pt.fit(data, MODEL, likelihood=EACH, engine=QUICK)
    table = post.hyperparameters()
    assert set(table.query("term == 'scale'")["unit"]) == {"K"}
    assert not table.query("term == 'noise' or name == 'variance'")["unit"].any()
    assert "of the scale of its level" in " ".join(post.summary().split())
    assert post.predict(data)["sd"].attrs["units"] == "K"
    log = pt.fit(data, MODEL, likelihood=pt.Gaussian(transform="log"), engine=QUICK)
    assert not log.hyperparameters().query("term == 'noise'")["unit"].any()
    assert f"sd {log.noise_sd:.4g}\n" in log.summary()


@pytest.mark.slow
def test_ranks_are_chosen_on_the_standardised_scale():
    """The shared function is one component, whatever the units."""
    post = pt.fit(GAPS, pt.Offset("variable") + pt.CP("auto"), likelihood=EACH)
    assert post.model.terms[1].rank == 1


@pytest.mark.slow
def test_a_model_chosen_for_several_variables_fills_well():
    chosen = pt.fit(GAPS)
    assert chosen.likelihood.scale == ("variable",)
    for name, noise in zip(NAMES, NOISES, strict=True):
        found = chosen.score(ARRAY.where(HIDDEN).sel(variable=[name]))
        assert found["rmse"] < 2 * noise and found["coverage90"] > 0.7


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:no term reads mode")
def test_a_local_term_goes_with_one_noise_level():
    local = pt.Offset("variable") + pt.Local(pt.Matern(1 / 2).on("time"))
    with pytest.raises(pt.ModelError, match="plain normal noise"):
        pt.fit(GAPS, local, likelihood=EACH)
    data = GAPS.isel(site=slice(0, 2))
    centre, size = by_hand(data)
    one = pt.fit(data, local, likelihood=pt.Gaussian(scale="variable"))
    two = pt.fit((data - centre) / size, local)
    at = {"time": data["time"][:3], "site": ["c"], "variable": NAMES}
    first, second = one.predict(at), two.predict(at)
    assert_like(first["mean"], second["mean"] * size + centre, 1e-6)
    assert_like(first["sd"], second["sd"] * size, 1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "tolerance"),
    [
        (pt.SVI(batch_size=200, steps=150), 0.3),
        (pt.NUTS(samples=60, warmup=60, chains=1), 0.3),
        (pt.Gibbs(samples=60, warmup=60, chains=1), 0.3),
    ],
    ids=["svi", "nuts", "gibbs"],
)
@pytest.mark.filterwarnings("ignore::probtensor.errors.ProbtensorWarning")
def test_other_engines_agree(post, engine, tolerance):
    other = pt.fit(GAPS, MODEL, likelihood=EACH, engine=engine)
    found, expected = other.impute(), post.impute()
    assert_like(found["value"], expected["value"], tolerance)
    ratio = (found["value_sd"] / expected["value_sd"]).where(HIDDEN)
    assert 0.6 < float(ratio.min()) and float(ratio.max()) < 1.7


@pytest.mark.slow
def test_calibration_is_in_each_unit(post):
    found = post.calibrate()
    wider = (found.impute()["value_sd"] / post.impute()["value_sd"]).where(HIDDEN)
    assert float(wider.max() - wider.min()) < 1e-9


@pytest.mark.slow
def test_the_numpyro_model_is_of_standardised_values():
    import jax
    import numpyro

    centre, size = by_hand(GAPS)
    with jax.enable_x64(True):
        one = pt.interop.numpyro.to_numpyro(MODEL, GAPS, EACH)
        two = pt.interop.numpyro.to_numpyro(MODEL, (GAPS - centre) / size, pt.Gaussian(noise="variable"))
        found = [numpyro.infer.util.log_density(numpyro.handlers.seed(m, 0), (), {}, {})[0] for m in (one, two)]
    assert float(found[0]) == pytest.approx(float(found[1]), rel=1e-9)
