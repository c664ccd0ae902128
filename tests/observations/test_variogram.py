"""Lengthscale starts: near the truth through outliers and gaps, and silent where the data are."""

import numpy as np
import pytest
from scipy.optimize import nnls

from probtensor.axes import Axis
from probtensor.observations.domain import domain, observations
from probtensor.observations.variogram import _two_parts, lengthscale, lengthscales

LEVELS = 600
CORRELATIONS = {
    1 / 2: lambda s: np.exp(-s),
    3 / 2: lambda s: (1 + np.sqrt(3) * s) * np.exp(-np.sqrt(3) * s),
    5 / 2: lambda s: (1 + np.sqrt(5) * s + 5 / 3 * s**2) * np.exp(-np.sqrt(5) * s),
}


def series(nu, scale, seed, spread=0.3):
    """A draw at irregular points with a long gap: 600 levels on [0, 600], a fifth of them missing in one piece."""
    rng = np.random.default_rng(seed)
    x = np.sort(rng.uniform(0, LEVELS, LEVELS))
    x = x[(x < 0.3 * LEVELS) | (x > 0.5 * LEVELS)]
    K = CORRELATIONS[nu](np.abs(x[:, None] - x[None]) / scale)
    return x, np.linalg.cholesky(K + 1e-8 * np.eye(len(x))) @ rng.normal(size=len(x)) + spread * rng.normal(size=len(x))


def spoiled(values, seed, share=0.05):
    """With outliers of ten standard deviations."""
    rng = np.random.default_rng(seed + 100)
    bad = rng.random(values.shape) < share
    return np.where(bad, values + 10 * rng.normal(size=values.shape), values)


@pytest.mark.parametrize("nu", CORRELATIONS)
@pytest.mark.parametrize("scale", [2.0, 5.0])
def test_a_known_lengthscale_is_found_within_a_factor_of_two(nu, scale):
    """The median of nine draws; a single draw of finite length has a correlation of its own."""
    drawn = [series(nu, scale, seed) for seed in range(9)]
    for values in ([y for _, y in drawn], [spoiled(y, seed) for seed, (_, y) in enumerate(drawn)]):
        found = [lengthscale(x, y, np.ones(len(x))) for (x, _), y in zip(drawn, values, strict=True)]
        assert None not in found
        assert scale / 2 < np.median(found) < scale * 2
        assert np.count_nonzero(np.abs(np.log(np.array(found) / scale)) < np.log(4)) >= 8


def test_units_and_order_do_not_matter():
    x, y = series(1 / 2, 5.0, 0)
    found, order = lengthscale(x, y, np.ones(len(x))), np.random.default_rng(0).permutation(len(x))
    assert lengthscale(x[order], y[order], np.ones(len(x))) == pytest.approx(found, rel=1e-9)
    assert lengthscale(24 * x + 7, 1e3 * y - 5, np.ones(len(x))) == pytest.approx(24 * found, rel=1e-6)


def test_levels_with_many_observations_count_more():
    """Two thirds of the levels are one noisy observation each, the others the mean of a thousand."""
    rng = np.random.default_rng(3)
    x, y = series(3 / 2, 5.0, 3, spread=0.0)
    count = np.where(rng.random(len(x)) < 2 / 3, 1.0, 1000.0)
    found = lengthscale(x, y + 3 * rng.normal(size=len(x)) / np.sqrt(count), count)
    assert 2.5 < found < 10


@pytest.mark.parametrize(
    "values",
    [np.ones(200), np.random.default_rng(0).normal(size=9), np.zeros(0)],
    ids=["constant", "nine levels", "nothing"],
)
def test_nothing_is_said_where_there_is_nothing_to_see(values):
    assert lengthscale(np.arange(len(values), dtype=float), values, np.ones(len(values))) is None


def test_equal_points_are_no_series():
    assert lengthscale(np.ones(20), np.arange(20.0), np.ones(20)) is None


@pytest.mark.parametrize("layout", ["grid", "points"])
def test_modes_of_data(layout):
    """Marginal means of one fast and one slow mode, and a short one; a third is missing, some entries are wild."""
    rng = np.random.default_rng(5)
    t, x = np.arange(400.0), np.linspace(0.0, 10.0, 80)
    fast = np.linalg.cholesky(CORRELATIONS[0.5](np.abs(t[:, None] - t) / 4) + 1e-8 * np.eye(400)) @ rng.normal(size=400)
    truth = fast[:, None, None] + np.sin(1.3 * x)[None, :, None] + np.zeros(3)
    values = spoiled(truth + 0.2 * rng.normal(size=truth.shape), 5, 0.02)
    weights = (rng.random(truth.shape) > 1 / 3).astype(float)
    values = np.where(weights > 0, values, 1e30)
    levels = {"t": t, "x": x, "z": np.arange(3.0), "t.odd": t % 2}
    if layout == "grid":
        where = observations(domain(levels, {"t.odd": "t"}), values, weights)
    else:
        index = np.argwhere(np.ones(truth.shape, bool))
        where = observations(domain(levels, {"t.odd": "t"}, index), values.ravel(), weights.ravel())
    found = lengthscales(where)
    assert sorted(found) == ["t", "x"]
    assert 2 < found["t"] < 8
    assert 0.5 < found["x"] < 4


def test_an_axis_spreads_starts_around_what_the_data_suggest():
    axis = Axis("time", "time", np.arange(1000.0), "days")
    np.testing.assert_allclose(axis.lengthscales(1, 2.0), [2.0])
    np.testing.assert_allclose(axis.lengthscales(3, 2.0), [8.0, 2.0, 0.5])
    np.testing.assert_allclose(axis.lengthscales(2, 5000.0), [499.5, 499.5 / 4])
    assert axis.lengthscales(3)[0] == 499.5


def test_two_parts_are_non_negative_least_squares():
    """Rising, falling and constant shapes, against SciPy's solver, one by one."""
    rng = np.random.default_rng(5)
    distance, weight = np.geomspace(0.1, 5, 12), rng.uniform(0.1, 2, 12)
    shapes = np.stack([*(1 - np.exp(-distance / scale) for scale in (0.1, 1, 10)), np.full(12, 0.7)])
    for height in (1 + shapes[1], 2 - shapes[1], shapes[2] - 0.1, rng.uniform(0.5, 1.5, 12)):
        parts, left = _two_parts(shapes, height, weight)
        assert parts.min() >= 0
        for shape, one, rest in zip(shapes, parts, left, strict=True):
            root = np.sqrt(weight)
            expected, norm = nnls(np.stack([root, root * shape], axis=1), root * height)
            np.testing.assert_allclose(rest, norm**2, rtol=1e-9, atol=1e-12)
            fitted = one[0] + one[1] * shape
            np.testing.assert_allclose(fitted, expected[0] + expected[1] * shape, rtol=0, atol=1e-7)
