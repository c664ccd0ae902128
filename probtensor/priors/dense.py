"""Exact Gaussian processes by dense linear algebra."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

from probtensor.axes import Axis
from probtensor.kernels.base import AbstractKernel, Start, check_of_several
from probtensor.kernels.custom import check_positive_definite
from probtensor.kernels.metric import Metric, measure
from probtensor.linalg.gaussian import cholesky, cholesky_above_identity
from probtensor.linalg.small import one_by_one, semidefinite_root, spread_of
from probtensor.priors.base import (
    AbstractModePrior,
    Belief,
    Colouring,
    Marginals,
    Sites,
    check_size,
    divergence,
    joint_workspace,
    pool,
)
from probtensor.typing import Array, Bool, Float, Int, Key


class Solved(NamedTuple):
    """Sites at T distinct points, solved, by their root G (G G' = precision, G z = eta), B = I + G' K G and x = B^-1 z.

    The posterior mean is K G x. Points are padded with ones that are independent of all others and have no data.
    """

    points: Float[Array, "T ..."]
    real: Bool[Array, "T"]
    place: Int[Array, "N"]
    K: Float[Array, "R T T"]
    G: Float[Array, "T R R"]
    chol_B: Float[Array, "TR TR"]
    energy: Float[Array, ""]
    log_det: Float[Array, ""]
    log_normaliser: Float[Array, ""]
    dual: Float[Array, "T R"]

    def at(self, cross: Float[Array, "R T M"], weights: Float[Array, "R T M"], root: Float[Array, "R T T"]) -> Joint:
        """The posterior of sum_t weights_rtm z_rt, whose covariance with the points' functions is cross.

        root: of K, with z standard normal in root z.
        """
        R, T, M = cross.shape
        sites = jnp.einsum("trj,rtm->tjrm", self.G, cross).reshape(T * R, R * M)
        gain = solve_triangular(self.chol_B, solve_triangular(self.chol_B, sites, lower=True), lower=True, trans=1)
        seen = jnp.einsum("trj,rti->tjri", self.G, root).reshape(T * R, R * T)
        prior = jnp.einsum("rtm,rs->rmst", weights, jnp.eye(R, dtype=weights.dtype)).reshape(R, M, R * T)
        gain = gain.T.reshape(R, M, T * R)
        mean = jnp.einsum("rtm,tr->mr", cross, self.dual)
        return Joint(mean, prior - gain @ seen, gain)


class Joint(NamedTuple):
    """The posterior at M points: mean + reduced z - gain e, for whitened functions z and noises e, standard normal."""

    mean: Float[Array, "M R"]
    reduced: Float[Array, "R M RT"]
    gain: Float[Array, "R M TR"]

    def covariance(self) -> Float[Array, "M R R"]:
        """A sum of squares."""
        parts = (jnp.einsum("rmn,smn->mrs", part, part) for part in (self.reduced, self.gain))
        return sum(parts, start=jnp.zeros((), self.mean.dtype))


#: New points are predicted in chunks of at most this many numbers.
CHUNK_NUMBERS = 2**24


def in_chunks(
    some: Callable[[Float[Array, "K ..."]], Marginals], points: Float[Array, "M ..."], rank: int, numbers: int
) -> Marginals:
    """Marginals at new points, some of them after the other; numbers: what a point takes for one component."""
    M = points.shape[0]
    size = max(1, min(M, CHUNK_NUMBERS // (numbers * rank)))
    number = -(-M // size)
    padded = jnp.pad(points, [(0, number * size - M)] + [(0, 0)] * (points.ndim - 1))
    chunks = padded.reshape(number, size, *points.shape[1:])
    found = some(points) if number == 1 else jax.lax.map(some, chunks)
    return Marginals(found.mean.reshape(-1, rank)[:M], found.cov.reshape(-1, rank, rank)[:M])


def solve(
    K: Float[Array, "R T T"],
    pooled: Sites,
    points: Float[Array, "T ..."],
    real: Bool[Array, "T"],
    place: Int[Array, "N"],
) -> Solved:
    """Conditions functions with covariance K at T points on sites about zero; for the other arguments see `Solved`."""
    T, R = pooled.eta.shape
    G, z = semidefinite_root(pooled.precision, pooled.eta)
    inner = jnp.einsum("trj,rts,srk->tjsk", G, K, G).reshape(T * R, T * R)
    inner = 0.5 * (inner + inner.T)
    chol_B = cholesky_above_identity(inner)
    z = z.reshape(T * R)
    half = solve_triangular(chol_B, z, lower=True)
    x = solve_triangular(chol_B, half, lower=True, trans=1)
    # z' inner B^-1 z as a sum of squares that is smallest at the exact x, so that x's own errors hardly matter.
    energy = x @ inner @ x
    log_det = 2 * jnp.sum(jnp.log(jnp.diagonal(chol_B)))
    value = 0.5 * (energy + jnp.sum((z - x) ** 2) - log_det)
    dual = jnp.einsum("trj,tj->tr", G, x.reshape(T, R))
    return Solved(points, real, place, K, G, chol_B, energy, log_det, value, dual)


class Dense(AbstractModePrior):
    """Independent Gaussian processes, one for each component, conditioned exactly.

    Use it for some hundreds of levels, of one coordinate or of joined ones, or to check `Markov`. Cost O((T R)^3),
    memory O((T R)^2). What follows from K alone (means, log-normaliser, gradients) is free of jitter; equal coordinates
    are pooled.

    For a joined mode the kernel is one of distance over all its coordinates: with a learned stretch of each against the
    first, or for a latitude and a longitude in degrees the chord's length in km.

    Args:
        kernel: any kernel.
        metric: how distances are measured; filled in by ``bind``, leave it out.

    Raises:
        ModelError: there are more than 5,000 levels times components, or a coordinate of a joined mode holds names.

    Source: Rasmussen and Williams 2006, eqs. 3.26-3.27 (the B = I + W^1/2 K W^1/2 form), for singular W; Matheron's
    rule for draws (Journel and Huijbregts 1978).
    """

    kernel: AbstractKernel
    metric: Metric | None = None

    def bind(self, axis: Axis, start: Start) -> Dense:
        """Binds the kernel, and for a joined mode the metric."""
        rank = len(start.lengthscales)
        check_size(
            "Dense",
            axis.size,
            rank,
            "levels",
            "values",
            "Use pt.Nearest(kernel), pt.Basis('hilbert', size, kernel) or a lower rank",
        )
        if axis.parts:
            check_of_several(self.kernel, [part.name for part in axis.parts])
            metric, line = measure(axis, self.kernel, on_sphere=True)
            bound = Dense(self.kernel.bind(line, start._replace(lengthscales=line.lengthscales(rank))), metric)
        else:
            bound = Dense(self.kernel.bind(axis, start))
        check_positive_definite(
            bound.kernel,
            lambda kernel, x: Dense(kernel, bound.metric)._covariance(jnp.asarray(x), jnp.asarray(x)),
            axis.points,
        )
        return bound

    def _covariance(self, a: Float[Array, "T ..."], b: Float[Array, "M ..."]) -> Float[Array, "R T M"]:
        if self.metric is None:
            return self.kernel.between(a[:, None], b[None, :])
        return self.kernel.covariance(self.metric.distance(a, b))

    def _variance(self, points: Float[Array, "M ..."]) -> Float[Array, "R M"]:
        if self.metric is None:
            return self.kernel.between(points, points)
        return self.kernel.covariance(jnp.zeros(points.shape[0], points.dtype))

    def _solve(self, points: Float[Array, "T ..."], sites: Sites) -> Solved:
        pooled, place = pool(points, sites.about(None))
        T, R = pooled.eta.shape
        distinct = jax.ops.segment_max(points, place, num_segments=T)
        real = jnp.arange(T) <= jnp.max(place)
        distinct = jnp.where(real.reshape(T, *(1,) * (points.ndim - 1)), distinct, 0.0)
        K = self._covariance(distinct, distinct)
        both = real[:, None] & real[None, :]
        K = jnp.where(both[None], K, jnp.where(jnp.eye(T, dtype=bool)[None], K[:, :1, :1], 0.0))
        return solve(K, pooled, distinct, real, place)

    def posterior(self, points: Float[Array, "T ..."], sites: Sites) -> Belief:
        """Conditions all levels and components at once."""
        solved = self._solve(points, sites)
        root = one_by_one(cholesky, solved.K)
        found = solved.at(solved.K, jnp.swapaxes(root, -1, -2), root)
        mean, cov = found.mean[solved.place], found.covariance()[solved.place]
        kl = divergence(cov, sites.precision, solved.energy, solved.log_det)
        return Belief(mean, cov, solved.log_normaliser, kl, points, sites)

    def _predict(
        self, solved: Solved, root: Float[Array, "R T T"], new_points: Float[Array, "M ..."]
    ) -> tuple[Joint, Float[Array, "R T M"]]:
        cross = self._covariance(solved.points, new_points)
        cross = jnp.where(solved.real[None, :, None], cross, 0.0)
        weights = one_by_one(lambda L, k: solve_triangular(L, k, lower=True), root, cross)
        return solved.at(cross, weights, root), weights

    def predict(self, belief: Belief, new_points: Float[Array, "M ..."]) -> Marginals:
        """Kriging from the posterior at the training levels, some new points after the other."""
        solved = self._solve(belief.points, belief.sites)
        root = one_by_one(cholesky, solved.K)

        def some(points: Float[Array, "K ..."]) -> Marginals:
            found, weights = self._predict(solved, root, points)
            left = self._variance(points) - jnp.sum(weights**2, axis=1)
            return Marginals(found.mean, found.covariance() + jax.vmap(jnp.diag)(jnp.maximum(left, 0.0).T))

        T, R = belief.mean.shape
        return in_chunks(some, new_points.astype(solved.points.dtype), R, T * R)

    def sample(self, belief: Belief, new_points: Float[Array, "M ..."], key: Key, n: int) -> Float[Array, "n M R"]:
        """Draws of the whitened functions and of the noise, then of the new values given the training levels."""
        number, rank = new_points.shape[0], belief.mean.shape[1]
        check_size("Dense", number, rank, "points to draw at", "values", "Draw at fewer points at a time")
        solved = self._solve(belief.points, belief.sites)
        new_points = new_points.astype(solved.points.dtype)
        found, weights = self._predict(solved, one_by_one(cholesky, solved.K), new_points)
        own = self._covariance(new_points, new_points)
        own = own - jnp.einsum("rtm,rtk->rmk", weights, weights)
        R, M, size = found.gain.shape
        z, noise, e = (
            jax.random.normal(one, shape, weights.dtype)
            for one, shape in zip(jax.random.split(key, 3), ((n, size), (n, size), (n, R, M)), strict=True)
        )
        shared = jnp.einsum("rmi,ni->nmr", found.reduced, z) - jnp.einsum("rmi,ni->nmr", found.gain, noise)
        return found.mean[None] + shared + jnp.einsum("rmk,nrk->nmr", spread_of(own), e)

    def workspace(self, levels: int, rank: int) -> int:
        """Matrices between all functions at all levels."""
        return joint_workspace(levels * rank)

    def white_shape(self, levels: int, rank: int) -> tuple[int, ...]:
        """A number for each value."""
        return levels, rank

    def colouring(self, points: Float[Array, "T ..."]) -> Colouring:
        """The root of the covariance times the noise."""
        return Colouring(_spread, one_by_one(cholesky, self._covariance(points, points)))


def _spread(root: Float[Array, "R T T"], white: Float[Array, "T R"]) -> Float[Array, "T R"]:
    return jnp.einsum("rts,sr->tr", root, white)
