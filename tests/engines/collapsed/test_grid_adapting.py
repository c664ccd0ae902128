"""One step of learning a process's covariance from draws of it on a whole grid."""

import numpy as np
import pytest
import xarray as xr

import probtensor as pt
from probtensor.engines.collapsed import grid_adapting
from probtensor.gridded.grid import Grid, matrix
from probtensor.gridded.posterior import Drawn
from probtensor.kernels.adapted import adapted_part
from tests.engines.collapsed.problems import problem

T, X, Y = 40, 4, 3
STAYS = pt.Matern(3 / 2, lengthscale=4.0, variance=1.0).on("x", "y", metric="euclidean")
SPACE = pt.Matern(3 / 2, lengthscale=2.0).on("x", "y", metric="euclidean")
TIME = pt.Matern(1 / 2, lengthscale=0.7, variance=0.5).on("t")


def made(kernel, order=("t", "x", "y")):
    """The bound kernel, the names of columns, and the grid of complete data."""
    axes = {"t": np.arange(T) * 1.0, "x": np.arange(X) * 1.0, "y": np.arange(Y) * 1.0}
    values = np.random.default_rng(0).standard_normal((T, X, Y))
    found = problem(xr.DataArray(values, axes, list(axes)).transpose(*order), pt.Offset() + pt.Local(kernel))
    kernel = found.model.terms[1].kernel
    names = found.model.terms[1].names
    return kernel, names, Grid.of(kernel, names, found.data.pooled.entries.points)


def test_a_step_is_half_the_kernel_and_half_the_moment_of_the_fields():
    kernel, names, grid = made(STAYS + TIME * SPACE.adapted())
    assert grid_adapting.serves(kernel, names, grid)
    rng = np.random.default_rng(1)
    side = 0 if grid.shape[0] == X * Y else 1
    n = X * Y
    truth = np.diag(np.linspace(1, 5, n)) + 0.5
    between = 0.5 * np.exp(-np.abs(np.arange(T)[:, None] - np.arange(T)[None]) / 0.7)
    times = (grid.columns if side == 0 else grid.rows)[:, names.index("t")]
    order = np.argsort(np.argsort(times))
    between = between[np.ix_(order, order)]
    white = rng.standard_normal((60, T, n))
    fields = np.linalg.cholesky(between) @ white @ np.linalg.cholesky(truth).T
    fields = fields if side == 1 else np.swapaxes(fields, 1, 2)
    nothing, mean = np.zeros(grid.shape), fields[0]
    drawn = Drawn([nothing, mean], [np.zeros((60, *grid.shape)), fields - mean], 0.0)
    table = adapted_part(grid_adapting.adapt(kernel, names, grid, drawn)).table
    prior = matrix(adapted_part(kernel).parametric(), grid.rows if side == 0 else grid.columns)
    np.testing.assert_allclose(table.covariance, (prior + truth) / 2, rtol=0, atol=0.25)
    assert float(table.weight) == 1.0


@pytest.mark.parametrize(
    "kernel",
    [
        STAYS + TIME * SPACE,
        STAYS + pt.Matern(1 / 2).on("t", "x").adapted() * pt.Matern(1 / 2).on("y"),
        STAYS + SPACE * TIME.adapted(),
    ],
    ids=["nothing is adapted", "over another split", "few fields"],
)
def test_others_are_not_served(kernel):
    kernel, names, grid = made(kernel)
    assert grid is None or not grid_adapting.serves(kernel, names, grid)
