"""Learning from place to place the covariance of one process of a sum, from posterior draws of it on a whole grid.

Source: Dempster et al. 1977; Kidd and Katzfuss 2022, section 2.
"""

from __future__ import annotations

import functools
import operator

import numpy as np
from scipy.linalg import solve_triangular

from probtensor.engines.collapsed.adapting import FEWEST_FIELDS, MOST_CELLS
from probtensor.gridded.grid import Grid, matrix, products
from probtensor.gridded.posterior import Drawn
from probtensor.kernels.adapted import Adapted, Table, adapted_part, with_table
from probtensor.kernels.field import AbstractFieldKernel
from probtensor.linalg.jitter import jittered

#: Fields for each field that there is, which the kernel counts as.
_WEIGHT = 1.0
#: Added to variances of the other factors before their covariance is inverted, relative to them.
_JITTER = 1e-6


def serves(kernel: AbstractFieldKernel, names: tuple[str, ...], grid: Grid) -> bool:
    """Whether the adapted factor is that of the rows or of the columns, with enough fields to learn from."""
    own = adapted_part(kernel)
    if own is None:
        return False
    side = _side(own, names, grid)
    cells, fields = grid.shape[side], grid.shape[1 - side]
    read = {dim for product in products(kernel) for factor in product for dim in factor.dims}
    whole = {n for n in read if (names.index(n) in grid.own) == (side == 0)}
    return set(own.dims) == whole and 1 < cells <= MOST_CELLS and fields >= FEWEST_FIELDS


def adapt(kernel: AbstractFieldKernel, names: tuple[str, ...], grid: Grid, drawn: Drawn) -> AbstractFieldKernel:
    """The kernel with the table that one step of expectation and maximisation gives.

    Args:
        kernel: for which the grid `serves`.
        names: of the columns of points.
        grid: where its processes are known.
        drawn: the processes' posterior under it.

    Cost O(S T n^2) for S draws of T fields of n cells.
    """
    own = adapted_part(kernel)
    assert own is not None
    side = _side(own, names, grid)
    cells, fields = (grid.rows, grid.columns) if side == 0 else (grid.columns, grid.rows)
    (place,) = [j for j, product in enumerate(products(kernel)) if any(factor is own for factor in product)]
    others = [matrix(factor, fields) for factor in products(kernel)[place] if factor is not own]
    between = functools.reduce(operator.mul, others, np.ones((len(fields), len(fields))))
    factored = jittered(between, np.zeros(len(fields)), _JITTER * float(np.max(np.diagonal(between))))
    assert factored is not None
    draws = np.moveaxis(drawn.means[place] + drawn.parts[place], 1 + side, 2)
    moment = np.zeros((len(cells), len(cells)))
    for one in draws:
        white = solve_triangular(factored.factor, one, lower=True, check_finite=False)
        moment += white.T @ white
    moment /= len(draws) * len(fields)
    prior = matrix(own.parametric(), cells)
    covariance = (_WEIGHT * prior + moment) / (_WEIGHT + 1)
    return with_table(kernel, Table.of(cells[:, list(own.columns)], covariance, _WEIGHT))


def _side(own: Adapted, names: tuple[str, ...], grid: Grid) -> int:
    """0: it reads what tells rows apart; 1: columns."""
    return 0 if names.index(own.dims[0]) in grid.own else 1
