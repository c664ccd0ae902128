"""Learning a block's hyper-parameters: gradient ascent on its log-normaliser at given sites."""

from __future__ import annotations

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from probtensor.engines.components import posterior_by_component
from probtensor.hyperparameters import learned_mask, log_prior, resolutions
from probtensor.priors.base import AbstractModePrior, Belief, Sites
from probtensor.terms.base import Block
from probtensor.typing import Array, Float

#: Steps of each hyper-parameter's logarithm, in units of its resolution: first, smallest and largest, and how they grow
#: and shrink.
_FIRST, _SMALLEST, _LARGEST, _GROW, _SHRINK = 0.2, 1e-3, 0.5, 1.3, 0.5


class LearningState(NamedTuple):
    """Step sizes and last gradients of one block's learned hyper-parameters (trees like the prior, None where held).

    Steps are in units of the hyper-parameters' resolution.
    """

    steps: AbstractModePrior
    gradients: AbstractModePrior


def start_learning(prior: AbstractModePrior) -> LearningState:
    """Equal first steps, no memory."""
    learned = eqx.filter(prior, learned_mask(prior))
    return LearningState(
        jax.tree.map(lambda x: jnp.full_like(x, _FIRST), learned), jax.tree.map(jnp.zeros_like, learned)
    )


class _Proposal(NamedTuple):
    """Learned hyper-parameters to try, and the step sizes and gradients that led there."""

    learned: AbstractModePrior
    state: LearningState


class _Best(NamedTuple):
    """Of the hyper-parameters tried so far the best, with its belief and evidence, and what to try next.

    gains: whether the last attempt was the best.
    """

    learned: AbstractModePrior
    belief: Belief
    value: Array
    proposal: _Proposal
    gains: Array


def _uphill(
    learned: AbstractModePrior, units: AbstractModePrior, gradient: AbstractModePrior, state: LearningState
) -> _Proposal:
    """One step uphill.

    Each logarithm moves by its own step in the direction of its gradient's sign; the step grows while the sign holds
    and shrinks when it flips (Riedmiller and Braun 1993), which needs no scale of the objective.
    """
    gradient = jax.tree.map(lambda g: jnp.where(jnp.isfinite(g), g, 0.0), gradient)
    agreement = jax.tree.map(jnp.multiply, gradient, state.gradients)

    def resize(step: Array, a: Array) -> Array:
        factor = jnp.where(a > 0, _GROW, jnp.where(a < 0, _SHRINK, 1.0))
        return jnp.clip(step * factor, _SMALLEST, _LARGEST)

    steps = jax.tree.map(resize, state.steps, agreement)
    learned = jax.tree.map(lambda x, u, s, g: x + u * s * jnp.sign(g), learned, units, steps, gradient)
    return _Proposal(learned, LearningState(steps, gradient))


def update(
    block: Block,
    sites: Sites,
    state: LearningState,
    learn: Array,
    mean: Float[Array, "T R"],
    by_component: bool = False,
) -> tuple[Block, Belief, LearningState]:
    """The block's belief under its sites, after a step of its hyper-parameters that is kept only if it gains.

    learn: whether to take the step in this sweep; mean: of the belief so far; by_component: whether the block's
    functions are independent under its belief, each at its optimum given the others in turn.
    """
    apart = by_component and mean.shape[1] > 1

    def posterior(prior: AbstractModePrior, sites: Sites) -> Belief:
        if not apart:
            return prior.posterior(block.points, sites)
        return posterior_by_component(prior, block.points, sites, mean)

    block = Block(block.prior.improve(block.points, sites), block.points)
    mask = learned_mask(block.prior)
    learned, held = eqx.partition(block.prior, mask)
    units = eqx.filter(resolutions(block.prior), mask)
    if not jax.tree.leaves(learned):
        return block, posterior(block.prior, sites), state

    def evidence(learned: AbstractModePrior) -> tuple[Array, Belief]:
        prior = eqx.combine(learned, held)
        belief = posterior(prior, sites)
        return belief.log_normaliser + log_prior(prior), belief

    def attempt(number: Array, best: _Best) -> _Best:
        value, pull, belief = jax.vjp(evidence, best.proposal.learned, has_aux=True)
        first = number == 0
        gains = first | (value >= best.value)
        proposal = jax.lax.cond(
            learn & first,
            lambda: _uphill(best.proposal.learned, units, pull(jnp.ones_like(value))[0], best.proposal.state),
            lambda: best.proposal,
        )
        found = _Best(best.proposal.learned, belief, value, proposal, gains)
        return jax.tree.map(
            lambda new, old: jnp.where(gains, new, old), found, best._replace(proposal=proposal, gains=gains)
        )

    # Of the shapes that `posterior` gives, without tracing its long program once more to see them.
    zero = jnp.zeros((), sites.eta.dtype)
    seen = sites.about(None) if apart else sites
    unread = Belief(jnp.zeros_like(sites.eta), jnp.zeros_like(sites.precision), zero, zero, block.points, seen)
    # A loop and not one evaluation after the other, so that the posterior's long program is compiled once.
    start = _Best(learned, unread, unread.log_normaliser, _Proposal(learned, state), jnp.ones((), bool))
    best = jax.lax.fori_loop(0, 1 + learn.astype(int), attempt, start)
    steps, gradients = best.proposal.state
    steps = jax.tree.map(lambda s: jnp.where(best.gains, s, jnp.maximum(s * _SHRINK, _SMALLEST)), steps)
    return Block(eqx.combine(best.learned, held), block.points), best.belief, LearningState(steps, gradients)
