"""A block whose functions are independent under the posterior, for ranks whose joint posterior is too large."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from probtensor.priors.base import AbstractModePrior, Belief, Sites
from probtensor.typing import Array, Float


def posterior_by_component(
    prior: AbstractModePrior, points: Float[Array, "T ..."], sites: Sites, mean: Float[Array, "T R"]
) -> Belief:
    """Each function in turn at its optimum given the means of the others.

    The log normaliser is the lower bound of the evidence that independent functions give; its gradient is at fixed
    means of the others. The belief's sites are those that functions see of their own: diagonal, so that its prior makes
    the same belief of them. Cost O(R) posteriors of one function in place of one of R.

    Args:
        prior: of R functions that are independent of each other.
        points: of the levels.
        sites: of all functions together.
        mean: of the functions so far.
    """
    sites = sites.about(None)
    found = prior.in_turns(points, sites, mean)
    own = jnp.diagonal(sites.precision, axis1=1, axis2=2)
    means, eta = jax.lax.stop_gradient((found.mean, found.eta))
    # Each function's evidence takes off what the others explain; what two explain together belongs in the sum once.
    explained = jnp.sum((sites.eta - eta) * means)
    every = jnp.einsum("trs,tr,ts->", sites.precision, means, means) - jnp.sum(own * means**2)
    log_normaliser = found.log_normaliser + explained - 0.5 * every
    diagonal = jax.vmap(jnp.diag)
    return Belief(means, diagonal(found.variance), log_normaliser, found.kl, points, Sites(eta, diagonal(own)))
