"""The laws of every term that is a tensor network, for the test files of the terms."""

import jax
import jax.numpy as jnp
import numpy as np

from probtensor.compilation import compiled
from probtensor.engines.sweep import start, sweeps
from probtensor.likelihoods.gaussian import Gaussian
from probtensor.model import as_sum, bind
from probtensor.observations.domain import domain
from tests.helpers import DTYPE, assert_close
from tests.oracles import network as oracle
from tests.terms.problems import (
    AXES,
    SCALE,
    cells_of,
    data,
    everything,
    in_order,
    observed,
    points_of,
    random_beliefs,
    records,
)


def check_moments_and_sites(term, paths, layout, observed=observed, cells_of=cells_of):
    """All that a term says of random beliefs is what the loops over paths say.

    observed, cells_of: as in `problems`, where the modes are others.
    """
    values, weights = data()
    where = observed(layout, values, weights)
    beliefs, blocks = random_beliefs(term, where=where.domain)
    mean, variance, total, sites = everything(term, beliefs, where, where.values)
    cells = cells_of(term)
    assert_close(in_order(layout, mean), [oracle.mean(blocks, paths, c) for c in cells])
    assert_close(in_order(layout, variance), [oracle.variance(blocks, paths, c) for c in cells])
    assert_close(total, oracle.total_variance(blocks, paths, records(values, weights, cells)))
    for k in range(len(term.blocks)):
        eta, precision = oracle.sites(blocks, paths, records(values, weights, cells), k)
        assert_close(sites[k].eta, eta)
        assert_close(sites[k].precision, precision)


def check_sites_are_gradients(term):
    """The expected squares are quadratic in each block's belief, and the sites are its coefficients."""
    where = observed("grid", *data())
    beliefs, _ = random_beliefs(term)

    def half_squares(moments, k):
        changed = [*beliefs]
        changed[k] = beliefs[k]._replace(mean=moments[0], cov=moments[1])
        mean = term.mean(term.training_marginals(changed, where.domain), where.domain)
        squares = jnp.sum(where.weights * (where.values - mean) ** 2)
        return 0.5 * (squares + term.total_variance(changed, where))

    for k in range(len(term.blocks)):
        by_mean, by_cov = jax.jit(jax.grad(half_squares), static_argnums=1)((beliefs[k].mean, beliefs[k].cov), k)
        sites = term.sites(k, beliefs, where, where.values)
        slope = jnp.einsum("trs,ts->tr", sites.precision, beliefs[k].mean) - sites.eta
        assert_close(by_mean, slope)
        assert_close(0.5 * (by_cov + jnp.swapaxes(by_cov, 1, 2)), 0.5 * sites.precision)


def check_draws(term, paths):
    """20,000 draws of independent blocks; every cell within 5 standard errors: one false alarm in 10,000 seeds."""
    beliefs, blocks = random_beliefs(term, 3)
    rng, where, n, values = np.random.default_rng(3), domain(points_of(), {}), 20_000, []
    for m, S in blocks:
        roots = np.linalg.cholesky(S + 1e-12 * np.eye(m.shape[1]))
        values.append(jnp.asarray(m + np.einsum("trk,ntk->ntr", roots, rng.normal(size=(n, *m.shape))), DTYPE))
    f = np.asarray(jax.jit(jax.vmap(lambda *v: term.draw(v, where)))(*values), np.float64).reshape(n, -1)
    cells = cells_of(term)
    assert_close(f[7], [oracle.value([np.asarray(v[7], np.float64) for v in values], paths, c) for c in cells])
    exact = np.array([oracle.mean(blocks, paths, c) for c in cells])
    variance = np.array([oracle.variance(blocks, paths, c) for c in cells])
    assert np.all(np.abs(f.mean(0) - exact) <= 5 * np.sqrt(variance / n))
    spread = (f - exact) ** 2
    assert np.all(np.abs(spread.mean(0) - variance) <= 5 * spread.std(0) / np.sqrt(n))


def check_start(term):
    """Zero as a whole, random behind the first block, with proper covariances."""
    where = domain(points_of(), {})
    initial = compiled(term.initial)
    one, other = (initial(jax.random.key(k), where) for k in (0, 1))
    np.testing.assert_array_equal(term.mean(term.training_marginals(one, where), where), 0.0)
    for a, b in zip(one[1:], other[1:], strict=True):
        assert np.isfinite(a.mean).all() and not np.allclose(a.mean, b.mean)
        assert np.linalg.eigvalsh(np.asarray(a.cov, np.float64)).min() > 0


def fit(declared, where, learn, sd=None, seed=0, axes=AXES, scale=SCALE):
    """As many sweeps as learn is long; also the objective of each."""
    model = bind(as_sum(declared), axes, Gaussian(sd), scale)
    state = start(model, jnp.ones((), DTYPE), where, jax.random.key(seed))
    state, info = sweeps(state, where, jnp.asarray(learn))
    return state, np.asarray(info.elbo)


def check_objective_never_falls(declared, layout, learn):
    """Over 24 sweeps from three starts, up to rounding errors of its largest value."""
    where = observed(layout, *data())
    for seed in range(3):
        _, elbo = fit(declared, where, np.full(24, learn), seed=seed)
        assert np.isfinite(elbo).all()
        assert np.diff(elbo).min() >= -100 * np.finfo(DTYPE).eps * np.abs(elbo).max()
        assert elbo[-1] > elbo[0] + 1.0
