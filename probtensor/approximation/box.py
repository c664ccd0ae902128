"""The box on which a function is approximated: a name and two bounds for each variable."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import equinox as eqx
import numpy as np

from probtensor.errors import DataError, ModelError
from probtensor.typing import Float

#: A variable's bounds are at least so many roundings of float64 apart, or its sampling points would coincide.
FEWEST_STEPS = 1e6


class Box(eqx.Module):
    """Names, lower and upper bounds of D variables. Inside, each variable is t in [-1, 1]."""

    names: tuple[str, ...] = eqx.field(static=True)
    low: Float[np.ndarray, "D"]
    high: Float[np.ndarray, "D"]

    @classmethod
    def from_bounds(cls, bounds: Mapping[str, Any] | Sequence[Any]) -> Box:
        """Reads a dict of ``(low, high)`` by name, or a sequence of them, whose names are x0, x1, ...

        Raises:
            ModelError: there is no variable, a name is not a string, or two bounds are not finite numbers, the first
                below the second by more than rounding.
        """
        if isinstance(bounds, Mapping):
            pairs = list(bounds.items())
        elif isinstance(bounds, Iterable) and not isinstance(bounds, str | bytes):
            pairs = [(f"x{position}", pair) for position, pair in enumerate(bounds)]
        else:
            pairs = []
        if not pairs:
            raise ModelError(
                f"bounds={bounds!r}: give (low, high) of every variable, as a dict by name or as a sequence, such as "
                "{'x': (0, 1), 'y': (-1, 1)}"
            )
        ends = [_ends(name, pair) for name, pair in pairs]
        return cls(tuple(name for name, _ in pairs), *np.array(ends, dtype=np.float64).T)

    @property
    def middle(self) -> Float[np.ndarray, "D"]:
        """The middle of every variable's range; never overflows."""
        return self.low / 2 + self.high / 2

    @property
    def half(self) -> Float[np.ndarray, "D"]:
        """Half the width of every variable's range; never overflows."""
        return self.high / 2 - self.low / 2

    def place(self, axis: int, t: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Coordinates of t in [-1, 1] along one variable, within the bounds, rounded as float64 must."""
        return np.clip(self.middle[axis] + self.half[axis] * t, self.low[axis], self.high[axis])

    def unit(self, axis: int, x: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """The t in [-1, 1] of coordinates; not quite the inverse of place where bounds are far from 0."""
        return np.clip((x - self.middle[axis]) / self.half[axis], -1.0, 1.0)

    def position(self, name: Any) -> int:
        """Where a variable stands in the order of the bounds.

        Raises:
            ModelError: there is no such variable.
        """
        if name not in self.names:
            raise ModelError(f"{name!r} is not a variable here; there are {', '.join(self.names)}")
        return self.names.index(name)

    def checked(self, axis: int, x: Any) -> Float[np.ndarray, "..."]:
        """Coordinates as float64, those beyond a bound by rounding alone moved onto it.

        Rounding is that of 32 bits for coordinates of float32, and at most a quarter of the range.

        Raises:
            DataError: one is not a real number or lies outside the bounds; names the variable and the value.
        """
        name = self.names[axis]
        array = np.asarray(x)
        if array.dtype.kind not in "fiub":
            raise DataError(f"{name!r}: coordinates must be real numbers, not of dtype {array.dtype}")
        x = array.astype(np.float64)
        low, high = self.low[axis], self.high[axis]
        largest = max(abs(low), abs(high))
        slack = 4 * np.spacing(largest)
        if array.dtype == np.float32:
            slack = max(slack, min(4 * float(np.finfo(np.float32).eps) * largest, 0.5 * self.half[axis]))
        wrong = ~((x >= low - slack) & (x <= high + slack))
        if wrong.any():
            index = tuple(int(position) for position in np.argwhere(wrong)[0])
            where = f" at index {index if len(index) > 1 else index[0]}" if index else ""
            raise DataError(
                f"{name!r}: {float(x[index])!r}{where} is outside the bounds [{low:g}, {high:g}] of the approximation, "
                "which says nothing there. Approximate the function on wider bounds"
            )
        return np.clip(x, low, high)


def _ends(name: Any, pair: Any) -> tuple[float, float]:
    if not isinstance(name, str) or not name:
        raise ModelError(f"bounds: the name of a variable must be a string, not {name!r}")
    try:
        low, high = (float(end) for end in pair)
    except (TypeError, ValueError):
        raise ModelError(f"bounds of {name!r}: expected two numbers (low, high), not {pair!r}") from None
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ModelError(
            f"bounds of {name!r}: ({low:g}, {high:g}) must be finite; map an infinite range onto a finite one"
        )
    if not low < high:
        raise ModelError(f"bounds of {name!r}: the lower one, {low:g}, must be below the upper one, {high:g}")
    if high / 2 - low / 2 < FEWEST_STEPS / 2 * np.spacing(max(abs(low), abs(high))):
        raise ModelError(
            f"bounds of {name!r}: {low!r} and {high!r} are too near each other for float64; subtract an origin"
        )
    return low, high
