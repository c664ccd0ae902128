"""Which entries are a grid, and covariances as products on it."""

import jax
import numpy as np
import pytest

from probtensor.gridded.grid import Grid, products, separable
from tests.nearest.fields import KERNELS, NAMES, SPACE, TIME, bind, dense


@pytest.fixture(autouse=True)
def in_64_bits():
    with jax.enable_x64(True):
        yield


def some_entries(share=0.7, seed=0):
    """Of a grid of 5 times and 4 x 3 places, in random order."""
    rng = np.random.default_rng(seed)
    axes = np.array([0.0, 1.0, 2.5, 4.0, 7.0]), np.arange(4.0), np.arange(3.0) ** 2
    points = np.stack([a.ravel() for a in np.meshgrid(*axes, indexing="ij")], axis=1)
    return points[rng.permutation(len(points))[: int(share * len(points))]]


@pytest.mark.parametrize("name", ["product", "sum"])
def test_products_are_the_covariance(name):
    kernel, points = bind(KERNELS[name]), some_entries()
    grid = Grid.of(kernel, NAMES, points)
    assert grid.shape == (5, 12)
    parts = separable(kernel, NAMES, grid)
    assert len(parts) == len(products(kernel))
    found = sum(p.rows[np.ix_(grid.row, grid.row)] * p.columns[np.ix_(grid.column, grid.column)] for p in parts)
    np.testing.assert_allclose(found, dense(kernel, points, points), rtol=0, atol=1e-12)


def test_entries_stand_where_their_coordinates_say():
    points = some_entries()
    grid = Grid.of(bind(KERNELS["sum"]), NAMES, points)
    others = [k for k in range(3) if k not in grid.own]
    np.testing.assert_array_equal(grid.rows[grid.row][:, list(grid.own)], points[:, list(grid.own)])
    np.testing.assert_array_equal(grid.columns[grid.column][:, others], points[:, others])
    row, column = grid.at(points[::-1])
    np.testing.assert_array_equal(row, grid.row[::-1])
    np.testing.assert_array_equal(column, grid.column[::-1])
    values = np.arange(2.0 * len(points)).reshape(2, -1)
    np.testing.assert_array_equal(grid.read(grid.spread(values)), values)
    assert np.sum(grid.spread(values) != 0) == values.size - 1  # but for the value that is zero


def test_elsewhere_is_not_on_the_grid():
    points = some_entries()
    grid = Grid.of(bind(KERNELS["sum"]), NAMES, points)
    assert grid.at(points + np.array([0.0, 0.5, 0.0])) is None
    assert grid.at(np.array([[0.5, 0.0, 0.0]])) is None


def test_other_places_are_on_the_grid():
    points = some_entries(1.0)
    points = points[points[:, 0] != 2.5]
    assert Grid.of(bind(KERNELS["product"]), NAMES, points).at(np.array([[2.5, 0.0, 0.0]])) is None
    grid = Grid.of(bind(KERNELS["product"]), NAMES, points, some_entries(1.0))
    assert grid.shape == (5, 12)
    assert grid.at(np.array([[2.5, 0.0, 0.0]])) is not None
    row, column = grid.at(points)
    np.testing.assert_array_equal(row, grid.row)
    np.testing.assert_array_equal(column, grid.column)


def test_scattered_points_and_kernels_of_all_coordinates_together_are_none():
    scattered = np.random.default_rng(0).uniform(0, 10, (60, 3))
    assert Grid.of(bind(KERNELS["sum"]), NAMES, scattered) is None
    assert Grid.of(bind(KERNELS["space"]), NAMES, some_entries()) is None
    together = bind(TIME.kernel.on("t", "x", "y", metric="euclidean") + TIME * SPACE)
    assert Grid.of(together, NAMES, some_entries()) is None
