"""A trend that all places of a grid share: learned from their means at each time, for forecasts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from probtensor import hyperparameters
from probtensor.axes import Axis
from probtensor.engines.collapsed import block_learning
from probtensor.engines.collapsed.ascent import Learned
from probtensor.kernels.field import FieldStart, On
from probtensor.kernels.walks import IntegratedRandomWalk
from probtensor.nearest.conditionals import Entries
from probtensor.nearest.repeats import Differences
from probtensor.observations.domain import Observations
from probtensor.selection.local import left_over

#: The walk's variance at first, as a share of the means'; how long it takes to change, as a share of the range.
_FIRST, _DURATION = 0.25, 0.1
#: Times at most, whose covariance is a matrix.
_MOST = 1500


class Trend(NamedTuple):
    """An integrated walk and independent deviations from it.

    Attributes:
        variance: of the walk at the first time.
        duration: its lengthscale.
        about: variance of the deviations.
    """

    variance: float
    duration: float
    about: float


def trend(
    axes: Mapping[str, Axis], time: str, observations: Observations, residual: np.ndarray, floor: float
) -> Trend | None:
    """The trend of the means over places. None: there are too many times, or no trend above the floor.

    Args:
        axes: the data's modes.
        time: the coordinate.
        observations: the training data.
        residual: values minus a mean, like the observations.
        floor: deviations are not learned below it.
    """
    own, _, left = left_over(axes, [time], observations, residual, np.zeros(residual.size, dtype=bool))
    means = left.draws
    size = float(np.var(means))
    if len(left.entries.points) > _MOST or size <= floor**2:
        return None
    walk = IntegratedRandomWalk(lengthscale=_DURATION * axes[time].range, variance=_FIRST * size).on(time)
    alike = left._replace(
        entries=Entries(left.entries.points, np.ones(means.shape[1])), differences=Differences(0, 0.0, 0.0)
    )
    about = hyperparameters.bind(None, np.sqrt([size / 2]), "sd")
    start = Learned(walk.bind(own, tuple(own), FieldStart(0.1, 1.0), True), about, -np.inf)
    found = block_learning.learn(start, floor, alike, [block_learning.Block(alike.entries, means)])
    assert isinstance(found.kernel, On)
    kernel: Any = found.kernel.kernel
    numbers = (float(number.value[0]) for number in (kernel.variance, kernel.lengthscale, found.noise_sd))
    variance, duration, sd = numbers
    return Trend(variance, duration, sd**2)
