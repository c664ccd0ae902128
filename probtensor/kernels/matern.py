"""Matern kernels of half-integer smoothness: exact Markov processes."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from probtensor import hyperparameters
from probtensor.axes import Axis
from probtensor.errors import ModelError
from probtensor.hyperparameters import Declaration
from probtensor.kernels.base import AbstractKernel, Start
from probtensor.linalg.small import triangular_root
from probtensor.typing import Array, Float

#: The smoothnesses that have a state-space form here, as numbers of states.
_ORDERS = {0.5: 1, 1.5: 2, 2.5: 3, 3.5: 4}
#: The covariance is exp(-s) (1 + c_1 s + c_2 s^2 + ...) with these coefficients, s = sqrt(2 nu) distance / lengthscale.
SERIES = {0.5: (), 1.5: (1.0,), 2.5: (1.0, 1 / 3), 3.5: (1.0, 0.4, 1 / 15)}
#: A scaled step at which exp(-s) is zero; longer ones are cut to it, since their powers would overflow.
FORGOTTEN = 1e3
#: A scaled step after which the process noise is that of the stationary process, but for rounding.
_SATURATED = 30.0
#: So many nodes integrate exp(-2 u) times a polynomial over that step, but for rounding.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(32)


class Matern(AbstractKernel):
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
        scales = np.exp(np.log(start.lengthscales).mean(keepdims=True)) if self.shared else start.lengthscales
        lengthscale = hyperparameters.bind(self.lengthscale, scales, "lengthscale", axis)
        variance = hyperparameters.bind(self.variance, start.variances, "variance", held=not start.carries_variance)
        return Matern(self.nu, lengthscale, variance, self.shared)

    def _rate(self) -> Float[Array, "R"]:
        rate = math.sqrt(2 * self.nu) / self.lengthscale.value
        return jnp.broadcast_to(rate, jnp.broadcast_shapes(rate.shape, self.variance.value.shape))

    def covariance(self, distance: Float[Array, "..."]) -> Float[Array, "R ..."]:
        """variance * exp(-s) * polynomial(s), with s = sqrt(2 nu) distance / lengthscale."""
        shape = (-1,) + (1,) * distance.ndim
        s = jnp.minimum(self._rate().reshape(shape) * distance[None], FORGOTTEN)
        return self.variance.value.reshape(shape) * polynomial(SERIES[self.nu], s) * jnp.exp(-s)

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
    def stationary_root(self) -> Float[Array, "R S S"]:
        """Cholesky factor of P_inf."""
        root = np.linalg.cholesky(_stationary(self.nu))
        sd = jnp.sqrt(self.variance.value)
        return jnp.broadcast_to(sd, self._rate().shape)[:, None, None] * jnp.asarray(root, dtype=sd.dtype)

    def transition(self, step: Float[Array, ""]) -> tuple[Float[Array, "R S S"], Float[Array, "R S S"]]:
        """F = exp(-s) polynomial(s) and chol_Q at s = rate * step."""
        s = self._rate() * step
        F, unit_root = _transition(self.nu, s)
        return F, jnp.sqrt(self.variance.value)[:, None, None] * unit_root


def polynomial(coefficients: Sequence[float | Array], s: Float[Array, "..."]) -> Float[Array, "..."] | float:
    """1 + c_1 s + c_2 s^2 + ..., by Horner's rule."""
    total: Any = 0.0
    for c in reversed(coefficients):
        total = s * (c + total)
    return 1.0 + total


def _stationary(nu: float) -> np.ndarray:
    """P_inf of the scaled state at unit variance: odd-even moments of the spectral density (1 + w^2)^-(nu + 1/2)."""
    return {
        0.5: np.array([[1.0]]),
        1.5: np.array([[1.0, 0.0], [0.0, 1.0]]),
        2.5: np.array([[1.0, 0.0, -1 / 3], [0.0, 1 / 3, 0.0], [-1 / 3, 0.0, 1.0]]),
        3.5: np.array([[1.0, 0.0, -0.2, 0.0], [0.0, 0.2, 0.0, -0.2], [-0.2, 0.0, 0.2, 0.0], [0.0, -0.2, 0.0, 1.0]]),
    }[nu]


def _nilpotent(order: int) -> np.ndarray:
    """G + I, where G is the companion matrix with the characteristic polynomial (z + 1)^order; nilpotent."""
    G = np.diag(np.ones(order - 1), 1)
    G[-1] = [-math.comb(order, k) for k in range(order)]
    return G + np.eye(order)


def _diffusion(order: int) -> float:
    """Of the last state, such that Q tends to P_inf: 2^(2 nu) (nu - 1/2)!^2 / (2 nu - 1)! at unit rate."""
    return 4 ** (order - 1) * math.factorial(order - 1) ** 2 / math.factorial(2 * order - 2) * 2


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _transition(nu: float, s: Float[Array, "R"]) -> tuple[Float[Array, "R S S"], Float[Array, "R S S"]]:
    """F = exp(G s) and the Cholesky factor of Q, for a process of unit variance and rate."""
    order, s = _ORDERS[nu], jnp.minimum(s, FORGOTTEN)
    taylor = np.stack([np.linalg.matrix_power(_nilpotent(order), k) / math.factorial(k) for k in range(order)])
    monomials = jnp.stack([s**k for k in range(order)], axis=-1)
    F = jnp.exp(-s)[:, None, None] * jnp.einsum("rk,kij->rij", monomials, jnp.asarray(taylor, dtype=s.dtype))
    # Q is the integral of g g' with g(u) = exp(G u) e_last, by Gauss-Legendre, kept as a square root so that entries of
    # order s^(2 nu) lose no digits. Row i of g starts at the power s^(order - 1 - i), which is left out before the
    # triangularisation and multiplied after it.
    length = jnp.where(s > 0, jnp.minimum(s, _SATURATED), 1.0)
    scale = jnp.stack([length**k for k in range(order - 1, -1, -1)], axis=-1)
    unit = 0.5 * (_NODES + 1)
    rows = []
    for i in range(order):
        first = order - 1 - i
        terms = [taylor[k, i, -1] * unit**k for k in range(first, order)]
        rows.append(sum(jnp.asarray(c, dtype=s.dtype) * length[:, None] ** k for k, c in enumerate(terms)))
    decay = jnp.exp(-length[:, None] * jnp.asarray(unit, dtype=s.dtype))
    weights = jnp.asarray(np.sqrt(0.5 * _diffusion(order) * _WEIGHTS), dtype=s.dtype)
    g = jnp.stack(rows, axis=-2) * (decay * weights)[:, None]
    root_Q = triangular_root(g) * scale[..., None] * jnp.sqrt(length)[:, None, None]
    return F, jnp.where((s > 0)[:, None, None], root_Q, 0.0)


@_transition.defjvp
def _transition_jvp(nu: float, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Any, Any]:
    """dF = G F ds and dQ = g g' ds with g = exp(G s) e_last.

    Hence dL = L lower(v v') ds with L v = g, where ``lower`` halves the diagonal.

    Source: Murray 2016, eq. 8.
    """
    (s,), (ds,) = primals, tangents
    F, L = _transition(nu, s)
    order = _ORDERS[nu]
    g = math.sqrt(_diffusion(order)) * F[..., -1]
    pivots = jnp.diagonal(L, axis1=-2, axis2=-1)
    pivots, v = jnp.where(pivots > 0, pivots, 1.0), jnp.zeros_like(g)
    for i in range(order):
        v = v.at[..., i].set((g[..., i] - jnp.sum(L[..., i, :] * v, axis=-1)) / pivots[..., i])
    half = np.tril(np.ones((order, order)), -1) + 0.5 * np.eye(order)
    dL = L @ (v[..., :, None] * v[..., None, :] * jnp.asarray(half, dtype=s.dtype))
    G = jnp.asarray(_nilpotent(order) - np.eye(order), dtype=s.dtype)
    ds = jnp.where(s < FORGOTTEN, ds, 0.0)[..., None, None]
    return (F, L), (G @ F * ds, dL * ds)
