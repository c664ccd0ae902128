"""Predictions and joint draws by cells against the dense Gaussian."""

import numpy as np
import pytest

from probtensor.errors import ModelError
from probtensor.kernels.adapted import Table, extended, with_table
from probtensor.nearest import kriging
from probtensor.nearest.conditionals import Entries
from probtensor.nearest.kriging import draw, krige
from probtensor.nearest.sharing import groups
from tests.helpers import mostly_slow
from tests.nearest.fields import KERNELS, WITH_ADAPTED, bind, dense, entries, noisy

NOISE = 0.3
everything = pytest.mark.parametrize("name", mostly_slow(WITH_ADAPTED, "space", "sum"))


def variances(kernel, points):
    return np.array([dense(kernel, p[None], p[None]).item() for p in points])


def conditioned(kernel, data, targets, part=None):
    """Weights of the values, and the covariance of the function at the targets given them."""
    part = kernel if part is None else part
    cross = dense(part, targets, data.points)
    weights = np.linalg.solve(noisy(kernel, NOISE, data), cross.T).T
    return weights, dense(part, targets, targets) - weights @ cross.T


@everything
def test_few_entries_are_all_conditioned_on(name):
    kernel, data, targets = bind(WITH_ADAPTED[name]), entries(50), entries(300, seed=1).points
    values = np.random.default_rng(2).normal(size=(3, 50))
    found = krige(kernel, NOISE, data, values, targets, 30)
    weights, covariance = conditioned(kernel, data, targets)
    np.testing.assert_allclose(found.mean, values @ weights.T, rtol=0, atol=1e-8)
    np.testing.assert_allclose(found.variance, np.diag(covariance), rtol=1e-8)


def test_part_of_a_sum():
    kernel, data, targets = bind(KERNELS["sum"]), entries(40), entries(5, seed=1).points
    values = np.random.default_rng(2).normal(size=(2, 40))
    found = krige(kernel, NOISE, data, values, targets, 30, kernel.parts[1])
    weights, covariance = conditioned(kernel, data, targets, kernel.parts[1])
    np.testing.assert_allclose(found.mean, values @ weights.T, rtol=0, atol=1e-8)
    np.testing.assert_allclose(found.variance, np.diag(covariance), rtol=1e-8)


@everything
def test_each_cell_is_conditioned_on_its_own_entries(name):
    kernel, data, targets = bind(WITH_ADAPTED[name]), entries(400), entries(60, seed=1).points
    values = np.random.default_rng(2).normal(size=(1, 400))
    found = krige(kernel, NOISE, data, values, targets, 2)
    cells = list(groups(kernel, data.points, targets, 2))
    assert len(cells) > 5
    K, cross, own = noisy(kernel, NOISE, data), dense(kernel, targets, data.points), variances(kernel, targets)
    for rows, near in cells:
        weights = np.linalg.solve(K[np.ix_(near, near)], cross[np.ix_(rows, near)].T).T
        np.testing.assert_allclose(found.mean[0, rows], weights @ values[0, near], rtol=0, atol=1e-8)
        left = np.sum(weights * cross[np.ix_(rows, near)], axis=1)
        np.testing.assert_allclose(found.variance[rows], own[rows] - left, rtol=1e-8)


@everything
def test_an_answer_does_not_depend_on_the_other_places(name):
    kernel, data, targets = bind(WITH_ADAPTED[name]), entries(400), entries(200, seed=1).points
    values = np.random.default_rng(2).normal(size=(1, 400))
    whole = krige(kernel, NOISE, data, values, targets, 2)
    some = np.random.default_rng(3).permutation(200)[:9]
    part = krige(kernel, NOISE, data, values, targets[some], 2)
    np.testing.assert_allclose(part.mean, whole.mean[:, some], rtol=0, atol=1e-10)
    np.testing.assert_allclose(part.variance, whole.variance[some], rtol=0, atol=1e-10)


def test_observed_places_without_noise_are_known_and_far_ones_are_not():
    kernel = bind(KERNELS["space"])
    data = Entries(entries(200).points, np.zeros(200))
    values = np.random.default_rng(2).normal(size=(1, 200))
    targets = np.concatenate([data.points[:50], 1e6 * np.ones((1, 3))])
    found = krige(kernel, NOISE, data, values, targets, 2)
    np.testing.assert_allclose(found.mean[0, :50], values[0, :50], atol=1e-4)
    np.testing.assert_allclose(found.variance, [*[0] * 50, 1.4], atol=1e-4)
    assert abs(found.mean[0, 50]) < 1e-12
    assert (found.variance > 0).all()


@everything
def test_repeated_places_without_noise_stay_finite(name):
    data = Entries(np.repeat(entries(30).points, 4, axis=0), np.zeros(120))
    values = np.repeat(np.random.default_rng(2).normal(size=(1, 30)), 4, axis=1)
    found = krige(bind(WITH_ADAPTED[name]), NOISE, data, values, data.points, 1)
    np.testing.assert_allclose(found.mean, values, atol=1e-2)
    assert np.isfinite(found.variance).all()


@everything
@pytest.mark.parametrize("places", mostly_slow([3, 300]))
def test_draws_have_the_dense_covariance(name, places):
    """In one block and in two: a draw is linear in its white noise, so that unit vectors give the factor."""
    kernel, data, targets = bind(WITH_ADAPTED[name]), entries(30), entries(places, seed=1).points
    values = np.random.default_rng(2).normal(size=(1, 30)).repeat(places + 1, axis=0)
    found = draw(kernel, NOISE, data, values, targets, 100, np.eye(places + 1, places, -1))
    weights, covariance = conditioned(kernel, data, targets)
    np.testing.assert_allclose(found[0], weights @ values[0], rtol=0, atol=1e-6)
    factor = found[1:] - found[0]
    np.testing.assert_allclose(factor.T @ factor, covariance, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_places_that_a_table_has_and_others():
    """Learned covariances where there are some, and what the kernel makes of them elsewhere."""
    rng, grid = np.random.default_rng(5), np.array([(x, y) for x in (0.0, 2.0, 5.0) for y in (1.0, 4.0)])
    root = rng.normal(size=(6, 6))
    kernel = with_table(bind(WITH_ADAPTED["adapted"]), Table.of(grid, root @ root.T + np.eye(6), 1.0))
    points = np.column_stack([np.arange(40) % 7, grid[rng.integers(0, 6, 40)]])
    data = Entries(points, rng.uniform(0.5, 2.0, 40))
    targets = np.concatenate([points[:9] + [0.5, 0, 0], points[:9] + [0.5, 0.7, -0.3]])
    wider, values = extended(kernel, targets), rng.normal(size=(2, 40))
    weights, covariance = conditioned(wider, data, targets)
    found = krige(wider, NOISE, data, values, targets, 30)
    np.testing.assert_allclose(found.mean, values @ weights.T, rtol=0, atol=1e-8)
    np.testing.assert_allclose(found.variance, np.diag(covariance), rtol=1e-8)
    apart = krige(kernel, NOISE, data, values, targets[:9], 30)
    np.testing.assert_allclose(apart.mean, found.mean[:, :9], rtol=0, atol=1e-8)
    with pytest.raises(ModelError, match="not positive definite"):
        krige(wider, NOISE, Entries(data.points + [0, 0.1, 0], data.unit_noise), values, targets, 30)


@pytest.mark.slow
def test_draws_of_many_cells():
    """Blocks see only some of those before them: nearly the dense covariance, and about the mean of `krige`."""
    kernel, data, targets = bind(KERNELS["product"]), entries(500), entries(80, seed=1).points
    values = np.random.default_rng(2).normal(size=(1, 500)).repeat(81, axis=0)
    assert len(list(groups(kernel, data.points, targets, 10))) > 20
    found = draw(kernel, NOISE, data, values, targets, 10, np.eye(81, 80, -1))
    weights, covariance = conditioned(kernel, data, targets)
    sd = np.sqrt(np.diag(covariance))
    mean = krige(kernel, NOISE, data, values[:1], targets, 10).mean
    for centre in (mean, values[0] @ weights.T):
        assert np.sqrt(np.mean(((found[0] - centre) / sd) ** 2)) < 0.07
    factor = (found[1:] - found[0]) / sd
    np.testing.assert_allclose(factor.T @ factor, covariance / np.outer(sd, sd), rtol=0, atol=0.03)


def test_a_covariance_that_is_none(monkeypatch):
    monkeypatch.setattr(kriging, "_covariance", lambda kernel, a, b: np.full((len(a), len(b)), np.nan))
    with pytest.raises(ModelError, match="covariance of 20 neighbouring entries is not positive definite"):
        krige(bind(KERNELS["space"]), NOISE, entries(20), np.zeros((1, 20)), entries(2).points, 5)
