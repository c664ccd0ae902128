"""How a posterior was made."""

from __future__ import annotations

from typing import NamedTuple

from probtensor.engines.base import AbstractEngine, Fit
from probtensor.labelled.memory import Memory
from probtensor.selection.choice import Choice
from probtensor.selection.rank import Growth
from probtensor.terms.base import Sum


class Made(NamedTuple):
    """What is known beside the fitted state.

    Attributes:
        model: the terms, as written or as chosen.
        engine: how it was fitted.
        choice: what ``model="auto"`` or ``rank="auto"`` tried and chose; None for a model with all its ranks.
        seed: of the fit.
        result: what the engine says of the fit.
        memory: the most that was in use when it was done; None: not known, as in stores of version 0.1.
    """

    model: Sum
    engine: AbstractEngine
    choice: Choice | Growth | None
    seed: int
    result: Fit
    memory: Memory | None = None
