"""The coarse level: exact for what lies in its functions, and few steps for the rest."""

import numpy as np
from scipy import sparse

from probtensor.gridded.coarse import coarse
from probtensor.gridded.grid import Grid, Separable
from probtensor.gridded.posterior import System

T, N = 12, 15


def covariances(number, length):
    x = np.arange(number)
    return np.exp(-np.abs(x[:, None] - x[None]) / length)


SLOW = Separable(np.ones((T, T)), 50.0 * covariances(N, 1.0))
QUICK = Separable(covariances(T, 0.5), covariances(N, 5.0))


def made(parts, transposed=False, share=0.7, noise=0.01):
    """A system preconditioned with the quick part alone, values, and the dense covariance of what is seen."""
    rng = np.random.default_rng(0)
    row, column = (a.ravel() for a in np.meshgrid(np.arange(T), np.arange(N), indexing="ij"))
    some = np.sort(rng.permutation(T * N)[: int(share * T * N)])
    if transposed:
        parts = [Separable(part.columns, part.rows) for part in parts]
        grid = Grid((0,), np.arange(N)[:, None], np.arange(T)[:, None], column[some], row[some])
    else:
        grid = Grid((0,), np.arange(T)[:, None], np.arange(N)[:, None], row[some], column[some])
    noises = noise * rng.uniform(0.5, 2.0, len(some))

    def dense(these):
        return sum(p.rows[np.ix_(grid.row, grid.row)] * p.columns[np.ix_(grid.column, grid.column)] for p in these)

    near = np.linalg.cholesky(np.linalg.inv(dense(parts[1:]) + np.diag(noises))).T
    system = System(grid, parts, noises, sparse.csr_matrix(near))
    return system, rng.standard_normal((2, len(some))), dense(parts) + np.diag(noises)


def test_what_lasts_takes_few_steps_and_the_solution_is_that_of_the_dense_system():
    for transposed in (False, True):
        system, values, A = made([SLOW, QUICK], transposed)
        level = coarse(system.grid, system.parts, system.noise)
        assert level.slow(system.parts[0])
        assert not level.slow(system.parts[1])
        alone, both = system.solve(values), system._replace(coarse=level).solve(values)
        assert both.steps < 0.5 * alone.steps
        np.testing.assert_allclose(both.weights @ A, values, rtol=0, atol=0.02)


def test_a_level_far_larger_than_all_else_costs_no_digits():
    wide = Separable(np.ones((T, T)), 1e8 * covariances(N, 1.0))
    system, values, A = made([wide, QUICK])
    found = system._replace(coarse=coarse(system.grid, system.parts, system.noise)).solve(values)
    expected = np.linalg.solve(A, values.T).T
    np.testing.assert_allclose(found.weights, expected, rtol=0, atol=5e-3 * np.abs(expected).max())


def test_it_solves_exactly_for_its_functions():
    system, _, A = made([SLOW, QUICK])
    level = coarse(system.grid, system.parts, system.noise)
    rng = np.random.default_rng(1)
    inside = system.grid.read((level.functions @ rng.standard_normal((level.functions.shape[1], N)))[None])
    np.testing.assert_allclose(level(inside @ A), inside, rtol=0, atol=1e-6)


def test_a_place_without_values_has_no_equations():
    system, values, _ = made([SLOW, QUICK])
    seen = system.grid.column != 3
    grid = system.grid._replace(row=system.grid.row[seen], column=system.grid.column[seen])
    level = coarse(grid, system.parts, system.noise[seen])
    assert np.isfinite(level(values[:, seen])).all()


def test_more_levels_than_can_be_solved_for_have_none(monkeypatch):
    monkeypatch.setattr("probtensor.gridded.coarse._MOST", N - 1)
    system, _, _ = made([SLOW, QUICK])
    assert coarse(system.grid, system.parts, system.noise) is None
