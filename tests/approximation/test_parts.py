"""The parts: Chebyshev coefficients and their decay, the choice of rows, contractions, the canonical form."""

import numpy as np
import pytest

from probtensor.approximation import alternating, chebyshev, contraction
from probtensor.approximation.box import Box
from probtensor.approximation.cross import cross
from probtensor.approximation.sampling import Sampler, corners, spread

BOX = Box.from_bounds({"x": (-1, 1), "far": (1e6, 1e6 + 1)})


@pytest.mark.parametrize("axis", [0, 1])
def test_coefficients_of_polynomials(axis):
    grid = chebyshev.grid(BOX, axis, 17)
    wanted = np.random.default_rng(0).standard_normal((17, 3))
    np.testing.assert_allclose(grid.coefficients(chebyshev.evaluate(wanted, grid.t)), wanted, atol=1e-12)
    assert grid.x[0] == BOX.low[axis] and grid.x[-1] == BOX.high[axis] and (np.diff(grid.x) > 0).all()


@pytest.mark.parametrize("axis", [0, 1])
def test_grids_are_nested_to_the_last_bit(axis):
    coarse = chebyshev.grid(BOX, axis, 33)
    fine = chebyshev.grid(BOX, axis, 65, coarse)
    np.testing.assert_array_equal(fine.x[::2], coarse.x)
    np.testing.assert_array_equal(fine.t[::2], coarse.t)


def test_gram_and_means():
    nodes, weights = np.polynomial.legendre.leggauss(40)
    values = np.polynomial.chebyshev.chebvander(nodes, 11)
    np.testing.assert_allclose(chebyshev.gram(12), values.T @ (weights[:, None] / 2 * values), atol=1e-14)
    np.testing.assert_allclose(chebyshev.means(12), weights / 2 @ values, atol=1e-15)


@pytest.mark.parametrize(
    ("function", "kind", "rate"),
    [
        (lambda t: 1 / (1.05 - t), "geometric", None),
        (lambda t: np.abs(t - 0.3), "algebraic", 2.0),
        (lambda t: np.abs(t - 0.3) ** 3, "algebraic", 4.0),
        (lambda t: np.sign(t - 0.3), "algebraic", 1.0),
        (lambda t: np.random.default_rng(0).standard_normal(t.shape), "flat", 0.0),
    ],
)
def test_decay_is_recognised(function, kind, rate):
    grid = chebyshev.grid(BOX, 0, 129 if kind == "geometric" else 513)
    found = chebyshev.decay(grid.coefficients(function(grid.t)[:, None]), 1e-14)
    assert not found.resolved
    assert found.kind == kind
    if rate is not None:
        assert found.rate == pytest.approx(rate, abs=0.2)


@pytest.mark.parametrize("sd", [1e-4, 1e-9])
def test_noise_is_measured_and_oscillation_is_not_noise(sd):
    rng = np.random.default_rng(0)
    coarse, fine = (chebyshev.grid(BOX, 0, n) for n in (129, 257))

    def judged(grid, function):
        return chebyshev.decay(grid.coefficients(function(grid.t)), 1e-12)

    def noisy(t):
        return np.exp(t)[:, None] + sd * rng.standard_normal((len(t), 8))

    found = judged(fine, noisy)
    assert found.is_noise(judged(coarse, noisy)) and sd / 3 < found.noise < 3 * sd
    assert not found.is_noise(None)

    def fast(t):
        return np.cos(400 * t)[:, None]

    assert not judged(fine, fast).is_noise(judged(coarse, fast))


def test_rows_recover_the_fibres():
    rng = np.random.default_rng(0)
    fibres = rng.standard_normal((60, 5)) @ rng.standard_normal((5, 20)) * np.logspace(0, -6, 20)
    basis = cross(fibres, 1e-12)
    assert basis.rank == 5 and len(set(basis.rows.tolist())) == 5
    assert np.abs(basis.weights).max() <= 1.0501
    np.testing.assert_array_equal(np.round(basis.weights[basis.rows], 12), np.eye(5))
    assert (basis.misfit(fibres) < 1e-13).all()
    other = rng.standard_normal((60, 1))
    assert basis.misfit(other)[0] > 0.1
    assert cross(fibres, 1e-12, most=3).rank == 3
    assert cross(np.zeros((9, 4)), 1e-12).rank == 1


@pytest.mark.parametrize("shape", [(3,), (2, 5), (3, 1, 4), (2, 3, 4, 2)])
def test_contractions_against_einsum(shape, monkeypatch):
    monkeypatch.setattr(contraction, "LARGEST_BLOCK", 30)  # several blocks
    rng = np.random.default_rng(0)
    core, factors = rng.standard_normal(shape), [rng.standard_normal((17, r)) for r in shape]
    letters = "abcd"[: len(shape)]
    every = f"{letters}," + ",".join(f"n{letter}" for letter in letters)
    np.testing.assert_allclose(
        contraction.at_points(core, factors), np.einsum(f"{every}->n", core, *factors), atol=1e-13
    )
    for axis, letter in enumerate(letters):
        others = [values for d, values in enumerate(factors) if d != axis]
        inputs = ",".join([letters, *(f"n{other}" for other in letters if other != letter)])
        expected = (
            np.einsum(f"{inputs}->n{letter}", core, *others) if others else np.broadcast_to(core, (17, len(core)))
        )
        np.testing.assert_allclose(contraction.at_points(core, factors, keep=axis), expected, atol=1e-13)


def test_the_canonical_form_is_the_same_function_and_drops_what_was_padded():
    rng = np.random.default_rng(0)
    core = np.zeros((4, 4, 3))
    core[:2, :3, :2] = rng.standard_normal((2, 3, 2))
    series = [np.vstack([rng.standard_normal((6, r)), np.zeros((5, r))]) for r in core.shape]
    t = rng.uniform(-1, 1, (300, 3))

    def values(core, series):
        return contraction.at_points(core, [chebyshev.evaluate(c, t[:, d]) for d, c in enumerate(series)])

    small, found = contraction.canonical(core, series, t, 1e-10, (None, None, None))
    assert small.shape == (2, 3, 2) and [len(c) for c in found] == [6, 6, 6]
    np.testing.assert_allclose(values(small, found), values(core, series), atol=1e-10)
    assert contraction.canonical(core, series, t, 1e-10, (None, 2, 1))[0].shape == (2, 2, 1)
    assert contraction.canonical(core, series, t, 1e6, (None,) * 3)[0].shape == (1, 1, 1)


def test_points_lie_in_the_box():
    points = spread(BOX, 100, 0, edges=0.25)
    assert points.shape == (100, 2) and (points >= BOX.low).all() and (points <= BOX.high).all()
    assert 10 < (points[:25] == BOX.low).sum() + (points[:25] == BOX.high).sum() < 25
    assert not (points[25:] == BOX.low).any()
    assert len(corners(BOX, 0)) == 5


def test_lines_spread_along_a_ridge():
    """Where the function is large a third of them goes, another third through combinations of chosen points."""

    def ridge(x, y, z):
        return np.exp(-((x - y) ** 2 + (y - z) ** 2) / 2e-3)

    sampler = Sampler(ridge, Box.from_bounds([(0, 1)] * 3), True, 100_000)
    rng = np.random.default_rng(0)
    anchors = np.repeat(np.linspace(0.1, 0.9, 5)[:, None], 3, axis=1)
    asked = alternating.Asked((None,) * 3, 64, 64)
    fit = alternating.start(sampler, anchors, asked, rng)
    fit = alternating.settled(fit, sampler, 1e-2, asked, 0, rng)
    points = alternating.further_lines(fit, 0, sampler, 90, rng)
    chosen = [line.grid.x[basis.rows] for line, basis in zip(fit.fibres, fit.crosses, strict=True)]
    assert all(np.isin(points[:30, axis], chosen[axis]).all() for axis in (1, 2))
    assert (ridge(*points[30:60].T) > 1e-3).all()
    assert not np.isin(points[60:], points[:60]).any()
