"""A call of `fit` whose arguments were checked and read."""

from __future__ import annotations

from typing import Any, NamedTuple

from probtensor.engines.base import AbstractEngine
from probtensor.labelled.encoded import Encoded
from probtensor.likelihoods.base import AbstractLikelihood


class Request(NamedTuple):
    """What is to be fitted to what.

    Attributes:
        encoded: the data.
        model: as given: terms, or what is to be chosen.
        likelihood: of the observations.
        engine: that fits.
        seed: of all that is random.
        init: a posterior or a decomposition to begin with; None: afresh.
    """

    encoded: Encoded
    model: Any
    likelihood: AbstractLikelihood
    engine: AbstractEngine
    seed: int
    init: Any
