"""Matern kernels of half-integer smoothness: exact Markov processes."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from probtensor.axes import Axis
from probtensor.errors import ModelError
from probtensor.hyperparameters import Declaration
from probtensor.kernels import driven
from probtensor.kernels.base import AbstractStationaryKernel, Start, per_component
from probtensor.typing import Array, Float

#: The smoothnesses that have a state-space form here, as numbers of states.
_ORDERS = {0.5: 1, 1.5: 2, 2.5: 3, 3.5: 4}
#: The covariance is exp(-s) (1 + c_1 s + c_2 s^2 + ...) with these coefficients, s = sqrt(2 nu) distance / lengthscale.
SERIES = {0.5: (), 1.5: (1.0,), 2.5: (1.0, 1 / 3), 3.5: (1.0, 0.4, 1 / 15)}
#: A scaled step after which the process noise is that of the stationary process, but for rounding.
_SATURATED = 30.0


class Matern(AbstractStationaryKernel):
    """Matern covariance: functions that are ``nu - 1/2`` times differentiable.

    Use 1/2 for rough series (daily weather), 3/2 as a default, 5/2 and 7/2 for smooth fields. State size nu + 1/2; cost
    of a pass over T levels with R components O(T (S R)^3).

    Args:
        nu: 1/2, 3/2, 5/2 or 7/2.
        lengthscale: in the coordinate's unit (days on a time axis, or a string such as ``"30D"``); the distance over
            which the function keeps about half its correlation. Learned for each component by default.
        variance: of the function, in squared data units; learned in one mode of a term only.
        shared: one lengthscale for all components of a term instead of one each.

    Raises:
        ModelError: nu is none of these, or a hyper-parameter is not positive.

    Source: Rasmussen and Williams 2006, eq. 4.14; Hartikainen and Sarkka 2010, eqs. 9-12 (state-space form).
    """

    nu: float = eqx.field(static=True)
    lengthscale: Declaration = None
    variance: Declaration = None
    shared: bool = eqx.field(static=True, default=False)

    def __check_init__(self) -> None:
        """Raises ModelError for a smoothness without a state-space form here."""
        if self.nu not in _ORDERS:
            raise ModelError(f"Matern({self.nu!r}): the smoothness must be 1/2, 3/2, 5/2 or 7/2")

    def bind(self, axis: Axis, start: Start) -> Matern:
        """Numbers for both hyper-parameters; the variance is held at its start unless this mode carries it."""
        lengthscale, variance = start.lengthscale(self.lengthscale, self.shared, axis), start.variance(self.variance)
        return Matern(self.nu, lengthscale, variance, self.shared)

    def _rate(self) -> Float[Array, "R"]:
        rate = math.sqrt(2 * self.nu) / self.lengthscale.value
        return jnp.broadcast_to(rate, jnp.broadcast_shapes(rate.shape, self.variance.value.shape))

    def covariance(self, distance: Float[Array, "..."]) -> Float[Array, "R ..."]:
        """variance * exp(-s) * polynomial(s), with s = sqrt(2 nu) distance / lengthscale."""
        s = jnp.minimum(per_component(self._rate(), distance) * distance[None], driven.FORGOTTEN)
        return per_component(self.variance.value, distance) * polynomial(SERIES[self.nu], s) * jnp.exp(-s)

    @property
    def state_size(self) -> int:
        """nu + 1/2: the function and its mean-square derivatives."""
        return _ORDERS[self.nu]

    @property
    def deterministic(self) -> bool:
        """No: noise drives the last derivative."""
        return False

    def emission(self) -> Float[np.ndarray, "S"]:
        """The first state is the function."""
        return np.eye(self.state_size)[0]

    # The states are f, f'/rate, f''/rate^2, so that everything but the variance depends on rate * step alone and all
    # states have one magnitude, whatever the unit of the coordinate.
    def state_root(self, at: Float[Array, ""]) -> Float[Array, "R S S"]:
        """Cholesky factor of P_inf, everywhere."""
        sd = jnp.sqrt(self.variance.value)
        return jnp.broadcast_to(sd, self._rate().shape)[:, None, None] * jnp.asarray(_system(self.nu).root, sd.dtype)

    def transition(self, at: Float[Array, ""], step: Float[Array, ""]) -> tuple[Array, Array]:
        """F = exp(-s) polynomial(s) and chol_Q at s = rate * step."""
        F, unit_root = driven.transition(_system(self.nu), self._rate() * step)
        return F, jnp.sqrt(self.variance.value)[:, None, None] * unit_root


@functools.cache
def _system(nu: float) -> driven.Driven:
    """The roots are all -1, so that exp(s) exp(G s) is a polynomial."""
    order = _ORDERS[nu]
    characteristic = np.array([float(math.comb(order, k)) for k in range(order + 1)])
    return driven.Driven(characteristic, np.ones(1), 1.0, order, 0, _SATURATED)


def polynomial(coefficients: Sequence[float | Array], s: Float[Array, "..."]) -> Float[Array, "..."] | float:
    """1 + c_1 s + c_2 s^2 + ..., by Horner's rule."""
    total: Any = 0.0
    for c in reversed(coefficients):
        total = s * (c + total)
    return 1.0 + total
