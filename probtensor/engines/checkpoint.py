"""How far message passing is between two blocks of sweeps, so that a fit that was cut off can go on from there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from probtensor.engines.base import Fit
from probtensor.engines.sweep import State
from probtensor.errors import ModelError


class Loop(NamedTuple):
    """Sweeps from one start, between two blocks.

    Attributes:
        state: what the next sweep needs.
        begun: seconds that the start took.
        objective: after each sweep so far, in nats.
        laps: seconds of each block.
        counts: sweeps of each block.
        kept: share of the last block's sweeps that were not taken back.
    """

    state: State
    begun: float = 0.0
    objective: tuple[float, ...] = ()
    laps: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    kept: float = 1.0

    def after(self, state: State, objective: Sequence[float], lap: float, kept: float = 1.0) -> Loop:
        """The loop after one block more. Raises ModelError unless the objective is finite."""
        if not np.isfinite(objective[-1]):
            raise ModelError(
                f"the objective is not finite after sweep {len(self.objective) + len(objective)}. Likely causes: "
                "values of very different magnitude (rescale the data), or a held hyper-parameter far from the data's "
                "scale (check pt.fixed values and units)."
            )
        total, laps, counts = (*self.objective, *objective), (*self.laps, lap), (*self.counts, len(objective))
        return Loop(state, self.begun, total, laps, counts, kept)


class Abreast(NamedTuple):
    """Sweeps from several starts in one program, between two blocks.

    Attributes:
        states: what the next sweep needs, with an axis of starts in front.
        begun: seconds that a start took.
        objectives: of each start, after each sweep so far, in nats.
        laps: seconds of each block, a start's share.
        counts: sweeps of each block.
        fits: of each start that has ended, None of others.
    """

    states: State
    begun: float
    objectives: tuple[tuple[float, ...], ...]
    laps: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    fits: tuple[Fit | None, ...] = ()

    def loop(self, number: int) -> Loop:
        """One of the starts; its state is that of all."""
        return Loop(self.states, self.begun, self.objectives[number], self.laps, self.counts)


class Checkpoint(NamedTuple):
    """All that a fit needs to go on; its random numbers follow from the seed, and which start is next from these.

    Attributes:
        finished: the loops that have ended, in their order: one for each start, or two where a start has two rules.
        loop: the next one, where it has begun.
        abreast: all of them, where they are swept by one program.
    """

    finished: tuple[Fit, ...] = ()
    loop: Loop | None = None
    abreast: Abreast | None = None


class Journal:
    """Gives a fit what a checkpoint has of it, and hands on how far it is after each block of sweeps."""

    def __init__(
        self, found: Checkpoint = Checkpoint(), keep: Callable[[Checkpoint], None] = lambda checkpoint: None
    ) -> None:
        self._found, self._keep = found, keep
        self._finished: list[Fit] = []

    def ended(self, begin: Callable[[], Loop], go_on: Callable[[Loop], Fit]) -> Fit:
        """The end of the next loop: as found, or made from where it was found, or from its begin."""
        number, found = len(self._finished), self._found
        if number < len(found.finished):
            fit = found.finished[number]
        elif number == len(found.finished) and found.loop is not None:
            fit = go_on(found.loop)
        else:
            fit = go_on(begin())
        self._finished.append(fit)
        return fit

    def begun(self, begin: Callable[[], Abreast]) -> Abreast:
        """All starts side by side: as found, or at their begin."""
        return begin() if self._found.abreast is None else self._found.abreast

    def note(self, loop: Loop | Abreast) -> None:
        """After a block of sweeps."""
        if isinstance(loop, Abreast):
            self._keep(Checkpoint(abreast=loop))
        else:
            self._keep(Checkpoint(tuple(self._finished), loop))
