"""Functions given their values at neighbouring places: weights and variances, with derivatives.

Source: Vecchia 1988; Datta et al. 2016 (nearest-neighbour Gaussian processes).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from probtensor.linalg.gaussian import cholesky
from probtensor.linalg.small import one_by_one
from probtensor.typing import Array, Float, Int

#: Covariances (R, ...) of R functions between two arrays of places, which are broadcast against each other.
Covariance: TypeAlias = Callable[[Float[Array, "... E"], Float[Array, "... E"]], Float[Array, "R ..."]]

#: Targets whose covariances are formed at once.
_GROUP = 128
#: So many rounding errors of the function's variance are added to its neighbours', and left at least of its own.
_ROUNDING = 8.0


class Conditionals(NamedTuple):
    """Each target's functions as weights times those of its neighbours plus an independent part of some variance."""

    weights: Float[Array, "M R k"]
    variance: Float[Array, "M R"]


def conditionals(
    covariance: Covariance,
    targets: Float[Array, "M E"],
    sources: Float[Array, "n E"],
    index: Int[Array, "M k"],
) -> Conditionals:
    """Each target given the sources with these indices; -1 is no source.

    Cost O(M R k^3), memory O(M R k), also for derivatives in reverse.
    """

    @jax.checkpoint
    def some(one: tuple[Array, Array]) -> Conditionals:
        target, chosen = one
        live, near = chosen >= 0, sources[jnp.maximum(chosen, 0)]
        size = covariance(target, target)
        cross = jnp.where(live[None], covariance(target[:, None], near), 0.0)
        among = covariance(near[:, :, None], near[:, None])
        # A missing neighbour is a value that is independent of all others.
        own = jnp.eye(k, dtype=among.dtype)[None, None] * size[..., None, None]
        among = jnp.where((live[:, :, None] & live[:, None, :])[None], among, own)
        # Without the jitter, what is known of nearly equal neighbours' differences would have weights without bound.
        rounding = _ROUNDING * jnp.finfo(size.dtype).eps
        steady = (among + rounding * own).reshape(-1, k, k)
        weights = _solve(steady, cross.reshape(-1, k)).reshape(cross.shape)
        # A square, smallest at the exact weights, so that their errors hardly matter.
        left = jnp.sum(weights * (2 * cross - jnp.einsum("rnij,rnj->rni", among, weights)), axis=-1)
        return Conditionals(jnp.moveaxis(weights, 0, 1), jnp.maximum(size - left, rounding * size).T)

    number, k = index.shape
    group = min(number, _GROUP)
    padding = -number % group
    targets = jnp.pad(targets, ((0, padding), (0, 0)), mode="edge")
    index = jnp.pad(index, ((0, padding), (0, 0)), constant_values=-1)
    groups = targets.reshape(-1, group, targets.shape[1]), index.reshape(-1, group, k)
    found = jax.lax.map(some, groups)
    return Conditionals(*(x.reshape(-1, *x.shape[2:])[:number] for x in found))


def _solve(A: Float[Array, "B k k"], right: Float[Array, "B k"]) -> Float[Array, "B k"]:
    """A^-1 right for covariances A; its derivatives are those of the solution and not of the factors."""
    L = one_by_one(cholesky, jax.lax.stop_gradient(A))

    def solved(b: Float[Array, "B k"]) -> Float[Array, "B k"]:
        return one_by_one(lambda root, x: jax.scipy.linalg.cho_solve((root, True), x), L, b)

    first = jax.lax.stop_gradient(solved(right))
    return first + solved(right - jnp.einsum("bij,bj->bi", A, first))
