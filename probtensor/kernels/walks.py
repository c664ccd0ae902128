"""Functions that wander off: walks that start somewhere and whose variance grows, and straight lines.

All have a variance, at an origin, and a lengthscale, over which they get as much variance again. The origin is the
first level of the mode; walks go in both directions from there, so that predictions before it are no less sure than
those behind the last level. Coordinates are read as u = (x - origin) / lengthscale.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from probtensor.axes import Axis
from probtensor.hyperparameters import Declaration
from probtensor.kernels.base import AbstractKernel, Start, per_component
from probtensor.typing import Array, Float


class _FromAnOrigin(AbstractKernel):
    """What these kernels have in common."""

    lengthscale: Declaration
    variance: Declaration
    shared: bool
    origin: Float[Array, ""] | None
    on_a_line: ClassVar[bool] = True

    @property
    def stationary(self) -> bool:
        """No."""
        return False

    def covariance(self, distance: Float[Array, "..."]) -> Float[Array, "R ..."]:
        """There is none."""
        raise TypeError(f"{type(self).__name__} has no covariance of distance")

    def _values(self) -> list[Float[Array, "R"]]:
        return jnp.broadcast_arrays(self.lengthscale.value, self.variance.value)

    def _scaled(self, x: Float[Array, "..."]) -> Float[Array, "R ..."]:
        assert self.origin is not None
        away = x - self.origin.astype(x.dtype)
        return away[None] / per_component(self._values()[0], x)

    def _same_side(
        self, x: Float[Array, "..."], y: Float[Array, "..."]
    ) -> tuple[Float[Array, "R ..."], Float[Array, "R ..."], Float[Array, "R ..."], Float[Array, "R ..."]]:
        """u, v, and the smaller and larger distance from the origin where both are on one side of it, else zeros."""
        u, v = (self._scaled(one) for one in jnp.broadcast_arrays(x, y))
        together = u * v > 0
        near, far = (jnp.where(together, f(jnp.abs(u), jnp.abs(v)), 0.0) for f in (jnp.minimum, jnp.maximum))
        return u, v, near, far


class RandomWalk(_FromAnOrigin):
    """A random walk (Wiener process): covariance ``variance * (1 + min(|u|, |v|))`` on one side of the origin.

    Use it for levels that drift without a mean to return to: forecasts stay where the walk is, ever less surely. State
    size 1, exact; not stationary, so for one coordinate only.

    Args:
        lengthscale: in the coordinate's unit; the distance over which the walk's increments have the variance that it
            starts with. Learned for each component by default.
        variance: at the first level, in squared data units; learned in one mode of a term only.
        shared: one lengthscale for all components of a term instead of one each.
        origin: the first level of the mode; filled in by ``bind``, leave it out.

    Raises:
        ModelError: a hyper-parameter is not positive.

    Source: Durbin and Koopman 2012, Time series analysis by state space methods, chapter 2 (local level).
    """

    lengthscale: Declaration = None
    variance: Declaration = None
    shared: bool = eqx.field(static=True, default=False)
    origin: Float[Array, ""] | None = None

    def bind(self, axis: Axis, start: Start) -> RandomWalk:
        """Numbers for both hyper-parameters; the variance is held at its start unless this mode carries it."""
        lengthscale, variance = start.lengthscale(self.lengthscale, self.shared, axis), start.variance(self.variance)
        return RandomWalk(lengthscale, variance, self.shared, jnp.asarray(axis.points.min(), float))

    def between(self, x: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "R ..."]:
        """variance * (1 + the part of the way that both share)."""
        _, _, near, _ = self._same_side(x, y)
        return per_component(self._values()[1], near[0]) * (1 + near)

    @property
    def state_size(self) -> int:
        """The walk itself."""
        return 1

    @property
    def deterministic(self) -> bool:
        """No."""
        return False

    def emission(self) -> Float[np.ndarray, "S"]:
        """The walk itself."""
        return np.ones(1)

    def state_root(self, at: Float[Array, ""]) -> Float[Array, "R S S"]:
        """Its standard deviation there."""
        return jnp.sqrt(self._values()[1] * (1 + jnp.abs(self._scaled(at))))[:, None, None]

    def transition(self, at: Float[Array, ""], step: Float[Array, ""]) -> tuple[Array, Array]:
        """Increments; up to the origin, those of the walk toward it given where it is."""
        lengthscale, variance = self._values()
        before = jnp.maximum(-self._scaled(at), 0.0)
        s = step / lengthscale
        toward = jnp.minimum(s, before)
        F = (1 + before - toward) / (1 + before)
        noise = variance * (F * toward + (s - toward))
        moved = noise > 0
        root = jnp.where(moved, jnp.sqrt(jnp.where(moved, noise, 1.0)), 0.0)
        return F[:, None, None], root[:, None, None]


class IntegratedRandomWalk(_FromAnOrigin):
    """A walk of the slope: variance * (1 + u v + near^2 (3 far - near) / 6), near and far of ``|u|`` and ``|v|``.

    The posterior mean is a cubic smoothing spline. Use it for smooth trends that go on as they last went: forecasts are
    straight lines, ever less surely. State size 2, exact; not stationary, so for one coordinate only.

    Args:
        lengthscale: in the coordinate's unit; the slope starts with the root of ``variance`` over it, and gets as much
            variance again over that distance. By default learned for each component, from at least a quarter of the
            range.
        variance: at the first level, in squared data units; learned in one mode of a term only.
        shared: one lengthscale for all components of a term instead of one each.
        origin: the first level of the mode; filled in by ``bind``, leave it out.

    Raises:
        ModelError: a hyper-parameter is not positive.

    Source: Wahba 1978, Improper priors, spline smoothing; Durbin and Koopman 2012, section 3.2.1 (smooth trend).
    """

    lengthscale: Declaration = None
    variance: Declaration = None
    shared: bool = eqx.field(static=True, default=False)
    origin: Float[Array, ""] | None = None

    def bind(self, axis: Axis, start: Start) -> IntegratedRandomWalk:
        """Numbers for both hyper-parameters; the variance is held at its start unless this mode carries it."""
        slow = start._replace(lengthscales=np.maximum(start.lengthscales, axis.range / 4))
        lengthscale, variance = slow.lengthscale(self.lengthscale, self.shared, axis), start.variance(self.variance)
        return IntegratedRandomWalk(lengthscale, variance, self.shared, jnp.asarray(axis.points.min(), float))

    def between(self, x: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "R ..."]:
        """The lines' covariance, and that of the walk where both are on one side."""
        u, v, near, far = self._same_side(x, y)
        variance = per_component(self._values()[1], u[0])
        return variance * (1 + u * v + near**2 * (3 * far - near) / 6)

    @property
    def state_size(self) -> int:
        """The function, and its slope times the lengthscale."""
        return 2

    @property
    def deterministic(self) -> bool:
        """No."""
        return False

    def emission(self) -> Float[np.ndarray, "S"]:
        """The function."""
        return np.array([1.0, 0.0])

    def state_root(self, at: Float[Array, ""]) -> Float[Array, "R S S"]:
        """Of the line and of the walk's part; on the left of the origin slopes have the other sign."""
        u = self._scaled(at)
        P, _ = _away(jnp.abs(u))
        return jnp.sqrt(self._values()[1])[:, None, None] * _root(P._replace(cross=jnp.sign(u) * P.cross))

    def transition(self, at: Float[Array, ""], step: Float[Array, ""]) -> tuple[Array, Array]:
        """Up to the origin the walk toward it given where it is; from there on the slope plus noise."""
        lengthscale, variance = self._values()
        before = jnp.maximum(-self._scaled(at), 0.0)
        s = step / lengthscale
        toward = jnp.minimum(s, before)
        F, Q = _toward(before - toward, toward)
        r = s - toward
        level = Q.level + 2 * r * Q.cross + r**2 * Q.slope + r**3 / 3
        noise = _Symmetric(level, Q.cross + r * Q.slope + r**2 / 2, Q.slope + r)
        return _line(r) @ F, jnp.sqrt(variance)[:, None, None] * _root(noise)


class _Symmetric(NamedTuple):
    """A covariance of level and slope."""

    level: Float[Array, "R"]
    cross: Float[Array, "R"]
    slope: Float[Array, "R"]


def _away(u: Float[Array, "R"]) -> tuple[_Symmetric, Float[Array, "R"]]:
    """Covariance of an integrated walk's states at a distance on the right of the origin, and its determinant."""
    covariance = _Symmetric(1 + u**2 + u**3 / 3, u + u**2 / 2, 1 + u)
    return covariance, 1 + u + u**3 / 3 + u**4 / 12


def _root(A: _Symmetric) -> Float[Array, "R 2 2"]:
    """Cholesky factor; zero for zero."""
    some = A.level > 0
    first = jnp.sqrt(jnp.where(some, A.level, 1.0))
    below = A.cross / first
    left = A.slope - below**2
    last = jnp.sqrt(jnp.where(left > 0, left, 1.0))
    return _matrix(jnp.where(some, first, 0.0), jnp.zeros_like(first), below, jnp.where(left > 0, last, 0.0))


def _toward(u: Float[Array, "R"], s: Float[Array, "R"]) -> tuple[Float[Array, "R 2 2"], _Symmetric]:
    """F and Q of an integrated walk from a distance u + s on the left of the origin to u.

    Mirrored, y = A x + noise at u + s for x at u with covariance P. The precision of x given y is P^-1 + A' Q^-1 A;
    with level and slope in units of s^(3/2) and s^(1/2) that is [[a, b], [b, c]] below, free of cancellation however
    short the step is, and the gain is its inverse times A' Q^-1.
    """
    P, det_P = _away(u)
    level, cross, slope = P.slope / det_P, -P.cross / det_P, P.level / det_P
    a, b, c = 12 + s**3 * level, 6 + s**2 * cross, 4 + s * slope
    det = a * c - b**2
    F = _matrix(
        (12 + 12 * s * slope - 6 * s**2 * cross) / det,
        s * (12 + 6 * s * slope - 2 * s**2 * cross) / det,
        s * (12 * cross - 6 * s * level) / det,
        (12 + 6 * s**2 * cross - 2 * s**3 * level) / det,
    )
    return F, _Symmetric(s**3 * c / det, s**2 * b / det, s * a / det)


class Linear(_FromAnOrigin):
    """Straight lines with any level and slope: covariance variance * (1 + u v).

    Use it for a trend, most often in a sum: ``Linear() + Matern(3/2)``. The origin is the middle of the levels' range.
    State size 2, exact; not stationary, so for one coordinate only.

    Args:
        lengthscale: in the coordinate's unit; the distance from the middle at which the slope accounts for as much
            variance as the level does. By default learned for each component, from a quarter of the range.
        variance: of the level in the middle, in squared data units; learned in one mode of a term only.
        shared: one lengthscale for all components of a term instead of one each.
        origin: the first level of the mode; filled in by ``bind``, leave it out.

    Raises:
        ModelError: a hyper-parameter is not positive.

    Source: Rasmussen and Williams 2006, section 4.2.2 (the dot product, inhomogeneous).
    """

    lengthscale: Declaration = None
    variance: Declaration = None
    shared: bool = eqx.field(static=True, default=False)
    origin: Float[Array, ""] | None = None

    def bind(self, axis: Axis, start: Start) -> Linear:
        """Numbers for both hyper-parameters; the variance is held at its start unless this mode carries it."""
        across = start._replace(lengthscales=np.full(len(start.lengthscales), axis.range / 4))
        lengthscale, variance = across.lengthscale(self.lengthscale, self.shared, axis), start.variance(self.variance)
        low, high = axis.points.min(), axis.points.max()
        middle = low + 0.5 * (high - low)
        return Linear(lengthscale, variance, self.shared, jnp.asarray(middle, float))

    def between(self, x: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "R ..."]:
        """variance * (1 + u v)."""
        product = self._scaled(x) * self._scaled(y)
        return per_component(self._values()[1], product[0]) * (1 + product)

    @property
    def state_size(self) -> int:
        """The line, and its slope times the lengthscale."""
        return 2

    @property
    def deterministic(self) -> bool:
        """Yes: two points say all."""
        return True

    def emission(self) -> Float[np.ndarray, "S"]:
        """The line."""
        return np.array([1.0, 0.0])

    def state_root(self, at: Float[Array, ""]) -> Float[Array, "R S S"]:
        """Level and slope in the middle, brought here."""
        return jnp.sqrt(self._values()[1])[:, None, None] * _line(self._scaled(at))

    def transition(self, at: Float[Array, ""], step: Float[Array, ""]) -> tuple[Array, Array]:
        """The line goes on; no noise."""
        F = _line(step / self._values()[0])
        return F, jnp.zeros_like(F)


def _line(s: Float[Array, "R"]) -> Float[Array, "R 2 2"]:
    """What carries level and slope over a scaled step."""
    return _matrix(jnp.ones_like(s), s, jnp.zeros_like(s), jnp.ones_like(s))


def _matrix(*entries: Float[Array, "R"]) -> Float[Array, "R 2 2"]:
    return jnp.stack(entries, axis=-1).reshape(-1, 2, 2)
