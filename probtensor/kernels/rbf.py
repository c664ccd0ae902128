"""The squared exponential kernel: infinitely smooth functions, Markovian only by approximation."""

from __future__ import annotations

import functools
import math

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from probtensor.axes import Axis
from probtensor.errors import ModelError
from probtensor.hyperparameters import Declaration
from probtensor.kernels import driven
from probtensor.kernels.base import AbstractStationaryKernel, Start, per_component
from probtensor.typing import Array, Float

#: Numbers of states: below five a numerator costs more accuracy than it gains.
_ORDERS, _ALL_POLES = range(2, 11), 4
#: Terms of the power series that carries the states over a step of at most one; longer steps are halved so often.
_TERMS, _HALVINGS = 40, 6


class RBF(AbstractStationaryKernel):
    """Squared exponential (Gaussian) covariance: variance * exp(-d^2 / (2 lengthscale^2)).

    Use it for very smooth functions, and as the envelope of a `SpectralMixture`; a `Matern` with 5/2 or 7/2 is safer
    where the data are only somewhat smooth, and cheaper. State size ``order``.

    ``Dense`` and ``Basis`` use the formula. It has no exact state-space form: the states approximate its spectral
    density by the rational function of that order whose power series agrees with it longest, and their covariance is
    off by at most this share of the variance:

    ===== ==== ===== ===== ===== ====== ====== ====== ====== =======
    order 2    3     4     5     6      7      8      9      10
    ===== ==== ===== ===== ===== ====== ====== ====== ====== =======
    error 0.13 0.052 0.022 0.013 0.0033 0.0009 0.0003 0.0001 0.00004
    ===== ==== ===== ===== ===== ====== ====== ====== ====== =======

    Args:
        lengthscale: in the coordinate's unit (days on a time axis, or a string such as ``"30D"``); the distance over
            which the function keeps 0.61 of its correlation. Learned for each component by default.
        variance: of the function, in squared data units; learned in one mode of a term only.
        order: number of states, 2 to 10.
        shared: one lengthscale for all components of a term instead of one each.

    Raises:
        ModelError: the order is none of these, or a hyper-parameter is not positive.

    Source: Hartikainen and Sarkka 2010, section 4.1; Sarkka and Piche 2014 (Pade approximants of the density).
    """

    lengthscale: Declaration = None
    variance: Declaration = None
    order: int = eqx.field(static=True, default=6)
    shared: bool = eqx.field(static=True, default=False)

    def __check_init__(self) -> None:
        """Raises ModelError for an order that there is no approximation of."""
        if isinstance(self.order, bool) or not isinstance(self.order, int | np.integer) or self.order not in _ORDERS:
            raise ModelError(f"RBF(order={self.order!r}): the number of states must be an integer from 2 to 10")

    def bind(self, axis: Axis, start: Start) -> RBF:
        """Numbers for both hyper-parameters; the variance is held at its start unless this mode carries it."""
        lengthscale, variance = start.lengthscale(self.lengthscale, self.shared, axis), start.variance(self.variance)
        return RBF(lengthscale, variance, self.order, self.shared)

    def _values(self) -> list[Float[Array, "R"]]:
        return jnp.broadcast_arrays(self.lengthscale.value, self.variance.value)

    def covariance(self, distance: Float[Array, "..."]) -> Float[Array, "R ..."]:
        """variance * exp(-d^2 / (2 lengthscale^2)), exact."""
        lengthscale, variance = (per_component(value, distance) for value in self._values())
        return variance * jnp.exp(-0.5 * (distance[None] / lengthscale) ** 2)

    @property
    def state_size(self) -> int:
        """The order."""
        return self.order

    @property
    def deterministic(self) -> bool:
        """No."""
        return False

    def emission(self) -> Float[np.ndarray, "S"]:
        """What makes the function of the states."""
        return _approximation(self.order)[0].emission

    def state_root(self, at: Float[Array, ""]) -> Float[Array, "R S S"]:
        """Cholesky factor of P_inf, everywhere."""
        sd = jnp.sqrt(self._values()[1])
        return sd[:, None, None] * jnp.asarray(_approximation(self.order)[0].root, dtype=sd.dtype)

    def transition(self, at: Float[Array, ""], step: Float[Array, ""]) -> tuple[Array, Array]:
        """Of the approximation."""
        lengthscale, variance = self._values()
        system, rate = _approximation(self.order)
        F, unit_root = driven.transition(system, rate * step / lengthscale)
        return F, jnp.sqrt(variance)[:, None, None] * unit_root


def _pade(degree: int, other: int) -> Float[np.ndarray, "degree+1"]:
    """Of the Pade approximants of exp(x) and exp(-x) the polynomial of a degree with powers of +x, lowest first.

    other: the degree of the other polynomial. Source: Baker and Graves-Morris 1996, section 1.2.
    """
    whole = degree + other
    return np.asarray([math.comb(degree, k) / math.perm(whole, k) for k in range(degree + 1)])


@functools.cache
def _approximation(order: int) -> tuple[driven.Driven, float]:
    """A system whose spectral density is nearly Gaussian, and its rate at lengthscale 1.

    exp(-w^2 / 2) is exp(-x) at x = w^2 / 2, with a Pade approximant P(x) / Q(x) that is positive; with z = i w, each
    root of Q at x is a pole at z = -sqrt(-2 x) and one mirrored, of which the system has the one on the left. The rate
    is the geometric mean of the poles' sizes.
    """
    above = 2 if order > _ALL_POLES else 0
    P, Q = _pade(above, order) * (-1.0) ** np.arange(above + 1), _pade(order, above)
    poles, zeros = (-np.sqrt(-2 * np.roots(polynomial[::-1]).astype(complex)) for polynomial in (Q, P))
    rate = float(np.exp(np.mean(np.log(np.abs(poles)))))
    characteristic, numerator = (np.atleast_1d(np.poly(roots / rate)).real for roots in (poles, zeros))
    decay = float(characteristic[1]) / order
    return driven.Driven(characteristic, numerator, decay, _TERMS, _HALVINGS, 2.0**_HALVINGS), rate
