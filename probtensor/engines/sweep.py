"""One sweep of variational message passing: every block of every term, then the noise."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from probtensor.compilation import compiled
from probtensor.engines.learning import LearningState, start_learning, update
from probtensor.hyperparameters import log_prior
from probtensor.model import BoundModel
from probtensor.observations.domain import Observations
from probtensor.priors.base import Belief
from probtensor.terms.base import AbstractBoundTerm
from probtensor.typing import Array, Float, Int, Key

if TYPE_CHECKING:
    from probtensor.engines.collapsed.fit import Local

Beliefs = tuple[tuple[Belief, ...], ...]


class State(NamedTuple):
    """What the next sweep needs: the model with its current hyper-parameters, and a belief for each block.

    power: exponent of the likelihood, see `MessagePassing`.
    local: the fitted local part of a model with a `Local` term; the beliefs then only summarise its draws.
    """

    model: BoundModel
    power: Float[Array, ""]
    beliefs: Beliefs
    learning: tuple[tuple[LearningState, ...], ...]
    local: Local | None = None


class Info(NamedTuple):
    """What a person reads of a sweep.

    elbo: evidence lower bound plus the log prior of the learned hyper-parameters, in nats.
    noise_variance: of an observation with weight 1.
    """

    elbo: Float[Array, ""]
    noise_variance: Float[Array, ""]


@compiled
def start(model: BoundModel, power: Float[Array, ""], observations: Observations, key: Key) -> State:
    """Beliefs drawn from the priors."""
    keys = jax.random.split(key, len(model.terms))
    beliefs = tuple(t.initial(k, observations.domain) for t, k in zip(model.terms, keys, strict=True))
    learning = tuple(tuple(start_learning(b.prior) for b in t.blocks) for t in model.terms)
    return State(model, power, beliefs, learning)


def term_mean(term: AbstractBoundTerm, beliefs: tuple[Belief, ...], observations: Observations) -> Array:
    """Mean of a term at every training entry."""
    return term.mean(term.training_marginals(beliefs, observations.domain), observations.domain)


def _update_term(
    term: AbstractBoundTerm,
    beliefs: tuple[Belief, ...],
    learning: tuple[LearningState, ...],
    observations: Observations,
    residual: Array,
    precision: Array,
    learn: Array,
) -> tuple[AbstractBoundTerm, tuple[Belief, ...], tuple[LearningState, ...]]:
    beliefs_now, learning_now = list(beliefs), list(learning)
    priors = [b.prior for b in term.blocks]
    for k, block in enumerate(term.blocks):
        sites = term.sites(k, beliefs_now, observations, residual).times(precision)
        learned, beliefs_now[k], learning_now[k] = update(block, sites, learning_now[k], learn)
        priors[k] = learned.prior
    return term.with_priors(priors), tuple(beliefs_now), tuple(learning_now)


def sweep(state: State, observations: Observations, learn: Array) -> tuple[State, Info]:
    """Updates every block given the others, each to the exact optimum of the objective at the current noise.

    learn: whether kernel hyper-parameters take a step. The noise is learned in every sweep.
    """
    model, power, beliefs, learning, _ = state
    terms, beliefs_now, learning_now = list(model.terms), list(beliefs), list(learning)
    means = [term_mean(t, b, observations) for t, b in zip(terms, beliefs, strict=True)]
    for j, term in enumerate(terms):
        residual = observations.values - sum((m for i, m in enumerate(means) if i != j), start=0.0)
        terms[j], beliefs_now[j], learning_now[j] = _update_term(
            term, beliefs[j], learning[j], observations, residual, power * model.likelihood.precision, learn
        )
        means[j] = term_mean(terms[j], beliefs_now[j], observations)
    residual = observations.values - sum(means[1:], start=means[0])
    squares = jnp.sum(observations.weights * residual**2)
    for term, belief in zip(terms, beliefs_now, strict=True):
        squares = squares + term.total_variance(belief, observations)
    likelihood = model.likelihood.learn(squares, observations.weights)
    model = BoundModel(tuple(terms), likelihood)
    elbo = power * likelihood.expected_log_likelihood(squares, observations.weights) + log_prior(model.terms)
    for block_belief in (b for term_beliefs in beliefs_now for b in term_beliefs):
        elbo = elbo - block_belief.kl
    return State(model, power, tuple(beliefs_now), tuple(learning_now)), Info(elbo, likelihood.variance)


@compiled
def sweeps(
    state: State, observations: Observations, learn: Array, number: Int[Array, ""] | None = None
) -> tuple[State, Info]:
    """Several sweeps in one compiled loop.

    Args:
        state: to start from.
        observations: the data.
        learn: (n,) which sweeps take a hyper-parameter step.
        number: how many of the n are made; None: all. Traced, so that one program serves every number.

    Returns:
        The state after them, and (n,) information, NaN for sweeps that were not made.
    """
    arrays, static = eqx.partition(state, eqx.is_array)

    def body(k: Array, carry: tuple[State, Info]) -> tuple[State, Info]:
        arrays, known = carry
        after, info = sweep(eqx.combine(arrays, static), observations, learn[k])
        known = jax.tree.map(lambda whole, new: whole.at[k].set(new), known, info)
        return eqx.filter(after, eqx.is_array), known

    unmade = jnp.full(learn.shape, jnp.nan, observations.values.dtype)
    count = learn.shape[0] if number is None else number
    arrays, info = jax.lax.fori_loop(0, count, body, (arrays, Info(unmade, unmade)))
    return eqx.combine(arrays, static), info
