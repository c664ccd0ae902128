"""Where the beliefs of a term's blocks start."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from probtensor.priors.base import Belief, empty_sites
from probtensor.terms.base import Block
from probtensor.typing import Array, Float, Key

#: Variance of random functions around their random means, in units of the means' scale squared.
_START_VARIANCE = 0.1
#: Standard deviation of the normal part of a start's means, beside the uniform part on [0, 1].
_NORMAL_SHARE = 0.3


def positive_start(key: Key, block: Block, rank: int, scale: float | Float[Array, ""]) -> Belief:
    """Random values of R functions, white and mostly positive, which the first sweep smooths.

    With one sign the block updated first sees the mean of the data along its own mode, and not that mean with signs
    drawn at random for every entry (rough functions of many levels do not recover from those). With one sign alone it
    would see nothing of data whose mean along that mode is zero, and the term would stay at zero.

    scale: at 0 the block's belief is exactly zero, and so is a term that is linear in it.
    """
    T, dtype = block.points.shape[0], block.points.dtype
    scale = jnp.asarray(scale, dtype)
    zero, sites = jnp.zeros((), dtype), empty_sites(T, rank, dtype)
    first, second = jax.random.split(key)
    mean = jax.random.uniform(first, (T, rank), dtype) + _NORMAL_SHARE * jax.random.normal(second, (T, rank), dtype)
    cov = jnp.broadcast_to(_START_VARIANCE * scale**2 * jnp.eye(rank, dtype=dtype), sites.precision.shape)
    return Belief(scale * mean, cov, zero, zero, block.points, sites)
