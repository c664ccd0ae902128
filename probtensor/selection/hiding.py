"""What a fit's numbers say of hidden gaps: of those that its model was chosen on, and where these are few of more."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from probtensor.axes import Axis
from probtensor.engines.message_passing import MessagePassing
from probtensor.engines.sweep import State
from probtensor.evaluation.calibration import gap_numbers
from probtensor.observations.domain import Observations
from probtensor.observations.layout import Points
from probtensor.selection import judging
from probtensor.selection.hold_out import HoldOut, another
from probtensor.selection.judging import Predicted
from probtensor.selection.roles import times
from probtensor.typing import Int

#: Of fewer hidden values, error bars that follow them would be as far off as what they are to make right.
_FEWEST = 1000
#: So many hold-outs at most, until these are so many gaps.
_HOLD_OUTS, _ENOUGH = 3, 40
#: From so many observations a fit takes many minutes, and there is one.
_MANY = 250_000
#: Draws of their fits; on a grid each is a right side more to solve for.
_DRAWS, _DRAWS_ON_GRID = 8, 4


class Held(NamedTuple):
    """What was held out, a state that was fitted without it, and what this says of it."""

    out: HoldOut
    state: State
    predicted: Predicted

    @property
    def rows(self) -> Int[np.ndarray, "E"]:
        """Of the held-out entries among all."""
        return np.flatnonzero(self.out.mask)


def gap_of(held: HoldOut, observations: Observations, along: Sequence[str]) -> Int[np.ndarray, "E"]:
    """The number of the gap that each held-out value is in.

    All of a forecast are in one. Of a table those are that differ in times alone (along); it does not say what touches.
    """
    if held.forecast is not None:
        return np.zeros(int(held.mask.sum()), dtype=int)
    layout = observations.domain.layout
    if isinstance(layout, Points):
        index, when = np.asarray(layout.index)[held.mask], [observations.domain.place(name) for name in along]
        where = [column for column in range(index.shape[1]) if column not in when]
        return np.unique(index[:, where] if where else index, axis=0, return_inverse=True)[1].ravel()
    return gap_numbers(held.mask)


def hidden(
    state: State,
    first: HoldOut,
    engine: MessagePassing,
    axes: Mapping[str, Axis],
    observations: Observations,
    seed: int,
    note: Callable[[str], None] = lambda text: None,
) -> Iterator[Held]:
    """Hold-outs with what a fit says of them that has the state's numbers; none where too little is hidden.

    Args:
        state: fitted to all observations, with a local term.
        first: the first of them.
        engine: of the fits.
        axes: of the coordinates.
        observations: all.
        seed: of the others.
        note: is told what is being hidden.
    """
    if state.local is None or first.mask.sum() < _FEWEST:
        return
    along, held, unseen, gaps = times(axes), first, first.mask, 0
    engine = dataclasses.replace(engine, restarts=1, draws=_DRAWS if state.local.field is None else _DRAWS_ON_GRID)
    for number in range(_HOLD_OUTS):
        if number > 0:
            following = another(held, tuple(axes), observations, seed + number, along)
            if gaps >= _ENOUGH or following is None or observations.count > _MANY:
                return
            unseen, held = unseen | following.mask if held.forecast else following.mask, following
        note(f"for the error bars hiding {held.protocol}")
        after = engine.given(state, judging.without(observations, unseen), jax.random.key(seed + number))
        yield Held(held, after, judging.predicted(after, observations, held.mask))
        gaps += len(np.unique(gap_of(held, observations, along)))
