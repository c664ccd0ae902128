"""What an approximation can be asked, and how it answers what it cannot."""

import dataclasses

import numpy as np
import pytest

import probtensor as pt

BOUNDS = {"x": (0.0, 2.0), "y": (-1.0, 1.0), "angle": (0.0, np.pi)}


def function(x, y, angle):
    return np.exp(x * y / 2) * np.sin(angle) + x


@pytest.fixture(scope="module")
def a():
    return pt.approximate(function, BOUNDS, tol=1e-11)


def test_broadcasting_names_and_numbers(a):
    x, y, angle = np.linspace(0, 2, 4)[:, None, None], np.linspace(-1, 1, 3)[:, None], np.linspace(0, 3, 5)
    np.testing.assert_allclose(a(x, y, angle), function(x, y, angle), atol=1e-9)
    assert a(x, y, angle).shape == (4, 3, 5)
    np.testing.assert_array_equal(a(angle=angle, y=y, x=x), a(x, y, angle))
    assert isinstance(a(1, 0, 2.0), float) and a(1, 0, 2.0) == a([1], 0, 2.0)[0]
    assert a(np.zeros((0, 2)), 0, 0).shape == (0, 2)
    np.testing.assert_allclose(a(2, True, np.float32(0.5)), function(2, 1, 0.5), rtol=1e-9)


def test_factors_are_orthonormal_and_ordered(a):
    nodes, weights = np.polynomial.legendre.leggauss(60)
    at = {name: (low + high) / 2 + (high - low) / 2 * nodes for name, (low, high) in BOUNDS.items()}
    for axis, (name, values) in enumerate(a.factors(at).items()):
        np.testing.assert_allclose(values.T @ (weights[:, None] / 2 * values), np.eye(a.rank[name]), atol=1e-12)
        unfolded = np.moveaxis(a.core, axis, 0).reshape(a.rank[name], -1)
        sizes = a.singular_values[name]
        np.testing.assert_allclose(unfolded @ unfolded.T, np.diag(sizes**2), atol=1e-9)
        assert (np.diff(sizes) < 0).all()
        biggest = np.abs(a.coefficients[name]).argmax(axis=0)
        assert (a.coefficients[name][biggest, np.arange(a.rank[name])] > 0).all()


def test_integral_and_derivative(a):
    from scipy.integrate import tplquad

    exact = tplquad(lambda z, y, x: function(x, y, z), 0, 2, -1, 1, 0, np.pi)[0]
    np.testing.assert_allclose(a.integral(), exact, rtol=1e-9)
    x, y, angle = np.random.default_rng(0).uniform([0, -1, 0], [2, 1, np.pi], (100, 3)).T
    slope = a.derivative("y")
    np.testing.assert_allclose(slope(x, y, angle), x / 2 * np.exp(x * y / 2) * np.sin(angle), atol=1e-7)
    twice = a.derivative("angle").derivative("angle")
    np.testing.assert_allclose(twice(x, y, angle), -np.exp(x * y / 2) * np.sin(angle), atol=1e-6)
    assert slope.error is None and "error=not estimated" in repr(slope)
    flat = pt.approximate(lambda x, y: x, [(0, 1)] * 2).derivative("x1")
    assert flat(0.3, 0.2) == 0.0


def test_a_derivative_is_in_the_same_form():
    """Orthonormal factors, and singular values that are root mean squares of the derivative."""
    wave = pt.approximate(lambda x, y: np.sin(20 * x) * np.exp(y), {"x": (0, 1), "y": (0, 2)}, tol=1e-10)
    slope = wave.derivative("x")
    # The mean of (20 cos(20 x))^2 over [0, 1], times that of e^(2 y) over [0, 2].
    expected = np.sqrt(400 * (0.5 + np.sin(40) / 80) * (np.exp(4) - 1) / 4)
    for name in ("x", "y"):
        np.testing.assert_allclose(slope.singular_values[name][0], expected, rtol=1e-7)
    assert f"{expected:.1e}" in slope.summary()
    nodes, weights = np.polynomial.legendre.leggauss(60)
    values = slope.factors({"x": 0.5 + 0.5 * nodes})["x"]
    np.testing.assert_allclose(values.T @ (weights[:, None] / 2 * values), np.eye(values.shape[1]), atol=1e-9)
    np.testing.assert_allclose(slope(0.3, 1.5), 20 * np.cos(6) * np.exp(1.5), rtol=1e-6)
    with pytest.raises(pt.DataError, match=r"derivative\('x'\): it is too large for float64"):
        pt.approximate(lambda x: 1e308 * np.cos(20 * x), {"x": (0, 1)}).derivative("x")


def test_frozen_and_described(a):
    with pytest.raises(dataclasses.FrozenInstanceError):
        a.core = None
    with pytest.raises(ValueError, match="read-only"):
        a.core[0, 0, 0] = 1.0
    assert repr(a).startswith("FunctionalTucker(rank={x: ") and f"evaluations={a.evaluations}" in repr(a)
    text = a.summary()
    for part in ("angle", "[0, 3.14159]", f"{a.error.points} points", f"{a.error.relative:.1e}", "asked: 1e-11"):
        assert part in text


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda a: a(3, 0, 0), pt.DataError, r"'x': 3.0 is outside the bounds \[0, 2\]"),
        (lambda a: a(1, [0, 0, -1.5], 0), pt.DataError, r"'y': -1.5 at index 2 is outside"),
        (lambda a: a(1, 0, [[0, 1], [np.nan, 9]]), pt.DataError, r"'angle': nan at index \(1, 0\) is outside"),
        (lambda a: a(1, 0, 1j), pt.DataError, "'angle': coordinates must be real numbers, not of dtype complex128"),
        (lambda a: a("a", 0, 0), pt.DataError, "'x': coordinates must be real"),
        (lambda a: a(1, 0), pt.ModelError, "2 coordinates for the 3 variables x, y, angle"),
        (lambda a: a(x=1, y=0), pt.ModelError, "no coordinates of angle"),
        (lambda a: a(), pt.ModelError, "no coordinates of x, y, angle"),
        (lambda a: a(1, y=0, angle=0), pt.ModelError, "all of them by name"),
        (lambda a: a(x=1, y=0, angle=0, z=2), pt.ModelError, "'z' is not a variable here; there are x, y, angle"),
        (lambda a: a([1, 1], [0, 0, 0], 0), pt.ModelError, r"cannot be broadcast: x \(2,\), y \(3,\), angle \(\)"),
        (lambda a: a.derivative("z"), pt.ModelError, "'z' is not a variable"),
        (lambda a: a.factors({"z": 1}), pt.ModelError, "'z' is not a variable"),
        (lambda a: a.factors({"x": [[1]]}), pt.ModelError, r"one array of N, not of shape \(1, 1\)"),
        (lambda a: a.factors({"x": 7}), pt.DataError, "'x': 7.0 is outside"),
    ],
)
def test_what_cannot_be_asked(a, call, error, message):
    with pytest.raises(error, match=message):
        call(a)


def test_a_bound_missed_by_rounding_is_the_bound():
    b = pt.approximate(lambda x, y: x * y, [(0.1, 0.3), (1e6, 1e6 + 1)])
    assert b(0.1 + 0.2, 1e6) == b(0.3, 1e6)


def test_a_bound_missed_by_the_rounding_of_32_bits_is_the_bound():
    b = pt.approximate(lambda x: x**2, {"x": (0, 0.1)})
    assert b(np.float32(0.1)) == b(0.1)
    np.testing.assert_array_equal(b(np.array([0.0, 0.1], np.float32)), b([0.0, 0.1]))
    for beyond in (float(np.float32(0.1)), np.float32(0.1001)):
        with pytest.raises(pt.DataError, match="is outside the bounds"):
            b(beyond)
    # Where 32 bits are coarser than the range, their rounding is no excuse.
    far = pt.approximate(lambda x: x - 1.7e9, {"x": (1.7e9, 1.7e9 + 600)})
    with pytest.raises(pt.DataError, match="is outside the bounds"):
        far(np.float32(1.7e9 + 1024))
