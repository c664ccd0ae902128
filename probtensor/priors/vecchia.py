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
#: So many rounding errors of its variance are added to a function as noise of its own at every place.
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
        nugget = _ROUNDING * jnp.finfo(size.dtype).eps
        among = (among + nugget * own).reshape(-1, k, k)
        weights, known = _explained(among, cross.reshape(-1, k))
        variance = jnp.maximum((1 + nugget) * size - known.reshape(size.shape), nugget * size)
        return Conditionals(jnp.moveaxis(weights.reshape(cross.shape), 0, 1), variance.T)

    number, k = index.shape
    group = min(number, _GROUP)
    padding = -number % group
    targets = jnp.pad(targets, ((0, padding), (0, 0)), mode="edge")
    index = jnp.pad(index, ((0, padding), (0, 0)), constant_values=-1)
    groups = targets.reshape(-1, group, targets.shape[1]), index.reshape(-1, group, k)
    found = jax.lax.map(some, groups)
    return Conditionals(*(x.reshape(-1, *x.shape[2:])[:number] for x in found))


def _explained(A: Float[Array, "B k k"], right: Float[Array, "B k"]) -> tuple[Array, Array]:
    """w = A^-1 right for covariances A, and w' A w.

    The derivatives are those of the solution and not of the factors. The second number is a sum of squares that fits
    these very weights, which nearly equal neighbours make large and opposite: then the target's variance, what is left
    of it and what the neighbours give, is right to a rounding error times the weights and not their squares.
    """
    L = one_by_one(cholesky, jax.lax.stop_gradient(A))

    def solved(b: Float[Array, "B k"]) -> Float[Array, "B k"]:
        return one_by_one(lambda root, x: jax.scipy.linalg.cho_solve((root, True), x), L, b)

    first = jax.lax.stop_gradient(solved(right))
    weights = first + solved(right - jnp.einsum("bij,bj->bi", A, first))
    known = jnp.einsum("bi,bij,bj->b", weights, A, weights)
    square = jnp.sum(jnp.einsum("bij,bi->bj", L, jax.lax.stop_gradient(weights)) ** 2, axis=1)
    return weights, square + known - jax.lax.stop_gradient(known)
