"""Conditionals and their density against the dense Gaussian."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from probtensor.engines.collapsed import local_learning
from probtensor.engines.collapsed.contrasts import contrasts
from probtensor.hyperparameters import Parameter, learned_mask
from probtensor.kernels.matern import Matern
from probtensor.nearest.conditionals import Entries, condition, covariances, gather, log_density
from probtensor.nearest.repeats import pool
from tests.helpers import mostly_slow
from tests.nearest.fields import WITH_ADAPTED, bind, dense, entries, noisy
from tests.oracles import gaussian_process as oracle

NOISE = 0.3
everything = pytest.mark.parametrize("name", mostly_slow(WITH_ADAPTED, "space"))


def all_before(number):
    target, earlier = np.arange(number)[:, None], np.arange(number - 1)[None]
    return np.where(earlier < target, earlier, -1)


@everything
def test_condition_on_all_before(name):
    kernel, data = bind(WITH_ADAPTED[name]), entries(25)
    found = condition(kernel, NOISE, data, data, all_before(25))
    K = noisy(kernel, NOISE, data)
    for n in range(25):
        weights = np.linalg.solve(K[:n, :n], K[:n, n])
        np.testing.assert_allclose(found.weights[n, :n], weights, rtol=0, atol=1e-8)
        np.testing.assert_allclose(found.variance[n], K[n, n] - weights @ K[:n, n], rtol=1e-8)
        assert (found.weights[n, n:] == 0).all()


@everything
def test_condition_away_from_the_data_gives_the_signal(name):
    """In more than one batch, and with neighbours missing anywhere in a row."""
    kernel, data = bind(WITH_ADAPTED[name]), entries(12)
    targets = Entries(entries(1300, seed=1).points, np.zeros(1300))
    rng = np.random.default_rng(2)
    index = np.stack([rng.permutation(12)[:6] for _ in range(1300)])
    index[rng.random(index.shape) < 0.3] = -1
    found = condition(kernel, NOISE, targets, data, index)
    K, cross = noisy(kernel, NOISE, data), dense(kernel, targets.points, data.points)

    def own(n):
        return dense(kernel, targets.points[n : n + 1], targets.points[n : n + 1])[0, 0]

    for n in (0, 5, 1023, 1024, 1299):
        live = index[n] >= 0
        some = index[n][live]
        weights = np.linalg.solve(K[np.ix_(some, some)], cross[n, some])
        np.testing.assert_allclose(found.weights[n][live], weights, rtol=0, atol=1e-8)
        np.testing.assert_allclose(found.variance[n], own(n) - weights @ cross[n, some], rtol=1e-8)


def test_repeated_places_without_noise_stay_finite():
    data = Entries(np.repeat(entries(5).points, 2, axis=0), np.zeros(10))
    found = condition(bind(WITH_ADAPTED["product"]), NOISE, data, data, all_before(10))
    assert np.isfinite(found.weights).all()
    assert (found.variance > 0).all()
    np.testing.assert_allclose(found.variance[1::2], 0, atol=1e-8)


@everything
def test_contrasts_of_all_have_the_dense_density(name):
    kernel, data = bind(WITH_ADAPTED[name]), entries(40)
    residual = np.random.default_rng(3).normal(size=40)
    found = contrasts(kernel, NOISE, pool(*data), 39)
    K = noisy(kernel, NOISE, data)
    np.testing.assert_allclose(found.log_density(residual), oracle.log_density(residual, 0.0, K), rtol=1e-8)
    A = found.A.toarray()
    np.testing.assert_allclose(A.T @ np.diag(1 / found.variance) @ A @ K, np.eye(40), rtol=0, atol=1e-7)


def learned(name):
    """A kernel whose numbers are all learned, and a noise sd."""
    time, space = Matern(1 / 2, lengthscale=3.0, variance=1.4).on("t"), Matern(3 / 2, lengthscale=4.0).on("x", "y")
    kernels = {"space": space, "product": time * space, "sum": time * space + Matern(1 / 2).on("y")}
    raw = jnp.log(jnp.asarray([np.sqrt(NOISE)]))
    return bind((kernels | {"adapted": time * space.adapted(degree=2)})[name]), Parameter(raw, raw)


def given(index, draws):
    """Entries with these neighbours: themselves, draws of their residuals, the neighbourhoods and what is in them."""
    data = entries(len(index))
    residuals = np.random.default_rng(4).normal(size=(draws, len(index)))
    return data, residuals, gather(data, data, index), residuals[:, index] * (index >= 0)


@everything
def test_log_density_of_all_is_dense_and_so_are_its_slopes(name):
    kernel, sd = learned(name)
    data, residuals, hood, near = given(all_before(20), 3)
    moving, held = eqx.partition((kernel, sd), learned_mask((kernel, sd)))
    flat, unravel = ravel_pytree(moving)

    def expected(vector):
        kernel, sd = eqx.combine(unravel(jnp.asarray(vector)), held)
        K = noisy(kernel, float(sd.value[0]) ** 2, data)
        return np.mean([oracle.log_density(r, 0.0, K) for r in residuals])

    found = covariances(kernel, hood)
    value, slopes = log_density(found, NOISE, hood, residuals, near)
    np.testing.assert_allclose(value, expected(flat), rtol=1e-8)
    # Without the hyper-parameters' own prior.
    _, gradient = local_learning._pull(moving, held, hood, slopes, jnp.zeros(()))
    by_differences = oracle.derivative(expected, np.asarray(flat))
    assert len(by_differences) >= 3
    np.testing.assert_allclose(ravel_pytree(gradient)[0], by_differences, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["product", "adapted"])
def test_slopes_with_few_neighbours(name):
    """The same with the neighbours missing or held back: against differences of the value itself."""
    kernel, sd = learned(name)
    _, residuals, hood, near = given(all_before(30)[:, :4], 2)
    moving, held = eqx.partition((kernel, sd), learned_mask((kernel, sd)))
    flat, unravel = ravel_pytree(moving)

    def value(vector):
        kernel, sd = eqx.combine(unravel(jnp.asarray(vector)), held)
        return log_density(covariances(kernel, hood), float(sd.value[0]) ** 2, hood, residuals, near)

    _, gradient = local_learning._pull(moving, held, hood, value(flat)[1], jnp.zeros(()))
    by_differences = oracle.derivative(lambda v: value(v)[0], np.asarray(flat))
    np.testing.assert_allclose(ravel_pytree(gradient)[0], by_differences, rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_the_prior_counts_by_the_share_of_entries():
    kernel, sd = learned("space")
    moving, held = eqx.partition((kernel, sd), learned_mask((kernel, sd)))
    shifted = eqx.tree_at(lambda t: t[0].kernel.lengthscale.raw, moving, moving[0].kernel.lengthscale.raw + 0.5)
    data = entries(5)
    hood = gather(data, data, all_before(5))
    nothing = log_density(covariances(kernel, hood), NOISE, hood, np.zeros((1, 5)), np.zeros((1, 5, 4)))[1]
    nothing = nothing._replace(**{k: 0 * v for k, v in nothing._asdict().items()})
    prior, gradient = local_learning._pull(shifted, held, hood, nothing, jnp.asarray(0.25))
    np.testing.assert_allclose(prior, 0.25 * -0.5 * (0.5 / 2) ** 2, rtol=1e-10)
    np.testing.assert_allclose(gradient[0].kernel.lengthscale.raw, [-0.25 * 0.5 / 4], rtol=1e-10)
