"""Functions that wander off: walks that start somewhere and whose variance grows, and straight lines.

All have a variance, at an origin, and a lengthscale, over which they get as much variance again. The origin is the
first level of the mode; walks go in both directions from there, so that predictions before it are no less sure than
those behind the last level. Coordinates are read as u = (x - origin) / lengthscale.
"""

from __future__ import annotations

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from probtensor.axes import Axis
from probtensor.hyperparameters import Declaration
from probtensor.kernels.base import AbstractKernel, Start
from probtensor.linalg.small import triangular_root
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
        return away[None] / self._values()[0].reshape((-1,) + (1,) * x.ndim)

    def _same_side(
        self, x: Float[Array, "..."], y: Float[Array, "..."]
    ) -> tuple[Float[Array, "R ..."], Float[Array, "R ..."], Float[Array, "R ..."], Float[Array, "R ..."]]:
        """u, v, and the smaller and larger distance from the origin where both are on one side of it, else zeros."""
        u, v = (self._scaled(one) for one in jnp.broadcast_arrays(x, y))
        together = u * v > 0
        near, far = (jnp.where(together, f(jnp.abs(u), jnp.abs(v)), 0.0) for f in (jnp.minimum, jnp.maximum))
        return u, v, near, far


class RandomWalk(_FromAnOrigin):
    """A random walk (Wiener process): covariance variance * (1 + min(|u|, |v|)) on one side of the origin.

    Use it for levels that drift without a mean to return to: forecasts stay where the walk is, ever less surely. State
    size 1, exact; not stationary, so for one coordinate only.

    Args:
        lengthscale: in the coordinate's unit; the distance over which the walk's increments have the variance that it
            starts with. Learned for each component by default.
        variance: at the first level, in squared data units; learned in one mode of a term only.
        shared: one lengthscale for all components of a term instead of one each.

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
        return RandomWalk(lengthscale, variance, self.shared, jnp.asarray(axis.points[0], float))

    def between(self, x: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "R ..."]:
        """variance * (1 + the part of the way that both share)."""
        _, _, near, _ = self._same_side(x, y)
        return self._values()[1].reshape((-1,) + (1,) * (near.ndim - 1)) * (1 + near)

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
    """A walk of the slope: variance * (1 + u v + near^2 (3 far - near) / 6), near and far of |u| and |v|.

    The posterior mean is a cubic smoothing spline. Use it for smooth trends that go on as they last went: forecasts are
    straight lines, ever less surely. State size 2, exact; not stationary, so for one coordinate only.

    Args:
        lengthscale: in the coordinate's unit; the slope starts with the root of ``variance`` over it, and gets as much
            variance again over that distance. By default learned for each component, from at least a quarter of the
            range.
        variance: at the first level, in squared data units; learned in one mode of a term only.
        shared: one lengthscale for all components of a term instead of one each.

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
        return IntegratedRandomWalk(lengthscale, variance, self.shared, jnp.asarray(axis.points[0], float))

    def between(self, x: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "R ..."]:
        """The lines' covariance, and that of the walk where both are on one side."""
        u, v, near, far = self._same_side(x, y)
        variance = self._values()[1].reshape((-1,) + (1,) * (u.ndim - 1))
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

    def _noise(self, s: Float[Array, "R"]) -> Float[Array, "R 2 2"]:
        """Root of the noise over a scaled step, at unit variance."""
        unit = jnp.asarray([[3**-0.5, 0.0], [0.5 * 3**0.5, 0.5]], dtype=s.dtype)
        moved = s > 0
        size = jnp.where(moved, s, 1.0)
        root = jnp.sqrt(size)[:, None, None] * unit * jnp.stack([size, jnp.ones_like(s)], axis=-1)[..., None]
        return jnp.where(moved[:, None, None], root, 0.0)

    def _away(self, u: Float[Array, "R"]) -> Float[Array, "R 2 4"]:
        """Root, at unit variance, of the states' covariance at a distance from the origin, on the right of it."""
        return jnp.concatenate([_line(u), self._noise(u)], axis=-1)

    def state_root(self, at: Float[Array, ""]) -> Float[Array, "R S S"]:
        """Of the line and of the walk's part; on the left of the origin slopes have the other sign."""
        u = self._scaled(at)
        root = triangular_root(_mirrored(self._away(jnp.abs(u)), u < 0))
        return jnp.sqrt(self._values()[1])[:, None, None] * root

    def transition(self, at: Float[Array, ""], step: Float[Array, ""]) -> tuple[Array, Array]:
        """Up to the origin the walk toward it given where it is; from there on the slope plus noise."""
        lengthscale, variance = self._values()
        before = jnp.maximum(-self._scaled(at), 0.0)
        s = step / lengthscale
        toward = jnp.minimum(s, before)
        F_back, root_back = self._toward(before - toward, toward)
        F, root = _line(s - toward), self._noise(s - toward)
        both = jnp.concatenate([F @ root_back, root], axis=-1)
        root_Q = jnp.where((toward > 0)[:, None, None], triangular_root(both), root)
        return F @ F_back, jnp.sqrt(variance)[:, None, None] * root_Q

    def _toward(self, u: Float[Array, "R"], s: Float[Array, "R"]) -> tuple[Array, Array]:
        """From a scaled distance u + s on the left of the origin to u, given the state at u + s.

        With x there and x + A + noise further out, both rows of a root of their joint covariance are made triangular:
        below the first block stand the gain, times that block, and a root of what is left.
        """
        A, here = _line(s), self._away(u)
        outer = jnp.concatenate([A @ here, self._noise(s)], axis=-1)
        inner = jnp.concatenate([here, jnp.zeros_like(outer[..., here.shape[-1] :])], axis=-1)
        joint = jnp.concatenate([outer, inner], axis=-2)
        size = jnp.sqrt(jnp.sum(joint**2, axis=-1, keepdims=True))
        root = size * triangular_root(joint / size)
        first, gain, left = root[:, :2, :2], root[:, 2:, :2], root[:, 2:, 2:]
        det = first[:, 0, 0] * first[:, 1, 1]
        inverse = jnp.stack(
            [
                jnp.stack([first[:, 1, 1], jnp.zeros_like(det)], axis=-1),
                jnp.stack([-first[:, 1, 0], first[:, 0, 0]], axis=-1),
            ],
            axis=-2,
        )
        F = gain @ inverse / det[:, None, None]
        moved = (s > 0)[:, None, None]
        F = jnp.where(moved, F, jnp.eye(2, dtype=s.dtype)[None])
        flip = jnp.asarray([1.0, -1.0], dtype=s.dtype)
        return flip[:, None] * F * flip, jnp.where(moved, flip[:, None] * left, 0.0)


class Linear(_FromAnOrigin):
    """Straight lines with any level and slope: covariance variance * (1 + u v).

    Use it for a trend, most often in a sum: ``Linear() + Matern(3/2)``. The origin is the middle of the levels' range.
    State size 2, exact; not stationary, so for one coordinate only.

    Args:
        lengthscale: in the coordinate's unit; the distance from the middle at which the slope accounts for as much
            variance as the level does. By default learned for each component, from a quarter of the range.
        variance: of the level in the middle, in squared data units; learned in one mode of a term only.
        shared: one lengthscale for all components of a term instead of one each.

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
        middle = axis.points[0] + 0.5 * (axis.points[-1] - axis.points[0])
        return Linear(lengthscale, variance, self.shared, jnp.asarray(middle, float))

    def between(self, x: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "R ..."]:
        """variance * (1 + u v)."""
        product = self._scaled(x) * self._scaled(y)
        return self._values()[1].reshape((-1,) + (1,) * (product.ndim - 1)) * (1 + product)

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
    one, zero = jnp.ones_like(s), jnp.zeros_like(s)
    return jnp.stack([jnp.stack([one, s], axis=-1), jnp.stack([zero, one], axis=-1)], axis=-2)


def _mirrored(root: Float[Array, "R 2 K"], left: Float[Array, "R"]) -> Float[Array, "R 2 K"]:
    """With slopes of the other sign where asked."""
    sign = jnp.where(left, -1.0, 1.0).astype(root.dtype)
    return root * jnp.stack([jnp.ones_like(sign), sign], axis=-1)[..., None]
