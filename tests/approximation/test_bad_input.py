"""Bad input: what is wrong, where, and what to do."""

import numpy as np
import pytest

import probtensor as pt

BOX = {"x": (0.0, 1.0), "y": (-1.0, 1.0)}


def good(x, y):
    return x + y


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({}, r"give \(low, high\) of every variable"),
        ([], r"give \(low, high\) of every variable"),
        (None, r"bounds=None: give"),
        ("xy", r"bounds='xy': give"),
        (3, "bounds=3: give"),
        ({"x": (0, 1), 2: (0, 1)}, "name of a variable must be a string, not 2"),
        ({"": (0, 1)}, "name of a variable must be a string, not ''"),
        ({"x": (1, 0)}, "'x': the lower one, 1, must be below the upper one, 0"),
        ({"x": (1, 1)}, "'x': the lower one, 1, must be below"),
        ([(0, 1), (2, 1)], "'x1': the lower one, 2"),
        ({"x": (0, np.inf)}, r"'x': \(0, inf\) must be finite"),
        ({"x": (np.nan, 1)}, r"'x': \(nan, 1\) must be finite"),
        ({"x": (0, 1, 2)}, r"'x': expected two numbers \(low, high\), not \(0, 1, 2\)"),
        ({"x": 1}, "'x': expected two numbers"),
        ({"x": ("a", "b")}, "'x': expected two numbers"),
        ({"x": (1e16, 1e16 + 8)}, "'x': .* too near each other for float64; subtract an origin"),
    ],
)
def test_bounds(bounds, message):
    with pytest.raises(pt.ModelError, match=message):
        pt.approximate(good, bounds)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tol": 0}, "tol=0: the relative error must be a number from 1e-15 to below 1"),
        ({"tol": -1e-3}, "tol=-0.001"),
        ({"tol": 1.0}, "tol=1.0"),
        ({"tol": np.nan}, "tol=nan"),
        ({"tol": 1e-17}, "tol=1e-17"),
        ({"tol": "small"}, "tol='small'"),
        ({"tol": True}, "tol=True"),
        ({"rank": 0}, "rank of 'x': 0 is not a positive integer; or say rank='auto'"),
        ({"rank": 2.5}, "rank of 'x': 2.5"),
        ({"rank": True}, "rank of 'x': True"),
        ({"rank": "high"}, "rank of 'x': 'high'"),
        ({"rank": None}, "rank of 'x': None"),
        ({"rank": {"x": 2, "z": 3}}, "'z' is not a variable here; there are x, y"),
        ({"rank": {"y": -1}}, "rank of 'y': -1"),
        ({"rank": {"y": None}}, "rank of 'y': None"),
        ({"rank": [2, 2, 2]}, r"rank=\[2, 2, 2\]: 3 ranks for the 2 variables x, y"),
        ({"rank": [2, "auto"]}, "rank of 'y': 'auto'"),
        ({"max_evaluations": 100}, "max_evaluations=100: expected an integer at least 2000"),
        ({"max_evaluations": 1e6}, "max_evaluations=1000000.0: expected an integer"),
        ({"max_degree": 4}, "max_degree=4: expected an integer from 8 to 4096"),
        ({"max_degree": 10_000}, "max_degree=10000"),
        ({"check_points": 0}, "check_points=0: expected an integer at least 64"),
        ({"seed": -1}, "seed=-1: expected an integer at least 0"),
    ],
)
def test_arguments(arguments, message):
    with pytest.raises(pt.ModelError, match=message):
        pt.approximate(good, BOX, **arguments)


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (lambda x, y: np.log(x + y), {}, r"the function is (nan|-inf) at x=.*, y=-?[0-9.]+ .*points of this call"),
        (lambda x, y: 1 / (x * y * (y - 1)), {}, r"the function is -?inf at x=0\.0, y=-1\.0 "),
        (lambda x, y: np.ma.masked_less(x + y, 0), {}, "the function is nan at x="),
        (lambda x, y: 1.0, {}, r"gave shape \(\) for 2 arrays of shape \(\d+,\).*vectorized=False"),
        (lambda x, y: np.add.outer(x, y), {}, r"gave shape \(\d+, \d+\)"),
        (lambda x, y: (x + y)[:, None], {}, r"gave shape \(\d+, 1\)"),
        (lambda x, y: (x + y)[1:], {}, r"gave shape"),
        (lambda x, y: x + 1j * y, {}, r"complex values \(complex128\); approximate its real and its imaginary part"),
        (lambda x, y: x.astype(str), {}, "dtype <U"),
        (lambda x, y: None, {}, "dtype object, not real numbers"),
        (lambda x, y: np.array([x, y]), {"vectorized": False}, r"gave shape \(2,\) at x=0.0, y=-1.0"),
        (lambda x, y: complex(x, y), {"vectorized": False}, "complex values"),
        (lambda x, y: None, {"vectorized": False}, "dtype object"),
        (lambda x, y: float("nan"), {"vectorized": False}, "the function is nan at x=0.0, y=-1.0"),
    ],
)
def test_values(function, arguments, message):
    with np.errstate(all="ignore"), pytest.raises(pt.DataError, match=message):
        pt.approximate(function, BOX, **arguments)


def test_a_bad_point_that_is_met_late_is_named():
    def function(x, y):
        return np.where((np.abs(x - 0.5) < 0.01) & (y > 0.9), np.nan, x)

    with pytest.raises(pt.DataError, match=r"the function is nan at x=0\.(49|50|5)\d*, y=(0\.9\d*|1\.0) "):
        pt.approximate(function, BOX)


def test_errors_of_the_function_say_where():
    def function(x, y):
        raise KeyError("oops")

    with pytest.raises(KeyError, match="oops") as caught:
        pt.approximate(function, BOX)
    assert "arrays x, y of shape" in caught.value.__notes__[0] and "x=0.0, y=-1.0" in caught.value.__notes__[0]
    with pytest.raises(TypeError) as caught:
        pt.approximate(lambda x: x, BOX)
    assert "called the function with arrays x, y" in caught.value.__notes__[0]


def test_other_real_kinds_are_numbers():
    whole = pt.approximate(lambda x, y: np.ones(x.shape, int) * 3, BOX)
    assert whole(0.5, 0.5) == pytest.approx(3)
    listed = pt.approximate(lambda x, y: list(x + y), BOX)
    assert listed(0.5, 0.25) == pytest.approx(0.75)
