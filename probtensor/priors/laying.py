"""Where the functions of a basis are laid: a box, a domain or a circle around a mode's levels."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from probtensor import hyperparameters
from probtensor.axes import Axis
from probtensor.compilation import on_device
from probtensor.errors import ModelError, warn
from probtensor.hyperparameters import Fixed
from probtensor.kernels.base import AbstractKernel, Start
from probtensor.kernels.metric import Metric, measure, on_chart
from probtensor.kernels.spectral import check_spectral
from probtensor.priors.base import check_size
from probtensor.priors.features.base import AbstractFeatures
from probtensor.priors.features.box import box
from probtensor.priors.features.circle import circle
from probtensor.priors.features.polynomials import polynomials
from probtensor.priors.weighted import Parts
from probtensor.typing import Float

#: Default number of functions: at most, at least, and times the number of components.
_MOST, _LEAST, _TOGETHER = 300, 30, 2000
#: A basis whose highest frequency times a lengthscale is this has all but 3% of the variance of a Matern-3/2 surface.
_RESOLVED = 5.0
#: What coordinates may miss of a whole period, or reach over it, and still be called one.
_ROUNDING = 1e-6
#: Rounding of coordinates, relative to the largest number that they are differences of: that of 32 bits.
_SLACK = 4 * float(np.finfo(np.float32).eps)


@dataclasses.dataclass(frozen=True)
class Given:
    """An option by coordinate: pairs of a name (None: the only coordinate) and its value."""

    pairs: tuple[tuple[str | None, Any], ...]


def by_coordinate(option: Any) -> Given:
    """An option that is one value, or a dict of one for each coordinate, or None."""
    if isinstance(option, Given) or option is None:
        return option or Given(())
    items = option.items() if isinstance(option, Mapping) else [(None, option)]
    return Given(tuple((name, tuple(v) if isinstance(v, list | np.ndarray) else v) for name, v in items))


def check_declared(name: str, size: Any, kernel: Any) -> None:
    """Raises ModelError for what is not a number of functions, or not a kernel with a spectral density."""
    if size is not None and (isinstance(size, bool) or not isinstance(size, int | np.integer) or size < 1):
        raise ModelError(f"{name}(size={size!r}): the number of functions must be a positive integer")
    if not isinstance(kernel, AbstractKernel | None):
        raise ModelError(f"{name}(kernel={kernel!r}): expected a kernel such as pt.Matern(3/2)")
    if kernel is not None:
        check_spectral(kernel)


def check_period(name: str, period: Any) -> None:
    """Raises ModelError for what is neither a finite number above zero nor a string, which `lay_circle` reads."""
    value: Any = period.value if isinstance(period, Fixed) else period
    number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    if not (isinstance(value, str) or (number and np.isfinite(value) and value > 0)):
        raise ModelError(
            f"{name}(period={period!r}): the period must be a finite number above zero, in the coordinate's unit, or "
            "on a time axis a string such as '365.25D'"
        )


class Wanted(NamedTuple):
    """What is laid where: the prior's name for messages, the mode, and what was declared."""

    name: str
    axis: Axis
    start: Start
    kernel: AbstractKernel
    size: int | None

    def measured(self) -> tuple[Metric, Axis]:
        """The mode's flat coordinates, and a line for lengthscales. Raises ModelError for a mode of names."""
        axis = self.axis
        if axis.kind == "category" and not axis.parts and not axis.parent:
            raise ModelError(f"{self.name}: coordinate {axis.name!r} holds names, on no line; use pt.Categorical()")
        metric, line = measure(axis, self.kernel, on_sphere=False)
        return metric, line if axis.parts else axis

    def size_for(self, wished: int) -> int:
        """Number of functions where so many say all that levels can: as many as there are, or more on a circle."""
        rank = len(self.start.lengthscales)
        return min(_MOST, max(_LEAST, _TOGETHER // rank), wished) if self.size is None else int(self.size)

    def bound(self, metric: Metric, line: Axis, features: AbstractFeatures) -> Parts:
        """All parts with numbers; lengthscales start no shorter than the functions resolve."""
        rank = len(self.start.lengthscales)
        check_size(self.name, features.number, rank, "functions", "weights", "Lower the size or the rank")
        scales = line.lengthscales(rank) if self.axis.parts else self.start.lengthscales
        scales = np.maximum(scales, _RESOLVED / features.highest(metric.factors()))
        return Parts(self.kernel.bind(line, self.start._replace(lengthscales=scales)), metric, features)

    def varying(self, metric: Metric) -> list[Axis]:
        """The coordinates that have a flat coordinate."""
        parts = self.axis.parts or (self.axis,)
        return [parts[column] for column in metric.chart.columns]

    def given(self, what: str, option: Given) -> dict[str, Any]:
        """An option's values by coordinate. Raises ModelError for one that the mode does not have."""
        names = [part.name for part in self.axis.parts or (self.axis,)]
        found = {}
        for name, value in option.pairs:
            if name is None and len(names) > 1:
                raise ModelError(
                    f"{self.name}: {what}={value!r} of the joined coordinates {', '.join(names)}; say of which, as in "
                    f"{what}={{{names[0]!r}: {value!r}}}"
                )
            if name is not None and name not in names:
                raise ModelError(f"{self.name}: {what} of {name!r}, which is not among {', '.join(map(repr, names))}")
            found[names[0] if name is None else name] = value
        return found


def _flat(metric: Metric, axis: Axis) -> Float[np.ndarray, "T d"]:
    return np.asarray(on_chart(metric.chart, on_device(axis.points.astype(float))), dtype=float)


def _factors(metric: Metric) -> Float[np.ndarray, "d"]:
    return np.asarray(metric.factors(), dtype=float)


def lay_box(wanted: Wanted) -> Parts:
    """Cosines on a box 1.3 times as long as the levels' range."""
    metric, line = wanted.measured()
    size = wanted.size_for(wanted.axis.distinct)
    return wanted.bound(metric, line, box(_flat(metric, wanted.axis), _factors(metric), size))


def lay_polynomials(wanted: Wanted, kind: str, given: Given) -> Parts:
    """Polynomials on the range of the levels, or between the bounds."""
    metric, line = wanted.measured()
    bounds = {name: _ends(wanted, name, ends) for name, ends in wanted.given("bounds", given).items()}
    chart, parts = metric.chart, wanted.varying(metric)
    middles = [np.mean(bounds[p.name]) if p.name in bounds else o for p, o in zip(parts, chart.origin, strict=True)]
    chart = eqx.tree_at(lambda c: c.origin, chart, jnp.asarray(np.array(middles, dtype=float)))
    metric = eqx.tree_at(lambda m: m.chart, metric, chart)
    x, scale = _flat(metric, wanted.axis), np.asarray(chart.scale, dtype=float)
    half = np.abs(x).max(axis=0)
    for k, part in enumerate(parts):
        if part.name in bounds:
            half[k] = 0.5 * np.ptp(bounds[part.name]) * scale[k]
    half = np.where(half > 0, half, 1.0)
    size = wanted.size_for(wanted.axis.distinct)
    most = [len(np.unique(column)) - 1 if wanted.size is None else size for column in x.T]
    largest = np.abs(np.asarray(chart.origin, dtype=float)) * scale + half
    spacing = np.array([part.spacing for part in parts]) * scale
    features = polynomials(kind, half, np.minimum(_SLACK * largest, spacing / 4), _factors(metric), most, size)
    _refuse_levels(wanted, bounds, x, features.limits().half + features.limits().slack, parts)
    return wanted.bound(metric, line, features)


def _ends(wanted: Wanted, name: str, ends: Any) -> tuple[float, float]:
    """Two bounds as numbers in the coordinate's unit."""
    where = f"{wanted.name}: bounds={ends!r} of {name!r}"
    part = next(p for p in wanted.axis.parts or (wanted.axis,) if p.name == name)
    if not isinstance(ends, tuple) or len(ends) != 2:
        raise ModelError(f"{where}: expected two labels, (low, high)")
    try:
        low, high = (part.place(end) for end in ends)
    except ValueError as error:
        raise ModelError(f"{where}: {error}") from error
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        raise ModelError(f"{where}: expected two finite labels, the lower first")
    return low, high


def _refuse_levels(
    wanted: Wanted, bounds: dict[str, Any], x: np.ndarray, room: Float[np.ndarray, "d"], parts: list[Axis]
) -> None:
    """Raises ModelError for a level out of bounds."""
    beyond = np.abs(x) > room
    if beyond.any():
        row, k = (int(i) for i in np.argwhere(beyond)[0])
        part = parts[k]
        column = [p.name for p in wanted.axis.parts or (wanted.axis,)].index(part.name)
        level = float(wanted.axis.points.reshape(len(x), -1)[row, column])
        shown = [part.show(number) for number in (level, *bounds[part.name])]
        raise ModelError(
            f"{wanted.name}: the level {shown[0]} of {part.name!r} is outside the bounds, {shown[1]} to {shown[2]}; "
            "widen them"
        )


def lay_circle(wanted: Wanted, given: Given) -> Parts:
    """Harmonics of a period, by default the levels' range and one spacing; warns of levels that are wound up."""
    metric, line = wanted.measured()
    x, scale = _flat(metric, wanted.axis), np.asarray(metric.chart.scale, dtype=float)
    declared = wanted.given("period", given)
    period = np.ones(x.shape[1])
    for k, part in enumerate(wanted.varying(metric)):
        if part.name not in declared:
            period[k] = np.ptp(x[:, k]) + part.spacing * scale[k]
            continue
        value = declared[part.name]
        value = value.value if isinstance(value, Fixed) else value
        period[k] = hyperparameters.number_of(value, part, f"{wanted.name}: period") * scale[k]
        _warn_of_turns(wanted, part, period[k] / scale[k])
    wound = np.round((x / period[None]) % 1.0, 9) % 1.0
    columns = [np.unique(column) for column in wound.T]
    resolved = [_harmonics(column) for column in columns]
    # Levels of several circles are a grid, or a part of one: it has as many functions a level as the full one.
    share = math.prod((2 * highest + 1) / len(column) for highest, column in zip(resolved, columns, strict=True))
    size = wanted.size_for(math.ceil(len(np.unique(wound, axis=0)) * share - _ROUNDING))
    most = resolved if wanted.size is None else [size] * len(columns)
    features = circle(period, _factors(metric), most, size)
    if not wanted.axis.parts and wanted.start.lengthscales.max() > period[0] / 2:
        folded = Axis(line.name, "numeric", np.unique(wound) * period[0], line.unit)
        scales = folded.lengthscales(len(wanted.start.lengthscales))
        wanted = wanted._replace(start=wanted.start._replace(lengthscales=scales))
    return wanted.bound(metric, line, features)


def _harmonics(turns: Float[np.ndarray, "T"]) -> int:
    """The highest harmonic that distinct levels, in turns, can tell: two levels a wave, at their typical spacing.

    That is half of their number where they go right around, and more where they are on a part of the circle.
    """
    gaps = np.diff(turns, append=turns[0] + 1.0)
    typical = float(np.sort(gaps)[(len(gaps) - 1) // 2])
    return max(math.floor(0.5 / typical + _ROUNDING), len(turns) // 2)


def _warn_of_turns(wanted: Wanted, part: Axis, period: float) -> None:
    """Warns of levels more than a period apart: perhaps the period is in another unit. Times are meant to be so."""
    if part.kind != "time" and np.ptp(part.points) > (1 + _ROUNDING) * period:
        warn(
            f"{wanted.name}: mode {wanted.axis.name!r} has {part.name!r} from {part.points.min():.10g} to "
            f"{part.points.max():.10g}, which is more than one period of {period:.10g}: levels whole periods apart are "
            "taken for one. Give the period in the coordinate's unit"
        )
