"""Small models with a local term, bound to data, for the tests of the joint fit."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from probtensor.engines.collapsed.entries import Training, training
from probtensor.engines.collapsed.signal import Signal
from probtensor.kernels.field import FieldSum
from probtensor.labelled.encode import encode
from probtensor.likelihoods.gaussian import Gaussian
from probtensor.model import BoundModel, as_sum, bind
from probtensor.observations.domain import Observations
from probtensor.terms.local import BoundLocal
from probtensor.terms.scale import scale_of


class Problem(NamedTuple):
    """A bound model, its data, and the signal of the terms with blocks at the training entries."""

    model: BoundModel
    observations: Observations
    data: Training
    signal: Signal

    @property
    def kernel(self):
        """Of all local terms together."""
        return FieldSum(tuple(t.kernel for t in self.model.terms if isinstance(t, BoundLocal)))

    def dense(self, a, b):
        """The local kernel's matrix."""
        return np.asarray(self.kernel.covariance(jnp.asarray(a)[:, None], jnp.asarray(b)[None]))


def problem(data, model) -> Problem:
    """What a fit makes of data and a declared model before its first step."""
    encoded, declared = encode(data), as_sum(model)
    modes = declared.mode_names(tuple(encoded.coordinates))
    observations = encoded.observations(modes)
    bound = bind(declared, encoded.axes(modes), Gaussian(), scale_of(observations))
    ranks = tuple(tuple(_functions(term, block) for block in term.blocks) for term in bound.terms)
    found = training(observations, tuple(encoded.coordinates), tuple(encoded.coordinates))
    return Problem(bound, observations, found, Signal(bound.terms, ranks, observations.domain, found.rows))


def _functions(term, block) -> int:
    """The number of functions of a block: an offset has one, a CP its rank."""
    return getattr(term, "rank", 1)
