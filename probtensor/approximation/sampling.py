"""Calls of the user's function: counted, checked, and never more of them than allowed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from probtensor.approximation.box import Box
from probtensor.errors import DataError
from probtensor.typing import Float

#: Points of one call of a vectorised function.
POINTS_A_CALL = 65_536

#: Corners of the box that are looked at; beyond 8 variables some of them.
MOST_CORNERS = 256


@dataclasses.dataclass
class Sampler:
    """A function on a box, with what was seen of it. The one object here that changes: it counts.

    Attributes:
        function: takes D arrays of shape (N,) and gives one, or takes D numbers where ``vectorized`` is False.
        box: names and bounds of the D variables.
        vectorized: which of the two.
        most: evaluations that may be made in all.
        evaluations: evaluations made.
        largest: largest absolute value seen.
        dtype: dtype of the values of a vectorised function, once seen.
    """

    function: Callable[..., Any]
    box: Box
    vectorized: bool
    most: int
    evaluations: int = 0
    largest: float = 0.0
    dtype: np.dtype | None = None

    @property
    def left(self) -> int:
        """Evaluations that may still be made."""
        return self.most - self.evaluations

    def scaled(self, values: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Values in units of the power of two above the largest seen, so that no square overflows or underflows."""
        return np.ldexp(values, -self.exponent)

    @property
    def exponent(self) -> int:
        """The power of two above the largest absolute value seen."""
        return int(np.frexp(self.largest)[1])

    @property
    def relative(self) -> float:
        """The largest absolute value seen in those units: in [1/2, 1), or 0."""
        return float(np.frexp(self.largest)[0])

    def __call__(self, points: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N"]:
        """Values at points.

        Raises:
            DataError: the function gives something else than one finite real number for each point.
        """
        if len(points) > self.left:
            raise AssertionError(f"{len(points)} evaluations asked, {self.left} left: callers plan ahead")
        parts = [
            self._chunk(points[start : start + POINTS_A_CALL]) for start in range(0, len(points), POINTS_A_CALL)
        ] or [np.zeros(0)]
        values = np.concatenate(parts)
        self.evaluations += len(points)
        self.largest = max(self.largest, float(np.abs(values).max(initial=0.0)))
        return values

    def _chunk(self, points: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N"]:
        try:
            if self.vectorized:
                # Copies, one contiguous array a variable: the function may write into what it is given.
                values = self._numbers(self.function(*points.T.copy()), len(points))
            else:
                given = [self.function(*(float(x) for x in point)) for point in points]
                values = self._scalars(given, points)
        except DataError:
            raise
        except Exception as error:
            error.add_note(
                f"probtensor.approximate called the function with {self._described(len(points))}, the first of them at "
                f"{self._where(points[0])}"
            )
            raise
        bad = ~np.isfinite(values)
        if bad.any():
            first = int(np.argmax(bad))
            raise DataError(
                f"the function is {values[first]} at {self._where(points[first])} ({bad.sum()} of {len(points)} points "
                "of this call are not finite). Choose bounds inside which it is finite"
            )
        return values

    def _numbers(self, given: Any, count: int) -> Float[np.ndarray, "N"]:
        values = np.ma.filled(given, np.nan) if isinstance(given, np.ma.MaskedArray) else np.asarray(given)
        self._refuse_kinds(values.dtype)
        if values.shape != (count,):
            raise DataError(
                f"the function gave shape {values.shape} for {len(self.box.names)} arrays of shape ({count},); it must "
                f"give shape ({count},). For a function of single numbers say vectorized=False"
            )
        self.dtype = values.dtype
        return values.astype(np.float64)

    def _scalars(self, given: list[Any], points: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N"]:
        values = np.empty(len(given))
        for position, value in enumerate(given):
            array = np.asarray(value)
            if array.shape != ():
                raise DataError(
                    f"the function gave shape {array.shape} at {self._where(points[position])}; with vectorized=False "
                    "it must give one number"
                )
            self._refuse_kinds(array.dtype)
            values[position] = array
        return values

    def _refuse_kinds(self, dtype: np.dtype) -> None:
        if dtype.kind == "c":
            raise DataError(f"the function gives complex values ({dtype}); approximate its real and its imaginary part")
        if dtype.kind not in "fiub":
            raise DataError(f"the function gives dtype {dtype}, not real numbers")

    def _described(self, count: int) -> str:
        names = ", ".join(self.box.names)
        return f"arrays {names} of shape ({count},)" if self.vectorized else f"numbers {names}, {count} times"

    def _where(self, point: Float[np.ndarray, "D"]) -> str:
        return ", ".join(f"{name}={float(x)!r}" for name, x in zip(self.box.names, point, strict=True))


def spread(box: Box, count: int, seed: int, edges: float = 0.0) -> Float[np.ndarray, "N D"]:
    """Quasi-random points of a box (scrambled Sobol), no coordinate like that of another point.

    Args:
        box: where.
        count: how many.
        seed: which.
        edges: share of the points that are moved onto faces and edges, where polynomials are at their worst: each of
            their coordinates onto one of its bounds, with probability 1/3.
    """
    from scipy.stats import qmc

    dimensions = len(box.names)
    # Powers of two balance a Sobol sequence, and SciPy warns of other numbers.
    t = (
        2 * qmc.Sobol(dimensions, seed=np.random.default_rng(seed)).random_base2(max(int(count - 1).bit_length(), 0))
        - 1
    )
    t = t[:count]
    moved = int(edges * count)
    if moved:
        rng = np.random.default_rng(seed + 1)
        onto = rng.random((moved, dimensions)) < 1 / 3
        t[:moved] = np.where(onto, np.where(t[:moved] < 0, -1.0, 1.0), t[:moved])
    return np.stack([box.place(axis, t[:, axis]) for axis in range(dimensions)], axis=1)


def corners(box: Box, seed: int) -> Float[np.ndarray, "N D"]:
    """The corners of a box and its middle; some of the corners beyond 8 variables."""
    dimensions = len(box.names)
    if 2**dimensions <= MOST_CORNERS:
        upper = (np.arange(2**dimensions)[:, None] >> np.arange(dimensions)) & 1
    else:
        upper = np.random.default_rng(seed).integers(0, 2, (MOST_CORNERS, dimensions))
    return np.vstack([np.where(upper == 1, box.high, box.low), box.middle])
