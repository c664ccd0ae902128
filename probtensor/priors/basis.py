"""Gaussian processes of one or several coordinates with a fixed number of basis functions."""

from __future__ import annotations

from typing import Any

import equinox as eqx

from probtensor.axes import Axis
from probtensor.errors import ModelError
from probtensor.kernels.base import AbstractKernel, Start
from probtensor.kernels.matern import Matern
from probtensor.kernels.metric import Metric
from probtensor.priors.features.base import AbstractFeatures
from probtensor.priors.laying import (
    Wanted,
    by_coordinate,
    check_declared,
    check_period,
    lay_box,
    lay_circle,
    lay_polynomials,
)
from probtensor.priors.weighted import AbstractWeighted, Parts

_KINDS = ("hilbert", "chebyshev", "legendre", "fourier")
_POLYNOMIALS = ("chebyshev", "legendre")


class Basis(AbstractWeighted):
    """Independent Gaussian processes, one for each component, as sums of a fixed number of basis functions.

    Use it for surfaces over joined dimensions with many levels (tens of thousands), and for smooth functions. It is
    blind to what is finer than its shortest wave, and lengthscales below that are learned as noise. Cost for T levels,
    R components and M functions of one coordinate: O(T M R^2) and O((M R)^3); memory 8 (M R)^2 numbers. The functions'
    weights have the kernel's spectral density at their frequencies as variance, so the kernel says how fast they
    decay, and its hyper-parameters are learned.

    ``"hilbert"``: products of cosines, the eigenfunctions of the Laplacian on a box 1.3 times as long as the levels'
    range in each coordinate, without slope at its walls. (Functions that are zero at the walls, as published, cannot
    be nearly constant.) The first choice for fields with gaps. Beyond the levels' range what the basis lacks of the
    kernel's variance is added, independently at each point, and beyond the box there is nothing else: the mean is zero
    and the sd the prior's. Its shortest wave is about 4 box / M^(1/d).

    ``"chebyshev"``, ``"legendre"``: polynomials on the domain, which is the range of the levels or ``bounds``: for
    smooth functions without gaps, such as the answer of a simulator, which M functions give to an error that falls
    geometrically in M. The process is one in the angle whose cosine runs across the domain: the kernel's lengthscale is
    in the coordinate's unit at the middle of the domain, and the process is rougher near its ends. Legendre's
    polynomials are orthogonal over the domain itself, and their sums vary more at its ends than Chebyshev's. There is
    no extrapolation: predictions outside the domain are an error.

    ``"fourier"``: the constant, and cosine and sine of multiples of a turn, for what repeats itself after ``period``;
    see ``Cyclic`` for a single coordinate that closes. An even size of one coordinate is one too many: a cosine comes
    with its sine.

    For these three the function's variance is the kernel's: on average over the angle (``"chebyshev"``), on average
    over the domain (``"legendre"``), everywhere (``"fourier"``). Where the functions cannot follow the kernel, they
    have all its variance all the same.

    Joined modes have products of functions of each coordinate, of the lowest frequencies. A latitude and a longitude
    are on a map true to scale at their middle, cut at the largest gap in longitude, in km; near the poles and right
    around the Earth ``Dense`` is better.

    Args:
        kind: ``"hilbert"``, ``"chebyshev"``, ``"legendre"`` or ``"fourier"``.
        size: number of functions M over all coordinates: those of the lowest frequencies. None: at most 300 and the
            number of levels, and 2000 for all components together (but at least 30). Of ``"fourier"`` instead of the
            number of levels: waves down to two of their spacings, see ``Cyclic``.
        kernel: `Matern`, `RBF` or a sum of them, of the distance scaled in each coordinate; Matern-3/2 by default.
        period: of ``"fourier"``, in the coordinate's unit (days on a time axis, or a string such as ``"365.25D"``); of
            a joined mode a dict by coordinate. None: the range of the levels and one spacing.
        bounds: of ``"chebyshev"`` and ``"legendre"``: (low, high) labels, numbers or on a time axis times, that the
            domain lies between; of a joined mode a dict by coordinate. None: the range of the levels.
        metric: how distances are measured; filled in by ``bind``, leave it out.
        features: the functions over the levels; filled in by ``bind``, leave it out.

    Raises:
        ModelError: another kind or size, a kernel without a spectral density, a coordinate that holds names, levels out
            of bounds, or more than 5,000 functions times components.

    Source: Solin and Sarkka 2020, Hilbert space methods for reduced-rank Gaussian process regression; Riutort-Mayol et
    al. 2023 (box and number of functions, periodic functions); Trefethen 2013, Approximation Theory and Approximation
    Practice (Chebyshev); Gu et al. 2020, HiPPO (Legendre).
    """

    kind: str = eqx.field(static=True)
    size: int | None = eqx.field(static=True, default=None)
    kernel: AbstractKernel | None = None
    period: Any = eqx.field(static=True, default=None, converter=by_coordinate)
    bounds: Any = eqx.field(static=True, default=None, converter=by_coordinate)
    metric: Metric | None = None
    features: AbstractFeatures | None = None

    def __check_init__(self) -> None:
        """Raises ModelError for what is not a basis."""
        if self.kind not in _KINDS:
            raise ModelError(f"Basis({self.kind!r}): expected {', '.join(map(repr, _KINDS))}")
        check_declared("Basis", self.size, self.kernel)
        if self.period.pairs and self.kind != "fourier":
            raise ModelError(f"Basis({self.kind!r}, period=...): only 'fourier' has a period; see also pt.Cyclic")
        if self.bounds.pairs and self.kind not in _POLYNOMIALS:
            raise ModelError(f"Basis({self.kind!r}, bounds=...): only 'chebyshev' and 'legendre' have bounds")
        for _, period in self.period.pairs:
            check_period(f"Basis({self.kind!r})", period)

    def bind(self, axis: Axis, start: Start) -> Basis:
        """Lays the functions around the levels; lengthscales start no shorter than the basis resolves."""
        kernel = Matern(3 / 2) if self.kernel is None else self.kernel
        wanted = Wanted(f"Basis({self.kind!r})", axis, start, kernel, self.size)
        if self.kind == "fourier":
            laid = lay_circle(wanted, self.period)
        else:
            laid = lay_box(wanted) if self.kind == "hilbert" else lay_polynomials(wanted, self.kind, self.bounds)
        return Basis(self.kind, laid.features.number, laid.kernel, self.period, self.bounds, laid.metric, laid.features)

    def parts(self) -> Parts:
        """Kernel, coordinates and functions."""
        assert self.kernel is not None and self.metric is not None and self.features is not None
        return Parts(self.kernel, self.metric, self.features)
