"""For grids with many observations: a sum of processes over space that stay, come back each year, last and pass.

Each is separable, so that the sum can be solved for on the whole grid (`probtensor.gridded`).
"""

from __future__ import annotations

import dataclasses
import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from probtensor import hyperparameters
from probtensor.axes import Axis
from probtensor.engines.collapsed import block_learning, field
from probtensor.engines.collapsed.adapting import FEWEST_FIELDS, MOST_CELLS
from probtensor.engines.collapsed.ascent import Learned
from probtensor.gridded.grid import FULL, Grid, products
from probtensor.kernels.adapted import Adapted
from probtensor.kernels.field import AbstractFieldKernel, FieldStart, On
from probtensor.kernels.matern import Matern
from probtensor.kernels.metric import KM_IN_A_DEGREE, sphere_line
from probtensor.kernels.periodic import Periodic
from probtensor.kernels.walks import IntegratedRandomWalk
from probtensor.likelihoods.gaussian import BoundGaussian
from probtensor.observations.domain import Observations
from probtensor.observations.layout import Points
from probtensor.selection.local import GAIN, left_over
from probtensor.selection.roles import globe, times, varying
from probtensor.selection.trends import Trend

#: Entries at most; levels of time and places at most are those of a field.
_ENTRIES, _MOST = 1_000_000, field.MOST
_YEAR = "365.25D"
#: Blocks that forms learn from, and those that they are compared on: what differs between blocks is larger than what is
#: learned from chance.
_LEARNED, _COMPARED = 3, 6
#: Degrees beyond which degrees of longitude are no measure of distance.
_FLAT = 60.0


@dataclasses.dataclass(frozen=True)
class Process:
    """One summand.

    Attributes:
        variance: of the function.
        lengthscale: over space.
        duration: lengthscale over time; 0: it stays as it is.
        yearly: it comes back each year instead.
        goes_on: it goes on as it last went, in a trend that changes over the duration.
        held: its numbers are not learned with those of the others.
        ratios: lengthscales of further coordinates relative to that of the first, as far as they are known.
    """

    variance: float
    lengthscale: float
    duration: float
    yearly: bool = False
    goes_on: bool = False
    held: bool = False
    ratios: tuple[float, ...] = ()


#: Where learning starts: variances as shares of the data's, lengthscales and durations as shares of the ranges.
_STAYS, _RETURNS = Process(0.4, 0.3, 0.0), Process(0.2, 0.2, 0.0, yearly=True)
_LASTS, _PASSES = Process(0.3, 0.2, 0.15), Process(0.1, 0.05, 0.0)
#: Lengthscales of a trend and of what is about it, as shares of the extent; how long the latter lasts, in steps.
_TREND, _ABOUT, _AT_ONCE = 0.5, 1.0, 0.05


@dataclasses.dataclass(frozen=True)
class SpaceTime:
    """A sum of processes, as a user would write it.

    Attributes:
        time: the coordinate.
        space: the others.
        metric: of these.
        nu: smoothness over space.
        processes: the summands.
        adapts: whether the last one has covariances over space that follow the data.
    """

    time: str
    space: tuple[str, ...]
    metric: str | None
    nu: float
    processes: tuple[Process, ...]
    adapts: bool = False

    @property
    def kernel(self) -> AbstractFieldKernel:
        """Starting from these numbers."""
        last = self.processes[-1]
        return functools.reduce(operator.add, (self._product(p, self.adapts and p is last) for p in self.processes))

    def _product(self, one: Process, adapts: bool) -> AbstractFieldKernel:
        number = hyperparameters.fixed if one.held else float
        kernel = Matern(self.nu, lengthscale=number(one.lengthscale), variance=number(one.variance))
        known = np.array(one.ratios)
        ratios = hyperparameters.bind(None, known, "relative lengthscale", held=one.held) if known.size else None
        over: AbstractFieldKernel = On(kernel, self.space, self.metric, ratios=ratios)
        over = over.adapted(degree=None) if adapts else over
        if one.yearly:
            return over * Periodic(hyperparameters.fixed(_YEAR), lengthscale=1.0).on(self.time)
        if not one.duration:
            return over
        along = IntegratedRandomWalk if one.goes_on else functools.partial(Matern, 1 / 2)
        return over * along(lengthscale=number(one.duration)).on(self.time)

    def with_trend(self, trend: Trend, axes: Mapping[str, Axis]) -> SpaceTime:
        """With a trend beside what stays, and what moves all places about it at a time, both with these numbers."""
        extent = _extents(axes, self.space)[self.metric or "ard"]
        goes_on = Process(trend.variance, _TREND * extent, trend.duration, goes_on=True, held=True)
        about = Process(trend.about, _ABOUT * extent, _AT_ONCE * axes[self.time].spacing, held=True)
        return dataclasses.replace(self, processes=(self.processes[0], goes_on, about, *self.processes[1:]))

    def with_numbers(self, kernel: AbstractFieldKernel) -> SpaceTime:
        """With the numbers that a bound kernel of this form has."""
        found = []
        for one, factors in zip(self.processes, products(kernel), strict=True):
            owns: list[Any] = [own.base if isinstance(own, Adapted) else own for own in factors]
            kernels = [own.kernel for own in owns]
            numbers = [float(kernel.lengthscale.value[0]) for kernel in kernels]
            variance = float(kernels[0].variance.value[0])
            duration = numbers[1] if one.duration else 0.0
            ratios = () if owns[0].ratios is None else tuple(map(float, owns[0].ratios.value))
            found.append(Process(variance, numbers[0], duration, one.yearly, one.goes_on, one.held, ratios))
        return dataclasses.replace(self, processes=tuple(found))


def time_of(axes: Mapping[str, Axis]) -> str | None:
    """The coordinate that is the time; None: there is none."""
    return next(iter(times(axes)), None)


def serves(axes: Mapping[str, Axis], observations: Observations) -> bool:
    """Whether the data are a grid of times and places, not too large, without names."""
    time, lines = time_of(axes), varying(axes)
    if time is None or len(lines) < 2 or any(axis.kind == "category" for axis in lines.values()):
        return False
    if isinstance(observations.domain.layout, Points) or observations.count < FULL * observations.values.size:
        return False
    size = observations.values.size
    return size <= _ENTRIES and max(axes[time].size, size // axes[time].size) <= _MOST


def can_adapt(axes: Mapping[str, Axis]) -> bool:
    """Whether there are enough times, and not too many places, to learn covariances from place to place."""
    sizes = {name: axis.size for name, axis in varying(axes).items()}
    number = sizes.pop(time_of(axes) or "", 0)
    return number >= FEWEST_FIELDS and int(np.prod(list(sizes.values()))) <= MOST_CELLS


def propose(
    axes: Mapping[str, Axis],
    observations: Observations,
    residual: np.ndarray,
    likelihood: BoundGaussian,
    gaps: np.ndarray,
    seasonal: bool,
    note: Callable[[str], None],
) -> SpaceTime:
    """The form whose density is highest: on the sphere or with a lengthscale for each coordinate, rough or smooth.

    Args:
        axes: the data's modes, for which it `serves`.
        observations: the training data.
        residual: values minus a mean, like the observations.
        likelihood: where the noise starts.
        gaps: entries that could be missing together.
        seasonal: whether the months of the year can be told apart.
        note: is told what is being tried.
    """
    time = time_of(axes)
    assert time is not None
    space = tuple(n for n in varying(axes) if n != time)
    own, variance, left = left_over(axes, [time, *space], observations, residual, gaps)
    starts = _starts(own, time, space, variance, seasonal)

    def bound(form: SpaceTime) -> AbstractFieldKernel:
        return form.kernel.bind(own, tuple(own), FieldStart(0.1, 1.0), True)

    grid = Grid.of(bound(starts[0]), tuple(own), left.entries.points)
    assert grid is not None
    blocks = block_learning.chosen(bound(starts[0]), grid, left, _COMPARED)

    def judged(form: SpaceTime) -> tuple[float, SpaceTime]:
        note(f"trying {form.metric or 'the distance'} over {', '.join(space)}, smoothness {form.nu:g}")
        start = Learned(bound(form), likelihood.sd, -np.inf)
        found = block_learning.glance(start, float(likelihood.floor), left, blocks[:_LEARNED])
        return block_learning.score(found, blocks), form.with_numbers(found.kernel)

    score, best = judged(starts[0])
    for start in starts[1:]:  # from the numbers found, since otherwise more of them are learned in the same time
        other, form = judged(dataclasses.replace(start, processes=tuple(map(_in_degrees, best.processes))))
        if other > score:
            score, best = other, form
    smoother, form = judged(dataclasses.replace(best, nu=5 / 2))
    return form if smoother > score + GAIN else best


def _in_degrees(one: Process) -> Process:
    """Of a process with a lengthscale in km."""
    return dataclasses.replace(one, lengthscale=one.lengthscale / KM_IN_A_DEGREE)


def _starts(
    axes: Mapping[str, Axis], time: str, space: Sequence[str], variance: float, seasonal: bool
) -> list[SpaceTime]:
    """One form for each metric; the first on the sphere if there is one."""
    span, spacing = axes[time].range, axes[time].spacing
    forms = []
    for metric, size in _extents(axes, space).items():
        processes = [
            Process(_STAYS.variance * variance, _STAYS.lengthscale * size, 0.0),
            Process(_RETURNS.variance * variance, _RETURNS.lengthscale * size, 0.0, yearly=True),
            Process(_LASTS.variance * variance, _LASTS.lengthscale * size, max(_LASTS.duration * span, spacing)),
            Process(_PASSES.variance * variance, _PASSES.lengthscale * size, spacing),
        ]
        chosen = tuple(one for one in processes if seasonal or not one.yearly)
        forms.append(SpaceTime(time, tuple(space), metric, 3 / 2, chosen))
    return forms


def _extents(axes: Mapping[str, Axis], space: Sequence[str]) -> dict[str, float]:
    """Of all places in each metric that serves."""
    earth = globe({n: axes[n] for n in space}) if len(space) == 2 else ()
    if not earth:
        return {"ard": axes[space[0]].range}
    latitude, longitude = (axes[n] for n in earth)
    extents = {"sphere": sphere_line(latitude, longitude).range}
    if np.abs(latitude.points).max() <= _FLAT:
        extents["ard"] = latitude.range + longitude.range
    return extents
