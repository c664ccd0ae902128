"""Laws that every kernel obeys: states, posteriors, draws and gradients against dense formulas."""

import jax.numpy as jnp
import numpy as np
import pytest

from probtensor.compilation import compiled
from probtensor.priors.dense import Dense
from probtensor.priors.markov import Markov
from tests.helpers import DTYPE, assert_close, mostly_slow, tolerance
from tests.kernels.cases import KERNELS, bound, every_kernel, expected, prior_of, values_of
from tests.oracles import gaussian_process as oracle
from tests.priors.cases import M, R, draws, random_points, random_sites, rounded, run

transition = compiled(lambda kernel, at, step: kernel.transition(at, step))


def square(root):
    return root @ np.swapaxes(root, -1, -2)


def states(kernel, at, step):
    """F, root_Q and the roots of the states' covariances before and after, in 64 bits."""
    at, step = (jnp.asarray(x, DTYPE) for x in (at, step))
    parts = (*transition(kernel, at, step), kernel.state_root(at), kernel.state_root(at + step))
    return tuple(np.asarray(x, np.float64) for x in parts)


@every_kernel
def test_covariance_is_the_textbook_formula_and_that_of_the_states(name):
    """h' F P(x) h is the covariance of x and of what is a step further; walks also cross their origin."""
    kernel = bound(name)
    steps = rounded([0.0, 1e-3, 0.3, 1.25, 2.0, 2.5, 7.1, 40.0])
    for at in (-2.25, 0.0, 3.5):
        there = rounded(at + steps)
        exact = expected(kernel, values_of(kernel), np.array([at]), there)
        assert_close(kernel.between(jnp.asarray([[at]], DTYPE), jnp.asarray(there, DTYPE)[None]), exact)
        exact = expected(kernel, values_of(kernel), np.array([at]), there, states=True)[:, 0]
        h = kernel.emission()
        own = []
        for x in there:
            F, _, root, _ = states(kernel, at, x - at)
            assert len(h) == kernel.state_size == root.shape[1]
            own.append(np.einsum("i,rij,rjk,k->r", h, F, square(root), h))
        assert_close(np.transpose(own), exact)
    assert kernel.stationary == ("walk" not in name and "linear" not in name)
    if kernel.stationary:
        assert_close(
            kernel.covariance(jnp.asarray(steps, DTYPE)), expected(kernel, values_of(kernel), [0.0], steps)[:, 0]
        )


@every_kernel
@pytest.mark.parametrize("at", [-1.0, 2.0])
@pytest.mark.parametrize("step", [0.0, 1e-3, 0.4, 1.9, 50.0])
def test_noise_brings_the_states_to_their_covariance(name, at, step):
    """F P F' + Q is P a step further, and no noise where nothing decays or no step is made."""
    kernel = bound(name)
    F, root_Q, before, after = states(kernel, at, step)
    assert_close(F @ square(before) @ np.swapaxes(F, 1, 2) + square(root_Q), square(after))
    if step == 0.0 or kernel.deterministic:
        np.testing.assert_array_equal(root_Q, 0.0)
    if step == 0.0:
        np.testing.assert_array_equal(F, np.broadcast_to(np.eye(F.shape[1]), F.shape))


@pytest.mark.parametrize("name", mostly_slow(KERNELS, "integrated walk"))
def test_posterior_is_that_of_the_dense_prior_and_of_the_oracle(name):
    """Irregular and repeated points on both sides of a walk's origin, part of them without data.

    Hyper-parameters' gradients by differences.
    """
    kernel, points, new_points = bound(name), random_points(15, 1) - 4, rounded([-7.0, 0.1, 5.0, 11.0, 26.0])
    points = rounded(points)
    sites = random_sites(15, "part", 1)
    for prior in (Markov(kernel), Dense(kernel)):
        by_states = isinstance(prior, Markov)
        gaussian, flat = prior_of(kernel, np.concatenate([points, new_points]), by_states)
        exact = oracle.predict(*gaussian(flat), *sites, 15)
        gradient = oracle.log_normaliser_gradient(prior_of(kernel, points, by_states)[0], flat, *sites, step=2e-4)
        means, covariances = exact.marginal_means(R), exact.marginal_covariances(R)
        result = run(prior, points, sites, new_points)
        assert_close(result.mean, means[:15])
        assert_close(result.cov, covariances[:15])
        assert_close(result.new_mean, means[15:])
        assert_close(result.new_cov, covariances[15:])
        assert_close(result.log_normaliser, exact.log_normaliser)
        assert_close(np.concatenate(result.gradient), gradient)


@pytest.mark.parametrize(
    "name", mostly_slow(["integrated walk", "periodic", "periodic * matern", "(matern + periodic) * matern"])
)
def test_draws_have_the_joint_moments(name):
    """4000 draws, means and covariances within 5 standard errors: one false alarm in 25,000 keys for each kernel."""
    kernel, points, new_points = bound(name), random_points(7, 2), rounded([-0.3, 2.8, 5.0, 7.5, 12.0])
    sites = random_sites(7, "part", 2)
    gaussian, flat = prior_of(kernel, np.concatenate([points, new_points]), True)
    exact = oracle.predict(*gaussian(flat), *sites, 7)
    mean, C = exact.mean[7 * R :], exact.covariance[7 * R :, 7 * R :]
    flat_draws = draws(Markov(kernel), points, sites, new_points, seed=1).astype(np.float64).reshape(4000, M * R)
    floor = tolerance(10)
    assert np.all(np.abs(flat_draws.mean(0) - mean) <= 5 * np.sqrt(np.diag(C) / 4000) + floor)
    error = np.abs(np.cov(flat_draws.T) - C)
    assert np.all(error <= 5 * np.sqrt((np.outer(np.diag(C), np.diag(C)) + C**2) / 4000) + floor)
