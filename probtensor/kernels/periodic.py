"""Periodic functions: one wave or a sum of harmonics, which turn and never forget."""

from __future__ import annotations

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from probtensor import hyperparameters
from probtensor.axes import Axis
from probtensor.errors import ModelError
from probtensor.hyperparameters import Declaration, Parameter
from probtensor.kernels.base import AbstractStationaryKernel, Start, per_component
from probtensor.typing import Array, Float

#: Harmonics beyond the order at which the recurrence for Bessel functions starts, and those that `truncated` counts.
_BEYOND, _COUNTED = 30, 100
#: A period may be this many times the record, the last level's own share included: twelve months are a year.
_SLACK = 1.05


class Periodic(AbstractStationaryKernel):
    """Exactly periodic functions: covariance variance * exp(-2 sin(pi d / period)^2 / lengthscale^2).

    Use it for a yearly or daily cycle that repeats itself; times a `Matern` the cycle changes slowly.

    ``Dense`` uses that formula. The states are the constant and the first ``order`` harmonics, with their variances
    scaled up so that the total is exact: their covariance is off by at most 2 ``truncated`` times the variance. State
    size 2 order + 1.

    Args:
        period: in the coordinate's unit (days on a time axis, or a string such as ``"365.25D"``); a number is where
            learning starts, ``pt.fixed(365.25)`` holds it, None starts each component from another of the strongest
            cycles that the data have along the mode.
        lengthscale: as an angle in the cycle, without a unit: the function has about 1 / lengthscale bumps in a period.
            Learned for each component by default.
        variance: of the function, in squared data units; learned in one mode of a term only.
        order: number of harmonics.
        shared: one period and one lengthscale for all components of a term instead of one each.

    Raises:
        ModelError: the order is not a positive integer, a hyper-parameter is not positive, or the period is longer than
            the record, which then says nothing of a cycle.

    Source: MacKay 1998, eq. 47; Solin and Sarkka 2014, eqs. 24-27 (state-space form).
    """

    period: Declaration
    lengthscale: Declaration = None
    variance: Declaration = None
    order: int = eqx.field(static=True, default=6)
    shared: bool = eqx.field(static=True, default=False)
    on_a_line: ClassVar[bool] = True
    cyclic: ClassVar[bool] = True

    def __check_init__(self) -> None:
        """Raises ModelError for an order that is no number of harmonics."""
        if isinstance(self.order, bool) or not isinstance(self.order, int | np.integer) or self.order < 1:
            raise ModelError(f"Periodic(order={self.order!r}): the number of harmonics must be a positive integer")

    def bind(self, axis: Axis, start: Start) -> Periodic:
        """Numbers for the hyper-parameters; the variance is held at its start unless this mode carries it."""
        period = _bind_period(self, axis, start)
        scales = np.geomspace(2.0, 0.5, len(period.raw)) if len(period.raw) > 1 else np.ones(1)
        lengthscale = hyperparameters.bind(self.lengthscale, scales, "lengthscale")
        return Periodic(period, lengthscale, start.variance(self.variance), self.order, self.shared)

    @property
    def open_periods(self) -> int:
        """One, unless it is given."""
        return int(self.period is None)

    def _values(self) -> list[Float[Array, "R"]]:
        return jnp.broadcast_arrays(self.period.value, self.lengthscale.value, self.variance.value)

    def covariance(self, distance: Float[Array, "..."]) -> Float[Array, "R ..."]:
        """variance * exp(-2 sin(pi d / period)^2 / lengthscale^2)."""
        period, lengthscale, variance = (per_component(value, distance) for value in self._values())
        return variance * jnp.exp(-2 * (jnp.sin(jnp.pi * _phase(distance[None] / period)) / lengthscale) ** 2)

    def circle(self) -> Float[Array, "R"]:
        """The period."""
        return self._values()[0]

    def reach(self, extent: float) -> float:
        """Of the Gaussian that the covariance is in the chord, even if half is left across the whole circle."""
        period, lengthscale, _ = (float(value[0]) for value in self._values())
        return float(np.sqrt(2 * np.log(2))) * lengthscale * period / (2 * np.pi)

    @property
    def state_size(self) -> int:
        """The constant, and cosine and sine of each harmonic."""
        return 2 * self.order + 1

    @property
    def deterministic(self) -> bool:
        """Yes: one period says all."""
        return True

    def emission(self) -> Float[np.ndarray, "S"]:
        """The constant and every cosine."""
        return np.concatenate([[1.0], np.tile([1.0, 0.0], self.order)])

    def _amplitudes(self, number: int) -> Float[Array, "R J"]:
        """Square roots of the shares of harmonics 0, 1, ..., number in the variance, their total being 1."""
        ratios = _bessel_ratios(1 / self._values()[1] ** 2, number + _BEYOND)[:, :number]
        # Roots before products: a share may be below the smallest number when its root is not.
        relative = np.sqrt(2.0).astype(ratios.dtype) * jnp.cumprod(jnp.sqrt(ratios), axis=-1)
        relative = jnp.concatenate([jnp.ones_like(relative[:, :1]), relative], axis=-1)
        return relative / jnp.sqrt(jnp.sum(relative**2, axis=-1, keepdims=True))

    def truncated(self) -> Float[Array, "R"]:
        """Share of the variance that lies in harmonics beyond the order, which the states leave out."""
        return jnp.sum(self._amplitudes(self.order + _COUNTED)[:, self.order + 1 :] ** 2, axis=-1)

    def state_root(self, at: Float[Array, ""]) -> Float[Array, "R S S"]:
        """Diagonal: standard deviations of the harmonics."""
        sd = self._amplitudes(self.order) * jnp.sqrt(self._values()[2])[:, None]
        harmonic = np.concatenate([[0], np.repeat(np.arange(1, self.order + 1), 2)])
        return sd[:, harmonic, None] * jnp.eye(self.state_size, dtype=sd.dtype)[None]

    def transition(self, at: Float[Array, ""], step: Float[Array, ""]) -> tuple[Array, Array]:
        """Each harmonic turns by its angle; no noise."""
        turned = _turned(_phase(step / self._values()[0]), self.order)
        F = jnp.zeros((len(turned), self.state_size, self.state_size), turned.dtype)
        F = F.at[:, 0, 0].set(1.0).at[:, 1:, 1:].set(turned)
        return F, jnp.zeros_like(F)


class Cosine(AbstractStationaryKernel):
    """Sine waves of one period, with any phase: covariance variance * cos(2 pi d / period).

    Use it for a tide or another pure tone; times a `Matern` or an `RBF` its phase and size change slowly, and sums of
    such products are a `SpectralMixture`. State size 2, exact.

    Args:
        period: in the coordinate's unit (days on a time axis, or a string such as ``"12.42h"``). None: learned, each
            component's from another of the strongest cycles that the data have along the mode.
        variance: of the function, in squared data units; learned in one mode of a term only.
        shared: one period for all components of a term instead of one each.

    Raises:
        ModelError: a hyper-parameter is not positive, or the period is longer than the record.

    Source: Wilson and Adams 2013, Gaussian process kernels for pattern discovery (a spectral line); Solin and Sarkka
    2014, eq. 10 (the resonator).
    """

    period: Declaration = None
    variance: Declaration = None
    shared: bool = eqx.field(static=True, default=False)
    on_a_line: ClassVar[bool] = True
    cyclic: ClassVar[bool] = True

    def bind(self, axis: Axis, start: Start) -> Cosine:
        """Numbers for both hyper-parameters; the variance is held at its start unless this mode carries it."""
        return Cosine(_bind_period(self, axis, start), start.variance(self.variance), self.shared)

    @property
    def open_periods(self) -> int:
        """One, unless it is given."""
        return int(self.period is None)

    def _values(self) -> list[Float[Array, "R"]]:
        return jnp.broadcast_arrays(self.period.value, self.variance.value)

    def covariance(self, distance: Float[Array, "..."]) -> Float[Array, "R ..."]:
        """variance * cos(2 pi d / period)."""
        period, variance = (per_component(value, distance) for value in self._values())
        return variance * jnp.cos(2 * jnp.pi * _phase(distance[None] / period))

    def circle(self) -> Float[Array, "R"]:
        """The period."""
        return self._values()[0]

    def reach(self, extent: float) -> float:
        """Of the chord, a sixth of a turn."""
        return float(self._values()[0][0]) / (2 * np.pi)

    @property
    def state_size(self) -> int:
        """The wave, and that a quarter of a turn later."""
        return 2

    @property
    def deterministic(self) -> bool:
        """Yes: one period says all."""
        return True

    def emission(self) -> Float[np.ndarray, "S"]:
        """The wave."""
        return np.array([1.0, 0.0])

    def state_root(self, at: Float[Array, ""]) -> Float[Array, "R S S"]:
        """Both states are alike and independent."""
        sd = jnp.sqrt(self._values()[1])
        return sd[:, None, None] * jnp.eye(2, dtype=sd.dtype)[None]

    def transition(self, at: Float[Array, ""], step: Float[Array, ""]) -> tuple[Array, Array]:
        """The wave turns by its angle; no noise."""
        F = _turned(_phase(step / self._values()[0]), 1)
        return F, jnp.zeros_like(F)


def _bind_period(kernel: Periodic | Cosine, axis: Axis, start: Start) -> Parameter:
    """A number for the period of each component: where none is declared, of one of the data's cycles after the other.

    Raises ModelError if it is too long.
    """
    number = len(start.lengthscales)
    scales = np.array(start.cycles(number)[:number])
    period = hyperparameters.bind(kernel.period, scales[:1] if kernel.shared else scales, "period", axis)
    longest, record = float(np.exp(np.max(period.raw))), axis.range + axis.spacing
    if kernel.period is not None and axis.size > 1 and longest > _SLACK * record:
        unit = f" {axis.unit}" if axis.unit else ""
        raise ModelError(
            f"mode {axis.name!r}: {type(kernel).__name__}(period={kernel.period!r}) repeats itself after "
            f"{longest:g}{unit}, and the record is only {record:g}{unit} long; use a Matern kernel"
        )
    # Half a turn more or less in the whole record is another wave altogether.
    shortest = float(np.exp(np.min(period.raw)))
    resolution = jnp.asarray(min(1.0, 0.5 * shortest / record), period.raw.dtype)
    return eqx.tree_at(lambda p: p.resolution, period, resolution, is_leaf=lambda x: x is None)


def _turned(cycles: Float[Array, "R"], order: int) -> Float[Array, "R S S"]:
    """The harmonics of a number of cycles, as rotations on the diagonal, S = 2 order."""
    angle = 2 * jnp.pi * cycles[:, None] * jnp.asarray(np.arange(1, order + 1), dtype=cycles.dtype)[None]
    c, s = 2 * np.arange(order), 1 + 2 * np.arange(order)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    F = jnp.zeros((len(cycles), 2 * order, 2 * order), cycles.dtype).at[:, c, c].set(cos).at[:, s, s].set(cos)
    return F.at[:, c, s].set(-sin).at[:, s, c].set(sin)


def _phase(cycles: Float[Array, "..."]) -> Float[Array, "..."]:
    """The part of a number of cycles that counts, from -1/2 to 1/2: whole cycles must not cost digits of the angle."""
    return cycles - jnp.round(cycles)


def _bessel_ratios(z: Float[Array, "R"], number: int) -> Float[Array, "R J"]:
    """I_j(z) / I_(j-1)(z) for j = 1 to number, by the continued fraction from above: positive and stable.

    It starts from a close upper bound, so that it need not start far above large z.

    Source: Amos 1974 (the recurrence and the bound z / (j - 1/2 + sqrt((j + 1/2)^2 + z^2))).
    """
    j = number + 1
    ratio = z / (j - 0.5 + jnp.sqrt((j + 0.5) ** 2 + z**2))
    ratios = []
    for j in range(number, 0, -1):
        ratio = z / (2 * j + z * ratio)
        ratios.append(ratio)
    return jnp.stack(ratios[::-1], axis=-1)
