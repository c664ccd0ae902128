"""Priors for coordinates without order: exchangeable levels, and no dependence at all."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp

from probtensor import hyperparameters
from probtensor.axes import Axis
from probtensor.errors import ModelError
from probtensor.hyperparameters import Declaration
from probtensor.kernels.base import Start
from probtensor.linalg.gaussian import condition_each
from probtensor.linalg.small import spread_of
from probtensor.priors.base import (
    AbstractModePrior,
    Belief,
    Colouring,
    Marginals,
    Sites,
    divergence,
    group_equal,
    pool,
    with_empty_sites,
)
from probtensor.typing import Array, Float, Key


class Categorical(AbstractModePrior):
    """Levels are exchangeable: each has its own values, normal around a common mean.

    Use it for names (stations, species). A level that was never seen gets the prior. Cost O(T R^3).

    Args:
        covariance: ``"independent"`` levels.
        variance: of the levels, in squared data units; learned in one mode of a term only.
        mean: None for zero (a factor), or the (R,) learned common mean of an offset's levels.

    Raises:
        ModelError: another covariance is asked for.
    """

    covariance: str = eqx.field(static=True, default="independent")
    variance: Declaration = None
    mean: Float[Array, "R"] | None = None

    def __check_init__(self) -> None:
        """Raises ModelError for a covariance between levels that does not exist here."""
        if self.covariance != "independent":
            raise ModelError(f"Categorical(covariance={self.covariance!r}): only 'independent' levels are available")

    def bind(self, axis: Axis, start: Start) -> Categorical:
        """A number for the variance, held at its start unless this mode carries it."""
        variance = hyperparameters.bind(self.variance, start.variances, "variance", held=not start.carries_variance)
        return Categorical(self.covariance, variance, self.mean)

    def posterior(self, points: Float[Array, "T ..."], sites: Sites) -> Belief:
        """Level by level; repeated levels pool their sites."""
        centred = sites.about(self.mean)
        pooled, group = pool(points, centred)
        variance = jnp.broadcast_to(self.variance.value, pooled.eta.shape[1:])
        root = jnp.diag(jnp.sqrt(variance))[None]
        inner = root @ pooled.precision @ root
        conditioned = condition_each(jnp.broadcast_to(root, inner.shape), pooled.eta, inner)
        mean, cov = conditioned.mean(pooled.eta)[group], conditioned.covariance()[group]
        value, log_det = jnp.sum(conditioned.log_normaliser), jnp.sum(conditioned.log_det)
        energy = jnp.sum(conditioned.whitened_mean(pooled.eta) ** 2)
        kl = divergence(cov, sites.precision, energy, log_det)
        if self.mean is not None:
            mean, value = mean + self.mean, value + _value_at(self.mean, sites)
        return Belief(mean, cov, value, kl, points, sites)

    def log_normaliser(self, points: Float[Array, "T ..."], sites: Sites) -> Float[Array, ""]:
        """Sum over the levels."""
        return self.posterior(points, sites).log_normaliser

    def predict(self, belief: Belief, new_points: Float[Array, "M ..."]) -> Marginals:
        """Known levels as learned, unknown ones from the prior."""
        joined = self.posterior(*with_empty_sites(belief, new_points))
        T = belief.points.shape[0]
        return Marginals(joined.mean[T:], joined.cov[T:])

    def sample(self, belief: Belief, new_points: Float[Array, "M ..."], key: Key, n: int) -> Float[Array, "n M R"]:
        """Independent draws for each level; repeated coordinates share theirs."""
        marginals = self.predict(belief, new_points)
        group = group_equal(new_points)
        noise = jax.random.normal(key, (n, *marginals.mean.shape), marginals.mean.dtype)[:, group]
        return marginals.mean[None] + jnp.einsum("mrk,nmk->nmr", spread_of(marginals.cov), noise)

    def white_shape(self, levels: int, rank: int) -> tuple[int, ...]:
        """A number for each value."""
        return levels, rank

    def colouring(self, points: Float[Array, "T"]) -> Colouring:
        """The noise scaled, about the common mean."""
        mean = jnp.zeros_like(self.variance.value) if self.mean is None else self.mean
        return Colouring(_scaled, mean, jnp.sqrt(self.variance.value))

    def improve(self, points: Float[Array, "T ..."], sites: Sites) -> Categorical:
        """The common mean at its exact optimum, then one expectation-maximisation step of the variance."""
        prior = self
        if self.mean is not None:
            pooled, _ = pool(points, sites)
            shrink = 1.0 / (1.0 + self.variance.value[None] * pooled.precision[:, :, 0])
            weight = jnp.sum(shrink * pooled.precision[:, :, 0], axis=0)
            optimum = jnp.sum(shrink * pooled.eta, axis=0) / jnp.where(weight > 0, weight, 1.0)
            optimum = optimum if sites.origin is None else sites.origin + optimum
            prior = eqx.tree_at(lambda p: p.mean, prior, jnp.where(weight > 0, optimum, self.mean))
        return prior


class Constant(AbstractModePrior):
    """No dependence on the coordinate: the factor is 1 everywhere. The prior of a mode with a single level."""

    def bind(self, axis: Axis, start: Start) -> Constant:
        """Nothing to bind."""
        return self

    def posterior(self, points: Float[Array, "T ..."], sites: Sites) -> Belief:
        """Ones, known exactly."""
        one = jnp.ones_like(sites.eta)
        zero = jnp.zeros((), one.dtype)
        return Belief(one, jnp.zeros_like(sites.precision), self.log_normaliser(points, sites), zero, points, sites)

    def log_normaliser(self, points: Float[Array, "T ..."], sites: Sites) -> Float[Array, ""]:
        """The sites' value at one."""
        return jnp.sum(sites.eta) - 0.5 * jnp.sum(sites.precision)

    def predict(self, belief: Belief, new_points: Float[Array, "M ..."]) -> Marginals:
        """Ones, known exactly."""
        M, R = new_points.shape[0], belief.mean.shape[1]
        return Marginals(jnp.ones((M, R), belief.mean.dtype), jnp.zeros((M, R, R), belief.mean.dtype))

    def sample(self, belief: Belief, new_points: Float[Array, "M ..."], key: Key, n: int) -> Float[Array, "n M R"]:
        """Ones."""
        return jnp.ones((n, new_points.shape[0], belief.mean.shape[1]), belief.mean.dtype)

    def white_shape(self, levels: int, rank: int) -> tuple[int, ...]:
        """Empty, but for the number of functions."""
        return 0, rank

    def colouring(self, points: Float[Array, "T"]) -> Colouring:
        """Ones."""
        return Colouring(_ones, points)

    def improve(self, points: Float[Array, "T ..."], sites: Sites) -> Constant:
        """Nothing to learn."""
        return self


def _value_at(values: Float[Array, "R"], sites: Sites) -> Float[Array, ""]:
    """Log of the sites' product where every level has these values."""
    values = values if sites.origin is None else values - sites.origin
    total = jnp.sum(sites.precision, axis=0)
    return jnp.sum(sites.eta, axis=0) @ values - 0.5 * values @ total @ values


def _scaled(mean: Float[Array, "R"], sd: Float[Array, "R"], white: Float[Array, "T R"]) -> Float[Array, "T R"]:
    return mean + sd * white


def _ones(points: Float[Array, "T"], white: Float[Array, "0 R"]) -> Float[Array, "T R"]:
    return jnp.ones((points.shape[0], white.shape[1]), points.dtype)
