"""Gaussian processes that are sums of a fixed number of functions with Gaussian weights."""

from __future__ import annotations

import abc
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular

from probtensor.compilation import on_device
from probtensor.kernels.base import AbstractKernel
from probtensor.kernels.metric import Metric, on_chart
from probtensor.linalg.gaussian import cholesky_above_identity
from probtensor.linalg.packing import pack, unpack
from probtensor.priors.base import (
    AbstractModePrior,
    Belief,
    Colouring,
    Marginals,
    Outside,
    Sites,
    divergence,
    group_equal,
    joint_workspace,
)
from probtensor.priors.features.base import AbstractFeatures, Located
from probtensor.typing import Array, Float, Key


class _Solved(NamedTuple):
    """Weights of all components given sites: z with B z = b for B = I + inner, numbered function by component."""

    scales: Float[Array, "R M"]
    inner: Float[Array, "RM RM"]
    chol_B: Float[Array, "RM RM"]
    z: Float[Array, "RM"]
    log_det: Float[Array, ""]
    log_normaliser: Float[Array, ""]

    @property
    def energy(self) -> Float[Array, ""]:
        """Distance of the mean from the prior."""
        return jnp.sum(self.z**2)

    def inverse_root(self) -> Float[Array, "RM RM"]:
        """A matrix with inverse_root' inverse_root = B^-1."""
        return solve_triangular(self.chol_B, jnp.eye(self.chol_B.shape[0], dtype=self.chol_B.dtype), lower=True)


class Parts(NamedTuple):
    """What a bound prior of weighted functions is made of."""

    kernel: AbstractKernel
    metric: Metric
    features: AbstractFeatures


class AbstractWeighted(AbstractModePrior):
    """Independent Gaussian processes, one for each component, as weighted sums of the same M functions.

    Cost for T levels and R components: O(T M R^2) and O((M R)^3); memory 8 (M R)^2 numbers.
    """

    @abc.abstractmethod
    def parts(self) -> Parts:
        """Kernel, coordinates and functions, once it is bound."""

    def workspace(self, levels: int, rank: int) -> int:
        """Matrices between all weights."""
        return joint_workspace(self.parts().features.number * rank)

    def outside(self, points: np.ndarray) -> Outside | None:
        """The first point outside the functions' domain, if that has an end."""
        _, metric, features = self.parts()
        limits, chart = features.limits(), metric.chart
        if limits is None:
            return None
        beyond = np.abs(np.asarray(on_chart(chart, on_device(points)), dtype=float)) > limits.half + limits.slack
        if not beyond.any():
            return None
        place = int(np.argmax(beyond.any(axis=1)))
        column = int(np.argmax(beyond[place]))
        origin, half = float(chart.origin[column]), float(limits.half[column] / chart.scale[column])
        return Outside(place, chart.columns[column], origin - half, origin + half)

    def _scales(self) -> Float[Array, "R M"]:
        """Prior standard deviations of the weights."""
        kernel, metric, features = self.parts()
        variances = features.variances(kernel, metric.factors())
        # A variance too small for a number is zero, where a root has no derivative.
        some = variances > 0
        return jnp.where(some, jnp.sqrt(jnp.where(some, variances, 1.0)), 0.0)

    def _locate(self, points: Float[Array, "T ..."]) -> Located:
        _, metric, features = self.parts()
        return features.locate(metric.chart(points))

    def _solve(self, points: Float[Array, "T ..."], sites: Sites) -> _Solved:
        features, sites = self.parts().features, sites.about(None)
        angles, inside, _ = self._locate(points)
        eta = features.project(angles, jnp.where(inside[:, None], sites.eta, 0.0))
        packed = jnp.where(inside[:, None], pack(sites.precision), 0.0)
        sums = unpack(features.gram(angles, packed), eta.shape[1])
        scales = self._scales()
        whitened = scales[:, :, None, None] * sums.transpose(2, 0, 3, 1) * scales[None, None]
        inner = whitened.reshape(scales.size, scales.size)
        inner = 0.5 * (inner + inner.T)
        chol_B = cholesky_above_identity(inner)
        half = solve_triangular(chol_B, (scales * eta.T).reshape(-1), lower=True)
        z = solve_triangular(chol_B, half, lower=True, trans=1)
        log_det = 2 * jnp.sum(jnp.log(jnp.diagonal(chol_B)))
        return _Solved(scales, inner, chol_B, z, log_det, 0.5 * (jnp.sum(half**2) - log_det))

    def _marginals(self, located: Located, solved: _Solved, B_inverse: Float[Array, "RM RM"]) -> Marginals:
        """Means and covariances of the functions' sums."""
        features, scales = self.parts().features, solved.scales
        R, M = scales.shape
        weights = (scales * solved.z.reshape(R, M)).T
        mean = features.expand(located.angles, weights)
        spread = scales[:, :, None, None] * B_inverse.reshape(R, M, R, M) * scales[None, None]
        cov = features.quadratic(located.angles, pack(spread.transpose(1, 3, 0, 2)))
        keep = located.inside[:, None]
        return Marginals(jnp.where(keep, mean, 0.0), unpack(jnp.where(keep, cov, 0.0), R))

    def posterior(self, points: Float[Array, "T ..."], sites: Sites) -> Belief:
        """Conditions the weights of all components at once."""
        solved = self._solve(points, sites)
        root = solved.inverse_root()
        B_inverse = root.T @ root
        mean, cov = self._marginals(self._locate(points), solved, B_inverse)
        kl = divergence(B_inverse, solved.inner, solved.energy, solved.log_det)
        return Belief(mean, cov, solved.log_normaliser, kl, points, sites)

    def predict(self, belief: Belief, new_points: Float[Array, "M ..."]) -> Marginals:
        """The functions' sums, and the variance that they lack."""
        kernel, _, features = self.parts()
        solved = self._solve(belief.points, belief.sites)
        root = solved.inverse_root()
        located = self._locate(new_points.astype(belief.points.dtype))
        mean, cov = self._marginals(located, solved, root.T @ root)
        return Marginals(mean, cov + jax.vmap(jnp.diag)(features.lacking(kernel, located, solved.scales)))

    def sample(self, belief: Belief, new_points: Float[Array, "M ..."], key: Key, n: int) -> Float[Array, "n M R"]:
        """Draws of the weights, used at all points, and of what they lack at each point."""
        kernel, _, features = self.parts()
        solved = self._solve(belief.points, belief.sites)
        R, M = solved.scales.shape
        first, second = jax.random.split(key)
        noise = jax.random.normal(first, (n, R * M), solved.z.dtype)
        weights = (solved.z[None] + noise @ solved.inverse_root()).reshape(n, R, M) * solved.scales[None]
        new_points = new_points.astype(belief.points.dtype)
        located = self._locate(new_points)
        drawn = features.expand(located.angles, weights.transpose(2, 0, 1).reshape(M, n * R))
        drawn = drawn.reshape(-1, n, R).transpose(1, 0, 2)
        own = jax.random.normal(second, drawn.shape, drawn.dtype)[:, group_equal(new_points)]
        lacking = features.lacking(kernel, located, solved.scales)
        return jnp.where(located.inside[None, :, None], drawn, 0.0) + jnp.sqrt(lacking)[None] * own

    def white_shape(self, levels: int, rank: int) -> tuple[int, ...]:
        """A number for each weight."""
        return self.parts().features.number, rank

    def colouring(self, points: Float[Array, "T ..."]) -> Colouring:
        """The functions' sum with the noise as weights."""
        return Colouring(_summed, self._locate(points), self.parts().features, self._scales())


def _summed(
    located: Located, features: AbstractFeatures, scales: Float[Array, "R M"], white: Float[Array, "M R"]
) -> Float[Array, "T R"]:
    return jnp.where(located.inside[:, None], features.expand(located.angles, scales.T * white), 0.0)
