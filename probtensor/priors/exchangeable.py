"""Conditioning levels that are exchangeable: independent of one another, or with a part that all of them share.

Both rules take one site for each level, and hyper-parameters for each component or one for all; they cost O(T R^3).
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from probtensor.linalg.gaussian import condition, condition_each
from probtensor.linalg.small import semidefinite_root
from probtensor.priors.base import Sites
from probtensor.typing import Array, Float


class Levels(NamedTuple):
    """The posterior of all levels: mean + own e, for independent levels; mean + shared z + own e, where z is common.

    All e and z are standard normal; energy and log_det are those of `divergence`.
    """

    mean: Float[Array, "T R"]
    own: Float[Array, "T R R"]
    shared: Float[Array, "T R R"] | None
    log_normaliser: Float[Array, ""]
    energy: Float[Array, ""]
    log_det: Float[Array, ""]

    def covariance(self) -> Float[Array, "T R R"]:
        """Of each level; a sum of squares."""
        own = jnp.einsum("tnm,tkm->tnk", self.own, self.own)
        return own if self.shared is None else own + jnp.einsum("tnm,tkm->tnk", self.shared, self.shared)


def independent(variance: Float[Array, "R"], sites: Sites) -> Levels:
    """Levels u ~ N(0, diag(variance)), each given its own site."""
    root = jnp.diag(jnp.sqrt(jnp.broadcast_to(variance, sites.eta.shape[1:])))[None]
    inner = root @ sites.precision @ root
    levels = condition_each(jnp.broadcast_to(root, inner.shape), sites.eta, inner)
    energy = jnp.sum(levels.whitened_mean(sites.eta) ** 2)
    value, log_det = jnp.sum(levels.log_normaliser), jnp.sum(levels.log_det)
    return Levels(levels.mean(sites.eta), levels.factor, None, value, energy, log_det)


def compound_symmetric(variance: Float[Array, "R"], common: Float[Array, "R"], sites: Sites) -> Levels:
    """Levels u = m + d, where all share m ~ N(0, diag(common * variance)) and each has its d ~ N(0, diag(variance)).

    A level integrated over its d, with C = (V^-1 + P)^-1 for V = diag(variance), tells m a precision P - P C P and an
    eta (I - P C) eta. Given all of that m is known, and d given m is independent from level to level again. The shared
    part is kept in units of the root of V.

    Source: Laird and Ware 1982, Random-effects models for longitudinal data (the random intercept).
    """
    sd, root_m = (jnp.sqrt(jnp.broadcast_to(one, sites.eta.shape[1:])) for one in (variance, common))
    root = jnp.diag(sd)[None]
    inner = root @ sites.precision @ root
    levels = condition_each(jnp.broadcast_to(root, inner.shape), sites.eta, inner)
    whitened = levels.factor / sd[:, None]
    # With P = G G' the difference P - P C P is the square G (I + G' V G)^-1 G', the covariance of a dual problem.
    G = sd[:, None] * semidefinite_root(sites.precision, sites.eta)[0]
    told = condition_each(G, jnp.zeros_like(sites.eta), jnp.swapaxes(G, -1, -2) @ G).covariance()
    eta = jnp.einsum("tnm,tkm,tk->n", whitened, levels.factor, sites.eta)
    m = condition(jnp.diag(root_m), eta, root_m[:, None] * jnp.sum(told, axis=0) * root_m)
    whitened_m = m.mean(eta)
    centre = sd * whitened_m
    left = sites.about(centre).eta
    shared = sd[:, None] * (whitened @ (jnp.swapaxes(whitened, -1, -2) @ m.factor))
    energy = jnp.sum((whitened_m / root_m) ** 2) + jnp.sum(levels.whitened_mean(left) ** 2)
    value = jnp.sum(levels.log_normaliser) + m.log_normaliser
    log_det = jnp.sum(levels.log_det) + m.log_det
    return Levels(centre + levels.mean(left), levels.factor, shared, value, energy, log_det)
