"""Learning a block's hyper-parameters: gradient ascent on its log-normaliser at given sites."""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from probtensor.hyperparameters import learned_mask, log_prior
from probtensor.priors.base import AbstractModePrior, Belief, Sites
from probtensor.terms.base import Block
from probtensor.typing import Array

#: Steps of each hyper-parameter's logarithm: first, smallest and largest, and how they grow and shrink.
_FIRST, _SMALLEST, _LARGEST, _GROW, _SHRINK = 0.2, 1e-3, 0.5, 1.3, 0.5


class LearningState(NamedTuple):
    """Step sizes and last gradients of one block's learned hyper-parameters (trees like the prior, None where held)."""

    steps: AbstractModePrior
    gradients: AbstractModePrior


def start_learning(prior: AbstractModePrior) -> LearningState:
    """Equal first steps, no memory."""
    learned = eqx.filter(prior, learned_mask(prior))
    return LearningState(
        jax.tree.map(lambda x: jnp.full_like(x, _FIRST), learned), jax.tree.map(jnp.zeros_like, learned)
    )


def _objective(learned: AbstractModePrior, held: AbstractModePrior, points: Array, sites: Sites) -> Array:
    prior = eqx.combine(learned, held)
    return prior.log_normaliser(points, sites) + log_prior(prior)


class _Proposal(NamedTuple):
    """Learned hyper-parameters one step uphill, and the objective that they must reach to be kept."""

    learned: AbstractModePrior
    threshold: Array
    state: LearningState


def _propose(block: Block, sites: Sites, state: LearningState) -> _Proposal:
    """One step uphill.

    Each logarithm moves by its own step in the direction of its gradient's sign; the step grows while the sign holds
    and shrinks when it flips (Riedmiller and Braun 1993), which needs no scale of the objective.
    """
    learned, held = eqx.partition(block.prior, learned_mask(block.prior))
    value, gradient = jax.value_and_grad(_objective)(learned, held, block.points, sites)
    gradient = jax.tree.map(lambda g: jnp.where(jnp.isfinite(g), g, 0.0), gradient)
    agreement = jax.tree.map(jnp.multiply, gradient, state.gradients)

    def resize(step: Array, a: Array) -> Array:
        factor = jnp.where(a > 0, _GROW, jnp.where(a < 0, _SHRINK, 1.0))
        return jnp.clip(step * factor, _SMALLEST, _LARGEST)

    steps = jax.tree.map(resize, state.steps, agreement)
    candidate = jax.tree.map(lambda x, s, g: x + s * jnp.sign(g), learned, steps, gradient)
    return _Proposal(candidate, value, LearningState(steps, gradient))


def update(block: Block, sites: Sites, state: LearningState, learn: Array) -> tuple[Block, Belief, LearningState]:
    """The block's belief under its sites, after a step of its hyper-parameters that is kept only if it gains.

    learn: whether to take the step in this sweep.
    """
    block = Block(block.prior.improve(block.points, sites), block.points)
    learned, held = eqx.partition(block.prior, learned_mask(block.prior))
    if not jax.tree.leaves(learned):
        return block, block.posterior(sites), state
    whatever = jnp.full((), -jnp.inf, sites.eta.dtype)
    proposal = jax.lax.cond(learn, lambda: _propose(block, sites, state), lambda: _Proposal(learned, whatever, state))
    kept, belief = _first_that_gains(proposal, learned, held, block.points, sites)
    shrunk = jax.tree.map(lambda s: jnp.maximum(s * _SHRINK, _SMALLEST), proposal.state.steps)
    steps = jax.tree.map(lambda a, b: jnp.where(kept, a, b), proposal.state.steps, shrunk)
    learned = jax.tree.map(lambda a, b: jnp.where(kept, a, b), proposal.learned, learned)
    return Block(eqx.combine(learned, held), block.points), belief, LearningState(steps, proposal.state.gradients)


def _first_that_gains(
    proposal: _Proposal, before: AbstractModePrior, held: AbstractModePrior, points: Array, sites: Sites
) -> tuple[Array, Belief]:
    """The belief under the proposal, or if that falls short under the hyper-parameters before; and which it is.

    A loop and not two branches, so that the posterior's long program is compiled once.
    """

    def belief_under(kept: Array) -> tuple[Array, Belief]:
        learned = jax.tree.map(lambda a, b: jnp.where(kept, a, b), proposal.learned, before)
        prior = eqx.combine(learned, held)
        belief = prior.posterior(points, sites)
        return belief.log_normaliser + log_prior(prior), belief

    def falls_short(carry: tuple[Array, Array, Array, Belief]) -> Array:
        number, _, value, _ = carry
        return (number == 0) | ((number == 1) & ~(value >= proposal.threshold))

    def attempt(carry: tuple[Array, Array, Array, Belief]) -> tuple[Array, Array, Array, Belief]:
        number = carry[0]
        value, belief = belief_under(number == 0)
        return number + 1, number == 0, value, belief

    shapes = jax.eval_shape(belief_under, jnp.ones((), bool))
    value, belief = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    start = (jnp.zeros((), int), jnp.ones((), bool), value, belief)
    _, kept, _, belief = jax.lax.while_loop(falls_short, attempt, start)
    return kept, belief
