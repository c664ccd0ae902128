"""Several starts of message passing in one program: their states are one, with an axis of starts in front of arrays.

Small data keep a processor waiting for the next small program; several of them at once take hardly longer than one.
"""

from __future__ import annotations

import equinox as eqx
import jax

from probtensor.compilation import compiled
from probtensor.engines import sweep
from probtensor.engines.sweep import Info, Rule, State
from probtensor.model import BoundModel
from probtensor.observations.domain import Observations
from probtensor.typing import Array, Bool, Float, Int, Key

#: Numbers at entries, those of all starts, beyond which several starts at once gain nothing; and bytes of all arrays.
MOST, MOST_BYTES = 2**17, 2**28


@compiled
def start(model: BoundModel, power: Float[Array, ""], observations: Observations, keys: Key, rule: Rule) -> State:
    """As `sweep.start`, from each of some keys."""
    return eqx.filter_vmap(lambda key: sweep.start(model, power, observations, key, rule))(keys)


@compiled
def sweeps(
    states: State, observations: Observations, learn: Bool[Array, "n"], number: Int[Array, ""]
) -> tuple[State, Info]:
    """As `sweep.sweeps`, of each state."""
    return eqx.filter_vmap(lambda state: sweep.sweeps(state, observations, learn, number))(states)


def one_of(states: State, number: int) -> State:
    """One of the states."""
    return jax.tree.map(lambda leaf: leaf[number] if eqx.is_array(leaf) else leaf, states)
