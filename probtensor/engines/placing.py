"""Where a domain needs a term's functions, at levels that the data have and at others; and their marginals there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from probtensor.compilation import compiled, on_device, padded, shared_size
from probtensor.observations.domain import Domain
from probtensor.observations.levels import Found, find
from probtensor.priors.base import AbstractModePrior, Belief, Marginals
from probtensor.terms.base import AbstractBoundTerm
from probtensor.typing import Array, Float, Int


class Asked(NamedTuple):
    """Where a block's functions are needed: places among its levels or behind them, and the marginals of the latter."""

    places: Int[Array, "M"]
    others: Marginals | None

    def marginals(self, belief: Belief) -> Marginals:
        """The marginals there."""
        mean, cov = belief.marginals
        if self.others is not None:
            mean, cov = jnp.concatenate([mean, self.others.mean]), jnp.concatenate([cov, self.others.cov])
        return Marginals(mean[self.places], cov[self.places])


def asked(term: AbstractBoundTerm, beliefs: Sequence[Belief], domain: Domain) -> tuple[Asked, ...]:
    """For each block where a domain needs its functions. On the host, with sizes padded to share programs."""
    out = []
    for block, belief, found in zip(term.blocks, beliefs, placed(term, domain), strict=True):
        others = None
        if len(found.others):
            points = on_device(padded(found.others, shared_size(len(found.others))))
            others = _elsewhere(block.prior, belief, points)
        out.append(Asked(on_device(found.levels), others))
    return tuple(out)


def placed(term: AbstractBoundTerm, domain: Domain) -> tuple[Found, ...]:
    """For each block, `block_points` of the domain among the block's own points."""
    pairs = zip(term.blocks, _block_points(term, domain), strict=True)
    return tuple(find(np.asarray(block.points), np.asarray(points)) for block, points in pairs)


@compiled
def _elsewhere(prior: AbstractModePrior, belief: Belief, points: Float[Array, "U ..."]) -> Marginals:
    return prior.predict(belief, points)


@compiled
def _block_points(term: AbstractBoundTerm, domain: Domain) -> tuple[Float[Array, "M ..."], ...]:
    return term.block_points(domain)
