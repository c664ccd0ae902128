"""Entries as a grid: rows that differ in one coordinate, or in several that a kernel reads together, and columns."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from probtensor.compilation import padded, shared_size
from probtensor.gridded.shifts import Shifted, shifted
from probtensor.kernels.field import AbstractFieldKernel, FieldProduct, covariance_matrix, summands
from probtensor.typing import Float, Int

#: A grid is worth the name if so large a share of it has entries.
FULL = 0.1
#: Rows of a covariance that are made at once.
_ROWS = 512


class Grid(NamedTuple):
    """Places of T rows and n columns, and where the entries stand.

    Attributes:
        own: the columns of points that tell rows apart; all others tell columns apart.
        rows: (T, D) one point of each row.
        columns: (n, D) one point of each column.
        row: of each entry.
        column: of each entry.
    """

    own: tuple[int, ...]
    rows: Float[np.ndarray, "T D"]
    columns: Float[np.ndarray, "n D"]
    row: Int[np.ndarray, "M"]
    column: Int[np.ndarray, "M"]

    @property
    def shape(self) -> tuple[int, int]:
        """(T, n)."""
        return len(self.rows), len(self.columns)

    @property
    def cost(self) -> int:
        """Multiplications of a product with a separable covariance."""
        T, n = self.shape
        return T * n * (T + n)

    def spread(self, values: Float[np.ndarray, "S M"]) -> Float[np.ndarray, "S T n"]:
        """Values of the entries in the grid, zero elsewhere."""
        out = np.zeros((len(values), *self.shape))
        out[:, self.row, self.column] = values
        return out

    def read(self, field: Float[np.ndarray, "S T n"]) -> Float[np.ndarray, "S M"]:
        """A field at the entries."""
        return field[:, self.row, self.column]

    def at(self, points: Float[np.ndarray, "m D"]) -> tuple[Int[np.ndarray, "m"], Int[np.ndarray, "m"]] | None:
        """Row and column of some points; None unless all of them are on the grid."""
        others = self._others(points.shape[1])
        row = _found(self.rows[:, list(self.own)], points[:, list(self.own)])
        column = _found(self.columns[:, others], points[:, others])
        return None if row is None or column is None else (row, column)

    def _others(self, number: int) -> list[int]:
        return [k for k in range(number) if k not in self.own]

    @staticmethod
    def of(
        kernel: AbstractFieldKernel,
        names: tuple[str, ...],
        points: Float[np.ndarray, "M D"],
        others: Float[np.ndarray, "E D"] | None = None,
    ) -> Grid | None:
        """The grid on which a sum of products is separable and that costs least; None if there is none.

        Of its two sides the shorter one has the rows.

        Args:
            kernel: the covariance.
            names: of the columns of points.
            points: of the entries.
            others: further places whose rows and columns are to be on the grid.
        """
        everything = points if others is None else np.concatenate([points, others])
        grids = [_split(everything, len(points), own) for own in _ways(products(kernel), names)]
        full = [grid for grid in grids if len(points) >= FULL * np.prod(grid.shape)]
        return min(full, key=lambda grid: (grid.cost, len(grid.rows)), default=None)


class Separable(NamedTuple):
    """A covariance that is that of two rows times that of two columns.

    Attributes:
        rows: between rows.
        columns: between columns.
        shifts: the same as ``columns``, where there is a quicker way than matrix products.
    """

    rows: Float[np.ndarray, "T T"]
    columns: Float[np.ndarray, "n n"]
    shifts: Shifted | None = None

    @property
    def size(self) -> float:
        """The largest variance."""
        return float(np.max(np.diagonal(self.rows)) * np.max(np.diagonal(self.columns)))

    def times(self, field: Float[np.ndarray, "S T n"]) -> Float[np.ndarray, "S T n"]:
        """The covariance on the whole grid times fields."""
        flat = field.reshape(-1, field.shape[-1])
        over = flat @ self.columns if self.shifts is None else self.shifts.times(flat)
        return np.matmul(self.rows, over.reshape(field.shape))


def products(kernel: AbstractFieldKernel) -> tuple[tuple[AbstractFieldKernel, ...], ...]:
    """The kernel's summands, each as its factors."""
    return tuple(part.parts if isinstance(part, FieldProduct) else (part,) for part in summands(kernel))


def separable(kernel: AbstractFieldKernel, names: tuple[str, ...], grid: Grid) -> list[Separable]:
    """Each summand's covariances on a grid."""
    found = []
    for factors in products(kernel):
        over_rows, over_columns, shifts = np.ones((1, 1)), np.ones((1, 1)), []
        for factor in factors:
            if {names.index(dim) for dim in factor.dims} <= set(grid.own):
                over_rows = over_rows * matrix(factor, grid.rows)
            else:
                over_columns = over_columns * matrix(factor, grid.columns)
                shifts.append(shifted(factor, grid.columns, [names.index(dim) for dim in factor.dims]))
        T, n = grid.shape
        whole = np.broadcast_to(over_rows, (T, T)), np.broadcast_to(over_columns, (n, n))
        found.append(Separable(*whole, shifts[0] if len(shifts) == 1 else None))
    return found


def _ways(parts: tuple[tuple[AbstractFieldKernel, ...], ...], names: tuple[str, ...]) -> Iterator[tuple[int, ...]]:
    """Which coordinates the rows could be: those that some factor reads together with no others, and their unions."""
    groups: list[set[int]] = []
    for factor in itertools.chain(*parts):
        own = {names.index(dim) for dim in factor.dims}
        apart = [group for group in groups if not group & own]
        groups = [*apart, set().union(own, *(group for group in groups if group & own))]
    for number in range(1, len(groups)):
        for chosen in itertools.combinations(groups, number):
            yield tuple(sorted(set().union(*chosen)))


def _split(points: Float[np.ndarray, "M D"], number: int, own: tuple[int, ...]) -> Grid:
    """Rows and columns of some points, the first so many of which are entries."""
    others = tuple(k for k in range(points.shape[1]) if k not in own)
    (first, row), (start, column) = (_sides(points, side) for side in (own, others))
    return Grid(own, points[first], points[start], row[:number], column[:number])


def _sides(points: Float[np.ndarray, "M D"], own: tuple[int, ...]) -> tuple[Int[np.ndarray, "k"], Int[np.ndarray, "M"]]:
    """The first point with each combination of some coordinates, and which combination each point has."""
    _, first, number = np.unique(points[:, list(own)], axis=0, return_index=True, return_inverse=True)
    return first, number.ravel()


def _found(known: Float[np.ndarray, "k d"], asked: Float[np.ndarray, "m d"]) -> Int[np.ndarray, "m"] | None:
    """The number of each asked place among known ones; None if one is not among them."""
    _, first, number = np.unique(np.concatenate([known, asked]), axis=0, return_index=True, return_inverse=True)
    place = first[number.ravel()[len(known) :]]
    return place if (place < len(known)).all() else None


def matrix(kernel: AbstractFieldKernel, points: Float[np.ndarray, "n D"]) -> Float[np.ndarray, "n n"]:
    """Covariances between places, in blocks of rows, whose number is filled up so that few programs are compiled."""
    size = shared_size(len(points))
    there = jnp.asarray(padded(points, size))
    block = min(_ROWS, size)
    out = np.empty((len(points), len(points)))
    for at in range(0, len(points), block):
        some = slice(at, min(at + block, len(points)))
        found = covariance_matrix(kernel, jnp.asarray(padded(points[some], block)), there)
        out[some] = np.asarray(found)[: some.stop - at, : len(points)]
    return out
