"""Sweeps of message passing over observations that are read part by part, and never held in memory.

All that a sweep reads of the observations are sums over them: what they say of each block, given the others, and how
far they are from the signal. So a sweep reads the parts once for each block and once more, adds, and updates as in
memory; the answer is the same but for rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from probtensor.compilation import compiled
from probtensor.engines.learning import update
from probtensor.engines.sweep import Info, State, both, moments, prior_bound, sites_of, term_mean
from probtensor.errors import ModelError
from probtensor.likelihoods.gaussian import BoundGaussian, Totals
from probtensor.model import BoundModel
from probtensor.observations.domain import Observations
from probtensor.observations.sources import AbstractBatches, AbstractSource
from probtensor.priors.base import Sites
from probtensor.terms.local import BoundLocal
from probtensor.typing import Array, Bool, Float, Int

#: Observations of a batch, and batches that are added by one program.
_SIZE, _LENGTH = 2**18, 4


def check(model: BoundModel, known: Collection[str]) -> None:
    """Raises ModelError for a model that needs more of the observations than sums.

    known: names of what comes with each observation, as known errors.
    """
    if any(isinstance(term, BoundLocal) for term in model.terms):
        raise ModelError(
            "MessagePassing: a Local term conditions entries on their neighbours, which are not in memory here. "
            "Load the data first, data.load(), if they fit, or leave the Local term out"
        )
    likelihood = model.likelihood
    if not isinstance(likelihood, BoundGaussian) or likelihood.groups is not None or known:
        raise ModelError(
            "MessagePassing: observations that are not held in memory can have normal noise alone, the same everywhere "
            "and without known errors. Use engine=pt.SVI(), or load the data first, data.load(), if they fit"
        )


def sweeps(state: State, source: AbstractSource, learn: Bool[Array, "n"], number: Int[Array, ""]) -> tuple[State, Info]:
    """As `sweep.sweeps`: the first so many of n sweeps, and (n,) information."""
    elbo = np.full(learn.shape, np.nan)
    for k in range(int(number)):
        state, elbo[k] = _sweep(state, source, learn[k])
    return state, Info(jnp.asarray(elbo), jnp.ones(learn.shape))


def _sweep(state: State, source: AbstractSource, learn: Bool[Array, ""]) -> tuple[State, float]:
    for j, term in enumerate(state.model.terms):
        for k in range(len(term.blocks)):
            sites = _summed(source, _sites, state, j, k)
            state = _updated(state, sites, learn, j, k)
    state, elbo = _ended(state, _summed(source, _totals, state))
    return state, float(elbo)


def _summed(source: AbstractSource, part: Callable[..., Any], *given: Any) -> Any:
    """The sum of what a program gives for some batches, over all."""
    total, numbers = None, jnp.arange(_LENGTH)
    for batches in source.in_order(min(_SIZE, source.count), _LENGTH):
        own = part(batches, numbers, *given)
        total = own if total is None else _added(total, own)
    return total


def _plus(one: Any, other: Any) -> Any:
    """Sums, or the product of sites."""
    return both(one, other) if isinstance(one, Sites) else jax.tree.map(jnp.add, one, other)


_added = compiled(_plus)


def _over(batches: AbstractBatches, numbers: Int[Array, "n"], own: Callable[[Observations], Any]) -> Any:
    """The sum over some batches, in one loop."""
    first = own(batches.at(numbers[0]))
    return jax.lax.fori_loop(1, numbers.shape[0], lambda k, total: _plus(total, own(batches.at(numbers[k]))), first)


@compiled
def _sites(batches: AbstractBatches, numbers: Int[Array, "n"], state: State, j: int, k: int) -> Sites:
    """What some batches say of a block of a term, given all others."""
    terms, beliefs, likelihood = state.model.terms, state.beliefs, state.model.likelihood
    assert isinstance(likelihood, BoundGaussian)

    def own(batch: Observations) -> Sites:
        others = [term_mean(t, b, batch) for i, (t, b) in enumerate(zip(terms, beliefs, strict=True)) if i != j]
        pseudo = likelihood.start(batch)
        target = pseudo.target - sum(others, start=jnp.zeros((), batch.values.dtype))
        return sites_of(terms[j], k, beliefs[j], batch, pseudo._replace(target=target), state.power)

    return _over(batches, numbers, own)


@compiled
def _updated(state: State, sites: Sites, learn: Bool[Array, ""], j: int, k: int) -> State:
    """The state after the update of a block of a term."""
    term, beliefs, learning = state.model.terms[j], list(state.beliefs[j]), list(state.learning[j])
    learned, beliefs[k], learning[k] = update(
        term.blocks[k], sites, learning[k], learn, beliefs[k].mean, state.rule.by_component
    )
    priors = [learned.prior if i == k else block.prior for i, block in enumerate(term.blocks)]
    terms = _replaced(state.model.terms, j, term.with_priors(priors))
    return state._replace(
        model=BoundModel(terms, state.model.likelihood),
        beliefs=_replaced(state.beliefs, j, tuple(beliefs)),
        learning=_replaced(state.learning, j, tuple(learning)),
    )


def _replaced(whole: Sequence[Any], at: int, new: Any) -> tuple[Any, ...]:
    return (*whole[:at], new, *whole[at + 1 :])


@compiled
def _totals(batches: AbstractBatches, numbers: Int[Array, "n"], state: State) -> Totals:
    """How far some batches are from the signal."""
    likelihood = state.model.likelihood
    assert isinstance(likelihood, BoundGaussian)

    def own(batch: Observations) -> Totals:
        return likelihood.totals(batch, moments(state.model.terms, state.beliefs, batch, by_entry=False))

    return _over(batches, numbers, own)


@compiled
def _ended(state: State, totals: Totals) -> tuple[State, Float[Array, ""]]:
    """The likelihood's parameters from the sums, and the objective."""
    likelihood = state.model.likelihood
    assert isinstance(likelihood, BoundGaussian)
    if not state.rule.held:
        likelihood = likelihood.learned_from(totals)
    state = eqx.tree_at(lambda s: s.model.likelihood, state, likelihood)
    return state, state.power * likelihood.expected_from(totals) + prior_bound(state)
