"""What the chosen model says of hidden gaps: the first, and where these are few more of the same kind."""

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
from probtensor.selection.choice import Candidate
from probtensor.selection.hold_out import HoldOut, another
from probtensor.selection.judging import Predicted
from probtensor.selection.roles import times
from probtensor.terms.local import NEIGHBOURS
from probtensor.typing import Int

#: Of fewer hidden values, error bars that follow them would be as far off as what they are to make right.
FEWEST = 1000
#: So many hold-outs at most, until these are so many gaps.
_HOLD_OUTS, _ENOUGH = 3, 40


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
    best: Candidate,
    first: HoldOut,
    engine: MessagePassing,
    axes: Mapping[str, Axis],
    observations: Observations,
    seed: int,
    note: Callable[[str], None],
) -> Iterator[Held]:
    """Hold-outs with what the best candidate says of them, its numbers known; none where too little is hidden.

    On a grid the candidate says itself what it says of the first. Elsewhere a fit with as many neighbours as the final
    one has does: its variances are smaller.

    Args:
        best: with a local term.
        first: what it was not fitted to.
        engine: of the fits.
        axes: the data's modes.
        observations: all.
        seed: of the others.
        note: is told what is being hidden.
    """
    local, held, gaps = best.state.local, first, 0
    if local is None or best.predicted is None or first.mask.sum() < FEWEST:
        return
    base, along = [name for name, axis in axes.items() if not (axis.parent or axis.parts)], times(axes)
    draws = max(2, len(local.values if local.field is None else local.field.draws))
    engine = dataclasses.replace(engine, restarts=1, power=best.power, draws=draws)
    state, unseen = best.state._replace(local=local._replace(neighbours=NEIGHBOURS)), first.mask
    for number in range(_HOLD_OUTS):
        if number > 0:
            following = another(held, base, observations, seed + number, along)
            if gaps >= _ENOUGH or following is None:
                return
            unseen, held = unseen | following.mask if held.forecast else following.mask, following
        after, predicted = best.state, best.predicted
        if number > 0 or local.field is None:
            note(f"hiding {held.protocol}")
            after = engine.given(state, judging.without(observations, unseen), jax.random.key(seed + number))
            predicted = judging.predicted(after, observations, held.mask)
        yield Held(held, after, predicted)
        gaps += len(np.unique(gap_of(held, observations, along)))
