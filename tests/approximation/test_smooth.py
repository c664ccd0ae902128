"""Smooth functions: to the tolerance, with their ranks and degrees, and an error estimate that is right."""

import numpy as np
import pytest

import probtensor as pt
from tests.oracles import functional_tucker as oracle

ONE, UNIT = (-1.0, 1.0), (0.0, 1.0)


def true_error(approximation, function, points=20_000, seed=123):
    """Largest deviation at random points, over the largest value there: points of no seed that the library uses."""
    ends = np.array(list(approximation.bounds.values())).T
    x = ends[0] + (ends[1] - ends[0]) * np.random.default_rng(seed).random((points, ends.shape[1]))
    values = function(*x.T)
    return np.abs(values - approximation(*x.T)).max() / np.abs(values).max()


def borehole(rw, Tl, Hu, Hl, L, Kw):
    """Flow through a borehole, two of its eight variables held."""
    r, Tu = 3_000.0, 90_000.0
    log = np.log(r / rw)
    return 2 * np.pi * Tu * (Hu - Hl) / (log * (1 + 2 * L * Tu / (log * rw**2 * Kw) + Tu / Tl))


SMOOTH = {
    "3-D pole": (lambda x, y, z: 1 / (x + y + z + 5), [ONE] * 3),
    "3-D bell": (lambda x, y, z: 1 / (1 + x**2 + y**2 + z**2), [ONE] * 3),
    "3-D exp sin": (lambda x, y, z: np.exp(np.sin(x * y) + z), [ONE] * 3),
    "3-D tanh": (lambda x, y, z: np.tanh(3 * (x + y + z)), [ONE] * 3),
    "4-D": (lambda *x: np.exp(-sum((v - 0.3) ** 2 for v in x)) * np.cos(sum(x)), [ONE] * 4),
    "4-D rational": (lambda a, b, c, d: 1 / (1 + a + b**2 + c * d), [UNIT] * 4),
    "5-D": (lambda *x: np.sqrt(1 + sum(v**2 for v in x)), [ONE] * 5),
    "6-D Gaussian": (lambda *x: np.exp(-sum(v**2 for v in x) / 2), [ONE] * 6),
    "6-D cosine": (lambda *x: np.cos(sum((i + 1) * v for i, v in enumerate(x)) / 6), [ONE] * 6),
    "6-D borehole": (
        borehole,
        {
            "rw": (0.05, 0.15),
            "Tl": (63.1, 116),
            "Hu": (990, 1110),
            "Hl": (700, 820),
            "L": (1120, 1680),
            "Kw": (9855, 12045),
        },
    ),
    "1-D": (lambda x: np.exp(np.sin(3 * x)), [UNIT]),
    "2-D": (lambda x, y: np.sin(10 * x * y) / (1 + x), [UNIT] * 2),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_reaches_the_tolerance_and_knows_its_error(name):
    function, bounds = SMOOTH[name]
    a = pt.approximate(function, bounds, tol=1e-10)
    error = true_error(a, function)
    assert a.converged and a.messages == ()
    assert error < 1e-10
    assert error / 3 < a.error.relative < 10 * error + 1e-14
    assert a.error.root_mean_square <= a.error.absolute


@pytest.mark.parametrize("tol", [1e-2, 1e-6, 1e-13])
def test_other_tolerances(tol):
    a = pt.approximate(SMOOTH["3-D bell"][0], [ONE] * 3, tol=tol)
    assert a.converged and true_error(a, SMOOTH["3-D bell"][0]) < tol


def test_a_lower_tolerance_takes_less():
    rough, fine = (pt.approximate(SMOOTH["3-D tanh"][0], [ONE] * 3, tol=tol) for tol in (1e-3, 1e-9))
    assert rough.evaluations < fine.evaluations
    assert all(rough.rank[name] < fine.rank[name] and rough.degree[name] < fine.degree[name] for name in rough.names)


@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1.0, 1e150, 1e300])
@pytest.mark.parametrize("tol", [1e-6, 1e-11])
def test_polynomials_have_their_rank_and_degree(scale, tol):
    core = np.random.default_rng(0).standard_normal((2, 3, 2)) * scale

    def polynomial(x, y, z):
        return np.einsum(
            "abc,an,bn,cn->n", core, [np.ones_like(x), x], [y, y**3, y**4], [z**2, z**5 - 1], optimize=False
        )

    a = pt.approximate(polynomial, {"x": (0, 2), "y": (-1, 1), "z": (-2, 1)}, tol=tol)
    assert a.rank == {"x": 2, "y": 3, "z": 2}
    assert a.degree == {"x": 1, "y": 4, "z": 5}
    assert a.converged and true_error(a, polynomial) < tol
    assert all(np.isfinite(values).all() for values in a.singular_values.values())


def test_many_variables_of_low_rank():
    a = pt.approximate(lambda *x: np.cos(sum(x)), [UNIT] * 10, tol=1e-10)
    assert set(a.rank.values()) == {2} and true_error(a, lambda *x: np.cos(sum(x))) < 1e-10


def test_constants_and_functions_of_one_variable():
    constant = pt.approximate(lambda x, y: np.full_like(x, -3.25), [ONE] * 2)
    assert set(constant.rank.values()) == {1} and set(constant.degree.values()) == {0}
    np.testing.assert_allclose(constant(0.3, [0.1, 0.9]), -3.25, rtol=1e-15)
    one = pt.approximate(lambda x, y, z: np.exp(y), [ONE] * 3, tol=1e-12)
    assert set(one.rank.values()) == {1}
    assert one.degree["x0"] == one.degree["x2"] == 0 < one.degree["x1"]


def test_bounds_far_from_zero():
    """Chebyshev's points cannot be represented there; float64 is off by 1e-10 of the range."""

    def function(x, y, z):
        return np.sin(10 * (x - 1e6) + y) * np.cos(z)

    a = pt.approximate(function, [(1e6, 1e6 + 1), UNIT, UNIT], tol=1e-10)
    assert a.converged and true_error(a, function) < 1e-10


def test_permuted_variables_give_the_permuted_result():
    def function(x, y, z):
        return np.exp(np.sin(x * y) + z) + x * z

    bounds = {"x": (0, 1), "y": (-1, 1), "z": (-2, 0.5)}
    a = pt.approximate(function, bounds, tol=1e-10)
    b = pt.approximate(lambda z, x, y: function(x, y, z), {name: bounds[name] for name in "zxy"}, tol=1e-10)
    x = {name: np.random.default_rng(1).uniform(*ends, 500) for name, ends in bounds.items()}
    np.testing.assert_allclose(a(**x), b(**x), atol=2e-10 * np.abs(a(**x)).max())
    for name in bounds:
        assert abs(a.rank[name] - b.rank[name]) <= 1
        leading = slice(min(a.rank[name], b.rank[name]) // 2)
        np.testing.assert_allclose(a.singular_values[name][leading], b.singular_values[name][leading], rtol=1e-3)


def test_the_same_seed_gives_the_same_result():
    first, again = (pt.approximate(SMOOTH["3-D bell"][0], [ONE] * 3, seed=4) for _ in range(2))
    other = pt.approximate(SMOOTH["3-D bell"][0], [ONE] * 3, seed=5)
    np.testing.assert_array_equal(first.core, again.core)
    assert first.evaluations == again.evaluations and first.error.absolute == again.error.absolute
    assert other.error.absolute != first.error.absolute


def test_single_numbers_as_arrays():
    def scalar(x, y):
        assert type(x) is float and type(y) is float
        return 1 / (3 + x * y) if x > -2 else None

    a = pt.approximate(scalar, [ONE] * 2, tol=1e-8, vectorized=False, max_evaluations=20_000)
    b = pt.approximate(lambda x, y: 1 / (3 + x * y), [ONE] * 2, tol=1e-8, max_evaluations=20_000)
    np.testing.assert_allclose(a.core, b.core, rtol=1e-12, atol=1e-14)


def test_a_function_that_writes_into_its_arguments():
    def writes(x, y):
        x *= y
        x += 2
        return x

    a = pt.approximate(writes, [ONE] * 2)
    assert a.rank == {"x0": 2, "x1": 2}
    np.testing.assert_allclose(a(0.5, 0.25), 2.125, rtol=1e-12)


@pytest.mark.parametrize("rank", [2, {"x0": 2, "x1": 2, "x2": 2}, [2, 2, 2], np.array([2, 2, 2])])
def test_a_given_rank_is_filled_with_the_best(rank):
    function = SMOOTH["3-D bell"][0]
    full = pt.approximate(function, [ONE] * 3, tol=1e-10)
    with pytest.warns(pt.ProbtensorWarning, match=r"rank asked for, x0 \(2\), x1 \(2\), x2 \(2\), leaves"):
        a = pt.approximate(function, [ONE] * 3, rank=rank)
    assert a.core.shape == (2, 2, 2) and not a.converged

    def cut(x, y, z):
        f = full.factors({"x0": x, "x1": y, "x2": z})
        return np.einsum("abc,na,nb,nc->n", full.core[:2, :2, :2], *(f[name][:, :2] for name in full.names))

    x = np.random.default_rng(0).uniform(-1, 1, (5_000, 3)).T
    best = np.abs(cut(*x) - function(*x)).max()
    assert np.abs(a(*x) - function(*x)).max() < 1.05 * best
    assert a.error.absolute > 0.9 * best


def test_a_rank_for_some_variables():
    a = pt.approximate(lambda x, y, z: np.exp(x * y) + z, {"x": ONE, "y": ONE, "z": ONE}, rank={"z": 5}, tol=1e-8)
    assert a.converged and a.rank["z"] == 2 and a.rank["x"] > 5


def test_evaluation_against_a_dense_grid():
    a = pt.approximate(SMOOTH["4-D"][0], {"a": ONE, "b": (0, 1), "c": (-0.5, 1), "d": ONE}, tol=1e-9)
    grids = [np.linspace(low, high, n) for n, (low, high) in zip((5, 4, 3, 6), a.bounds.values(), strict=True)]
    dense = oracle.on_grid(a.core, a.coefficients.values(), a.bounds.values(), grids)
    mesh = np.meshgrid(*grids, indexing="ij", sparse=True)
    np.testing.assert_allclose(a(*mesh), dense, atol=1e-13)
    np.testing.assert_allclose(dense, SMOOTH["4-D"][0](*mesh), atol=2e-9)
