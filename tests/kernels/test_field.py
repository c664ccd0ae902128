"""Kernels of several coordinates against slow NumPy versions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probtensor.axes import Axis
from probtensor.errors import ModelError
from probtensor.hyperparameters import fixed, parameters
from probtensor.kernels.field import FieldStart
from probtensor.kernels.matern import Matern
from probtensor.kernels.periodic import Periodic
from probtensor.kernels.walks import IntegratedRandomWalk
from probtensor.labelled.coordinates import read
from tests.helpers import DTYPE, assert_close
from tests.oracles import gaussian_process as oracle

NAMES = ("lat", "lon", "t", "x")
START = FieldStart(0.1, 4.0)


def axes(kinds=None):
    points = {
        "lat": np.linspace(40, 60, 11),
        "lon": np.linspace(-10, 30, 21),
        "t": np.arange(100.0),
        "x": np.array([0.0, 1.0, 5.0]),
    }
    units = {"lat": "degrees_north", "t": "days"}
    return {n: Axis(n, (kinds or {}).get(n, "numeric"), p, units.get(n, "")) for n, p in points.items()}


def places(number, seed, names=NAMES):
    rng = np.random.default_rng(seed)
    own = axes()
    return np.stack([rng.uniform(own[n].points[0], own[n].points[-1], number) for n in names], axis=1).astype(DTYPE)


def matrix(kernel, a, b, names=NAMES):
    bound = kernel.bind(axes(), names, START, True)
    return np.asarray(bound.covariance(jnp.asarray(a)[:, None], jnp.asarray(b)[None]))


def column(points, name, names=NAMES):
    return np.asarray(points, dtype=np.float64)[:, names.index(name)]


def apart(a, b, name, names=NAMES):
    return np.abs(column(a, name, names)[:, None] - column(b, name, names)[None])


def chord(a, b, names=NAMES):
    """Straight-line distance in km through the Earth, from the angle between two places."""
    out = np.zeros((len(a), len(b)))
    for i in range(len(a)):
        for j in range(len(b)):
            p, q = np.deg2rad(column(a, "lat", names)[i]), np.deg2rad(column(b, "lat", names)[j])
            turn = np.deg2rad(column(a, "lon", names)[i] - column(b, "lon", names)[j])
            half = np.sin((p - q) / 2) ** 2 + np.cos(p) * np.cos(q) * np.sin(turn / 2) ** 2
            out[i, j] = 2 * 6371.0 * np.sqrt(half)
    return out


A, B = places(9, 0), np.concatenate([places(7, 1), places(9, 0)[:2]])
LENGTH = Matern(3 / 2, lengthscale=fixed(700.0), variance=fixed(2.0))
ROUGH = Matern(1 / 2, lengthscale=fixed(12.0), variance=fixed(1.5))


def test_one_coordinate():
    assert_close(matrix(ROUGH.on("t"), A, B), oracle.matern(0.5, 12.0, 1.5, apart(A, B, "t")))


@pytest.mark.parametrize("dims", [("lat", "lon"), ("lon", "lat")])
def test_latitude_and_longitude_are_on_a_sphere_by_default(dims):
    expected = oracle.matern(1.5, 700.0, 2.0, chord(A, B))
    assert_close(matrix(LENGTH.on(*dims), A, B), expected)
    assert_close(matrix(LENGTH.on(*dims, metric="sphere"), A, B), expected)


def test_euclidean_has_one_lengthscale():
    distance = np.hypot(apart(A, B, "lat"), apart(A, B, "lon"))
    assert_close(matrix(ROUGH.on("lat", "lon", metric="euclidean"), A, B), oracle.matern(0.5, 12.0, 1.5, distance))


def test_ard_has_a_lengthscale_for_each_coordinate():
    kernel = Matern(3 / 2, variance=fixed(2.0)).on("x", "t", "lat").bind(axes(), NAMES, START, True)
    # Starts are a tenth of each range, not below half the spacing: 0.5, 9.9 and 2, but x has a spacing of 2.5.
    lengths = {"x": 1.25, "t": 9.9, "lat": 2.0}
    scaled = [apart(A, B, n) / lengths[n] for n in lengths]
    distance = np.sqrt(sum(s**2 for s in scaled))
    found = kernel.covariance(jnp.asarray(A)[:, None], jnp.asarray(B)[None])
    assert_close(found, oracle.matern(1.5, 1.0, 2.0, distance))
    assert_close(kernel.ratios.value, [9.9 / 1.25, 2.0 / 1.25])


def test_declared_lengthscales_start_or_hold_the_other_coordinates_too():
    for declared, learned in ((5.0, True), (fixed(5.0), False)):
        kernel = Matern(3 / 2, lengthscale=declared).on("x", "t").bind(axes(), NAMES, START, True)
        assert_close(kernel.ratios.value, [1.0])
        assert kernel.ratios.learned is learned
        assert kernel.kernel.lengthscale.learned is learned
        assert_close(kernel.kernel.lengthscale.value, [5.0])


@pytest.mark.parametrize("names", [NAMES, ("t", "x", "lon", "lat"), ("x", "lon", "lat", "t")])
def test_sums_and_products_read_columns_in_any_order(names):
    kernel = LENGTH.on("lat", "lon") * Matern(1 / 2, lengthscale=fixed(12.0)).on("t") + ROUGH.on("x")
    a, b = A[:, [NAMES.index(n) for n in names]], B[:, [NAMES.index(n) for n in names]]
    product = oracle.matern(1.5, 700.0, 2.0, chord(A, B)) * oracle.matern(0.5, 12.0, 1.0, apart(A, B, "t"))
    assert_close(matrix(kernel, a, b, names), product + oracle.matern(0.5, 12.0, 1.5, apart(A, B, "x")))


def test_a_product_of_sums_expands():
    slow, fast = Matern(3 / 2).on("t"), Matern(1 / 2).on("t")
    kernel = (slow + fast) * Matern(1 / 2).on("x")
    assert kernel.dims == ("t", "x")
    bound = kernel.bind(axes(), NAMES, START, True)
    a, b = jnp.asarray(A), jnp.asarray(B[: len(A)])
    total = sum(np.prod([part.covariance(a, b) for part in product], axis=0) for product in bound.products())
    assert len(bound.products()) == 2
    assert_close(bound.covariance(a, b), total)


def test_a_sum_of_products_inside_expands():
    kernel = ((Matern(3 / 2) + Matern(1 / 2)) * Periodic(20.0)).on("t") * Matern(1 / 2).on("x")
    bound = kernel.bind(axes(), NAMES, START, True)
    first, second = bound.products()
    assert [type(on.kernel).__name__ for on in first] == ["Matern", "Periodic", "Matern"]
    assert first[1] is second[1]
    a, b = jnp.asarray(A), jnp.asarray(B[: len(A)])
    total = sum(np.prod([part.covariance(a, b) for part in product], axis=0) for product in (first, second))
    assert_close(bound.covariance(a, b), total)


def spline(u, v):
    """Covariance of a line with unit variances and of an integrated walk, both from 0, on the right of it."""
    near, far = np.minimum(u, v), np.maximum(u, v)
    return 1 + u * v + near**2 * (3 * far - near) / 6


def test_a_walk_reads_one_coordinate_by_itself():
    u, v = column(A, "t")[:, None] / 30, column(B, "t")[None] / 30
    walk = IntegratedRandomWalk(lengthscale=fixed(30.0), variance=fixed(2.0)).on("t")
    assert_close(matrix(walk, A, B), 2 * spline(u, v))
    assert_close(matrix(LENGTH.on("lat", "lon") * walk, A, B), 2 * spline(u, v) * matrix(LENGTH.on("lat", "lon"), A, B))
    both = (IntegratedRandomWalk(lengthscale=fixed(30.0), variance=fixed(2.0)) + ROUGH).on("t")
    assert_close(matrix(both, A, B), 2 * spline(u, v) + matrix(ROUGH.on("t"), A, B))


def test_the_whole_starts_with_the_variance_given():
    for kernel in (
        Matern(1 / 2).on("t"),
        Matern(1 / 2).on("t") * Matern(3 / 2).on("lat", "lon"),
        Matern(1 / 2).on("t") * Matern(3 / 2).on("lat", "lon") + Matern(1 / 2).on("x"),
        (Matern(1 / 2) + Matern(3 / 2)).on("t"),
    ):
        assert_close(np.diag(matrix(kernel, A, A)), np.full(len(A), START.variance))


def test_only_one_variance_of_a_product_is_learned():
    kernel = Matern(1 / 2).on("t") * (Matern(3 / 2).on("lat", "lon") + Matern(1 / 2).on("x"))
    bound = kernel.bind(axes(), NAMES, START, True)
    first, second = bound.parts
    assert first.kernel.variance.learned
    assert not second.parts[0].kernel.variance.learned
    assert second.parts[1].kernel.variance.learned  # relative to the first of the sum


@pytest.mark.parametrize("place", [0, 1])
def test_a_variance_given_to_one_factor_is_the_variance_of_the_product(place):
    given = [2.5 if k == place else None for k in (0, 1)]
    kernel = Matern(1 / 2, variance=given[0]).on("t") * Matern(3 / 2, variance=given[1]).on("lat", "lon")
    bound = kernel.bind(axes(), NAMES, START, True)
    assert [part.kernel.variance.learned for part in bound.parts] == [place == 0, place == 1]
    assert_close(np.diag(matrix(kernel, A, A)), np.full(len(A), 2.5))


def test_sphere_lengthscales_start_in_km():
    kernel = Matern(3 / 2).on("lon", "lat").bind(axes(), NAMES, START, True)
    degree = np.pi * 6371 / 180
    assert_close(kernel.kernel.lengthscale.value, [0.1 * degree * np.hypot(20, 40 * np.cos(np.deg2rad(50)))])


def in_metres():
    return {**axes(), "lat": Axis("lat", "numeric", np.linspace(0, 5e4, 11), "m")}


def test_metres_are_not_on_a_sphere():
    assert LENGTH.on("lat", "lon").bind(in_metres(), NAMES, START, True).metric == "ard"
    high = {**axes(), "lat": Axis("lat", "numeric", np.array([0.0, 91.0]))}
    assert LENGTH.on("lat", "lon").bind(high, NAMES, START, True).metric == "ard"


@pytest.mark.parametrize("unit", ["", "degrees_north", " degree_N", "decimal degrees", "deg", "°", "º"])
def test_degrees_are_on_a_sphere(unit):
    own = {**axes(), "lat": Axis("lat", "numeric", np.linspace(40, 60, 11), unit)}
    assert LENGTH.on("lat", "lon").bind(own, NAMES, START, True).metric == "sphere"


def test_who_says_sphere_means_it():
    track = {**axes(), "lon": Axis("lon", "numeric", np.linspace(-300, 300, 11), "turned")}
    assert LENGTH.on("lat", "lon", metric="sphere").bind(track, NAMES, START, True).metric == "sphere"
    assert LENGTH.on("lat", "lon").bind(track, NAMES, START, True).metric == "ard"


def test_durations():
    time = read("time", np.arange("2020-01-01", "2021-01-01", dtype="datetime64[D]"))[0].axis()
    kernel = Matern(1 / 2, lengthscale="30D").on("time").bind({"time": time}, ("time",), START, True)
    assert_close(kernel.kernel.lengthscale.value, [30.0])
    held = Matern(1 / 2, lengthscale=fixed("36h")).on("time").bind({"time": time}, ("time",), START, True)
    assert_close(held.kernel.lengthscale.value, [1.5])
    assert not held.kernel.lengthscale.learned


@pytest.mark.parametrize("dims", [("lat", "lon"), ("x", "t"), ("t",)])
def test_gradients_at_distance_zero_are_finite(dims):
    bound = Matern(1 / 2).on(*dims).bind(axes(), NAMES, START, True)
    a = jnp.asarray(A)

    def total(kernel):
        return jnp.sum(kernel.covariance(a[:, None], a[None]))

    gradients = jax.tree.leaves(jax.grad(total)(bound))
    assert len(gradients) >= len(parameters(bound))
    assert all(np.isfinite(g).all() for g in gradients)


def test_reach_is_where_half_is_left():
    bound = Matern(1 / 2, lengthscale=fixed(10.0)).on("t").bind(axes(), NAMES, START, True)
    # Of a grid of 400 distances over seven decades.
    np.testing.assert_allclose(bound.reach(99.0), 10 * np.log(2), rtol=0.05)
    assert bound.reach(0.1) == 1.0


BAD = {
    "no dimension": (lambda: Matern(1 / 2).on(), "name one or more dimensions"),
    "twice": (lambda: Matern(1 / 2).on("t", "t"), "each once"),
    "metric": (lambda: Matern(1 / 2).on("t", metric="chordal"), "metric='chordal'.*ard, euclidean, sphere"),
    "sphere of what": (
        lambda: Matern(1 / 2).on("x", "t", metric="sphere").bind(axes(), NAMES, START, True),
        "reads a latitude and a longitude, called .* CF attributes",
    ),
    "sphere of three": (lambda: Matern(1 / 2).on("lat", "lon", "t", metric="sphere"), "a latitude and a longitude"),
    "plain in a sum": (lambda: Matern(1 / 2).on("t") + Matern(1 / 2), "does not say which coordinates it reads"),
    "plain first": (lambda: Matern(1 / 2) + Matern(1 / 2).on("t"), "does not say which coordinates it reads"),
    "plain in a product": (lambda: Matern(1 / 2).on("t") * Matern(1 / 2), "does not say which coordinates"),
    "plain first in a product": (lambda: Matern(1 / 2) * Matern(1 / 2).on("t"), "does not say which coordinates"),
    "a number": (lambda: 2.0 * Matern(1 / 2).on("t"), "does not say which coordinates"),
    "metres on a sphere": (
        lambda: Matern(1 / 2).on("lat", "lon", metric="sphere").bind(in_metres(), NAMES, START, True),
        "'sphere' reads degrees.*use metric='euclidean'",
    ),
    "a cycle of two coordinates": (
        lambda: (Matern(1 / 2) * Periodic(5.0)).on("t", "x").bind(axes(), NAMES, START, True),
        r"Periodic is a covariance along one coordinate.*multiply one for each, Periodic\(...\).on\('t'\)",
    ),
    "a walk over two coordinates": (
        lambda: IntegratedRandomWalk().on("t", "x").bind(axes(), NAMES, START, True),
        r"covariance along one coordinate.*multiply one for each, IntegratedRandomWalk\(...\).on\('t'\)",
    ),
    "category": (
        lambda: Matern(1 / 2).on("t", "x").bind(axes({"x": "category"}), NAMES, START, True),
        "'x' is a category",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_errors(case):
    make, words = BAD[case]
    with pytest.raises(ModelError, match=words):
        make()
