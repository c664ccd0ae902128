"""Periodic kernels, products and sums of products: states, posteriors, draws and gradients against dense formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import ive

from probtensor.axes import Axis
from probtensor.compilation import compiled
from probtensor.errors import ModelError
from probtensor.hyperparameters import fixed, parameters
from probtensor.kernels.base import Product, Start, Sum
from probtensor.kernels.matern import Matern
from probtensor.kernels.periodic import Periodic
from probtensor.priors.dense import Dense
from probtensor.priors.markov import Markov
from tests.helpers import DTYPE, assert_close, tolerance
from tests.oracles import gaussian_process as oracle
from tests.priors.cases import M, R, draws, random_points, random_sites, rounded, run

AXIS = Axis("x", "numeric", np.linspace(0.0, 10.0, 11))
#: Ten harmonics leave out 1e-11 of the variance at lengthscale 1, two of them 1e-11 at lengthscale 40.
CYCLE = Periodic(2.5, lengthscale=1.0, order=10)
KERNELS = {
    "periodic": CYCLE,
    "periodic * matern": Periodic(2.5, lengthscale=1.3, order=9) * Matern(3 / 2),
    "matern * periodic + matern": Matern(1 / 2) * CYCLE + Matern(5 / 2),
    "(matern + periodic) * matern": (Matern(3 / 2) + CYCLE) * Matern(1 / 2),
    "(periodic + matern) * periodic": (Periodic(4.0, 10.0, order=3) + Matern(1 / 2)) * Periodic(2.5, 40.0, order=2),
    "three materns": Matern(5 / 2) * Matern(1 / 2) * Matern(3 / 2),
    "two cycles": Periodic(2.5, lengthscale=60.0, order=2) * Periodic(1.7, lengthscale=60.0, order=2),
}
every_kernel = pytest.mark.parametrize("name", KERNELS)
#: What costs most to compile and says what the others say is for the slow run.
LONG = ("matern * periodic + matern", "(periodic + matern) * periodic", "three materns")
marked = [pytest.param(name, marks=pytest.mark.slow if name in LONG else ()) for name in KERNELS]
transition = compiled(lambda kernel, step: kernel.transition(step))


def bound(name):
    return KERNELS[name].bind(AXIS, Start(np.array([0.8, 3.0]), np.array([1.5, 0.6]), True))


def dense(kernel, values, d):
    """(R, ...) covariances at distances d by the textbook formulas; values: an iterator over the hyper-parameters."""
    if isinstance(kernel, Sum):
        return sum(dense(part, values, d) for part in kernel.parts)
    if isinstance(kernel, Product):
        return np.prod([dense(part, values, d) for part in kernel.parts], axis=0)
    if isinstance(kernel, Periodic):
        period, lengthscale, variance = (next(values) for _ in range(3))
        return np.array([oracle.periodic(period[r], lengthscale[r], variance[r], d) for r in range(R)])
    lengthscale, variance = next(values), next(values)
    return np.array([oracle.matern(kernel.nu, lengthscale[r], variance[r], d) for r in range(R)])


def values_of(kernel):
    return [np.asarray(p.value, np.float64) for p in parameters(kernel)]


def prior_of(kernel, points):
    """Mean and covariance of all levels as a function of the learned hyper-parameters' logarithms, for the oracle."""
    d, declared = oracle.distances(points), parameters(kernel)

    def gaussian(flat):
        values, at = [], 0
        for p in declared:
            raw = flat[at : at + len(p.raw)] if p.learned else np.asarray(p.raw, np.float64)
            at += len(p.raw) if p.learned else 0
            values.append(np.exp(raw))
        return np.zeros(len(points) * R), oracle.stack(list(dense(kernel, iter(values), d)))

    learned = [np.asarray(p.raw, np.float64) for p in declared if p.learned]
    return gaussian, np.concatenate(learned)


@every_kernel
def test_covariance_is_the_textbook_formula_and_that_of_the_states(name):
    """h' F(d) P_inf h is the covariance at distance d."""
    kernel = bound(name)
    d = rounded([0.0, 1e-3, 0.3, 1.25, 2.0, 2.5, 7.1, 40.0])
    exact = dense(kernel, iter(values_of(kernel)), d)
    assert_close(kernel.covariance(jnp.asarray(d, DTYPE)), exact)
    h, root = kernel.emission(), np.asarray(kernel.stationary_root(), np.float64)
    assert len(h) == kernel.state_size == root.shape[1]
    F = np.array([transition(kernel, jnp.asarray(x, DTYPE))[0] for x in d], np.float64)
    assert_close(np.einsum("i,trij,rjk,rlk,l->rt", h, F, root, root, h), exact)


@every_kernel
@pytest.mark.parametrize("step", [0.0, 1e-3, 0.4, 1.9, 50.0])
def test_noise_keeps_the_states_stationary(name, step):
    """F P F' + Q = P, and no noise where nothing decays or no step is made."""
    kernel = bound(name)
    F, root_Q = (np.asarray(x, np.float64) for x in transition(kernel, jnp.asarray(step, DTYPE)))
    root = np.asarray(kernel.stationary_root(), np.float64)
    P = root @ np.swapaxes(root, 1, 2)
    assert_close(F @ P @ np.swapaxes(F, 1, 2) + root_Q @ np.swapaxes(root_Q, 1, 2), P)
    if step == 0.0 or kernel.deterministic:
        np.testing.assert_array_equal(root_Q, 0.0)
    if step == 0.0:
        np.testing.assert_array_equal(F, np.broadcast_to(np.eye(F.shape[1]), F.shape))


@pytest.mark.parametrize("step", [1e-3, 0.1])
def test_short_steps_of_a_product_keep_the_digits_of_its_noise(step):
    """Variance of the function's own noise, of order step^3: v1 v2 - (F1 F2 ...) would leave none in 32 bits."""
    kernel = (Matern(3 / 2) * Matern(3 / 2)).bind(AXIS, Start(np.ones(R), np.ones(R), True))
    root_Q = np.asarray(transition(kernel, jnp.asarray(step, DTYPE))[1], np.float64)
    step = float(np.asarray(step, DTYPE))
    rate = np.sqrt(3.0)
    s = rate * step
    F, P = np.exp(-s) * np.array([[1 + s, s], [-s, 1 - s]]), np.eye(2)
    unit = P - F @ P @ F.T
    # 4 integral of u^2 exp(-2u) from 0 to s, by its power series.
    unit[0, 0] = 4 * sum((-2) ** k * s ** (k + 3) / (float(np.prod(np.arange(1, k + 1))) * (k + 3)) for k in range(20))
    moved = (F @ F.T)[0, 0]
    np.testing.assert_allclose((root_Q[0] @ root_Q[0].T)[0, 0], (moved + 1) * unit[0, 0], rtol=max(tolerance(), 1e-7))


@pytest.mark.parametrize("name", marked)
def test_posterior_is_that_of_the_dense_prior_and_of_the_oracle(name):
    """Irregular and repeated points, part of them without data; hyper-parameters' gradients by differences."""
    kernel, points, new_points = bound(name), random_points(15, 1), rounded([-3.0, 0.1, 5.0, 11.0, 26.0])
    sites = random_sites(15, "part", 1)
    gaussian, flat = prior_of(kernel, np.concatenate([points, new_points]))
    exact = oracle.predict(*gaussian(flat), *sites, 15)
    gradient = oracle.log_normaliser_gradient(prior_of(kernel, points)[0], flat, *sites, step=2e-4)
    means, covariances = exact.marginal_means(R), exact.marginal_covariances(R)
    for prior in (Markov(kernel), Dense(kernel)):
        result = run(prior, points, sites, new_points)
        assert_close(result.mean, means[:15])
        assert_close(result.cov, covariances[:15])
        assert_close(result.new_mean, means[15:])
        assert_close(result.new_cov, covariances[15:])
        assert_close(result.log_normaliser, exact.log_normaliser)
        assert_close(np.concatenate(result.gradient), gradient)


@pytest.mark.parametrize("name", ["periodic", "periodic * matern", "(matern + periodic) * matern"])
def test_draws_have_the_joint_moments(name):
    """4000 draws, means and covariances within 5 standard errors: one false alarm in 25,000 keys for each kernel."""
    kernel, points, new_points = bound(name), random_points(7, 2), rounded([0.3, 2.8, 5.0, 7.5, 12.0])
    sites = random_sites(7, "part", 2)
    gaussian, flat = prior_of(kernel, np.concatenate([points, new_points]))
    exact = oracle.predict(*gaussian(flat), *sites, 7)
    mean, C = exact.mean[7 * R :], exact.covariance[7 * R :, 7 * R :]
    flat_draws = draws(Markov(kernel), points, sites, new_points, seed=1).astype(np.float64).reshape(4000, M * R)
    floor = tolerance(10)
    assert np.all(np.abs(flat_draws.mean(0) - mean) <= 5 * np.sqrt(np.diag(C) / 4000) + floor)
    error = np.abs(np.cov(flat_draws.T) - C)
    assert np.all(error <= 5 * np.sqrt((np.outer(np.diag(C), np.diag(C)) + C**2) / 4000) + floor)


def test_a_cycle_repeats_itself():
    """Also a thousand periods away, where an angle in radians would have lost its digits in 32 bits."""
    kernel = Periodic(fixed(0.5)).bind(AXIS, Start(np.ones(R), np.ones(R), True))
    d = jnp.asarray([0.125, 500.125], DTYPE)
    assert_close(kernel.covariance(d)[:, 0], kernel.covariance(d)[:, 1])
    F = [transition(kernel, x)[0] for x in d]
    assert_close(F[1], F[0])


@pytest.mark.parametrize("lengthscale", [0.1, 0.5, 1.0, 3.0, 1e4])
def test_truncation_is_as_stated(lengthscale):
    """The variance is exact, the covariance off by at most twice the share left out; and no gradient is NaN."""
    kernel = Periodic(1.0, fixed(lengthscale)).bind(AXIS, Start(np.ones(1), np.array([1.7]), True))
    share = ive(0, lengthscale**-2.0) + 2 * sum(ive(j, lengthscale**-2.0) for j in range(1, 7))
    truncated = kernel.truncated()
    assert_close(truncated, [1 - share])
    root = np.asarray(kernel.stationary_root()[0], np.float64)
    assert_close(kernel.emission() @ root @ root.T @ kernel.emission(), 1.7)
    for d in (0.05, 0.2, 0.5):
        F = np.asarray(transition(kernel, jnp.asarray(d, DTYPE))[0][0], np.float64)
        own = kernel.emission() @ F @ root @ root.T @ kernel.emission()
        exact = oracle.periodic(1.0, lengthscale, 1.7, d)
        assert abs(own - exact) <= 2 * 1.7 * max(1 - share, 0.0) + tolerance()
    gradient = jax.grad(lambda k: jnp.sum(k.stationary_root()))(kernel)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_who_carries_the_variance_of_a_product():
    """The first part; the others are held at one."""
    kernel = (Periodic(2.0) * Matern(3 / 2) * Matern(1 / 2)).bind(AXIS, Start(np.ones(R), np.full(R, 0.7), True))
    variances = [part.variance for part in kernel.parts]
    assert [v.learned for v in variances] == [True, False, False]
    assert_close(np.array([v.value for v in variances]), [[0.7, 0.7], [1.0, 1.0], [1.0, 1.0]])
    held = (Periodic(2.0) * Matern(3 / 2)).bind(AXIS, Start(np.ones(R), np.ones(R), False))
    assert not any(part.variance.learned for part in held.parts)
    nested = Matern(1 / 2) * Matern(3 / 2) * (Matern(5 / 2) + Matern(1 / 2))
    assert [type(part) for part in nested.parts] == [Matern, Matern, Sum]


@pytest.mark.parametrize(("period", "days"), [("365.25D", 365.25), ("24 h", 1.0), (7, 7.0), (fixed("24 h"), 1.0)])
def test_a_period_has_the_unit_of_its_coordinate(period, days):
    units = {"D": 1.0, "h": 1 / 24}
    axis = Axis("t", "time", np.arange(400.0), "days", parse=lambda text: float(text[:-1]) * units[text[-1]])
    kernel = Periodic(period).bind(axis, Start(np.ones(R), np.ones(R), True))
    np.testing.assert_allclose(kernel.period.value, days, rtol=1e-6)
    shared = Periodic(period, shared=True).bind(axis, Start(np.ones(R), np.ones(R), True))
    assert shared.period.value.shape == shared.lengthscale.value.shape == (1,)
    assert shared.covariance(jnp.zeros(4, DTYPE)).shape == (R, 4)


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda: Periodic(1.0, order=0), r"Periodic\(order=0\): the number of harmonics must be a positive integer"),
        (lambda: Periodic(1.0, order=2.5), "order=2.5"),
        (lambda: Periodic(0.0).bind(AXIS, Start(np.ones(1), np.ones(1), True)), "period=0.0 must be a finite number"),
        (lambda: Periodic("1D").bind(AXIS, Start(np.ones(1), np.ones(1), True)), "'1D' is not a number"),
        (lambda: Periodic(1.0, "1D").bind(AXIS, Start(np.ones(1), np.ones(1), True)), "lengthscale has no time unit"),
    ],
)
def test_bad_cycles(declare, message):
    with pytest.raises(ModelError, match=message):
        declare()
