"""Where the beliefs of a term's blocks start."""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from probtensor.priors.base import Belief, empty_sites
from probtensor.terms.base import Block
from probtensor.typing import Array, Float, Key

#: Variance of random functions around their random means, in units of the means' scale squared.
_START_VARIANCE = 0.1
#: Standard deviation of the normal part of a start's means, beside the uniform part on [0, 1].
_NORMAL_SHARE = 0.3


def positive_starts(
    key: Key, blocks: Sequence[Block], ranks: Sequence[int], scales: Sequence[float | Float[Array, ""]]
) -> tuple[Belief, ...]:
    """Random values of R functions of each block, white and mostly positive, which the first sweep smooths.

    With one sign the block updated first sees the mean of the data along its own mode, and not that mean with signs
    drawn at random for every entry (rough functions of many levels do not recover from those). With one sign alone it
    would see nothing of data whose mean along that mode is zero, and the term would stay at zero.

    Args:
        key: of all blocks.
        blocks: whose beliefs start.
        ranks: R of each.
        scales: of each; at 0 its belief is exactly zero, and so is a term that is linear in it.
    """
    shapes = [(block.points.shape[0], rank) for block, rank in zip(blocks, ranks, strict=True)]
    dtype, most = blocks[0].points.dtype, max(map(math.prod, shapes))

    def white(key: Key) -> Float[Array, "most"]:
        first, second = jax.random.split(key)
        return jax.random.uniform(first, (most,), dtype) + _NORMAL_SHARE * jax.random.normal(second, (most,), dtype)

    # Of one size for all, since a generator is a long program.
    drawn = jax.vmap(white)(jax.random.split(key, len(blocks)))
    means = [own[: math.prod(shape)].reshape(shape) for own, shape in zip(drawn, shapes, strict=True)]
    return tuple(map(_around, blocks, means, scales))


def _around(block: Block, mean: Float[Array, "T R"], scale: float | Float[Array, ""]) -> Belief:
    (T, rank), dtype = mean.shape, mean.dtype
    scale, zero, sites = jnp.asarray(scale, dtype), jnp.zeros((), dtype), empty_sites(T, rank, dtype)
    cov = jnp.broadcast_to(_START_VARIANCE * scale**2 * jnp.eye(rank, dtype=dtype), sites.precision.shape)
    return Belief(scale * mean, cov, zero, zero, block.points, sites)
