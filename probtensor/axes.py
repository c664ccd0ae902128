"""What the core knows of a mode: its name, its levels as numbers, and the scales a lengthscale can have on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from probtensor.errors import ModelError

#: What kinds of coordinate there are; each has its own default prior.
KINDS = ("numeric", "time", "category", "constant")

#: Functions of one mode start within this factor of what the data suggest.
_AROUND = 4.0


def _no_strings(text: str) -> float:
    raise ModelError(
        f"{text!r} is not a number: a string such as '30D' is a duration, and only a time axis has durations"
    )


@dataclasses.dataclass(frozen=True)
class Axis:
    """One mode of the data.

    Attributes:
        name: the dimension's or column's name; a derived mode is called ``"time.month"``.
        kind: ``"numeric"``, ``"time"``, ``"category"`` or ``"constant"`` (a single level).
        points: (T,) distinct levels in ascending order, in ``unit`` (categories: 0..T-1).
        unit: the unit of ``points`` and of every lengthscale, ``"days"`` on a time axis.
        parse: turns a string such as ``"30D"`` into a number in ``unit``.
        parent: the mode that this one derives from; empty for a mode of the data.
    """

    name: str
    kind: str
    points: np.ndarray
    unit: str = ""
    parse: Callable[[str], float] = _no_strings
    parent: str = ""

    @property
    def size(self) -> int:
        """Number of levels, T."""
        return len(self.points)

    @property
    def range(self) -> float:
        """Distance from the first level to the last; 1.0 for a single level."""
        return float(self.points[-1] - self.points[0]) or 1.0

    @property
    def spacing(self) -> float:
        """Median distance between neighbouring levels."""
        return float(np.median(np.diff(self.points))) if self.size > 1 else 1.0

    def lengthscales(self, number: int, typical: float | None = None) -> np.ndarray:
        """(number,) lengthscales to start from, from long to short, evenly spaced in their logarithm.

        typical: what the data suggest. One function starts there, several within a factor of four around it, but
            never above half the range, where a function is nearly constant. None: they run from half the range to
            three spacings, since shorter ones are noise until the data say otherwise; one starts in the middle.
        """
        longest = self.range / 2
        if typical is None:
            shortest = min(max(3 * self.spacing, self.range / 100), longest)
        else:
            typical = min(typical, longest)
            longest, shortest = min(_AROUND * typical, longest), typical / _AROUND
        if number == 1:
            return np.array([np.sqrt(longest * shortest) if typical is None else typical])
        return np.geomspace(longest, shortest, number)
