"""Learning one number of a likelihood where there is no closed form."""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp

from probtensor.hyperparameters import Parameter
from probtensor.typing import Array, Float

#: Steps of the logarithm that are compared; the best is taken.
_STEPS = (-1.0, -0.3, -0.1, -0.03, -0.01, 0.0, 0.01, 0.03, 0.1, 0.3, 1.0)


def climb(
    parameter: Parameter, objective: Callable[[Float[Array, ""]], Float[Array, ""]], limits: tuple[float, float]
) -> Parameter:
    """The best of some steps up and down, prior included, and of staying; one after the other, so memory stays small.

    limits: between which the value stays.
    """
    low, high = limits

    def tried(step: Array) -> Parameter:
        value = jnp.clip(jnp.exp(parameter.raw + step), low, high)
        # Staying is exactly that, also for a start outside the limits.
        return eqx.tree_at(lambda p: p.raw, parameter, jnp.where(step == 0, parameter.raw, jnp.log(value)))

    def gain(step: Array) -> Array:
        one = tried(step)
        return objective(one.value[0]) + one.log_prior()

    steps = jnp.asarray(_STEPS, parameter.raw.dtype)
    best = jnp.argmax(jax.lax.map(gain, steps))
    return tried(steps[best])
