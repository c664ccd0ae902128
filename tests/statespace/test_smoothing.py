"""The smoother alone: chain rule, empty levels, jit, and long sharp chains in low precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probtensor.axes import Axis
from probtensor.compilation import compiled
from probtensor.kernels.base import Start
from probtensor.kernels.matern import Matern
from probtensor.kernels.periodic import Periodic
from probtensor.statespace import smoothing
from probtensor.statespace.chain import apply_blocks, discretise, emit, lift
from probtensor.statespace.sequential import backward
from probtensor.statespace.smoothing import draw, posterior_chain, run, smooth
from tests.helpers import DTYPE, assert_close, mostly_slow
from tests.oracles import gaussian_process as oracle
from tests.priors.cases import R, random_sites

POINTS = np.linspace(0.0, 9.0, 10)


def kernel(nu=1.5):
    start = Start(np.array([1.0, 3.0]), np.array([1.0, 0.5]), True)
    return Matern(nu).bind(Axis("x", "numeric", POINTS), start)


@compiled
def smoothed(points, eta, precision):
    return smooth(discretise(kernel(), points), eta, precision)


def sites(kind="full", T=10):
    return [jnp.asarray(x, DTYPE) for x in random_sites(T, kind, 0)]


#: A smooth process, and a changing cycle beside a lasting one, which has no noise.
SLOPED = {"matern": Matern(5 / 2), "cycles": Periodic(2.5, order=1) * Matern(1 / 2) + Periodic(4.0, order=1)}


@pytest.mark.parametrize("name", mostly_slow(["matern", "cycles"]))
def test_slopes_are_those_of_the_recursion(name):
    """The backward pass differentiated by JAX, with respect to everything that it reads; one step has length zero."""
    start = Start(np.array([1.0, 3.0]), np.array([1.0, 0.5]), True)
    bound = SLOPED[name].bind(Axis("x", "numeric", POINTS), start)
    chain = discretise(bound, jnp.asarray([0.0, 0.7, 0.7, 2.0, 5.0], DTYPE))
    given = (chain, *sites("part", 5))

    @compiled
    def slopes(chain, eta, precision):
        by_expectation = jax.grad(lambda *a: smooth(*a).log_normaliser, (0, 1, 2))
        by_recursion = jax.grad(lambda *a: backward(*a)[0], (0, 1, 2))
        return by_expectation(chain, eta, precision), by_recursion(chain, eta, precision)

    ours, (*slow, by_precision) = slopes(*given)
    slow.append(0.5 * (by_precision + jnp.swapaxes(by_precision, 1, 2)))  # it holds for symmetric matrices
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(slow), strict=True):
        assert_close(one, other)


def test_only_the_log_normaliser_has_slopes():
    chain = discretise(kernel(0.5), jnp.asarray(POINTS[:2], DTYPE))
    with pytest.raises(TypeError, match="only the log-normaliser"):
        jax.grad(lambda eta: jnp.sum(smooth(chain, eta, sites(T=2)[1]).mean))(sites(T=2)[0])


def test_levels_without_data_change_nothing():
    """The same eight levels, with two empty ones in a gap or far behind."""
    eta, precision = (x.at[jnp.asarray([4, 9])].set(0.0) for x in sites())
    moved = POINTS.copy()
    moved[[4, 9]] = 4.4, 400.0
    one, other = (smoothed(jnp.asarray(p, DTYPE), eta, precision) for p in (POINTS, moved))
    seen = np.delete(np.arange(10), [4, 9])
    assert_close(other.log_normaliser, one.log_normaliser)
    assert_close(other.mean[seen], one.mean[seen])
    assert_close(other.cov[seen], one.cov[seen])


def test_log_evidence_by_the_chain_rule():
    """A site on one more level multiplies the evidence by its expectation under the posterior of the others."""
    eta, precision = sites()
    keep = jnp.arange(10) != 6
    points = jnp.asarray(POINTS, DTYPE)
    whole = smoothed(points, eta, precision)
    part = smoothed(points, eta * keep[:, None], precision * keep[:, None, None])
    m, S = (np.asarray(x[6], np.float64) for x in part[:2])
    last = oracle.posterior(m, S, np.asarray(eta[6:7], np.float64), np.asarray(precision[6:7], np.float64))
    assert_close(whole.log_normaliser - part.log_normaliser, last.log_normaliser)


@pytest.mark.slow
def test_compiled_is_as_written():
    chain = discretise(kernel(0.5), jnp.asarray(POINTS[:2], DTYPE))
    fast = jax.jit(posterior_chain)(chain, *sites(T=2))
    with jax.disable_jit():
        plain = posterior_chain(chain, *sites(T=2))
    for a, b in zip(jax.tree.leaves(fast), jax.tree.leaves(plain), strict=True):
        assert_close(a, b)


@pytest.mark.parametrize("nu", [0.5, 1.5, 2.5])
def test_a_long_chain_with_hardly_any_noise(nu):
    """2000 levels a hundredth of a lengthscale apart, noise sd 1e-3: no variance is lost to rounding."""
    points = jnp.arange(2000, dtype=DTYPE) / 100
    precision = jnp.broadcast_to(1e6 * jnp.eye(R, dtype=DTYPE), (2000, R, R))
    target = jnp.stack([jnp.sin(points), jnp.cos(points)], axis=1)

    @compiled
    def run(points, eta, precision):
        return smooth(discretise(kernel(nu), points), eta, precision)

    mean, cov, *others = run(points, 1e6 * target, precision)
    assert np.isfinite(others).all()
    variances = np.diagonal(cov, axis1=1, axis2=2)
    assert variances.min() > 0 and variances.max() < 1.01e-6
    np.testing.assert_allclose(mean, target, atol=2e-3)


def test_block_algebra():
    rng = np.random.default_rng(0)
    blocks, matrix = rng.normal(size=(2, 3, 3)), rng.normal(size=(6, 4))
    big = np.zeros((6, 6))
    big[:3, :3], big[3:, 3:] = blocks
    assert_close(apply_blocks(jnp.asarray(blocks, DTYPE), jnp.asarray(matrix, DTYPE)), big @ matrix)
    # The lifted site on states says of x what the site says of f = (h'x_1, h'x_2).
    h, eta, x = rng.normal(size=3), rng.normal(size=2), rng.normal(size=6)
    A = rng.normal(size=(2, 2))
    f = np.array([h @ x[:3], h @ x[3:]])
    lifted_eta, lifted = lift(*(jnp.asarray(v, DTYPE) for v in (eta, A @ A.T, h)))
    assert_close(lifted_eta @ jnp.asarray(x, DTYPE), eta @ f)
    assert_close(x @ np.asarray(lifted, np.float64) @ x, f @ A @ A.T @ f)
    chain = discretise(kernel(), jnp.asarray(POINTS[:2], DTYPE))
    assert_close(emit(chain, jnp.asarray([1.0, 2.0, 3.0, 4.0], DTYPE)), [1.0, 3.0])


#: A smooth process, and a cycle that lasts, which has no noise, with a rough process.
CHAINS = {"matern": Matern(3 / 2), "lasting": Periodic(2.5, order=1) + Matern(1 / 2)}


def everything(chain, eta, precision, innovations):
    """All that either way of visiting levels gives."""
    key = jax.random.key(0)
    smoothed = smooth(chain, eta, precision)
    slopes = jax.grad(lambda *a: smooth(*a).log_normaliser, (0, 1, 2))(chain, eta, precision)
    draws = draw(chain, posterior_chain(chain, eta, precision), key, 3)
    return smoothed, slopes, draws, run(chain, innovations)


@pytest.mark.slow
@pytest.mark.parametrize("T", [9, 1, 2])
@pytest.mark.parametrize("name", ["lasting", "matern"])
def test_all_levels_at_once_give_what_one_after_the_other_gives(monkeypatch, name, T):
    """With empty levels, repeated ones, and sites that see only some functions."""
    start = Start(np.array([1.0, 3.0]), np.array([1.0, 0.5]), True)
    bound = CHAINS[name].bind(Axis("x", "numeric", POINTS), start)
    points = jnp.asarray([0.0, 0.7, 0.7, 2.0, 5.0, 5.1, 40.0, 41.0, 41.5][:T], DTYPE)
    chain = discretise(bound, points)
    eta, precision = sites("part", T)
    white = jax.random.normal(jax.random.key(1), chain.root_Q.shape[:-1], DTYPE)
    found = []
    for on_accelerator in (False, True):
        monkeypatch.setattr(smoothing, "on_accelerator", lambda here=on_accelerator: here)
        found.append(compiled(lambda *given: everything(*given))(chain, eta, precision, white))
    for one, other in zip(*(jax.tree.leaves(one) for one in found), strict=True):
        assert_close(one, other)


@pytest.mark.slow
def test_all_levels_at_once_with_hardly_any_noise(monkeypatch):
    """As above for the other way: a long, sharp chain loses no variance."""
    monkeypatch.setattr(smoothing, "on_accelerator", lambda: True)
    test_a_long_chain_with_hardly_any_noise(1.5)
