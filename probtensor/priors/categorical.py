"""Priors for coordinates without order: exchangeable levels, and no dependence at all."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from probtensor import hyperparameters
from probtensor.axes import Axis
from probtensor.errors import ModelError
from probtensor.hyperparameters import Declaration
from probtensor.kernels.base import Start
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
from probtensor.priors.exchangeable import Levels, compound_symmetric, independent
from probtensor.typing import Array, Float, Int, Key

#: How much of the levels' variance is common at the start, relative to that of their own parts.
_COMMON = 0.5


class Categorical(AbstractModePrior):
    """Levels are exchangeable: each has its own values, normal around a common mean.

    Use it for names (stations, species). Cost O(T R^3).

    Args:
        covariance: ``"independent"`` levels, where one that was never seen gets the prior; or ``"learned"``: levels are
            the sum of a part that all share and one of their own, so that one that was never seen gets the shared part.
        variance: of the levels, in squared data units; learned in one mode of a term only.
        common: variance of the shared part relative to that of a level's own, for ``"learned"``; two levels have the
            correlation common / (1 + common).
        mean: None for zero (a factor), or the (R,) learned common mean of an offset's levels.

    Raises:
        ModelError: another covariance is asked for, or ``common`` or ``mean`` is given to one that has none.

    Source: Laird and Ware 1982, Random-effects models for longitudinal data.
    """

    covariance: str = eqx.field(static=True, default="independent")
    variance: Declaration = None
    common: Declaration = None
    mean: Float[Array, "R"] | None = None

    def __check_init__(self) -> None:
        """Raises ModelError for an unknown covariance, or what does not go with it."""
        if self.covariance not in ("independent", "learned"):
            raise ModelError(
                f"Categorical(covariance={self.covariance!r}): expected 'independent', or 'learned' for levels that "
                "share a part"
            )
        if self.covariance == "independent" and self.common is not None:
            raise ModelError(
                f"Categorical(common={self.common!r}): independent levels share nothing; use "
                "Categorical('learned', common=...) or leave it out"
            )
        if self.covariance == "learned" and self.mean is not None:
            raise ModelError(
                "Categorical('learned', mean=...): the shared part is a common mean already; leave one of them out"
            )

    def bind(self, axis: Axis, start: Start) -> Categorical:
        """A number for the variance, held at its start unless this mode carries it, and one for the common part."""
        variance = hyperparameters.bind(self.variance, start.variances, "variance", held=not start.carries_variance)
        if self.covariance == "independent":
            return Categorical(self.covariance, variance, None, self.mean)
        common = hyperparameters.bind(self.common, np.full(len(start.variances), _COMMON), "common")
        return Categorical(self.covariance, variance, common)

    def _parts(self) -> tuple[Float[Array, "R"], Float[Array, "R"]]:
        """Variances of a level's own part and, relative to them, of the shared one; they make up the declared one."""
        common = self.common.value
        return self.variance.value / (1 + common), common

    def _levels(self, points: Float[Array, "T ..."], sites: Sites) -> tuple[Levels, Int[Array, "T"]]:
        """The posterior of the distinct levels about the mean, and the place of each point among them."""
        pooled, group = pool(points, sites.about(self.mean))
        if self.covariance == "learned":
            return compound_symmetric(*self._parts(), pooled), group
        return independent(self.variance.value, pooled), group

    def posterior(self, points: Float[Array, "T ..."], sites: Sites) -> Belief:
        """Level by level, given the shared part if there is one; repeated levels pool their sites."""
        levels, group = self._levels(points, sites)
        mean, cov, value = levels.mean[group], levels.covariance()[group], levels.log_normaliser
        kl = divergence(cov, sites.precision, levels.energy, levels.log_det)
        if self.mean is not None:
            mean, value = mean + self.mean, value + _value_at(self.mean, sites)
        return Belief(mean, cov, value, kl, points, sites)

    def predict(self, belief: Belief, new_points: Float[Array, "M ..."]) -> Marginals:
        """Known levels as learned; unknown ones from the prior, or around the shared part."""
        joined = self.posterior(*with_empty_sites(belief, new_points))
        T = belief.points.shape[0]
        return Marginals(joined.mean[T:], joined.cov[T:])

    def sample(self, belief: Belief, new_points: Float[Array, "M ..."], key: Key, n: int) -> Float[Array, "n M R"]:
        """Independent draws for each level, given one draw of what they share; repeated coordinates share theirs."""
        if self.covariance == "learned":
            return self._sample_jointly(belief, new_points, key, n)
        marginals = self.predict(belief, new_points)
        group = group_equal(new_points)
        noise = jax.random.normal(key, (n, *marginals.mean.shape), marginals.mean.dtype)[:, group]
        return marginals.mean[None] + jnp.einsum("mrk,nmk->nmr", spread_of(marginals.cov), noise)

    def _sample_jointly(self, belief: Belief, new_points: Array, key: Key, n: int) -> Float[Array, "n M R"]:
        levels, group = self._levels(*with_empty_sites(belief, new_points))
        assert levels.shared is not None
        first, second = jax.random.split(key)
        own = jax.random.normal(first, (n, *levels.mean.shape), levels.mean.dtype)
        shared = jax.random.normal(second, (n, levels.mean.shape[1]), levels.mean.dtype)
        drawn = jnp.einsum("trk,ntk->ntr", levels.own, own) + jnp.einsum("trk,nk->ntr", levels.shared, shared)
        return (levels.mean + drawn)[:, group[belief.points.shape[0] :]]

    def white_shape(self, levels: int, rank: int) -> tuple[int, ...]:
        """A number for each value."""
        return levels, rank

    def colouring(self, points: Float[Array, "T"]) -> Colouring:
        """The noise scaled, about the common mean or with the shared part."""
        if self.covariance == "learned":
            own, common = self._parts()
            return Colouring(_with_shared, jnp.sqrt(own), common)
        mean = jnp.zeros_like(self.variance.value) if self.mean is None else self.mean
        return Colouring(_scaled, mean, jnp.sqrt(self.variance.value))

    def improve(self, points: Float[Array, "T ..."], sites: Sites) -> Categorical:
        """The common mean at its exact optimum."""
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
    """No dependence on the coordinate: the factor is 1 everywhere, at no cost.

    Use it for a mode whose levels are all alike to a term; it is the default for a mode with a single level.
    """

    def bind(self, axis: Axis, start: Start) -> Constant:
        """Nothing to bind."""
        return self

    def posterior(self, points: Float[Array, "T ..."], sites: Sites) -> Belief:
        """Ones, known exactly."""
        one = jnp.ones_like(sites.eta)
        zero, value = jnp.zeros((), one.dtype), jnp.sum(sites.eta) - 0.5 * jnp.sum(sites.precision)
        return Belief(one, jnp.zeros_like(sites.precision), value, zero, points, sites)

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


def _value_at(values: Float[Array, "R"], sites: Sites) -> Float[Array, ""]:
    """Log of the sites' product where every level has these values."""
    values = values if sites.origin is None else values - sites.origin
    total = jnp.sum(sites.precision, axis=0)
    return jnp.sum(sites.eta, axis=0) @ values - 0.5 * values @ total @ values


def _scaled(mean: Float[Array, "R"], sd: Float[Array, "R"], white: Float[Array, "T R"]) -> Float[Array, "T R"]:
    return mean + sd * white


def _with_shared(own: Float[Array, "R"], common: Float[Array, "R"], white: Float[Array, "T R"]) -> Float[Array, "T R"]:
    """By the symmetric root of I + common 11', in which no noise of one level can stand in for that of the shared part.

    own: sd of a level's own part; common: variance of the shared one relative to that.
    """
    root = jnp.sqrt(1 + common * white.shape[0]) - 1
    return own * (white + root * jnp.mean(white, axis=0))


def _ones(points: Float[Array, "T"], white: Float[Array, "0 R"]) -> Float[Array, "T R"]:
    return jnp.ones((points.shape[0], white.shape[1]), points.dtype)
