"""Where the beliefs of a term's blocks start."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from probtensor.priors.base import Belief, empty_sites
from probtensor.terms.base import Block
from probtensor.typing import Array, Float, Key

#: Variance of random functions around their random means, in units of the means' variance.
_START_VARIANCE = 0.1


def white_noise(key: Key, block: Block, rank: int, sd: float | Float[Array, ""]) -> Belief:
    """White random values of R functions, which the first sweep smooths.

    sd: of the values; at 0 the block's belief is exactly zero, and so is a term that is linear in it.
    """
    T, dtype = block.points.shape[0], block.points.dtype
    sd = jnp.asarray(sd, dtype)
    zero, sites = jnp.zeros((), dtype), empty_sites(T, rank, dtype)
    mean = sd * jax.random.normal(key, (T, rank), dtype)
    cov = jnp.broadcast_to(_START_VARIANCE * sd**2 * jnp.eye(rank, dtype=dtype), sites.precision.shape)
    return Belief(mean, cov, zero, zero, block.points, sites)
