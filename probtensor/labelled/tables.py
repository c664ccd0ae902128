"""Long data: one entry a row, instead of a grid."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from probtensor.errors import DataError


@dataclasses.dataclass(frozen=True, eq=False)
class PointData:
    """Values at points; made by `table` and `points`.

    Attributes:
        coords: coordinate name -> (N,) labels.
        values: (N,) values, NaN where missing; None where only places are meant.
        name: of the values.
    """

    coords: dict[str, np.ndarray]
    values: np.ndarray | None
    name: str = "value"

    @property
    def size(self) -> int:
        """Number of rows, N."""
        return len(next(iter(self.coords.values())))


def table(df: pd.DataFrame, value: str, coords: Sequence[str]) -> PointData:
    """A long table: one row an observation, repeated coordinates are repeated observations.

    Args:
        df: a pandas DataFrame.
        value: the column with the values; NaN = missing.
        coords: the columns that are coordinates.

    Raises:
        DataError: a column is not there.
    """
    if isinstance(coords, str) or not coords:
        raise DataError(f"coords={coords!r}: give a list of at least one column name")
    absent = [c for c in (value, *coords) if c not in df.columns]
    if absent:
        raise DataError(f"the table has no column {absent[0]!r}; it has {', '.join(map(repr, df.columns))}")
    return points({c: df[c].to_numpy() for c in coords}, df[value].to_numpy(), name=str(value))


def points(coords: Mapping[str, Any], values: Any = None, *, name: str = "value") -> PointData:
    """Values at points from arrays.

    Args:
        coords: coordinate name -> N labels.
        values: N values, NaN = missing; None where only places are meant, as in ``predict``.
        name: of the values.

    Raises:
        DataError: the lengths differ, or there is no coordinate.
    """
    if not coords:
        raise DataError("points need at least one coordinate")
    arrays = {str(k): np.atleast_1d(np.asarray(v)) for k, v in coords.items()}
    if values is not None:
        values = np.atleast_1d(np.asarray(values))
        if values.dtype.kind not in "iufb":
            raise DataError(f"values of {name!r} are {values.dtype}; expected numbers")
        values = values.astype(float)
    lengths = {k: a.shape for k, a in arrays.items()} | ({} if values is None else {name: values.shape})
    if len(set(lengths.values())) != 1 or len(next(iter(lengths.values()))) != 1:
        raise DataError(f"coordinates and values must be one-dimensional and of one length; got shapes {lengths}")
    return PointData(arrays, values, name)
