"""Exact Gaussian processes by dense linear algebra."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

from probtensor.axes import Axis
from probtensor.kernels.base import AbstractKernel, Start
from probtensor.linalg.gaussian import Conditioned, cholesky, condition
from probtensor.linalg.small import one_by_one, spread_of
from probtensor.priors.base import AbstractModePrior, Belief, Marginals, Sites, believe
from probtensor.typing import Array, Float, Key


class Dense(AbstractModePrior):
    """Independent Gaussian processes, one for each component, conditioned exactly.

    Use it for some hundreds of levels, or to check `Markov`. Cost O((T R)^3), memory O((T R)^2).

    Args:
        kernel: any kernel.

    Source: Rasmussen and Williams 2006, section 3.4.3 (the B = I + root' W root form).
    """

    kernel: AbstractKernel

    def bind(self, axis: Axis, start: Start) -> Dense:
        """Binds the kernel."""
        return Dense(self.kernel.bind(axis, start))

    def _root(self, points: Float[Array, "T"]) -> Float[Array, "R T T"]:
        return one_by_one(cholesky, self.kernel.covariance(_distance(points, points)))

    def _condition(self, points: Float[Array, "T"], sites: Sites) -> tuple[Array, Conditioned]:
        """Conditions whitened functions z, with u_r(points) = root_r z_r."""
        root = self._root(points)
        R, T, _ = root.shape
        inner = jnp.einsum("rti,trs,stj->risj", root, sites.precision, root).reshape(R * T, R * T)
        whitened_eta = jnp.einsum("rti,tr->ri", root, sites.eta).reshape(R * T)
        identity = jnp.eye(R * T, dtype=root.dtype)
        return root, condition(identity, whitened_eta, 0.5 * (inner + inner.T))

    def _marginals(
        self, sites: Sites, weights: Float[Array, "R T M"], conditioned: Conditioned, root: Array
    ) -> tuple[Float[Array, "M R"], Float[Array, "M R R"]]:
        """Moments of sum_t weights_rtm z_rt for the whitened functions z."""
        R, T, _ = weights.shape
        eta = jnp.einsum("rti,tr->ri", root, sites.eta).reshape(R * T)
        mean = jnp.einsum("rtm,rt->mr", weights, conditioned.mean(eta).reshape(R, T))
        half = jnp.einsum("rtm,rtk->mrk", weights, conditioned.factor.reshape(R, T, R * T))
        return mean, jnp.einsum("mrk,msk->mrs", half, half)

    def posterior(self, points: Float[Array, "T"], sites: Sites) -> Belief:
        """Conditions all levels and components at once."""
        root, conditioned = self._condition(points, sites)
        mean, cov = self._marginals(sites, jnp.swapaxes(root, -1, -2), conditioned, root)
        return believe(mean, cov, conditioned.log_normaliser, points, sites)

    def log_normaliser(self, points: Float[Array, "T"], sites: Sites) -> Float[Array, ""]:
        """log integral of prior times sites."""
        return self._condition(points, sites)[1].log_normaliser

    def predict(self, belief: Belief, new_points: Float[Array, "M"]) -> Marginals:
        """Kriging from the whitened posterior."""
        root, conditioned = self._condition(belief.points, belief.sites)
        weights = self._kriging(belief.points, new_points, root)
        mean, cov = self._marginals(belief.sites, weights, conditioned, root)
        left = self.kernel.covariance(jnp.zeros_like(new_points)) - jnp.sum(weights**2, axis=1)
        return Marginals(mean, cov + jax.vmap(jnp.diag)(jnp.maximum(left, 0.0).T))

    def _kriging(self, points: Array, new_points: Array, root: Array) -> Float[Array, "R T M"]:
        cross = self.kernel.covariance(_distance(points, new_points.astype(points.dtype)))
        return one_by_one(lambda L, k: solve_triangular(L, k, lower=True), root, cross)

    def sample(self, belief: Belief, new_points: Float[Array, "M"], key: Key, n: int) -> Float[Array, "n M R"]:
        """Draws the whitened posterior, then the new values given it."""
        root, conditioned = self._condition(belief.points, belief.sites)
        R, T, _ = root.shape
        weights = self._kriging(belief.points, new_points, root)
        own = self.kernel.covariance(_distance(new_points, new_points)) - jnp.einsum("rtm,rtk->rmk", weights, weights)
        eta = jnp.einsum("rti,tr->ri", root, belief.sites.eta).reshape(R * T)
        first, second = jax.random.split(key)
        z = conditioned.mean(eta)[None] + jax.random.normal(first, (n, R * T), eta.dtype) @ conditioned.factor.T
        e = jax.random.normal(second, (n, R, new_points.shape[0]), eta.dtype)
        return jnp.einsum("rtm,nrt->nmr", weights, z.reshape(n, R, T)) + jnp.einsum("rmk,nrk->nmr", spread_of(own), e)

    def improve(self, points: Float[Array, "T"], sites: Sites) -> Dense:
        """Nothing in closed form."""
        return self


def _distance(a: Float[Array, "T"], b: Float[Array, "M"]) -> Float[Array, "T M"]:
    """Distances on a line; the kernel depends on no gradient with respect to coordinates."""
    return jnp.abs(a[:, None] - b[None, :])
