"""Products by Fourier series against matrix products, on the sphere, on a map and around the globe."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probtensor.axes import Axis
from probtensor.gridded import shifts
from probtensor.kernels.field import FieldStart, covariance_matrix
from probtensor.kernels.matern import Matern


@pytest.fixture(autouse=True)
def in_64_bits():
    with jax.enable_x64(True):
        yield


@pytest.fixture(autouse=True)
def whatever_it_costs(monkeypatch):
    monkeypatch.setattr(shifts, "_COST", 0.0)


def places(latitudes, longitudes, share=0.7):
    grid = np.stack([a.ravel() for a in np.meshgrid(latitudes, longitudes, indexing="ij")], axis=1)
    return grid[np.random.default_rng(0).permutation(len(grid))[: int(share * len(grid))]]


def bound(latitudes, longitudes, metric, length):
    axes = {n: Axis(n, "numeric", x, "degrees") for n, x in (("lat", latitudes), ("lon", longitudes))}
    kernel = Matern(3 / 2, lengthscale=length).on("lat", "lon", metric=metric)
    return kernel.bind(axes, ("lat", "lon"), FieldStart(0.1, 1.0), True)


AROUND, ARC = np.arange(0.0, 360.0, 15.0), np.arange(10.0, 70.0, 5.0)
LATITUDES = np.array([-20.0, -7.0, 0.0, 30.0, 61.0])


@pytest.mark.parametrize(
    ("metric", "longitudes", "length", "circle"),
    [("sphere", AROUND, 2000.0, 24), ("sphere", ARC, 2000.0, None), ("euclidean", ARC, 20.0, None)],
)
def test_products_are_those_of_the_matrix(metric, longitudes, length, circle):
    kernel, points = bound(LATITUDES, longitudes, metric, length), places(LATITUDES, longitudes)
    found = shifts.shifted(kernel, points, [0, 1])
    assert found is not None
    assert found.length == circle if circle else found.length >= 2 * len(longitudes) - 1
    x = np.random.default_rng(1).normal(size=(3, len(points)))
    expected = x @ np.asarray(covariance_matrix(kernel, points, points))
    np.testing.assert_allclose(found.times(x), expected, rtol=0, atol=1e-9 * np.abs(expected).max())


def test_latitudes_may_be_the_ones_that_move_on_a_map():
    uneven = ARC + np.random.default_rng(0).uniform(0, 2, len(ARC))
    even = np.arange(0.0, 40.0, 5.0)
    kernel, points = bound(even, uneven, "euclidean", 20.0), places(even, uneven)
    found = shifts.shifted(kernel, points, [0, 1])
    x = np.random.default_rng(1).normal(size=(2, len(points)))
    np.testing.assert_allclose(found.times(x), x @ np.asarray(covariance_matrix(kernel, points, points)), atol=1e-8)


def test_what_does_not_stay_the_same_is_none():
    uneven = np.sort(np.random.default_rng(0).uniform(0, 90, 12))
    assert shifts.shifted(bound(LATITUDES, uneven, "sphere", 2000.0), places(LATITUDES, uneven), [0, 1]) is None
    adapted = Matern(3 / 2, lengthscale=20.0).on("lat", "lon", metric="euclidean").adapted(degree=1)
    axes = {n: Axis(n, "numeric", x) for n, x in (("lat", LATITUDES), ("lon", ARC))}
    kernel = adapted.bind(axes, ("lat", "lon"), FieldStart(0.1, 1.0), True)
    kernel = eqx.tree_at(lambda k: k.size.coefficients.raw, kernel, jnp.asarray([0.5, 0.5]))
    assert shifts.shifted(kernel, places(LATITUDES, ARC), [0, 1]) is None


def test_few_places_are_multiplied_by_the_matrix(monkeypatch):
    monkeypatch.setattr(shifts, "_COST", 4.0)
    assert shifts.shifted(bound(LATITUDES, ARC, "sphere", 2000.0), places(LATITUDES, ARC), [0, 1]) is None
