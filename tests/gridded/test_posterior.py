"""The process on its grid against the dense Gaussian."""

import numpy as np
from scipy import sparse

from probtensor.gridded.coarse import coarse
from probtensor.gridded.grid import Grid, Separable
from probtensor.gridded.posterior import System, drawn

T, N = 6, 8


def covariances(number, length):
    x = np.arange(number)
    return np.exp(-np.abs(x[:, None] - x[None]) / length)


def made(parts, noise=0.1, seed=0, share=0.7):
    """A system with two thirds of a grid, values drawn from it, and the dense covariance on the whole grid."""
    rng = np.random.default_rng(seed)
    row, column = (a.ravel() for a in np.meshgrid(np.arange(T), np.arange(N), indexing="ij"))
    some = rng.permutation(T * N)[: int(share * T * N)]
    grid = Grid((0,), np.arange(T)[:, None], np.arange(N)[:, None], row[some], column[some])
    noises = noise * rng.uniform(0.5, 2.0, len(some))
    system = System(grid, parts, noises, sparse.identity(len(some), format="csr"))
    whole = sum(np.kron(p.rows, p.columns) for p in parts)
    white = np.linalg.cholesky(whole + 1e-9 * np.eye(T * N)) @ rng.standard_normal(T * N)
    values = white[some] + np.sqrt(noises) * rng.standard_normal(len(some))
    A = whole[np.ix_(some, some)] + np.diag(noises)
    weights = np.linalg.solve(A, whole[some]).T
    return system, values, weights @ values, whole - weights @ whole[some]


PARTS = [
    Separable(covariances(T, 5.0), 0.7 * covariances(N, 2.0)),
    Separable(np.ones((T, T)), 0.5 * covariances(N, 6.0)),
]


def test_mean_and_draws_are_those_of_the_dense_gaussian():
    system, values, mean, covariance = made(PARTS)
    found = drawn(system, np.repeat(values[None], 4000, axis=0), np.random.default_rng(1))
    np.testing.assert_allclose(found.mean.ravel(), mean, rtol=0, atol=2e-3)
    assert found.left < 2e-3
    flat = found.apart.reshape(4000, -1)
    np.testing.assert_allclose(flat.mean(axis=0), 0, atol=0.06)
    np.testing.assert_allclose(flat.T @ flat / 4000, covariance, rtol=0, atol=0.04)


def test_draws_of_the_values_move_the_draws_and_not_the_mean():
    system, values, _, _ = made(PARTS)
    shift = np.array([1.0, -1.0])[:, None]
    still = drawn(system, np.repeat(values[None], 2, axis=0), np.random.default_rng(1))
    found = drawn(system, values + shift, np.random.default_rng(1))
    np.testing.assert_allclose(found.mean, still.mean, rtol=0, atol=1e-4)
    ones = np.ones_like(values)
    whole = sum(np.kron(p.rows, p.columns) for p in PARTS)
    at = system.grid.row * N + system.grid.column
    dense = whole[:, at] @ np.linalg.solve(whole[np.ix_(at, at)] + np.diag(system.noise), ones)
    np.testing.assert_allclose((found.apart - still.apart)[0].ravel(), dense, rtol=0, atol=5e-3)


def test_a_level_far_larger_than_all_else_costs_no_digits():
    wide = [PARTS[0], Separable(np.ones((T, T)), 1e6 * covariances(N, 6.0))]
    system, values, mean, covariance = made(wide)
    system = system._replace(coarse=coarse(system.grid, system.parts, system.noise))
    found = drawn(system, np.repeat(values[None], 4000, axis=0), np.random.default_rng(1))
    # The levels are known but for what the columns' own means leave open.
    np.testing.assert_allclose(found.mean.ravel(), mean, rtol=0, atol=0.03)
    np.testing.assert_allclose(found.apart.reshape(4000, -1).std(axis=0), np.sqrt(np.diag(covariance)), rtol=0.08)


def test_a_preconditioner_saves_steps():
    system, values, _, _ = made(PARTS, noise=1e-3)
    at = system.grid.row * N + system.grid.column
    whole = sum(np.kron(p.rows, p.columns) for p in PARTS)
    exact = np.linalg.cholesky(np.linalg.inv(whole[np.ix_(at, at)] + np.diag(system.noise))).T
    better = system._replace(contrast=sparse.csr_matrix(exact))
    slow, quick = system.solve(values[None]), better.solve(values[None])
    assert quick.steps <= 2 < slow.steps
    np.testing.assert_allclose(quick.weights, slow.weights, rtol=0, atol=0.02 * np.abs(quick.weights).max())
