"""What must hold for any data: drawn by hypothesis, always the same draws, on one set of shapes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probtensor.engines.sweep import start, sweeps
from probtensor.likelihoods.gaussian import Gaussian
from probtensor.model import as_sum, bind
from probtensor.observations.domain import domain, observations
from probtensor.terms.base import DataScale
from probtensor.terms.cp import CP
from probtensor.terms.offset import Offset
from tests.helpers import DTYPE, assert_close
from tests.priors.cases import CASES, random_points, random_sites, run
from tests.terms.problems import AXES, CELLS, SIZES, data, random_beliefs
from tests.terms.test_cp import everything

few = settings(max_examples=20, derandomize=True, deadline=None, database=None)
seeds = st.integers(0, 2**31)
SCALE = DataScale(1.0, 2.0)


@pytest.mark.slow
@few
@given(seed=seeds, order=st.permutations(range(3)), shuffle=st.permutations(range(len(CELLS))))
def test_order_of_modes_and_observations_is_irrelevant(seed, order, shuffle):
    """Sites and variance of a CP, where the data's modes come in another order and the entries in another."""
    values, weights = data(seed)
    names = list(SIZES)
    term = CP(2).bind(AXES, SCALE)
    beliefs, _ = random_beliefs(term, seed)
    points = {name: AXES[name].points for name in names}
    where = observations(domain(points, {}, CELLS), values, weights)
    mean, variance, total, sites = everything(term, beliefs, where, where.values)
    shuffle = np.array(shuffle)
    turned = {names[k]: points[names[k]] for k in order}
    index = CELLS[shuffle][:, list(order)]
    other = observations(domain(turned, {}, index), values[shuffle], weights[shuffle])
    mean_2, variance_2, total_2, sites_2 = everything(term, beliefs, other, other.values)
    assert_close(mean_2, mean[shuffle])
    assert_close(variance_2, variance[shuffle])
    assert_close(total_2, total)
    for a, b in zip(sites_2, sites, strict=True):
        assert_close(a.eta, b.eta)
        assert_close(a.precision, b.precision)


@few
@given(seed=seeds, missing=st.floats(0.0, 1.0))
def test_variances_and_site_precisions_are_not_negative(seed, missing):
    values, weights = data(seed, missing)
    term = CP(2).bind(AXES, SCALE)
    beliefs, _ = random_beliefs(term, seed)
    where = observations(domain({n: AXES[n].points for n in SIZES}, {}, CELLS), values, weights)
    _, variance, total, sites = everything(term, beliefs, where, where.values)
    assert np.min(variance) >= 0 and total >= 0
    for s in sites:
        eigenvalues = np.linalg.eigvalsh(np.asarray(s.precision, np.float64))
        assert eigenvalues.min() >= -100 * np.finfo(DTYPE).eps * max(1.0, eigenvalues.max())


@pytest.mark.parametrize("name", ["markov-matern32", "dense-matern32", "categorical", "categorical-learned"])
@few
@given(seed=seeds, log_scale=st.floats(-4.0, 4.0), kind=st.sampled_from(["full", "part", "rank one"]))
def test_data_never_add_variance(name, seed, log_scale, kind):
    """Whatever the weight of the sites, a posterior covariance lies between zero and the prior's; nothing is NaN.

    A singular precision is singular only up to its rounding, which is the slack where it is large.
    """
    points, (eta, precision) = random_points(7, seed % 1000), random_sites(7, kind, seed % 1000)
    scale = 10.0**log_scale
    prior = CASES[name].bind(seed % 1000)
    with_data = run(prior, points, (scale * eta, scale * precision))
    without = run(prior, points, (0 * eta, 0 * precision))
    assert all(np.isfinite(x).all() for x in [*with_data[:5], *with_data.gradient])
    for cov, limit in ((with_data.cov, without.cov), (with_data.new_cov, without.new_cov)):
        size = np.abs(limit).max()
        slack = 100 * np.finfo(DTYPE).eps * size * (1 + size * scale * np.abs(precision).max())
        assert np.linalg.eigvalsh(cov).min() >= -slack
        assert np.linalg.eigvalsh(limit - cov).min() >= -slack
    assert with_data.kl >= -1000 * np.finfo(DTYPE).eps * max(1.0, abs(with_data.log_normaliser))


def _hide(kind, level, rng):
    """Patterns of missing entries: none, all, all but one, whole levels, at random."""
    seen = np.ones(len(CELLS), bool)
    if kind == "all":
        seen[:] = False
    elif kind == "all but one":
        seen[:] = False
        seen[rng.integers(len(CELLS))] = True
    elif kind == "levels":
        for d in range(3):
            seen &= CELLS[:, d] != level % tuple(SIZES.values())[d]
    elif kind == "random":
        seen = rng.random(len(CELLS)) < 0.3
    return seen


@few
@given(
    seed=seeds,
    kind=st.sampled_from(["none", "all", "all but one", "levels", "random"]),
    level=st.integers(0, 59),
    log_unit=st.sampled_from([-6, 0, 6]),
)
def test_any_pattern_of_missing_entries_gives_finite_numbers(seed, kind, level, log_unit):
    """In any unit of the data, with everything learned; levels without data included."""
    rng = np.random.default_rng(seed)
    values, _ = data(seed)
    # One value is fitted exactly, down to the floor of the noise: its precision squared must not overflow in 32 bits.
    unit = 10.0 ** (log_unit if DTYPE == np.float64 else log_unit / 3)
    weights = _hide(kind, level, rng).astype(float)
    where = domain({n: AXES[n].points for n in SIZES}, {})
    shape = tuple(SIZES.values())
    where = observations(where, unit * values.reshape(shape), weights.reshape(shape))
    model = bind(as_sum(Offset("site") + CP(2)), AXES, Gaussian(), DataScale(unit, 2 * unit**2))
    state, info = sweeps(start(model, jnp.ones((), DTYPE), where, jax.random.key(seed % 100)), where, jnp.ones(6, bool))
    assert np.isfinite(info.elbo).all() and np.isfinite(state.model.likelihood.variance)
    for leaf in jax.tree.leaves((state.beliefs, state.model.terms)):
        assert np.isfinite(leaf).all()
