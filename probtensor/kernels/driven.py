"""Linear systems driven by white noise: what carries the states of a stationary kernel over a step.

A process whose spectral density is rational is the output of such a system. Its states are a companion form's at unit
rate: each is the derivative of the one before, the noise drives the last, and the output is a sum of states.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import solve_continuous_lyapunov

from probtensor.linalg.small import triangular_root
from probtensor.typing import Array, Float

#: A scaled step at which exp(-s) is zero; longer ones are cut to it, since their powers would overflow.
FORGOTTEN = 1e3
#: So many nodes integrate a decaying polynomial over a step, but for rounding.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(32)


class Driven:
    """x' = G x + e_last w, f = emission' x with unit variance.

    Attributes:
        order: S, the number of states.
        G: (S, S) its drift, a companion matrix.
        emission: (S,) what makes f of the states.
        diffusion: of the white noise w.
        root: (S, S) Cholesky factor of the stationary covariance P_inf.
        halvings: a step is halved so often, then the system doubled back: 0 where one power series does for all steps.
        saturated: a scaled step after which the process noise is that of the stationary process, but for rounding.
    """

    def __init__(
        self,
        characteristic: np.ndarray,
        numerator: np.ndarray,
        decay: float,
        terms: int,
        halvings: int,
        saturated: float,
    ) -> None:
        """Of the transfer function numerator(z) / characteristic(z).

        Args:
            characteristic: (S + 1,) coefficients of a polynomial with roots in the left half plane, highest first, 1.
            numerator: coefficients of a polynomial of lower degree, highest first.
            decay: a in exp(G s) = exp(-a s) times the power series of (G + a I) s.
            terms: of that series.
            halvings: see the class.
            saturated: see the class.
        """
        order = len(characteristic) - 1
        last = np.eye(order)[-1]
        self.order, self.halvings, self.saturated = order, halvings, saturated
        self.G = np.diag(np.ones(order - 1), 1)
        self.G[-1] = -characteristic[:0:-1]
        covariance = solve_continuous_lyapunov(self.G, -np.outer(last, last))
        emission = np.zeros(order)
        emission[: len(numerator)] = numerator[::-1]
        unit = emission @ covariance @ emission
        # The first state has unit variance where it is f itself.
        scale = 1.0 if len(numerator) > 1 else emission[0]
        self.diffusion = float(scale**2 / unit)
        self.emission = emission / scale
        self.root = np.linalg.cholesky(covariance * self.diffusion)
        self._decay = decay
        series, factorial = [np.eye(order)], 1.0
        for k in range(1, terms):
            factorial *= k
            series.append(series[-1] @ (self.G + decay * np.eye(order)) / k)
        self._series = np.stack(series)

    @functools.cached_property
    def _scaled_series(self) -> Float[np.ndarray, "P S S"]:
        """Coefficients of s^p in s^(i - j) exp((G + a I) s)_ij; none has a negative power."""
        out = np.zeros((len(self._series) + self.order - 1, self.order, self.order))
        for k, matrix in enumerate(self._series):
            for i, j in zip(*np.nonzero(matrix), strict=True):
                out[k + i - j, i, j] += matrix[i, j]
        return out

    @functools.cached_property
    def _noise_series(self) -> Float[np.ndarray, "P S Q"]:
        """Coefficients of s^p in row i of s^(i + 1 - S) exp((G + a I) s u) e_last, at nodes u of the unit interval."""
        column = self._scaled_series[:, :, -1]
        power = np.arange(len(column))[:, None] - np.arange(self.order) + self.order - 1
        return column[:, :, None] * (0.5 * (_NODES + 1))[None, None] ** np.maximum(power, 0)[:, :, None]

    def exponential(self, s: Float[Array, "R"], scaled: bool = False) -> Float[Array, "R S S"]:
        """exp(G s) by its series, or the same with its entries i, j times s^(i - j)."""
        series = self._scaled_series if scaled else self._series
        return jnp.exp(-self._decay * s)[:, None, None] * jnp.einsum(
            "rk,kij->rij", _powers(s, len(series)), jnp.asarray(series, dtype=s.dtype)
        )

    def noise(self, s: Float[Array, "R"]) -> Float[Array, "R S S"]:
        """Root of the integral of g g', g(u) = exp(G u) e_last sqrt(diffusion), from 0 to s.

        By Gauss-Legendre, kept as a square root so that entries of order s^(2 S - 1) lose no digits. Row i starts at
        the power s^(S - 1 - i), which is left out here.
        """
        unit = jnp.asarray(0.5 * (_NODES + 1), dtype=s.dtype)
        rows = jnp.einsum(
            "rk,kiq->riq", _powers(s, len(self._noise_series)), jnp.asarray(self._noise_series, dtype=s.dtype)
        )
        weights = jnp.asarray(np.sqrt(0.5 * self.diffusion * _WEIGHTS), dtype=s.dtype)
        g = rows * (jnp.exp(-self._decay * s[:, None] * unit) * weights)[:, None]
        return triangular_root(g) * jnp.sqrt(s)[:, None, None]


def _powers(s: Float[Array, "R"], number: int) -> Float[Array, "R K"]:
    return jnp.stack([s**k for k in range(number)], axis=-1)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def transition(system: Driven, s: Float[Array, "R"]) -> tuple[Float[Array, "R S S"], Float[Array, "R S S"]]:
    """F = exp(G s) and the Cholesky factor of Q for scaled steps s >= 0; a step of 0 gives identity and no noise."""
    moved = s > 0
    length = jnp.where(moved, jnp.minimum(s, system.saturated), 1.0) / 2**system.halvings
    exponents = np.arange(system.order - 1, -1, -1)
    if system.halvings == 0:
        F = system.exponential(jnp.minimum(s, FORGOTTEN))
        scale, U = length, system.noise(length)
    else:
        F, scale, U = _doubled(system, length)
        F = jnp.where(moved[:, None, None], F, jnp.eye(system.order, dtype=s.dtype)[None])
    root_Q = U * jnp.stack([scale**k for k in exponents], axis=-1)[..., None]
    return F, jnp.where(moved[:, None, None], root_Q, 0.0)


def _doubled(system: Driven, length: Float[Array, "R"]) -> tuple[Array, Array, Array]:
    """F, the scale of rows and the scaled root of Q after all doublings of a short step.

    Rows and columns are in units of powers of the step while that is below one: short steps keep their digits.
    """
    exponents = jnp.asarray(np.arange(system.order - 1, -1, -1), dtype=length.dtype)

    def double(_: Any, carry: tuple[Array, ...]) -> tuple[Array, ...]:
        step, scale, F, scaled_F, U = carry
        larger = jnp.minimum(2 * step, 1.0)
        ratio = (scale / larger)[:, None] ** exponents
        both = jnp.concatenate([U, scaled_F @ U], axis=-1) * ratio[..., None]
        scaled_F = scaled_F @ scaled_F * ratio[:, :, None] / ratio[:, None, :]
        return 2 * step, larger, F @ F, scaled_F, triangular_root(both)

    scale = jnp.minimum(length, 1.0)
    start = (length, scale, system.exponential(length), system.exponential(length, scaled=True), system.noise(length))
    _, scale, F, _, U = jax.lax.fori_loop(0, system.halvings, double, start)
    return F, scale, U


@transition.defjvp
def _transition_jvp(system: Driven, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Any, Any]:
    """dF = G F ds and dQ = g g' ds with g = exp(G s) e_last.

    Hence dL = L lower(v v') ds with L v = g, where ``lower`` halves the diagonal.

    Source: Murray 2016, eq. 8.
    """
    (s,), (ds,) = primals, tangents
    F, L = transition(system, s)
    order = system.order
    g = np.sqrt(system.diffusion).astype(s.dtype) * F[..., -1]
    pivots = jnp.diagonal(L, axis1=-2, axis2=-1)
    pivots, v = jnp.where(pivots > 0, pivots, 1.0), jnp.zeros_like(g)
    for i in range(order):
        v = v.at[..., i].set((g[..., i] - jnp.sum(L[..., i, :] * v, axis=-1)) / pivots[..., i])
    half = np.tril(np.ones((order, order)), -1) + 0.5 * np.eye(order)
    dL = L @ (v[..., :, None] * v[..., None, :] * jnp.asarray(half, dtype=s.dtype))
    ds = jnp.where(s < FORGOTTEN, ds, 0.0)[..., None, None]
    return (F, L), (jnp.asarray(system.G, dtype=s.dtype) @ F * ds, dL * ds)
