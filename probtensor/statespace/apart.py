"""Smoothing of functions that are independent under the posterior, coupled by their sites' means alone.

A function's covariances depend on the sites' precisions alone, so those of all functions are found side by side; only
the means take turns, each at its optimum given the others. For 64 bits on a processor, as `adjoint`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from probtensor.statespace import adjoint
from probtensor.statespace.chain import Chain
from probtensor.typing import Array, Float, Int


class Apart(NamedTuple):
    """Posteriors of R functions, each under sites of its own.

    Attributes:
        mean: of each.
        variance: of each.
        eta: of each function's own sites, less what the others explained in its turn.
        energy: m' K^-1 m for each one's prior covariance K and posterior mean m, summed.
        log_det: log det(I + K P) for its sites' precisions P, summed.
        log_normaliser: of each under its own sites, summed.
    """

    mean: Float[Array, "T R"]
    variance: Float[Array, "T R"]
    eta: Float[Array, "T R"]
    energy: Float[Array, ""]
    log_det: Float[Array, ""]
    log_normaliser: Float[Array, ""]


class _Kept(NamedTuple):
    """Of each function what its gradient needs."""

    chain: Chain
    means: adjoint.Means
    filtered: adjoint.Filtered
    second: adjoint.Adjoint


def _smooth(
    chain: Chain, eta: Float[Array, "T R"], precision: Float[Array, "T R R"], mean: Float[Array, "T R"]
) -> tuple[Apart, _Kept]:
    R = chain.rank
    F, root_Q = (jnp.swapaxes(blocks, 0, 1)[:, :, None] for blocks in chain[:2])
    chains = Chain(F, root_Q, jnp.broadcast_to(chain.emission, (R, *chain.emission.shape)))
    own = jnp.diagonal(precision, axis1=1, axis2=2).T
    roots = jax.vmap(adjoint.whitened)(jnp.zeros_like(own)[..., None], own[..., None, None]).root
    filtered = jax.vmap(adjoint.filter_covariances)(chains, roots)
    second = jax.vmap(adjoint.adjoint_covariances)(chains, filtered)

    def turn(means: Float[Array, "T R"], r: Int[Array, ""]) -> tuple[Array, tuple[adjoint.Means, Array]]:
        here, passed, root = jax.tree.map(lambda leaf: leaf[r], (chains, filtered, roots))
        explained = jnp.einsum("ts,ts->t", precision[:, r], means) - own[r] * means[:, r]
        seen = eta[:, r] - explained
        found = adjoint.smooth_means(here, adjoint.Whitened(root, seen[:, None] / root[..., 0]), passed)
        return means.at[:, r].set(found.functions[:, 0]), (found, seen)

    mean, (means, seen) = jax.lax.scan(turn, mean, jnp.arange(R))
    energy = jnp.sum(jax.vmap(adjoint.innovations)(chains, means) ** 2)
    log_det = jnp.sum(filtered.log_det)
    value = 0.5 * (jnp.sum(seen.T * mean) - log_det)
    found = Apart(mean, second.cov[:, :, 0, 0].T, seen.T, energy, log_det, value)
    return found, _Kept(chains, means, filtered, second)


@jax.custom_vjp
def smooth_apart(
    chain: Chain, eta: Float[Array, "T R"], precision: Float[Array, "T R R"], mean: Float[Array, "T R"]
) -> Apart:
    """One turn of every function, from these means.

    Of what it gives, the log-normaliser can be differentiated by the chain, at fixed sites of each function.

    Raises TypeError for any other derivative.
    """
    return _smooth(chain, eta, precision, mean)[0]


def _smooth_for_slopes(*given: Any) -> tuple[Apart, _Kept]:
    if any(leaf.perturbed for leaf in jax.tree.leaves((given[0].emission, given[1:]))):
        raise TypeError("posteriors of functions apart have derivatives with respect to transitions and noise alone")
    return _smooth(*jax.tree.map(lambda leaf: leaf.value, given))


def _slopes(kept: _Kept, cotangents: Apart) -> tuple[Chain, None, None, None]:
    if not all(isinstance(leaf, SymbolicZero) for leaf in cotangents[:-1]):
        raise TypeError("only the log-normaliser of posteriors of functions apart has derivatives")
    chain, means, filtered, second = kept
    found = jax.vmap(adjoint.chain_slopes)(chain, means, filtered, second.curvature)
    by_F, by_root = (cotangents.log_normaliser * jnp.swapaxes(slope[:, :, 0], 0, 1) for slope in found)
    return Chain(by_F, by_root, jnp.zeros_like(chain.emission[0])), None, None, None


smooth_apart.defvjp(_smooth_for_slopes, _slopes, symbolic_zeros=True)
