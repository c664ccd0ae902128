"""NUTS against closed forms, and the density it samples against SciPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from scipy import stats

import probtensor as pt
from probtensor.compilation import compiled
from probtensor.engines import diagnostics
from tests.engines.nuts.problems import joint_of, matern32

NOISE, LENGTHSCALE = 0.3, 0.4
X = np.array([0.0, 0.1, 0.15, 0.3, 0.5, 0.55, 0.8, 0.9, 1.0])
#: Levels of the data in another order, one of which is not observed, and coordinates that they do not have.
AT = np.array([0.9, 0.0, 0.3, 0.5, 0.05, 0.7, 1.3])
GP = pt.CP(1, modes={"x": pt.Markov(pt.Matern(3 / 2, lengthscale=pt.fixed(LENGTHSCALE), variance=pt.fixed(1.0)))})
WEIGHTS = np.array([1.0, 2.0, 1.0, 1.0, 0.0, 1.0, 0.5, 1.0, 1.0])


def line():
    values = np.sin(5 * X) + NOISE * np.random.default_rng(0).normal(size=len(X))
    return xr.DataArray(np.where(WEIGHTS > 0, values, 1e30), {"x": X}, ["x"], name="y")


@functools.cache
def fitted():
    engine = pt.NUTS(samples=1500, warmup=300, chains=2)
    return pt.fit(line(), GP, likelihood=pt.Gaussian(sd=pt.fixed(NOISE)), engine=engine, weights=WEIGHTS)


def closed_form(at):
    seen = WEIGHTS > 0
    x, y, noise = X[seen], line().values[seen], NOISE**2 / WEIGHTS[seen]

    def k(a, b):
        return matern32(np.abs(a[:, None] - b), LENGTHSCALE)

    gain = np.linalg.solve(k(x, x) + np.diag(noise), k(x, at)).T
    return gain @ y, np.sqrt(1.0 - np.sum(gain * k(at, x), axis=1))


@pytest.mark.slow
def test_gaussian_process_regression():
    found = fitted().predict({"x": AT})
    mean, sd = closed_form(AT)
    assert np.max(np.abs(found["mean"] - mean) / sd) < 0.15
    np.testing.assert_allclose(found["signal_sd"], sd, rtol=0.1)
    np.testing.assert_allclose(found["sd"] ** 2, found["signal_sd"] ** 2 + NOISE**2, rtol=1e-9)


@pytest.mark.slow
def test_the_same_answers_everywhere():
    post = fitted()
    mean, sd = closed_form(X)
    factors = post.factors(gauge="raw")
    sign = np.sign(np.sum(factors["x_mean"].values[0] * mean))
    assert np.max(np.abs(sign * factors["x_mean"].values[0] - mean) / sd) < 0.15
    np.testing.assert_allclose(factors["x_sd"].values[0], sd, rtol=0.1)
    filled = post.impute()
    np.testing.assert_allclose(filled["y"][4], mean[4], atol=0.15 * sd[4])
    draws = post.sample(800, at={"x": AT})
    np.testing.assert_allclose(draws.mean("sample"), closed_form(AT)[0], atol=0.2)
    few = post.sample(4, seed=1)
    assert few.shape == (4, len(X))
    assert len(np.unique(few.values[:, 0])) == 4
    scores = post.score(pt.points({"x": [0.05, 0.7]}, [0.2, -0.4]))
    assert np.isfinite(list(scores.values())).all()


def test_summary_and_objective():
    post = fitted()
    said = " ".join(post.summary().split())
    assert "r-hat 1.0" in said
    assert "0 divergent" in said
    assert "3000 draws" in post.summary()
    assert post.objective.attrs["long_name"] == "log density of the draws"
    assert post.objective.shape == (3000,)
    assert post._result.converged


def panel():
    data = xr.DataArray(
        np.random.default_rng(1).normal(size=(5, 3)), {"a": np.arange(5.0), "b": list("xyz")}, ["a", "b"]
    )
    return data.where(np.arange(15).reshape(5, 3) != 7)


LEARNED = pt.Offset(over="b") + pt.CP(2, modes={"a": pt.Markov(pt.Matern(3 / 2)), "b": None})


def test_log_density_is_that_of_the_declared_model():
    """Everything learned, one hyper-parameter with a prior of its own; the Jacobian of logarithms included."""
    from numpyro.distributions import Uniform

    data = panel()
    weights = np.where(np.arange(15).reshape(5, 3) == 3, 2.0, 1.0)
    likelihood = pt.StudentT(df=Uniform(3.0, 9.0))
    whole = joint_of(data, LEARNED, likelihood=likelihood, weights=weights)
    with jax.enable_x64(True):
        z = _anywhere(whole)
        (potential, slope), drawn = _at(whole, z)
    assert all(np.isfinite(one).all() for one in jax.tree.leaves(slope))
    expected = 0.0
    for name, own in z.items():
        value = np.asarray(own)
        if name.startswith("white"):
            expected += stats.norm.logpdf(value).sum()
        elif name.startswith("mean"):
            prior = whole.model.terms[0].table.prior
            sd = 5 * float(np.sqrt(prior.variance.value[0]))
            expected += stats.norm.logpdf(value, np.asarray(prior.mean), sd).sum()
        elif name.endswith(".df"):
            share = 1 / (1 + np.exp(-value))
            expected += np.sum(np.log(6.0 * share * (1 - share) / 6.0))
        else:
            owner = dict(_parameters(whole.model))[name]
            expected += stats.norm.logpdf(value, np.asarray(owner.centre), 2.0).sum()
    likelihood = drawn.model.likelihood
    df, scale = float(likelihood.df.value[0]), float(likelihood.scale.value[0])
    assert 3 < df < 9
    logs = stats.t.logpdf(data.transpose("a", "b").values, df, np.asarray(drawn.signal), scale)
    expected += np.nansum(np.where(np.isnan(data.values), 0.0, weights * logs))
    np.testing.assert_allclose(-float(potential), expected, rtol=1e-9)


@compiled
def _at(whole, z):
    """Potential with its gradient, and what is drawn."""
    return jax.value_and_grad(lambda z: whole.potential(z))(z), whole.drawn(z)


def _anywhere(whole, seed=0):
    """Some place on the whole real line, near the start."""
    from numpyro.handlers import seed as seeded
    from numpyro.handlers import trace

    found = trace(seeded(whole, seed)).get_trace()
    sites = {n: s["value"] for n, s in found.items() if s["type"] == "sample" and not s["is_observed"]}
    return whole.unconstrained(sites)


def _parameters(model):
    from probtensor.hyperparameters import is_parameter

    for path, node in jax.tree_util.tree_leaves_with_path(model, is_leaf=is_parameter):
        if is_parameter(node):
            yield jax.tree_util.keystr(path).lstrip("."), node


@pytest.mark.slow
def test_levels_of_noise_have_the_likelihoods_own_prior():
    whole = joint_of(panel(), pt.CP(1), likelihood=pt.Gaussian(noise="b"))
    with jax.enable_x64(True):
        z = _anywhere(whole)
        moved = z | {"likelihood.own": z["likelihood.own"] + jnp.asarray([0.2, -0.1, 0.3])}
        ((before, _), one), ((after, _), other) = _at(whole, z), _at(whole, moved)

        def density(drawn):
            noise = np.asarray(drawn.model.likelihood.own.value)
            ratio = np.asarray(drawn.model.likelihood.variance) / noise**2
            logs = stats.norm.logpdf(panel().values, np.asarray(drawn.signal), noise)
            return np.nansum(logs) + np.sum(2 * np.log(ratio) - 2 * ratio)

        np.testing.assert_allclose(before - after, density(other) - density(one), rtol=1e-8)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:NUTS. .* transitions diverged")
def test_everything_learned():
    """Close to message passing where both are good; offsets, components and noise are all sampled."""
    generator = np.random.default_rng(2)
    x = np.linspace(0, 1, 12)
    truth = 3 + np.sin(5 * x)[:, None] * np.array([1.0, -0.7, 0.4, 1.5])
    data = xr.DataArray(truth + 0.1 * generator.normal(size=truth.shape), {"a": x, "b": list("wxyz")}, ["a", "b"])
    hidden = generator.random(truth.shape) < 0.2
    model = pt.Offset() + pt.CP(1)
    post = pt.fit(
        data.where(~hidden), model, engine=pt.NUTS(samples=400, warmup=500, target_accept=0.95, max_tree_depth=9)
    )
    passed = pt.fit(data.where(~hidden), model)
    found, other = (p.predict(data).transpose("a", "b") for p in (post, passed))
    assert np.sqrt(np.mean((found["mean"].values - truth)[hidden] ** 2)) < 0.15
    assert np.mean(np.abs(found["mean"] - other["mean"]) / found["signal_sd"]) < 0.5
    assert 0.07 < post.noise_sd < 0.16
    assert post.hyperparameters().query("name == 'lengthscale'")["value"].between(0.05, 20).all()


def test_chains_that_differ_are_warned_of():
    generator = np.random.default_rng(0)
    followed = generator.normal(size=(2, 200, 3))
    no, one = np.zeros((2, 200), bool), np.zeros((2, 200), bool)
    one[0, 3] = True
    good = diagnostics.diagnose(followed, no, no)
    assert good.converged
    assert good.effective > 150
    diagnostics.warn_of("NUTS", good)
    apart = diagnostics.diagnose(followed + np.array([0.0, 2.0])[:, None, None], no, no)
    with pytest.warns(pt.ProbtensorWarning, match="r-hat is"):
        diagnostics.warn_of("NUTS", apart)
    with pytest.warns(pt.ProbtensorWarning, match="1 of 400 transitions diverged"):
        diagnostics.warn_of("NUTS", diagnostics.diagnose(followed, one, no))
    stuck = diagnostics.diagnose(np.broadcast_to(np.array([0.0, 1.0])[:, None, None], (2, 50, 1)), no[:, :50], no)
    assert not stuck.converged


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: pt.NUTS(samples=3), "samples must be a whole number from 4"),
        (lambda: pt.NUTS(warmup=0), "warmup must be"),
        (lambda: pt.NUTS(chains=1.5), "chains must be"),
        (lambda: pt.NUTS(target_accept=1.0), "target_accept must be above 0 and below 1"),
        (lambda: pt.NUTS(max_tree_depth=0), "max_tree_depth must be"),
        (lambda: pt.fit(line(), pt.CP(1, modes={"x": pt.Matern(3 / 2, lengthscale=_below())}), engine=pt.NUTS()), "-1"),
    ],
)
def test_bad_input(make, match):
    with pytest.raises(pt.ModelError, match=match):
        make()


def _below():
    from numpyro.distributions import Uniform

    return Uniform(-1.0, 2.0)


@pytest.mark.parametrize("stuck", [np.nan, 1.0, np.inf])
def test_chains_that_do_not_move_have_not_converged(stuck):
    followed = np.random.default_rng(0).normal(size=(2, 50, 3))
    followed[..., 1] = stuck
    found = diagnostics.diagnose(followed)
    assert not found.converged
    assert "r-hat inf, at least 0 effective" in str(found)
    assert diagnostics.diagnose(np.ones((2, 50, 1))).converged
