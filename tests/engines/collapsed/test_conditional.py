"""Draws of some blocks given the others against one dense Gaussian."""

import numpy as np
import pytest
import xarray as xr

import probtensor as pt
from probtensor.engines.collapsed import fit, systems
from probtensor.engines.collapsed.conditional import Perturbation, draw, groups
from probtensor.engines.collapsed.contrasts import contrasts
from probtensor.engines.collapsed.systems import System
from tests.engines.collapsed.problems import problem
from tests.helpers import mostly_slow

NOISE, ITERATIONS = 0.05, 400
LOCAL = pt.Local(pt.Matern(1 / 2, lengthscale=pt.fixed(0.7), variance=pt.fixed(0.3)).on("x", "y", metric="euclidean"))


def make(model):
    """Thirty values on four by five levels, some of them twice."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 4, 30).astype(float), rng.integers(0, 5, 30).astype(float)
    values = np.sin(x) * np.cos(y) + 2 + 0.3 * rng.normal(size=30)
    case = problem(pt.points({"x": x, "y": y}, values), model + LOCAL)
    return case, contrasts(case.kernel, NOISE, case.data.pooled, 29)


def exact(case, white, free):
    """Mean and covariance of the free white numbers given the rest, by dense linear algebra."""
    base = np.where(free, 0.0, white)
    constant = case.signal(base)
    J = np.stack([case.signal(base + unit) - constant for unit in np.eye(len(white))[free]], axis=1)
    points = case.data.places
    K = case.dense(points, points) + NOISE * np.eye(len(points))
    precision = np.eye(J.shape[1]) + J.T @ np.linalg.solve(K, J)
    covariance = np.linalg.inv(precision)
    return covariance @ (J.T @ np.linalg.solve(K, case.data.values - constant)), covariance


MODELS = {
    "offset": pt.Offset(),
    "offset and main effects": pt.Offset() + pt.CP(1, modes=["x"]) + pt.CP(1, modes=["y"]),
    "component": pt.Offset() + pt.CP(1),
    "levels": pt.Offset(over="y"),
}


@pytest.mark.parametrize("name", mostly_slow(MODELS, "offset and main effects", "levels"))
def test_a_mirrored_pair_has_the_exact_mean(name):
    case, noise = make(MODELS[name])
    rng = np.random.default_rng(1)
    white = rng.normal(size=case.signal.size)
    for free in groups(case.signal):
        mean, covariance = exact(case, white, free)
        spread = []
        for _ in range(3):
            one = Perturbation(rng.normal(size=30), rng.normal(size=case.signal.size))
            system = System(case.signal, noise, white, free)
            pair = [draw(system, case.data.values, white, p, ITERATIONS) for p in (one, one.mirrored())]
            assert all((p[~free] == white[~free]).all() for p in pair)
            away = 0.5 * (pair[0] + pair[1])[free] - mean
            # Of posterior standard deviations: what the optimiser's stopping rule leaves.
            assert np.sqrt(away @ np.linalg.solve(covariance, away)) < 0.05
            apart = (pair[0] - pair[1])[free]
            spread.append(np.sqrt(apart @ np.linalg.solve(covariance, apart)))
        # One number may by chance be drawn close to its mean.
        assert max(spread) > 0.2


@pytest.mark.parametrize(("sd", "iterations"), [(0.1, fit.IN_STEP), (0.01, 2000), (0.001, 2000), (0.001, fit.IN_STEP)])
def test_draws_are_solved_for_however_small_the_noise(sd, iterations):
    """What the solver leaves, in posterior standard deviations in the worst direction.

    The engine's steps do at 0.1; at 0.001 they do not, and the precision is factored.
    """
    rng = np.random.default_rng(5)
    x, y = np.linspace(0, 10, 24), np.linspace(0, 10, 16)
    values = (
        3 + np.outer(np.sin(x), np.cos(y / 2)) + np.outer(np.cos(x / 3), np.sin(y)) + sd * rng.normal(size=(24, 16))
    )
    data = xr.DataArray(values, {"x": x, "y": y}, ["x", "y"])
    small = pt.Matern(1 / 2, lengthscale=pt.fixed(0.3), variance=pt.fixed(0.1 * sd**2)).on("x", "y", metric="euclidean")
    case = problem(data, pt.Offset() + pt.CP(2) + pt.Local(small))
    noise = contrasts(case.kernel, sd**2, case.data.pooled, 10)
    white, free = rng.normal(size=case.signal.size), groups(case.signal)[-1]
    constant = case.signal(np.where(free, 0.0, white))
    J = np.stack([case.signal(np.where(free, unit, white)) - constant for unit in np.eye(len(white))[free]], axis=1)
    root = noise.A @ J / np.sqrt(noise.variance)[:, None]
    precision = np.eye(J.shape[1]) + root.T @ root
    one = Perturbation(rng.normal(size=values.size), rng.normal(size=case.signal.size))
    target = noise.A @ (case.data.values - constant) / np.sqrt(noise.variance) + one.contrast
    exact = np.linalg.solve(precision, root.T @ target + one.white[free])
    system = System(case.signal, noise, white, free)
    away = draw(system, case.data.values, white, one, iterations)[free] - exact
    assert np.sqrt(away @ precision @ away) < 0.1


@pytest.mark.parametrize("name", ["offset and main effects", "component", "levels", "basis"])
def test_the_derivative_is_that_of_the_signal(name):
    """Column by column, for every group of blocks."""
    basis = pt.Offset() + pt.CP(2, modes={("x", "y"): pt.Basis("hilbert", 9)})
    case, _ = make(basis if name == "basis" else MODELS[name])
    white = np.random.default_rng(4).normal(size=case.signal.size)
    for free in groups(case.signal):
        held = np.where(free, 0.0, white)
        J = np.stack([case.signal(held + unit) - case.signal(held) for unit in np.eye(len(white))[free]], axis=1)
        read, colour = case.signal.derivative(white, free)
        np.testing.assert_allclose(read @ colour, J, rtol=0, atol=1e-10)


def test_a_draw_that_is_not_solved_for_is_said(monkeypatch):
    monkeypatch.setattr(systems, "_LARGEST", 0)
    case, noise = make(MODELS["levels"])
    rng = np.random.default_rng(6)
    one = Perturbation(rng.normal(size=30), rng.normal(size=case.signal.size))
    white = np.zeros(case.signal.size)
    system = System(case.signal, noise, white, groups(case.signal)[0])
    with pytest.warns(pt.ProbtensorWarning, match="not solved for in 1 steps.*error bars"):
        draw(system, case.data.values, white, one, 1)


def test_a_system_serves_as_long_as_all_it_was_made_from_stays():
    case, noise = make(MODELS["component"])
    white = np.random.default_rng(7).normal(size=case.signal.size)
    free = groups(case.signal)[-1]
    system = System(case.signal, noise, white, free)
    assert system.serves(case.signal, noise, np.where(free, 3.0, white))
    assert not system.serves(case.signal, noise, white + 1.0)
    assert not system.serves(case.signal, noise._replace(variance=noise.variance), white)


@pytest.mark.parametrize("name", ["offset and main effects", "component"])
def test_draws_have_the_exact_covariance(name):
    case, noise = make(MODELS[name])
    rng = np.random.default_rng(2)
    white = rng.normal(size=case.signal.size)
    free = groups(case.signal)[-1]
    mean, covariance = exact(case, white, free)
    number, size, system = 400, int(free.sum()), System(case.signal, noise, white, free)
    found = []
    for _ in range(number):
        one = Perturbation(rng.normal(size=30), rng.normal(size=case.signal.size))
        found.append(draw(system, case.data.values, white, one, ITERATIONS)[free])
    whitened = np.linalg.solve(np.linalg.cholesky(covariance), (np.array(found) - mean).T)
    # The mean of n draws is off by sqrt(P / n), their covariance by sqrt(P (P + 1) / n); half as much again at most.
    assert np.linalg.norm(whitened.mean(axis=1)) < 1.5 * np.sqrt(size / number)
    assert np.linalg.norm(whitened @ whitened.T / number - np.eye(size)) < 1.5 * np.sqrt(size * (size + 1) / number)


def test_groups_move_every_number_and_the_signal_is_linear_in_each():
    case, _ = make(pt.Offset() + pt.CP(2) + pt.CP(1, modes=["x"]))
    found = groups(case.signal)
    assert np.any(found, axis=0).all()
    rng = np.random.default_rng(3)
    white = rng.normal(size=case.signal.size)
    for free in found:
        a, b = (np.where(free, rng.normal(size=len(white)), white) for _ in range(2))
        middle = case.signal(0.5 * (a + b))
        np.testing.assert_allclose(middle, 0.5 * (case.signal(a) + case.signal(b)), rtol=0, atol=1e-10)


def test_without_blocks():
    case, _ = make(LOCAL)
    assert groups(case.signal) == []
    assert case.signal.size == 0
    assert (case.signal(np.zeros(0)) == 0).all()
