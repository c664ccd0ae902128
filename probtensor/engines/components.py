"""A block whose functions are independent under the posterior, for ranks whose joint posterior is too large."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from probtensor.hyperparameters import component
from probtensor.priors.base import AbstractModePrior, Belief, Sites
from probtensor.typing import Array, Float, Int


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
    R = mean.shape[1]
    sites = sites.about(None)

    def turn(means: Float[Array, "T R"], r: Int[Array, ""]) -> tuple[Array, tuple[Belief, Array, Array, Array]]:
        precision = jnp.take(sites.precision, r, axis=1)
        own = jnp.take(precision, r, axis=1)
        explained = jnp.einsum("ts,ts->t", precision, means) - own * jnp.take(means, r, axis=1)
        eta = jnp.take(sites.eta, r, axis=1) - jax.lax.stop_gradient(explained)
        alone = component(prior, r, R).posterior(points, Sites(eta[:, None], own[:, None, None]))
        means = means.at[:, r].set(jax.lax.stop_gradient(alone.mean[:, 0]))
        shared = jnp.sum(jax.lax.stop_gradient(explained * alone.mean[:, 0]))
        bare = alone._replace(points=points[:0], sites=Sites(eta[:0, None], own[:0, None, None]))
        return means, (bare, eta, own, shared)

    means, (beliefs, eta, own, shared) = jax.lax.scan(turn, mean, jnp.arange(R))
    diagonal = jax.vmap(jnp.diag)
    # Each function's evidence takes off what the others explain; what two explain together belongs in the sum once.
    every = jnp.einsum("trs,tr,ts->", sites.precision, means, means) - jnp.sum(own.T * means**2)
    log_normaliser = jnp.sum(beliefs.log_normaliser) + jnp.sum(shared) - 0.5 * every
    return Belief(
        means,
        diagonal(beliefs.cov[:, :, 0, 0].T),
        log_normaliser,
        jnp.sum(beliefs.kl),
        points,
        Sites(eta.T, diagonal(own.T)),
    )
