"""Repeats at a place, pooled, against the dense Gaussian of all observations."""

import numpy as np
import pytest

from probtensor.engines.collapsed.contrasts import contrasts
from probtensor.nearest.conditionals import Entries
from probtensor.nearest.kriging import krige
from probtensor.nearest.repeats import pool
from tests.helpers import mostly_slow
from tests.nearest.fields import KERNELS, bind, dense, entries, noisy
from tests.oracles import gaussian_process as oracle

NOISE = 0.3
#: How often each place is observed.
REPEATS = {"once": [1] * 8, "some": [3, 1, 2, 1, 1, 7, 1, 4], "often": [33, 1, 20], "one place": [9]}


def repeated(name, seed=0):
    """Observations in random order, with unequal noise."""
    numbers = REPEATS[name]
    rng = np.random.default_rng(seed)
    points = rng.permutation(np.repeat(entries(len(numbers)).points, numbers, axis=0))
    return Entries(points, rng.uniform(0.5, 2.0, size=len(points)))


@pytest.mark.parametrize("name", REPEATS)
def test_means_and_differences_lose_nothing(name):
    data = repeated(name)
    found = pool(*data)
    whole = np.concatenate([found.mean.toarray(), found.apart.toarray()])
    assert abs(np.linalg.slogdet(whole)[1]) < 1e-9
    assert len(found.entries.points) == len(REPEATS[name])
    np.testing.assert_array_equal(found.entries.points[found.place], data.points)
    # Independent, with the noise that is said.
    covariance = whole @ np.diag(data.unit_noise) @ whole.T
    expected = np.concatenate([found.entries.unit_noise, found.unit_noise])
    np.testing.assert_allclose(covariance, np.diag(expected), rtol=0, atol=1e-12)


def test_places_come_in_the_order_in_which_they_are_named():
    points = np.array([[3.0], [1.0], [3.0], [2.0], [1.0]])
    found = pool(points, np.ones(5))
    np.testing.assert_array_equal(found.entries.points[:, 0], [3.0, 1.0, 2.0])
    np.testing.assert_allclose(found.entries.unit_noise, [0.5, 0.5, 1.0])
    np.testing.assert_allclose(found.means(np.arange(5.0)[None]), [[1.0, 2.5, 3.0]])


def test_places_come_in_turn():
    points = np.array([[3.0], [1.0], [3.0], [2.0], [1.0]])
    found = pool(points, np.ones(5), np.array([4, 3, 1, 0, 2]))
    np.testing.assert_array_equal(found.entries.points[:, 0], [2.0, 3.0, 1.0])
    np.testing.assert_allclose(found.means(np.arange(5.0)[None]), [[3.0, 1.0, 2.5]])


@pytest.mark.parametrize("name", mostly_slow(REPEATS, "some"))
@pytest.mark.parametrize("kernel", mostly_slow(KERNELS, "product"))
def test_the_density_is_that_of_all_observations(kernel, name):
    bound, data = bind(KERNELS[kernel]), repeated(name)
    residual = np.random.default_rng(3).normal(size=len(data.points))
    found = contrasts(bound, NOISE, pool(*data), len(data.points))
    K = noisy(bound, NOISE, data)
    np.testing.assert_allclose(found.log_density(residual), oracle.log_density(residual, 0.0, K), rtol=1e-8)
    A = found.A.toarray()
    np.testing.assert_allclose(A.T @ np.diag(1 / found.variance) @ A @ K, np.eye(len(K)), rtol=0, atol=1e-7)


@pytest.mark.slow
def test_repeats_do_not_take_the_place_of_neighbours():
    """Sixty places, each observed thirty times: two neighbours of an entry mean sixty for a place, which are all."""
    points = np.random.default_rng(0).permutation(np.repeat(entries(60).points, 30, axis=0))
    data = Entries(points, np.ones(len(points)))
    values, targets = np.random.default_rng(1).normal(size=len(points)), entries(20, seed=2).points
    bound, found = bind(KERNELS["sum"]), pool(*data)
    kriged = krige(bound, NOISE, found.entries, found.means(values[None]), targets, 2)
    cross = dense(bound, targets, points)
    weights = np.linalg.solve(noisy(bound, NOISE, data), cross.T)
    np.testing.assert_allclose(kriged.mean[0], values @ weights, rtol=0, atol=1e-8)
    variance = dense(bound, targets, targets).diagonal() - np.sum(cross.T * weights, axis=0)
    np.testing.assert_allclose(kriged.variance, variance, rtol=1e-6)


@pytest.mark.parametrize("name", ["some", "once"])
def test_what_differences_say_of_the_noise(name):
    data = repeated(name)
    found = pool(*data)
    values = np.random.default_rng(4).normal(size=(2, len(data.points)))
    differences = found.differences(values)

    def density(noise):
        each = values @ found.apart.T.toarray()
        variance = noise * found.unit_noise
        return np.mean(np.sum(-0.5 * np.log(2 * np.pi * variance) - 0.5 * each**2 / variance, axis=1))

    value, slope = differences.log_density(NOISE)
    np.testing.assert_allclose(value, density(NOISE), rtol=1e-12)
    np.testing.assert_allclose(slope, oracle.derivative(lambda x: density(x[0]), np.array([NOISE]))[0], rtol=1e-6)
