"""What every likelihood promises engines: expectations, pseudo-observations, learning."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probtensor.likelihoods.base import Moments
from tests.helpers import DTYPE, assert_close, mostly_slow
from tests.likelihoods.cases import BELIEFS, CASES, N, every, made, moments
from tests.oracles import likelihoods as oracle

WIDE = DTYPE == np.float64
EVERY = every(CASES)
BELIEF = pytest.mark.parametrize("belief", BELIEFS)
EXACT = [name for name, case in CASES.items() if not case.bound_only]


@BELIEF
@pytest.mark.parametrize("name", EXACT)
def test_expected_log_likelihood_is_the_integral(name, belief):
    """Exact, or by a quadrature whose error is below 1e-4 of the sum even for beliefs of sd 2."""
    case, (mean, variance) = CASES[name], BELIEFS[belief]
    found = case.bind().expected_log_likelihood(case.observations(), moments(mean, variance))
    values = case.declared.transformed(case.values)
    exact = [oracle.expected_log(case.law_at(k, True), values[k], mean[k], variance) for k in range(N)]
    assert float(found) == pytest.approx(sum(exact), rel=1e-4 if WIDE else 1e-3)


@BELIEF
@every(EXACT)
def test_pseudo_observations_are_the_derivatives_of_the_expectation(name, belief):
    """precision = -2 d/dv, precision (target - m) = d/dm."""
    case, (mean, variance) = CASES[name], BELIEFS[belief]
    found = case.bind().pseudo(case.observations(), moments(mean, variance))
    target, precision = (np.broadcast_to(x, (N,)) for x in found)
    values = case.declared.transformed(case.values)
    for k in range(N):
        first, by_variance = oracle.slopes(case.law_at(k, True), values[k], mean[k], variance)
        scale = max(1.0, abs(by_variance), abs(first))
        assert precision[k] == pytest.approx(-2 * by_variance, abs=2e-3 * scale)
        assert precision[k] * (target[k] - mean[k]) == pytest.approx(first, abs=2e-3 * scale)


@BELIEF
@every(EXACT)
def test_matched_pseudo_observations_give_cavity_times_likelihood_its_moments(name, belief):
    case, (mean, variance) = CASES[name], BELIEFS[belief]
    found = case.bind().matched(case.observations(), moments(mean, variance))
    target, precision = (np.broadcast_to(np.asarray(x, float), (N,)) for x in found)
    assert (precision > 0).all()
    values = case.declared.transformed(case.values)
    for k in range(N):
        centre, spread = oracle.tilted(case.law_at(k, True), values[k], mean[k], variance)
        own = 1 / (1 / variance + precision[k])
        assert own == pytest.approx(spread, rel=2e-2)
        assert own * (mean[k] / variance + precision[k] * target[k]) == pytest.approx(
            centre, abs=2e-2 * np.sqrt(spread)
        )


@pytest.mark.skipif(not WIDE, reason="as far as 32 bits go")
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("poisson", [0.0, 0.0, 1e6, 1e6, 0.0, 1e6]),
        ("negative binomial", [0.0, 0.0, 1e6, 1e6, 0.0, 1e6]),
        ("bernoulli", [0.0, 1.0, 0.0, 1.0, 0.0, 1.0]),
        ("binomial", [0.0, 1.0, 20.0, 0.0, 1000.0, 5.0]),
    ],
)
def test_matching_survives_cavities_far_from_the_data(name, values):
    """Sharp ones, wide ones, means at 15 and -15: moments of cavity times likelihood, whichever is the narrower."""
    case = CASES[name]
    values = np.asarray(values)
    for variance in (1e-4, 1.0, 25.0):
        mean = np.array([15.0, -15.0, -15.0, 15.0, 3.0, 3.0])
        cavity = moments(mean, variance)
        found = case.bind().matched(made(case, values), cavity)
        assert np.isfinite(np.asarray(found.target)).all() and (np.asarray(found.precision) > 0).all()
        for k in range(N):
            centre, spread = oracle.tilted(case.law_at(k, True), values[k], mean[k], variance)
            own = 1 / (1 / variance + float(found.precision[k]))
            assert own == pytest.approx(spread, rel=0.1)
            middle = own * (mean[k] / variance + float(found.precision[k] * found.target[k]))
            assert middle == pytest.approx(centre, abs=0.1 * np.sqrt(spread))


@EVERY
def test_weight_zero_is_not_seen_and_weight_two_is_twice(name):
    """Whatever stands at an entry of weight 0; an entry of weight 2 pulls like the same entry twice."""
    case = CASES[name]
    weights = np.array([1.0, 0.0, 1.0, 1.0, 0.0, 1.0])
    belief = moments(*BELIEFS["usual"], weights)
    for odd in (np.nan, 1e30, -3.5):
        garbage = np.where(weights > 0, case.values, odd)
        known = {k: np.where(weights > 0, v, odd) for k, v in case.known.items()}
        one, other = made(case, garbage, weights, known), case.observations(weights)
        for a, b in zip(
            jax.tree.leaves(_everything(case, one, belief)),
            jax.tree.leaves(_everything(case, other, belief)),
            strict=True,
        ):
            np.testing.assert_array_equal(a, b)
    # E[log p] of likelihoods other than normal is linear in weights; normal noise of weight w has variance sd^2 / w.
    if not name.startswith(("gaussian", "log", "sqrt")):
        bound, belief = case.bind(), moments(*BELIEFS["usual"])
        once, twice = (
            float(bound.expected_log_likelihood(case.observations(np.full(N, w)), belief)) for w in (1.0, 2.0)
        )
        assert twice == pytest.approx(2 * once, rel=1e-5)
    one, two = (_precision(case, np.full(N, w)) for w in (1.0, 2.0))
    if name != "gaussian, errors":
        assert_close(two, 2 * one)


def _precision(case, weights):
    found = case.bind().pseudo(case.observations(weights), moments(*BELIEFS["usual"], weights))
    return np.broadcast_to(weights * np.asarray(found.precision), (N,))


def _everything(case, where, belief):
    bound = case.bind()
    learned = bound.learn(where, belief)
    return (
        [np.where(np.asarray(where.weights) > 0, x, 0) for x in (*bound.pseudo(where, belief), *bound.start(where))],
        bound.expected_log_likelihood(where, belief),
        learned.expected_log_likelihood(where, belief),
        learned.log_prior(),
    )


@EVERY
@pytest.mark.parametrize("belief", mostly_slow(BELIEFS))
def test_learning_never_loses(name, belief):
    case = CASES[name]
    for weights in (np.ones(N), np.array([1.0, 0.0, 3.0, 0.5, 1.0, 1.0]), np.zeros(N)):
        where, now = case.observations(weights), moments(*BELIEFS[belief], weights)
        bound = case.bind()
        before = float(bound.expected_log_likelihood(where, now) + bound.log_prior())
        for _ in range(4):
            bound = bound.learn(where, now)
            after = float(bound.expected_log_likelihood(where, now) + bound.log_prior())
            assert np.isfinite(after)
            assert after >= before - 1e-12 * abs(before) * (1 if WIDE else 1e7)
            before = after
        for parameter in bound.parameters().values():
            assert np.isfinite(np.asarray(parameter.value)).all()


@pytest.mark.parametrize("name", ["gaussian, held", "negative binomial, exposure"])
def test_held_numbers_stay(name):
    case = CASES[name]
    bound = case.bind()
    learned = bound.learn(case.observations(), moments(*BELIEFS["usual"]))
    for one, other in zip(jax.tree.leaves(bound), jax.tree.leaves(learned), strict=True):
        np.testing.assert_array_equal(one, other)


@EVERY
def test_numbers_follow_the_dtype_of_the_data(name):
    case = CASES[name]
    bound = jax.tree.map(lambda x: x.astype(DTYPE) if hasattr(x, "dtype") and x.dtype.kind == "f" else x, case.bind())
    where, belief = case.observations(), moments(*BELIEFS["usual"])
    for found in (*bound.pseudo(where, belief), *bound.matched(where, belief), *bound.start(where)):
        assert found.dtype == DTYPE and np.isfinite(np.asarray(found)).all()


@EVERY
def test_values_that_it_gives_are_not_refused(name):
    case = CASES[name]
    known = {k: np.broadcast_to(v, (N,)) for k, v in case.known.items()}
    values = np.where(np.arange(N) == 2, np.nan, case.values)
    assert not any(found.where.any() for found in case.declared.objections(values, known))
    latent = case.declared.latent(values, known)
    assert np.isnan(latent[2]) and np.isfinite(np.delete(latent, 2)).all()


def test_only_the_mean_is_read_where_variances_are_given_summed():
    case = CASES["gaussian"]
    where, belief = case.observations(), moments(*BELIEFS["usual"])
    assert not case.bind().by_entry(where)
    summed = Moments(belief.mean, None, belief.total_variance)
    by_entry = CASES["gaussian, levels"].bind()
    assert by_entry.by_entry(where)
    assert_close(case.bind().expected_log_likelihood(where, summed), by_entry.expected_log_likelihood(where, belief))
    assert jnp.ndim(case.bind().pseudo(where, summed).precision) == 0
