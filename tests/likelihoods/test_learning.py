"""What likelihoods learn, against searches and against the truth of simulated data; the bound of the Student-t."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, stats

import probtensor as pt
from probtensor.axes import Axis
from probtensor.compilation import compiled
from probtensor.hyperparameters import fixed
from probtensor.likelihoods.base import Moments
from probtensor.observations.domain import domain, observations
from tests.helpers import DTYPE, assert_close
from tests.likelihoods.cases import AXES, BELIEFS, CASES, REAL, made, moments
from tests.oracles import likelihoods as oracle

BELIEF = pytest.mark.parametrize("belief", BELIEFS)
WIDE = DTYPE == np.float64
MANY = 4000


def sized(values, known=None, weights=None):
    """Observations on as many levels as there are values."""
    T = len(values)
    where = domain({"x": np.arange(T).astype(DTYPE)}, {})
    weights = np.ones(T, DTYPE) if weights is None else weights
    return observations(where, values.astype(DTYPE), weights, known)


def certain(mean, variance=0.0):
    mean = jnp.asarray(mean, DTYPE)
    return Moments(mean, jnp.full(mean.shape, variance, DTYPE), jnp.asarray(variance * mean.size, DTYPE))


@compiled
def learned(bound, where, belief, n):
    arrays, static = eqx.partition(bound, eqx.is_array)

    def one(_, carried):
        return eqx.filter(eqx.combine(carried, static).learn(where, belief), eqx.is_array)

    return eqx.combine(jax.lax.fori_loop(0, n, one, arrays), static)


@BELIEF
def test_normal_noise_is_at_its_optimum_at_once(belief):
    mean, variance = BELIEFS[belief]
    weights = np.array([1.0, 0.0, 3.0, 0.5, 1.0, 1.0])
    found = CASES["gaussian"].bind().learn(made(CASES["gaussian"], REAL, weights), moments(mean, variance, weights))
    squares = weights * ((REAL - mean) ** 2 + variance)
    assert_close(found.variance, squares[weights > 0].mean(), factor=100)


@BELIEF
def test_noise_of_levels_is_the_most_probable(belief):
    """The limit of learning, against a search; four levels of several entries."""
    rng = np.random.default_rng(0)
    counts, mean, variance = np.array([1, 3, 8, 12]), BELIEFS[belief][0][0], BELIEFS[belief][1]
    group = np.repeat(np.arange(4), counts)
    values = mean + np.array([0.3, 1.0, 2.0, 0.5])[group] * rng.normal(size=counts.sum())
    where = observations(
        domain({"x": np.arange(4.0).astype(DTYPE)}, {}, group[:, None]),
        values.astype(DTYPE),
        np.ones(len(group), DTYPE),
    )
    bound = pt.Gaussian(noise="x").bind({"x": Axis("x", "numeric", np.arange(4.0))}, 1.0)
    found = learned(bound, where, certain(np.full(len(group), mean), variance), 400)
    squares = np.bincount(group, (values - mean) ** 2 + variance)
    exact = oracle.noise_of_levels(squares, counts, 4.0)
    np.testing.assert_allclose(found.own.value**2, exact[:-1], rtol=1e-3)
    np.testing.assert_allclose(found.variance, exact[-1], rtol=1e-3)


@BELIEF
def test_noise_beside_known_errors_is_the_most_likely(belief):
    mean, variance = BELIEFS[belief]
    errors, weights = np.array([0.0, 0.1, 0.5, 1.0, 2.0, 0.3]), np.array([1.0, 2.0, 0.5, 1.0, 1.0, 3.0])
    case = CASES["gaussian, errors"]
    where = made(case, REAL, weights)
    found = learned(case.bind(), where, moments(mean, variance, weights), 3000)
    misfit = (REAL - mean) ** 2 + variance

    def lost(log_sd):
        noise = np.exp(2 * log_sd) / weights + errors**2
        return np.sum(np.log(noise) + misfit / noise)

    grid = np.linspace(-9, 3, 2001)
    best = grid[np.argmin([lost(x) for x in grid])]
    exact = optimize.minimize_scalar(lost, bounds=(best - 0.02, best + 0.02), method="bounded").x
    assert lost(np.log(float(found.sd.value[0]))) <= lost(exact) + 1e-3


def test_noise_is_not_learned_below_its_floor():
    for declared in (pt.Gaussian(), pt.StudentT(), pt.Gaussian(noise="x")):
        bound = declared.bind(AXES, 4.0)
        found = learned(bound, sized(REAL), certain(REAL), 200)
        for parameter in found.parameters().values():
            assert np.isfinite(parameter.value).all()
        assert float(next(iter(found.parameters().values())).value[0]) >= 2e-4 * (1 - 1e-5)


@BELIEF
def test_the_bound_of_student_t(belief):
    """The integral over the latent precision at the best belief about it: below the expectation, exact when certain."""
    mean, variance = BELIEFS[belief]
    case = CASES["student t"]
    found = float(case.bind().expected_log_likelihood(case.observations(), moments(mean, variance)))
    bound = sum(oracle.student_t_bound(y, m, variance, 0.6, 4.0) for y, m in zip(REAL, mean, strict=True))
    assert found == pytest.approx(bound, rel=1e-5)
    exact = sum(oracle.expected_log(case.law_at(k), REAL[k], mean[k], variance) for k in range(len(REAL)))
    assert found <= exact + 1e-4
    tight = float(case.bind().expected_log_likelihood(case.observations(), moments(mean, 0.0)))
    assert tight == pytest.approx(float(np.sum(stats.t.logpdf(REAL, 4.0, mean, 0.6))), rel=1e-5)


@pytest.mark.skipif(not WIDE, reason="differences")
@BELIEF
def test_pseudo_observations_of_student_t_are_the_derivatives_of_its_bound(belief):
    mean, variance = BELIEFS[belief]
    case, h = CASES["student t"], 1e-6
    where, bound = case.observations(), case.bind()
    target, precision = bound.pseudo(where, moments(mean, variance))

    def at(m, v):
        return float(bound.expected_log_likelihood(where, moments(m, v)))

    for k in range(len(REAL)):
        one = np.eye(len(REAL))[k]
        by_mean = (at(mean + h * one, variance) - at(mean - h * one, variance)) / (2 * h)
        spread = np.full(len(REAL), variance)
        by_variance = (at(mean, spread * (1 + 1e-4 * one)) - at(mean, spread * (1 - 1e-4 * one))) / (2e-4 * variance)
        assert float(precision[k]) == pytest.approx(-2 * by_variance, rel=1e-4)
        assert float(precision[k] * (target[k] - mean[k])) == pytest.approx(by_mean, rel=1e-4, abs=1e-5)
    again = bound.matched(where, moments(mean, variance))
    assert_close(again.precision, precision)


@pytest.mark.parametrize("df", [3.0, 10.0])
def test_degrees_of_freedom_and_scale_are_recovered(df):
    """From 4000 values whose signal is known: log df within 0.25 (some 3 standard errors), the scale within 8%."""
    values = 0.5 * np.random.default_rng(1).standard_t(df, MANY)
    bound = learned(pt.StudentT().bind({}, 1.0), sized(values), certain(np.zeros(MANY)), 300)
    exact = stats.t.fit(values, floc=0.0)
    assert float(bound.scale.value[0]) == pytest.approx(exact[2], rel=0.02)
    assert float(bound.df.value[0]) == pytest.approx(exact[0], rel=0.06)
    assert np.log(float(bound.df.value[0]) / df) == pytest.approx(0.0, abs=0.3)
    held = learned(pt.StudentT(fixed(7.0)).bind({}, 1.0), sized(values), certain(np.zeros(MANY)), 20)
    assert float(held.df.value[0]) == pytest.approx(7.0)


@pytest.mark.slow
@pytest.mark.parametrize("dispersion", [0.05, 2.0])
def test_dispersion_is_recovered(dispersion):
    rng = np.random.default_rng(2)
    f = rng.normal(2.0, 0.5, MANY)
    counts = rng.poisson(np.exp(f) * rng.gamma(1 / dispersion, dispersion, MANY)).astype(float)
    bound = learned(pt.NegativeBinomial().bind({}, 1.0), sized(counts), certain(f), 40)
    assert float(bound.dispersion.value[0]) == pytest.approx(dispersion, rel=0.15)


def test_a_start_outside_the_limits_stays_or_gains():
    bound = pt.StudentT(1000.0).bind(AXES, 4.0)
    where, belief = sized(REAL), certain(np.zeros(len(REAL)))
    before = bound.expected_log_likelihood(where, belief) + bound.log_prior()
    found = bound.learn(where, belief)
    assert float(found.expected_log_likelihood(where, belief) + found.log_prior()) >= float(before) - 1e-5


@pytest.mark.parametrize("declared", [pt.StudentT(), pt.Gaussian(noise="x"), pt.Gaussian()])
@pytest.mark.parametrize("variance", [0.0, np.nan, np.inf])
def test_data_without_scale_are_refused(declared, variance):
    with pytest.raises(pt.ModelError, match=f"{type(declared).__name__}: the scale of the data is"):
        declared.bind(AXES, variance)


def test_a_prior_for_the_scale_is_refused():
    import numpyro.distributions as dist

    with pytest.raises(pt.ModelError, match=r"StudentT\(scale=...\): a prior distribution"):
        pt.StudentT(scale=dist.LogNormal(0.0, 1.0)).bind(AXES, 1.0)


def test_outliers_are_drawn_in_before_defaults_are_chosen():
    values = np.array([0.0, 1.0, 2.0, 1.0, np.nan, 1e9])
    latent = pt.StudentT().latent(values, {})
    assert np.isnan(latent[4]) and latent[5] < 10 and (latent[:4] == values[:4]).all()
