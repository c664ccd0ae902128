"""Where a domain needs a term's functions: at levels that the data have, and at others."""

from __future__ import annotations

import numpy as np

from probtensor.compilation import compiled
from probtensor.observations.domain import Domain
from probtensor.observations.levels import Found, find
from probtensor.terms.base import AbstractBoundTerm
from probtensor.typing import Array, Float


def placed(term: AbstractBoundTerm, domain: Domain) -> tuple[Found, ...]:
    """For each block, `block_points` of the domain among the block's own points."""
    pairs = zip(term.blocks, _block_points(term, domain), strict=True)
    return tuple(find(np.asarray(block.points), np.asarray(points)) for block, points in pairs)


@compiled
def _block_points(term: AbstractBoundTerm, domain: Domain) -> tuple[Float[Array, "M ..."], ...]:
    return term.block_points(domain)
