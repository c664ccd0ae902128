"""The sweep against exact answers: closed-form regression, the bound from scratch, and what must not matter."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from probtensor.axes import Axis
from probtensor.engines.sweep import start, sweeps
from probtensor.errors import ModelError
from probtensor.hyperparameters import fixed, log_prior, parameters
from probtensor.kernels.matern import Matern
from probtensor.likelihoods.gaussian import Gaussian
from probtensor.model import as_sum, bind
from probtensor.observations.domain import domain, observations
from probtensor.priors.categorical import Categorical
from probtensor.priors.markov import Markov
from probtensor.terms.base import DataScale
from probtensor.terms.cp import CP
from probtensor.terms.offset import Offset
from tests.helpers import DTYPE, assert_close, mostly_slow, tolerance
from tests.oracles import cp as cp_oracle
from tests.oracles import gaussian_process as oracle
from tests.terms.problems import AXES, CELLS, LAYOUTS, SIZES, cells_of, data, in_order, observed, points_of

SCALE = DataScale(1.0, 2.0)
SD = 0.3
N = 6
HELD, LEARNED = np.zeros(N, bool), np.ones(N, bool)
RANK = 2
#: The model of most tests: a table around a learned mean plus a CP of two functions and one set of exchangeable levels.
MODEL = Offset("site") + CP(RANK)
#: The same with levels that share a part.
SHARED = Offset("site") + CP(RANK, {"site": Categorical("learned"), ...: None})
ONE_MODE = Axis("x", "numeric", np.array([0.0, 0.3, 1.0, 1.1, 2.0, 4.0, 4.5, 9.0]))


def fit(where, model=MODEL, axes=AXES, learn=HELD, sd=fixed(SD), scale=SCALE, seed=0, power=1.0):
    """N sweeps from a start that depends on the seed alone; also the information of each sweep."""
    bound = bind(as_sum(model), axes, Gaussian(sd), scale)
    state = start(bound, jnp.asarray(power, DTYPE), where, jax.random.key(seed))
    return sweeps(state, where, jnp.asarray(learn))


def assert_same_beliefs(one, other, factor=1.0):
    for a, b in zip(jax.tree.leaves(one.beliefs), jax.tree.leaves(other.beliefs), strict=True):
        assert_close(a, b, factor)


def moments(state, layout, where):
    """Mean and variance of the signal in every cell, by the terms."""
    mean = variance = 0.0
    for term, beliefs in zip(state.model.terms, state.beliefs, strict=True):
        marginals = term.training_marginals(beliefs, where.domain)
        mean = mean + in_order(layout, jnp.broadcast_to(term.mean(marginals, where.domain), where.values.shape))
        variance = variance + in_order(layout, term.variance(marginals, where.domain))
    return mean, variance


@pytest.mark.parametrize("shift", [0.0, 300.0])
@pytest.mark.parametrize(
    ("model", "learn", "sd"),
    [
        pytest.param(MODEL, HELD, fixed(SD), id="held", marks=pytest.mark.slow),
        pytest.param(MODEL, LEARNED, None, id="learned"),
        pytest.param(SHARED, LEARNED, None, id="learned, shared part", marks=pytest.mark.slow),
    ],
)
def test_objective_never_falls(model, learn, sd, shift):
    """Over 24 sweeps from three starts, up to rounding errors of its largest value, near zero or far from it."""
    values, weights = data()
    where, scale = observed("grid", values + shift, weights), SCALE._replace(mean=SCALE.mean + shift)
    for seed in range(3):
        state, info = fit(where, model, learn=learn, sd=sd, seed=seed, scale=scale)
        elbo = [info.elbo]
        for _ in range(3):
            state, info = sweeps(state, where, jnp.asarray(learn))
            elbo.append(info.elbo)
        elbo = np.concatenate(elbo)
        assert np.isfinite(elbo).all()
        assert np.diff(elbo).min() >= -100 * np.finfo(DTYPE).eps * np.abs(elbo).max()
        assert elbo[-1] > elbo[0]


@pytest.mark.parametrize(
    ("layout", "model"),
    [("grid", MODEL), *(pytest.param(*own, marks=pytest.mark.slow) for own in (("points", MODEL), ("grid", SHARED)))],
)
def test_objective_is_the_bound_from_scratch(layout, model):
    """Each block's q is its dense prior times its sites; divergences by dense Gaussians, likelihood by a loop."""
    values, weights = data()
    where = observed(layout, values, weights)
    state, info = fit(where, model)
    blocks = []
    for term, beliefs in zip(state.model.terms, state.beliefs, strict=True):
        for block, belief in zip(term.blocks, beliefs, strict=True):
            mean, K = dense_prior(block, belief.mean.shape[1])
            exact = oracle.posterior(mean, K, *(np.asarray(s, np.float64) for s in belief.sites.about(None)[:2]))
            assert_close(belief.mean.ravel(), exact.mean, factor=10)
            blocks.append((exact.mean, exact.covariance, mean, K))
    table = state.beliefs[0][0]
    factors = [(np.asarray(b.mean, np.float64), np.asarray(b.cov, np.float64)) for b in state.beliefs[1]]
    entries = [
        (
            cp_oracle.mean(factors, own) + float(table.mean[cell[1], 0]),
            cp_oracle.variance(factors, own) + float(table.cov[cell[1], 0, 0]),
        )
        for cell, own in zip(CELLS, cells_of(state.model.terms[1]), strict=True)
    ]
    records = list(zip(CELLS, values, weights, strict=True))
    exact = cp_oracle.elbo(entries, records, SD**2, blocks) + float(log_prior(state.model))
    assert_close(info.elbo[-1], exact)
    mean, variance = moments(state, layout, where)
    assert_close(mean, [m for m, _ in entries])
    assert_close(variance, [v for _, v in entries])
    assert_close(state.model.likelihood.variance, SD**2)


def dense_prior(block, R):
    """Mean and covariance of a block's whole vector, by the oracle."""
    points, values = np.asarray(block.points, np.float64), [np.asarray(p.value, float) for p in parameters(block.prior)]
    d = oracle.distances(points)
    if isinstance(block.prior, Categorical):
        mean = 0.0 if block.prior.mean is None else float(block.prior.mean[0])
        shared = values[1] / (1 + values[1]) if block.prior.common is not None else np.zeros_like(values[0])
        levels = [v * (s + (1 - s) * np.eye(len(points))) for v, s in zip(values[0], shared, strict=True)]
        return np.full(len(points) * R, mean), oracle.stack(levels)
    assert isinstance(block.prior, Markov)
    lengthscales, variances = values
    return np.zeros(len(points) * R), oracle.stack(
        [oracle.matern(1.5, length, v, d) for length, v in zip(lengthscales, variances, strict=True)]
    )


@pytest.mark.parametrize("nu", mostly_slow([0.5, 2.5]))
def test_one_active_mode_is_gaussian_process_regression(nu):
    """In closed form, in one sweep: the posterior, and the objective is the log evidence."""
    rng = np.random.default_rng(0)
    axes = {"x": ONE_MODE, "member": Axis("member", "numeric", np.zeros(1))}
    index = np.stack([rng.integers(0, 8, 20), np.zeros(20, int)], axis=1)
    index[:, 0] = np.where(index[:, 0] == 5, 6, index[:, 0])
    y, w = rng.normal(size=20).astype(DTYPE).astype(float), rng.uniform(0.5, 2.0, 20).astype(DTYPE).astype(float)
    where = observations(domain(points_of(axes), {}, index), y, w)
    kernel = Matern(nu, lengthscale=fixed(1.5), variance=fixed(0.8))
    state, info = fit(where, CP(RANK, {"x": kernel, "member": None}), axes)
    K = RANK * oracle.matern(nu, 1.5, 0.8, oracle.distances(ONE_MODE.points))
    cross = K[:, index[:, 0]]
    noisy = K[np.ix_(index[:, 0], index[:, 0])] + np.diag(SD**2 / w)
    belief = state.beliefs[0][0]
    assert_close(belief.mean.sum(1), cross @ np.linalg.solve(noisy, y))
    assert_close(belief.cov.sum((1, 2)), np.diag(K - cross @ np.linalg.solve(noisy, cross.T)))
    assert_close(info.elbo, np.full(N, oracle.log_density(y, np.zeros(20), noisy)))


@pytest.mark.slow
def test_grid_and_points_are_one_fit():
    """Their sums run in another order: some rounding errors after six sweeps, hyper-parameters included."""
    values, weights = data()
    for learn, sd in ((HELD, fixed(SD)), (LEARNED, None)):
        (one, info), (other, info_points) = (fit(observed(x, values, weights), learn=learn, sd=sd) for x in LAYOUTS)
        assert_close(info_points.elbo, info.elbo)
        if DTYPE == np.float64:
            assert_same_beliefs(other, one)


def test_a_weight_is_a_number_of_repetitions():
    """The same beliefs; the evidence differs, since w measurements say more than their mean."""
    values, _ = data()
    counts = np.bincount(np.random.default_rng(3).integers(0, len(CELLS), len(CELLS)), minlength=len(CELLS))
    weighted = observations(domain(points_of(), {}, CELLS), values, counts.astype(float))
    repeated = np.repeat(np.arange(len(CELLS)), counts)
    listed = observations(domain(points_of(), {}, CELLS[repeated]), values[repeated], np.ones(len(repeated)))
    assert counts.min() == 0 and counts.max() >= 3
    one, other = fit(weighted)[0], fit(listed)[0]
    assert_same_beliefs(one, other, factor=1.0 if DTYPE == np.float64 else 10.0)


@pytest.mark.slow
def test_weight_zero_is_absence():
    values, weights = data()
    values[weights == 0] = np.nan
    seen = weights > 0
    listed = observations(domain(points_of(), {}, CELLS), values, weights)
    absent = observations(domain(points_of(), {}, CELLS[seen]), values[seen], weights[seen])
    (one, info), (other, info_absent) = (fit(x, learn=LEARNED, sd=None) for x in (listed, absent))
    assert_close(info.elbo, info_absent.elbo)
    if DTYPE == np.float64:
        assert_same_beliefs(one, other)


def test_a_power_of_the_likelihood_is_a_larger_noise():
    """The beliefs are those of noise variance / power; the objective differs by the normalisation of the noise."""
    values, weights = data()
    where, power = observed("grid", values, weights), 0.25
    one, info = fit(where, power=power)
    other, info_noisy = fit(where, sd=fixed(SD / np.sqrt(power)))
    assert_same_beliefs(one, other)
    half = 0.5 * np.log(2 * np.pi * SD**2 / weights[weights > 0])
    noisy = half - 0.5 * np.log(power)
    assert_close(info.elbo + power * half.sum(), info_noisy.elbo + noisy.sum())


@pytest.mark.parametrize("shift", [-40.0, 1000.0])
def test_a_constant_added_to_the_data_is_added_to_the_offset(shift):
    """Data far from zero cost digits in proportion: the bound's is first order in their rounding errors over sd."""
    values, weights = data()
    one, info = fit(observed("grid", values, weights))
    other, info_shifted = fit(observed("grid", values + shift, weights), scale=SCALE._replace(mean=SCALE.mean + shift))
    assert_close(other.beliefs[0][0].mean - shift, one.beliefs[0][0].mean, factor=abs(shift) / 10)
    for a, b in zip(other.beliefs[1], one.beliefs[1], strict=True):
        assert_close(a.mean, b.mean, factor=abs(shift) / 10)
    lost = np.finfo(DTYPE).eps * len(values) * abs(shift) / SD
    np.testing.assert_allclose(info_shifted.elbo, info.elbo, rtol=0, atol=lost + tolerance())


@pytest.mark.slow
def test_scaling_the_data_scales_the_fit():
    """Ten times the data, ten times the noise: the carrier ten times as large, the bound lower by N log 10."""
    values, weights = data()
    one, info = fit(observed("grid", values, weights), CP(RANK))
    scale = DataScale(10 * SCALE.mean, 100 * SCALE.variance)
    other, info_scaled = fit(observed("grid", 10 * values, weights), CP(RANK), sd=fixed(10 * SD), scale=scale)
    factors, scaled = (dict(zip(s.model.terms[0].names, s.beliefs[0], strict=True)) for s in (one, other))
    assert_close(scaled["time"].mean, 10 * factors["time"].mean)
    assert_close(scaled["lat"].mean, factors["lat"].mean)
    count = np.sum(weights > 0)
    assert_close(info_scaled.elbo + count * np.log(10), info.elbo)


@pytest.mark.slow
def test_a_mode_of_size_one_changes_nothing():
    values, weights = data()
    one, info = fit(observed("grid", values, weights), CP(RANK))
    axes = {**AXES, "member": Axis("member", "numeric", np.array([17.0]))}
    wide = domain(points_of(axes), {})
    shape = (*SIZES.values(), 1)
    other, info_wide = fit(observations(wide, values.reshape(shape), weights.reshape(shape)), CP(RANK), axes)
    assert_close(info_wide.elbo, info.elbo)
    assert_same_beliefs(other, one)


def test_learning_finds_the_noise_and_helps():
    """Noise of sd 0.3 is found within a factor of two on 60 cells, and learning beats not learning."""
    where = observed("grid", *data(missing=0.0))
    held = fit(where, learn=HELD, sd=fixed(3.0))
    state, info = fit(where, learn=LEARNED, sd=None)
    for _ in range(10):
        state, info = sweeps(state, where, jnp.asarray(LEARNED))
    assert info.elbo[-1] > held[1].elbo[-1]
    assert SD / 2 < float(np.sqrt(state.model.likelihood.variance)) < 2 * SD


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_one_observation_in_any_unit(unit):
    """Fitted exactly, down to the floor of the noise; its bound differs by the unit's logarithm alone."""
    values, _ = data()
    weights = np.zeros(len(CELLS))
    weights[17] = 1.0
    state, info = fit(
        observed("grid", unit * values, weights),
        Offset("site"),
        learn=LEARNED,
        sd=1e-3 * unit,
        scale=DataScale(unit, 2 * unit**2),
    )
    _, reference = fit(observed("grid", values, weights), Offset("site"), learn=LEARNED, sd=1e-3)
    assert_close(info.elbo + np.log(unit), reference.elbo)


@pytest.mark.parametrize("variance", [0.0, np.nan, np.inf])
def test_data_without_scale_are_refused(variance):
    with pytest.raises(ModelError, match="scale of the data is"):
        Gaussian().bind({}, variance)


def test_a_prior_for_the_noise_is_refused():
    with pytest.raises(ModelError, match="prior distribution for the noise is not available"):
        Gaussian(dist.LogNormal(0.0, 1.0)).bind({}, 1.0)


@pytest.mark.slow
def test_held_numbers_are_held():
    """fixed() survives learning; the noise too."""
    model = CP(RANK, {"time": Matern(0.5, lengthscale=fixed(2.0)), "site": None})
    state, _ = fit(observed("grid", *data()), model, learn=LEARNED)
    (cp,) = state.model.terms
    assert_close(cp.blocks[cp.names.index("time")].prior.kernel.lengthscale.value, [2.0, 2.0])
    assert_close(state.model.likelihood.variance, SD**2)
