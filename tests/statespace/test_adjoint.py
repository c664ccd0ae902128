"""A filter and its adjoint give what the posterior's chain gives: moments, evidence and slopes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probtensor.axes import Axis
from probtensor.compilation import compiled
from probtensor.kernels.base import Start
from probtensor.kernels.matern import Matern
from probtensor.kernels.periodic import Periodic
from probtensor.priors.base import AbstractModePrior, Sites
from probtensor.priors.markov import Markov
from probtensor.statespace import smoothing
from probtensor.statespace.chain import discretise
from tests.helpers import DTYPE, assert_close, mostly_slow
from tests.priors.cases import random_sites

pytestmark = pytest.mark.skipif(DTYPE != jnp.float64, reason="in 32 bits the posterior's chain alone is used")

#: One, three and four states for each function: the last is past what is written out at once.
KERNELS = {"rough": Matern(1 / 2), "smooth": Matern(5 / 2), "cycle": Periodic(2.5, order=1) + Matern(1 / 2)}
POINTS = jnp.asarray([0.0, 0.7, 0.7, 2.0, 5.0, 5.1, 40.0], DTYPE)


def bound(name):
    start = Start(np.array([1.0, 3.0]), np.array([1.0, 0.5]), True)
    return KERNELS[name].bind(Axis("x", "numeric", np.asarray(POINTS)), start)


def sites(kind):
    seen = "full" if kind == "sharp" else "part"  # a sharp site's rounding errors speak of what it does not see
    eta, precision = (jnp.asarray(x, DTYPE) for x in random_sites(len(POINTS), seen, 0))
    if kind == "empty":
        return 0 * eta, 0 * precision
    if kind == "sharp":
        return 1e9 * eta, 1e9 * precision
    return eta, precision


@pytest.mark.parametrize("kind", ["part", "empty", "sharp"])
@pytest.mark.parametrize("name", mostly_slow(KERNELS, "smooth"))
def test_it_is_the_chains(name, kind):
    kernel = bound(name)

    @compiled
    def both(points, *given):
        chain = discretise(kernel, points)
        return smoothing._smooth_by_adjoint(chain, *given)[0], smoothing._smooth(chain, *given)[0]

    ours, other = both(POINTS, *sites(kind))
    for one, two in zip(ours, other, strict=True):
        assert_close(one, two, 10.0 if kind == "sharp" else 1.0)
    assert np.linalg.eigvalsh(ours.cov).min() > 0


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1e2, 1e4, 1e6, 1e8])
def test_a_site_that_sees_one_combination_of_functions_of_different_sizes(scale):
    """The same but for a unit of one function, whose values are so many times as large."""
    start = Start(np.array([1.0, 3.0]), np.array([1.0, scale**2]), True)
    chain = discretise(Matern(5 / 2).bind(Axis("x", "numeric", np.asarray(POINTS)), start), POINTS)
    rng = np.random.default_rng(0)
    v = jnp.asarray(rng.normal(size=(len(POINTS), 2)) / [1.0, scale], DTYPE)
    given = chain, v * jnp.asarray(rng.normal(size=(len(POINTS), 1)), DTYPE), v[:, :, None] * v[:, None, :]
    ours, other = smoothing._smooth_by_adjoint(*given)[0], smoothing._smooth(*given)[0]
    unit = np.array([1.0, scale])
    assert_close(ours.log_normaliser, other.log_normaliser, 10.0)
    assert_close(ours.mean / unit, other.mean / unit, 10.0)
    assert_close(ours.cov / np.outer(unit, unit), other.cov / np.outer(unit, unit), 10.0)


@pytest.mark.parametrize("step", mostly_slow([1e-3, 1e-2, 0.1]))
@pytest.mark.parametrize("precision", [1e8, 1e10])
def test_empty_levels_before_sharp_ones_have_a_variance(step, precision):
    """Where the difference has no digits it is above zero and small; all other levels are as they should be."""
    T = 40
    empty = np.isin(np.arange(T), [0, 1, 2, 20, 21, 22])
    start = Start(np.array([1.0]), np.array([1.0]), True)
    points = jnp.asarray(step * np.arange(T), DTYPE)
    chain = discretise(Matern(5 / 2).bind(Axis("x", "numeric", np.asarray(points)), start), points)
    sites = jnp.asarray(np.where(empty, 0.0, precision), DTYPE)
    given = chain, (sites * jnp.sin(points))[:, None], sites[:, None, None]
    ours, other = smoothing._smooth_by_adjoint(*given)[0], smoothing._smooth(*given)[0]
    assert ours.cov.min() > 0
    assert np.abs(ours.cov - other.cov)[empty].max() < 2e-6
    np.testing.assert_allclose(ours.cov[~empty], other.cov[~empty], rtol=1e-3)
    assert_close(ours.mean, other.mean)


@pytest.mark.parametrize("name", mostly_slow(KERNELS))
def test_functions_apart_are_those_of_one_after_the_other(name):
    """With slopes of the evidence by the kernel's numbers."""
    prior, (eta, precision) = Markov(bound(name)), sites("part")
    mean = jnp.asarray(np.random.default_rng(1).normal(size=eta.shape), DTYPE)
    shuffled = POINTS[jnp.asarray([3, 0, 6, 2, 5, 1, 4])]

    @compiled
    def by(road, prior, *given):
        def value(prior):
            found = road(prior, shuffled, Sites(*given), mean)
            return found.log_normaliser, found

        return jax.value_and_grad(value, has_aux=True, allow_int=True)(prior)

    ours, other = (by(road, prior, eta, precision) for road in (Markov.in_turns, AbstractModePrior.in_turns))
    for one, two in zip(jax.tree.leaves(ours), jax.tree.leaves(other), strict=True):
        assert_close(one, two)


def test_functions_apart_know_no_slopes_by_their_sites():
    prior, given = Markov(bound("rough")), sites("part")
    with pytest.raises(TypeError, match="transitions and noise alone"):
        jax.grad(lambda eta: prior.in_turns(POINTS, Sites(eta, given[1]), given[0]).log_normaliser)(given[0])
