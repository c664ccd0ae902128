"""Gaussian processes on a circle."""

from __future__ import annotations

from typing import Any

import equinox as eqx

from probtensor.axes import Axis
from probtensor.errors import ModelError
from probtensor.kernels.base import AbstractKernel, Start
from probtensor.kernels.matern import Matern
from probtensor.kernels.metric import Metric
from probtensor.priors.features.base import AbstractFeatures
from probtensor.priors.laying import Wanted, by_coordinate, check_declared, check_period, lay_circle
from probtensor.priors.weighted import AbstractWeighted, Parts


class Cyclic(AbstractWeighted):
    """Independent Gaussian processes on a circle, one for each component: the coordinate closes after a period.

    Use it for a longitude right around the Earth (``period=360``), a day of the year (``"time.dayofyear"`` with
    ``period=365.25``), an hour of the day, a direction of the wind. There is no seam: values and slopes at x and
    x + period are the same. Coordinates are wrapped, so that on a time axis ``Cyclic("365.25D")`` is a yearly cycle
    that repeats itself exactly; for one that changes slowly take ``Markov(Periodic(...) * Matern(...))``.

    The covariance is the kernel wrapped around the circle (its sum over all turns), scaled back to the kernel's
    variance, in its lowest harmonics: ``Basis("fourier", size, kernel, period=period)``, with its cost, O(T M R^2) and
    O((M R)^3) for T levels, M functions and R components.

    Args:
        period: in the coordinate's unit (days on a time axis, or a string such as ``"365.25D"``); it is not learned.
        kernel: `Matern`, `RBF` or a sum of them; Matern-3/2 by default, its lengthscale along the circle.
        size: number of functions M, one less if it is even. None: up to a wave of two spacings of the levels, with its
            cosine and its sine (as many as there are levels, or one more, if they go right around), at most 300, and
            2000 for all components together (but at least 30).
        metric: how distances are measured; filled in by ``bind``, leave it out.
        features: the functions over the levels; filled in by ``bind``, leave it out.

    Raises:
        ModelError: the period is not a finite number above zero or a duration, another size, a kernel without a
            spectral density, a coordinate that holds names, or several joined coordinates.

    Warns:
        ProbtensorWarning: levels that are not times are more than one period apart.

    Source: Riutort-Mayol et al. 2023, section 3.4; Borovitskiy et al. 2020 (Matern kernels on a circle).
    """

    period: Any = eqx.field(static=True, converter=by_coordinate)
    kernel: AbstractKernel | None = None
    size: int | None = eqx.field(static=True, default=None)
    metric: Metric | None = None
    features: AbstractFeatures | None = None

    def __check_init__(self) -> None:
        """Raises ModelError for what is no circle."""
        for _, period in self.period.pairs or ((None, None),):
            check_period("Cyclic", period)
        check_declared("Cyclic", self.size, self.kernel)

    def bind(self, axis: Axis, start: Start) -> Cyclic:
        """Winds the levels around the circle; lengthscales start no shorter than the harmonics resolve."""
        if axis.parts:
            raise ModelError(
                f"Cyclic closes one coordinate, and this mode joins {', '.join(part.name for part in axis.parts)}; use "
                "pt.Sphere(kernel) for places on the Earth, or pt.Basis('fourier', period={...}) for a torus"
            )
        kernel = Matern(3 / 2) if self.kernel is None else self.kernel
        laid = lay_circle(Wanted("Cyclic", axis, start, kernel, self.size), self.period)
        return Cyclic(self.period, laid.kernel, laid.features.number, laid.metric, laid.features)

    def parts(self) -> Parts:
        """Kernel, circle and harmonics."""
        assert self.kernel is not None and self.metric is not None and self.features is not None
        return Parts(self.kernel, self.metric, self.features)
