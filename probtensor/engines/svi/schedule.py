"""Which observations a step of stochastic inference reads, how much it forgets and what it learns.

A warm-up forgets: what the first batches said was computed from beliefs that meant nothing. Its memory grows in
proportion to the steps made, so that step t forgets a share a / (t + a), a Robbins-Monro sequence. Passes over all
observations follow, in which every batch replaces what the pass before had of it and nothing else is forgotten, as long
as they gain. When they do not any more, or a quarter of the passes is left, the last ones replace a half of it, a
third, a fourth: their mean, which averages out what is left of sampling noise. (Shares that shrink from the start, like
5 / passes, are 15 whole passes in 40, which is too few: on 500 simulated observations they ended 10 to 20 nats below
the optimum.)

Source of the averaging: Polyak and Juditsky 1992, Acceleration of stochastic approximation by averaging.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from probtensor.observations.sources import AbstractBatches, AbstractDealt, Columns
from probtensor.typing import Array, Bool, Float, Int

#: After t steps the warm-up remembers about t / _GROWTH batches.
_GROWTH = 10
#: Steps of the warm-up: so many at least, and at least one pass.
_LEAST = 60
#: Without a belief values are read by themselves in the first steps, and hyper-parameters stand still in these.
_FRESH, _QUIET = 10, 20
#: Hyper-parameters step in every so many steps.
_EVERY = 2
#: Passes that are averaged at the end: this share of all, and so many at least.
_AVERAGED, _AVERAGED_LEAST = 0.25, 5
#: In passes, parameters of the likelihood remember the batches of so many passes, of more in later ones.
_REMEMBERED = 1.0


class Plan(NamedTuple):
    """What steps do, an entry for each step.

    Attributes:
        keep: share of the sums so far that is kept; below 1 only in the warm-up.
        turn: whether a new pass begins.
        new: share of a batch's own messages in those that replace the pass before's.
        move: how far the likelihood's parameters move towards those of the batch.
        fresh: whether the likelihood reads its values without a belief.
        learn: whether kernels' hyper-parameters step.
    """

    keep: Float[Array, "n"]
    turn: Bool[Array, "n"]
    new: Float[Array, "n"]
    move: Float[Array, "n"]
    fresh: Bool[Array, "n"]
    learn: Bool[Array, "n"]


class Schedule:
    """The steps of one fit, block after block.

    Args:
        source: of the observations.
        batch_size: entries of a batch.
        steps: at most.
        warm: whether it goes on from a state, and needs no warm-up.
        random: draws the order of each pass.
    """

    def __init__(
        self, source: AbstractDealt, batch_size: int, steps: int, warm: bool, random: np.random.Generator
    ) -> None:
        self.source, self.batch_size, self.warm, self._random = source, batch_size, warm, random
        self.batches = -(-source.count // batch_size)
        self.warm_up = 0 if warm else warm_up(self.batches, steps)
        # Within a pass beliefs lean towards the batches that were seen last, so that the last pass is a whole one.
        passes = (steps - self.warm_up) // self.batches
        self.steps = self.warm_up + passes * self.batches if passes > 0 else steps
        whole = passes - self._averaged(passes)
        self.averages_from = self.warm_up + max(whole, min(passes, 1)) * self.batches
        self._stream = self._passes()

    def length(self, made: int, most: int) -> int:
        """Steps of the next block after so many: to the end of the warm-up, of a pass or of some, if these are few."""
        left = self.warm_up - made
        if left <= 0:
            left = self.batches - -left % self.batches
            left += (most - left) // self.batches * self.batches if left <= most else 0
        return min(left, most, self.steps - made)

    def block(self, first: int, number: int, length: int) -> tuple[Plan, AbstractBatches]:
        """So many steps from ``first`` on with their batches, padded to a length that a program is compiled for."""
        t = np.arange(first, first + length)
        passing = t - self.warm_up
        forget = np.where(passing < 0, _GROWTH / (t + _GROWTH), 0.0)
        new = self.new(t)
        towards = np.minimum(1.0, new / (_REMEMBERED * self.batches))
        made = np.arange(length) < number
        quiet = 0 if self.warm else _quiet(self.batches)
        # The last step of a block learns nothing, so that its beliefs belong to the hyper-parameters it ends with.
        learn = (t >= quiet) & (t % _EVERY == 1) & made & (np.arange(length) != number - 1)
        batches = []
        for k in range(number):
            if first + k == self.warm_up:
                self._stream = self._passes()
            batches.append(next(self._stream))
        plan = Plan(
            jnp.asarray(1.0 - forget),
            jnp.asarray((passing >= 0) & (passing % self.batches == 0)),
            jnp.asarray(new),
            jnp.asarray(np.where(passing < 0, forget, towards)),
            jnp.asarray((t < min(_FRESH, self.batches)) & (not self.warm)),
            jnp.asarray(learn),
        )
        return plan, self.source.stacked(batches, self.batch_size, length)

    def settle(self, made: int) -> None:
        """Passes gain nothing any more after so many steps: what follows is averaged, and then it ends."""
        passes = self._averaged(round((made - self.warm_up) / self.batches / (1 - _AVERAGED)))
        self.averages_from, self.steps = made, min(self.steps, made + passes * self.batches)

    def _averaged(self, passes: int) -> int:
        """Of so many passes; one batch of everything needs no averaging."""
        return 0 if self.batches == 1 else max(round(_AVERAGED * passes), _AVERAGED_LEAST)

    def new(self, t: Int[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
        """The share of new messages in each step."""
        averaged = (t - self.averages_from) // self.batches
        return 1.0 / (np.maximum(averaged, -1) + 2)

    def _passes(self) -> Iterator[Columns]:
        """Every entry once, in random order, again and again."""
        while True:
            yield from self.source.shuffled(self.batch_size, self._random)


def _quiet(batches: int) -> int:
    """Steps without learning; a batch of everything needs as few as a sweep."""
    return min(_QUIET, 6 * batches)


def warm_up(batches: int, steps: int) -> int:
    """Steps that forget: none for one batch; memory never outgrows the observations; a third of all steps at most."""
    if batches == 1:
        return 0
    return min(max(batches, _LEAST), (_GROWTH + 1) * batches, steps // 3)
