"""What the core knows of a mode: its name, its levels as numbers, and the scales a lengthscale can have on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from probtensor import earth
from probtensor.errors import ModelError

#: What kinds of coordinate there are; each has its own default prior.
KINDS = ("numeric", "time", "category", "constant")
#: Stands between the names of the modes that a joined mode is made of, as in ``"lat x lon"``.
JOIN = " x "

#: Functions of one mode start within this factor of what the data suggest.
_AROUND = 4.0


def _no_strings(text: str) -> float:
    raise ModelError(
        f"{text!r} is not a number: a string such as '30D' is a duration, and only a time axis has durations"
    )


def _number(label: Any) -> float:
    if isinstance(label, bool) or not isinstance(label, int | float | np.number):
        raise ModelError(f"{label!r} is not a number, which the labels of this coordinate are")
    return float(label)


@dataclasses.dataclass(frozen=True)
class Axis:
    """One mode of the data.

    Attributes:
        name: the dimension's or column's name; a derived mode is called ``"time.month"``, a joined one ``"lat x lon"``.
        kind: ``"numeric"``, ``"time"``, ``"category"`` or ``"constant"`` (a single level); of a joined mode
            ``"category"`` as soon as one of its parts is.
        points: (T,) distinct levels in ascending order, in ``unit`` (categories: 0..T-1); of a derived mode those
            of its parent's levels, in their order, with repeats; (T, d) for a joined mode of d parts, in their units.
        unit: the unit of ``points`` and of every lengthscale, ``"days"`` on a time axis.
        parse: turns a string such as ``"30D"`` into a number in ``unit``.
        place: turns a label such as ``"2020-01-31"`` into a number in ``unit``; show: the label of a number, as text.
        parent: the mode that this one derives from; empty for a mode of the data.
        parts: the axes that a joined mode is made of; empty for all others.
        role: ``"latitude"`` or ``"longitude"`` in degrees, or empty; None: as name and unit say.
        period: after which the coordinate closes on itself, as a longitude around the globe does; None: it does not.
    """

    name: str
    kind: str
    points: np.ndarray
    unit: str = ""
    parse: Callable[[str], float] = _no_strings
    place: Callable[[Any], float] = _number
    show: Callable[[float], str] = "{:.10g}".format
    parent: str = ""
    parts: tuple[Axis, ...] = ()
    role: str | None = None
    period: float | None = None

    @property
    def meaning(self) -> str:
        """``"latitude"``, ``"longitude"`` or empty."""
        return earth.role(self.name, self.unit) if self.role is None else self.role

    @property
    def size(self) -> int:
        """Number of levels, T."""
        return len(self.points)

    @property
    def distinct(self) -> int:
        """Number of levels that differ: a derived mode repeats its own."""
        return len(np.unique(self.points, axis=0))

    @property
    def range(self) -> float:
        """Distance from the lowest level to the highest; 1.0 for a single level."""
        return float(self.points.max() - self.points.min()) or 1.0

    @property
    def spacing(self) -> float:
        """Median distance between neighbouring levels."""
        levels = np.unique(self.points)
        return float(np.median(np.diff(levels))) if len(levels) > 1 else 1.0

    def lengthscales(self, number: int, typical: float | None = None) -> np.ndarray:
        """(number,) lengthscales to start from, from long to short, evenly spaced in their logarithm.

        typical: what the data suggest. One function starts there, several within a factor of four around it, but
            never above half the range, where a function is nearly constant. None: they run from half the range to
            three spacings, since shorter ones are noise until the data say otherwise; one starts in the middle.

        Ones for a joined mode, whose parts have scales of their own (see `probtensor.kernels.metric`).
        """
        if self.parts:
            return np.ones(number)
        longest = self.range / 2
        if typical is None:
            shortest = min(max(3 * self.spacing, self.range / 100), longest)
        else:
            typical = min(typical, longest)
            longest, shortest = min(_AROUND * typical, longest), typical / _AROUND
        if number == 1:
            return np.array([np.sqrt(longest * shortest) if typical is None else typical])
        return np.geomspace(longest, shortest, number)


def axis_of(reader: str, mode: str, axes: Mapping[str, Axis]) -> Axis:
    """The axis of a mode that a reader, such as a term, names. Raises ModelError if there is none."""
    if mode not in axes:
        raise ModelError(f"{reader}: there is no mode {mode!r}; the modes are {', '.join(map(repr, axes)) or 'none'}")
    return axes[mode]


def names_of(over: str | Sequence[str] | None) -> tuple[str, ...]:
    """One name, several, or none."""
    if over is None:
        return ()
    return tuple(over) if np.iterable(over) and not isinstance(over, str) else (over,)


def join_names(names: Sequence[str]) -> str:
    """The joined mode's name; the order in which its parts are named does not matter."""
    return JOIN.join(sorted(names))


def join(parts: Sequence[Axis], points: np.ndarray) -> Axis:
    """The axis of a joined mode.

    Args:
        parts: in alphabetical order of their names.
        points: (T, d) the joint levels, a column for each part.
    """
    kind = "category" if any(part.kind == "category" for part in parts) else "numeric"
    units = {part.unit for part in parts}
    return Axis(
        join_names([part.name for part in parts]),
        kind if len(points) > 1 else "constant",
        points,
        units.pop() if len(units) == 1 else "",
        parts=tuple(parts),
    )
