"""What a basis is good for: near the exact process where that is smooth, honest beyond the levels, cheap for many."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probtensor.axes import Axis, join
from probtensor.compilation import compiled
from probtensor.hyperparameters import fixed
from probtensor.kernels.base import Start
from probtensor.kernels.matern import Matern
from probtensor.priors.base import Sites
from probtensor.priors.basis import Basis
from probtensor.priors.dense import Dense
from probtensor.priors.features.base import lowest_orders
from probtensor.priors.markov import Markov
from tests.helpers import DTYPE, assert_close

RNG = np.random.default_rng(0)
PLACES = RNG.uniform(0, 1, (150, 2))
START = Start(np.ones(1), np.ones(1), True)


def plane(points=PLACES, names="xy"):
    return join([Axis(n, "numeric", np.unique(points[:, k]), "m") for k, n in enumerate(names)], points)


def answers(prior, points, values, new_points):
    """Mean, sd at new points, and log-normaliser, given values with noise 0.1."""
    sites = Sites(jnp.asarray(100 * values[:, None], DTYPE), jnp.full((len(values), 1, 1), 100, DTYPE))

    @compiled
    def run(prior, points, new_points):
        belief = prior.posterior(points, sites)
        return prior.predict(belief, new_points), belief.log_normaliser

    found, value = run(prior, jnp.asarray(points, DTYPE), jnp.asarray(new_points, DTYPE))
    return np.asarray(found.mean[:, 0]), np.sqrt(np.asarray(found.cov[:, 0, 0])), float(value)


@pytest.mark.parametrize(
    ("lengthscale", "most"),
    [pytest.param(0.3, 0.5, marks=pytest.mark.slow), (0.6, 0.6), pytest.param(1.5, 1.5, marks=pytest.mark.slow)],
)
def test_a_smooth_surface_is_that_of_the_exact_process(lengthscale, most):
    """300 functions: means within some half of an exact sd, sds within 15%.

    With a lengthscale longer than the range the walls are felt at the edges, by an sd; on average by a third of one.
    """
    kernel = Matern(5 / 2, lengthscale=fixed(lengthscale), variance=fixed(1.0))
    values = np.sin(4 * PLACES[:, 0]) * np.cos(3 * PLACES[:, 1]) + 0.1 * RNG.normal(size=150)
    new = RNG.uniform(0.05, 0.95, (100, 2))
    mean, sd, _ = answers(Dense(kernel).bind(plane(), START), PLACES, values, new)
    other, other_sd, _ = answers(Basis("hilbert", 300, kernel).bind(plane(), START), PLACES, values, new)
    apart = np.abs(other - mean) / sd
    assert apart.max() < most and apart.mean() < most / 3
    assert np.abs(other_sd / sd - 1).max() < 0.15


def test_a_smooth_line_is_that_of_the_state_space():
    """60 functions for 40 levels with a lengthscale of a fifth of the range: within a fifth of an sd."""
    x = np.sort(RNG.uniform(0, 10, 40))
    kernel = Matern(7 / 2, lengthscale=fixed(2.0), variance=fixed(1.0))
    values, new = np.sin(x) + 0.1 * RNG.normal(size=40), np.linspace(x[0], x[-1], 30)
    axis = Axis("x", "numeric", x)
    mean, sd, value = answers(Markov(kernel).bind(axis, START), x, values, new)
    other, other_sd, other_value = answers(Basis("hilbert", 60, kernel).bind(axis, START), x, values, new)
    assert np.abs((other - mean) / sd).max() < 0.2
    assert np.abs(other_sd / sd - 1).max() < 0.05
    assert abs(other_value - value) < 0.5


def test_beyond_the_levels_the_spread_returns_to_the_prior():
    kernel = Matern(3 / 2, lengthscale=fixed(0.3), variance=fixed(4.0))
    values, new = np.ones(150), np.array([[0.5, 0.5], [1.25, 0.5], [1.6, 0.5], [-40.0, 3.0]])
    mean, sd, _ = answers(Basis("hilbert", 100, kernel).bind(plane(), START), PLACES, values, new)
    assert sd[0] < 0.2 and abs(mean[0] - 1) < 0.1
    assert sd[1] > 1.0
    assert_close(sd[2:], [2.0, 2.0])
    assert_close(mean[2:], [0.0, 0.0])


@pytest.mark.parametrize("prior", [Basis("hilbert", 50), Dense(Matern(3 / 2))], ids=["basis", "dense"])
def test_the_order_of_the_coordinates_is_irrelevant(prior):
    values, new = PLACES[:, 0] ** 2 - PLACES[:, 1], RNG.uniform(0, 1, (20, 2))
    square = np.concatenate([PLACES, [[0, 0], [1, 1]]])
    one = answers(prior.bind(plane(square), START), PLACES, values, new)
    other = answers(prior.bind(plane(square[:, ::-1], "yx"), START), PLACES[:, ::-1], values, new[:, ::-1])
    # A basis of 50 ends between two functions of one frequency, of which the first coordinate's is kept.
    for a, b in zip(one, other, strict=True):
        np.testing.assert_allclose(a, b, atol=5e-2 if isinstance(prior, Basis) else 1e-5)


@pytest.mark.slow
def test_lengthscales_start_no_shorter_than_the_basis_resolves():
    """At the shortest start the basis still has nine tenths of the kernel's variance in the middle."""
    axis = plane(RNG.uniform(0, 1, (5000, 2)))
    bound = Basis("hilbert", 100).bind(axis, Start(np.ones(4), np.ones(4), True))
    scales = np.asarray(bound.kernel.lengthscale.value)
    assert np.all(np.diff(scales) <= 0) and scales[0] > 2 * scales[-1]
    middle = bound.features.locate(jnp.zeros((1, 2), DTYPE))._replace(among=jnp.zeros(1, bool))
    lacks = bound.features.lacking(bound.kernel, middle, bound._scales())
    assert 0.0 < float(lacks.max()) < 0.1
    line = Basis("hilbert", 10).bind(Axis("x", "numeric", np.arange(1000.0)), Start(np.ones(2), np.ones(2), True))
    assert float(line.kernel.lengthscale.value.min()) > 100


def test_the_functions_of_lowest_frequency():
    steps = np.array([1.0, 0.37, 2.2])
    for most, size in itertools.product([[9, 9, 9], [3, 50, 1]], [1, 7, 60, 5000]):
        every = np.array(list(itertools.product(*(range(n + 1) for n in most))))
        found = lowest_orders(steps, most, size)
        exact = np.sort(((every * steps) ** 2).sum(1))[:size]
        assert_close(((found * steps) ** 2).sum(1), exact)
        assert len(np.unique(found, axis=0)) == len(found) == min(size, len(every))


def test_edges():
    """One level, one function, a coordinate that does not vary, and more functions than levels could tell apart."""
    one = Basis("hilbert", 1).bind(Axis("x", "numeric", np.zeros(1)), START)
    assert np.isfinite(answers(one, np.zeros(1), np.ones(1), np.zeros(1))[0]).all()
    flat = plane(np.stack([np.ones(5), np.arange(5.0)], axis=1))
    found = Basis("hilbert").bind(flat, START)
    assert found.metric.chart.columns == (1,) and found.size == 5
    assert np.isfinite(answers(found, flat.points, np.arange(5.0), flat.points)[1]).all()
    assert Basis("hilbert", 500).bind(Axis("x", "numeric", np.arange(5.0)), START).size == 8


@pytest.mark.slow
def test_many_levels_in_chunks():
    """20,000 levels: the sums are those of a few levels with as much weight."""
    few = np.array(list(itertools.product(np.linspace(0, 1, 5), np.linspace(0, 2, 4))))
    many = np.repeat(few, 1000, axis=0)
    prior = Basis("hilbert", 15).bind(plane(few), Start(np.ones(2), np.ones(2), True))
    eta, precision = RNG.normal(size=(20, 2)), np.array([[2.0, 0.5], [0.5, 1.0]])
    posterior = compiled(lambda prior, points, sites: prior.posterior(points, sites))
    small = posterior(
        prior, jnp.asarray(few, DTYPE), Sites(jnp.asarray(eta, DTYPE), jnp.full((20, 2, 2), precision, DTYPE))
    )
    sites = Sites(jnp.asarray(np.repeat(eta, 1000, 0) / 1000, DTYPE), jnp.full((20_000, 2, 2), precision / 1000, DTYPE))
    large = posterior(prior, jnp.asarray(many, DTYPE), sites)
    assert_close(large.mean[::1000], small.mean)
    assert_close(large.cov[::1000], small.cov)
    assert_close(large.log_normaliser, small.log_normaliser)
    assert jax.tree.all(jax.tree.map(lambda x: bool(jnp.isfinite(x).all()), large))
