"""The functional Tucker decomposition that an approximation gives: a core times Chebyshev series of each variable."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import numpy as np
from numpy.polynomial.chebyshev import chebder

from probtensor.approximation import chebyshev, contraction
from probtensor.approximation.box import Box
from probtensor.errors import DataError, ModelError
from probtensor.typing import Float


class ErrorEstimate(eqx.Module):
    """How far an approximation is from its function, at points that were not used to make it.

    The points are quasi-random, a quarter of them on faces and edges of the box, and some further ones near the worst
    of these, found by searching along the axes. A feature that touches none of them stays unseen: with M points, one
    that changes the function in much less than a share 1/M of the box.

    Attributes:
        absolute: largest deviation, in the function's unit.
        relative: that over the largest absolute value of the function that was seen.
        root_mean_square: of the deviations at the quasi-random points, in the function's unit.
        points: number of points.
    """

    absolute: float
    relative: float
    root_mean_square: float
    points: int


class FunctionalTucker(eqx.Module):
    """A function of D variables on a box: the sum over a core's entries of each times one function of each variable.

    f(x_1, ..., x_D) = sum over k_1, ..., k_D of core[k_1, ..., k_D] u_1,k_1(x_1) ... u_D,k_D(x_D). The functions are
    Chebyshev series. Those of a variable are orthonormal (the mean over the variable's range of the product of two is
    0, of the square of one is 1) and ordered by how much of f they carry, ``singular_values``; signs are fixed. Calling
    it evaluates it::

        approximation(x, y, z)          # in the order of the bounds; arrays are broadcast
        approximation(x=..., y=..., z=...)

    Attributes:
        box: names and bounds of the variables.
        core: array of shape ``rank``, in the function's unit.
        series: Chebyshev coefficients of each variable's functions, one column a function; see ``coefficients``.
        error: how far it is from the function; None for what was derived from an approximation.
        tol: the relative error that was asked for.
        evaluations: evaluations of the function that it took.
        converged: whether the estimated relative error is at most tol.
        messages: what stands in the way, a sentence each; empty if it converged.
    """

    box: Box
    core: Float[np.ndarray, "..."]
    series: tuple[Float[np.ndarray, "n r"], ...]
    error: ErrorEstimate | None = None
    tol: float = eqx.field(static=True, default=0.0)
    evaluations: int = eqx.field(static=True, default=0)
    converged: bool = eqx.field(static=True, default=True)
    messages: tuple[str, ...] = eqx.field(static=True, default=())

    def __check_init__(self) -> None:
        """Its arrays can be read, not written."""
        for array in (self.core, *self.series):
            array.setflags(write=False)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the variables, in the order in which coordinates are given."""
        return self.box.names

    @property
    def bounds(self) -> dict[str, tuple[float, float]]:
        """Lower and upper bound of each variable."""
        ends = zip(self.box.low.tolist(), self.box.high.tolist(), strict=True)
        return dict(zip(self.names, ends, strict=True))

    @property
    def rank(self) -> dict[str, int]:
        """Number of functions of each variable."""
        return dict(zip(self.names, self.core.shape, strict=True))

    @property
    def degree(self) -> dict[str, int]:
        """Highest degree of the functions of each variable."""
        return {name: len(series) - 1 for name, series in zip(self.names, self.series, strict=True)}

    @property
    def coefficients(self) -> dict[str, Float[np.ndarray, "n r"]]:
        """Chebyshev coefficients of each variable's functions, by degree and function.

        They are those of T_k(t), where t runs from -1 at the lower bound to 1 at the upper one.
        """
        return dict(zip(self.names, self.series, strict=True))

    @property
    def singular_values(self) -> dict[str, Float[np.ndarray, "r"]]:
        """How much of the function each function of a variable carries (root mean squares, in the function's unit)."""
        unit = float(np.abs(self.core).max()) or 1.0  # so that no square overflows
        return {
            name: unit
            * np.linalg.norm(np.moveaxis(self.core / unit, axis, 0).reshape(self.core.shape[axis], -1), axis=1)
            for axis, name in enumerate(self.names)
        }

    def factors(self, at: Mapping[str, Any]) -> dict[str, Float[np.ndarray, "N r"]]:
        """The functions of some variables at coordinates.

        Args:
            at: N coordinates of each of these variables.

        Raises:
            ModelError: there is no such variable.
            DataError: a coordinate is not a real number or outside the bounds.
        """
        found = {}
        for name, x in at.items():
            axis = self.box.position(name)
            x = np.atleast_1d(self.box.checked(axis, x))
            if x.ndim != 1:
                raise ModelError(f"factors: the coordinates of {name!r} must be one array of N, not of shape {x.shape}")
            found[name] = chebyshev.evaluate(self.series[axis], self.box.unit(axis, x))
        return found

    def __call__(self, *coordinates: Any, **by_name: Any) -> Float[np.ndarray, "..."]:
        """The approximation at coordinates, all of them in the order of the bounds, or all of them by name.

        They are broadcast against each other; a number for numbers alone. Cost O(N prod rank) for N values.

        Raises:
            ModelError: a variable is missing, given twice or unknown.
            DataError: a coordinate is not a real number or outside the bounds.
        """
        if coordinates and by_name:
            raise ModelError("give all coordinates in order, or all of them by name, not some of each")
        if by_name or not coordinates:
            for name in by_name:
                self.box.position(name)
            missing = [name for name in self.names if name not in by_name]
            if missing:
                raise ModelError(f"no coordinates of {', '.join(missing)}; the variables are {', '.join(self.names)}")
            coordinates = tuple(by_name[name] for name in self.names)
        if len(coordinates) != len(self.names):
            raise ModelError(
                f"{len(coordinates)} coordinates for the {len(self.names)} variables {', '.join(self.names)}"
            )
        given = [self.box.checked(axis, x) for axis, x in enumerate(coordinates)]
        try:
            x = np.broadcast_arrays(*given)
        except ValueError:
            shapes = ", ".join(f"{name} {values.shape}" for name, values in zip(self.names, given, strict=True))
            raise ModelError(f"coordinates of these shapes cannot be broadcast: {shapes}") from None
        points = np.stack([values.reshape(-1) for values in x], axis=1)
        return self.at(points).reshape(x[0].shape)[()]

    def at(self, points: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N"]:
        """The approximation at points of the box, one a row.

        Args:
            points: in the variables' own units, the columns in the order of the bounds.
        """
        # In units of a power of two, which costs no digit, so that no sum overflows.
        exponent = int(np.frexp(np.abs(self.core).max())[1])
        core = np.ldexp(self.core, -exponent)
        width = max(1, contraction.LARGEST_BLOCK // max(len(series) for series in self.series))
        out = np.empty(len(points))
        for start in range(0, len(points), width):
            t = [self.box.unit(axis, points[start : start + width, axis]) for axis in range(points.shape[1])]
            factors = [chebyshev.evaluate(series, t[axis]) for axis, series in enumerate(self.series)]
            out[start : start + width] = contraction.at_points(core, factors)
        return contraction.unscaled(out, exponent)

    def integral(self) -> float:
        """The integral over the box, exact for the approximation: at most volume times error from the function's."""
        total = self.core
        for series in self.series:
            total = np.tensordot(chebyshev.means(len(series)) @ series, total, axes=(0, 0))
        return float(total) * math.prod((2 * self.box.half).tolist())

    def derivative(self, name: str) -> FunctionalTucker:
        """The derivative with respect to a variable, exact for the approximation, on the same box.

        Its factor functions are orthonormal again and ordered by how much of the derivative they carry. Its error is
        not known: expect to lose about a factor of the squared degree over the range.

        Args:
            name: of the variable.

        Raises:
            ModelError: there is no such variable.
            DataError: its root mean square is no number of 64 bits.
        """
        axis = self.box.position(name)
        series = list(self.series)
        series[axis] = chebder(series[axis])
        unit = float(np.abs(self.core).max()) or 1.0  # so that no square overflows
        core, series = contraction.ordered(self.core / unit, series)
        with np.errstate(over="ignore"):
            core = core / self.box.half[axis] * unit
        if not np.isfinite(core).all():
            raise DataError(f"derivative({name!r}): it is too large for float64; approximate the function over a scale")
        return FunctionalTucker(
            self.box, core, tuple(series), None, self.tol, self.evaluations, self.converged, self.messages
        )

    def summary(self) -> str:
        """What was found: the variables with ranks and degrees, the error, and what stands in the way."""
        width = max(8, *(len(name) for name in self.names))
        lines = [repr(self), f"{'variable':{width}}  {'bounds':>23}  {'rank':>5}  {'degree':>6}  singular values"]
        for name, (low, high) in self.bounds.items():
            values = self.singular_values[name]
            shown = ", ".join(f"{value:.1e}" for value in values[:3]) + (
                f", ..., {values[-1]:.1e}" if len(values) > 4 else f", {values[-1]:.1e}" if len(values) == 4 else ""
            )
            ends = f"[{low:g}, {high:g}]"
            lines.append(f"{name:{width}}  {ends:>23}  {self.rank[name]:>5}  {self.degree[name]:>6}  {shown}")
        if self.error is not None:
            lines.append(
                f"error at {self.error.points} points not used: largest {self.error.absolute:.1e} "
                f"({self.error.relative:.1e} of the largest value seen; asked: {self.tol:g}), root mean square "
                f"{self.error.root_mean_square:.1e}; {self.evaluations} evaluations"
            )
        return "\n".join([*lines, *self.messages])

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name}: {rank}" for name, rank in self.rank.items())
        error = "not estimated" if self.error is None else f"{self.error.relative:.1e}"
        state = "" if self.converged else ", not converged"
        return f"FunctionalTucker(rank={{{sizes}}}, error={error}, evaluations={self.evaluations}{state})"
