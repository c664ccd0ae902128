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
from probtensor.engines.sweep import Info, State, both, prior_bound, sites_of, term_mean, variance_told
from probtensor.errors import ModelError
from probtensor.likelihoods.base import Moments
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
    last: list[Sites | None] = []
    for j, term in enumerate(state.model.terms):
        sites = None
        for k in range(len(term.blocks)):
            sites = _summed(source, _sites, state, j, k)
            state = _updated(state, sites, learn, j, k)
        last.append(sites)
    totals, squared_means = _summed(source, _totals, state)
    for j, (sites, squared_mean) in enumerate(zip(last, squared_means, strict=True)):
        told, sure = _told(state, sites, squared_mean, j)
        totals = totals.with_variance(told if sure else _summed(source, _variance, state, j))
    state, elbo = _ended(state, totals)
    return state, float(elbo)


def _summed(source: AbstractSource, part: Callable[..., Any], *given: Any) -> Any:
    """The sum of what a program gives for some batches, over all."""
    total = None
    for batches in source.in_order(min(_SIZE, source.entries), _LENGTH):
        own = part(batches, *given)
        total = own if total is None else _added(total, own)
    return total


def _plus(one: Any, other: Any) -> Any:
    """Sums, or the product of sites."""
    return both(one, other) if isinstance(one, Sites) else jax.tree.map(jnp.add, one, other)


_added = compiled(_plus)


def _over(batches: AbstractBatches, own: Callable[[Observations], Any]) -> Any:
    """The sum over some batches, in one loop."""
    first = own(batches.at(jnp.zeros((), int)))
    return jax.lax.fori_loop(1, batches.number, lambda k, total: _plus(total, own(batches.at(k))), first)


@compiled
def _sites(batches: AbstractBatches, state: State, j: int, k: int) -> Sites:
    """What some batches say of a block of a term, given all others."""
    terms, beliefs, likelihood = state.model.terms, state.beliefs, state.model.likelihood
    assert isinstance(likelihood, BoundGaussian)

    def own(batch: Observations) -> Sites:
        others = [term_mean(t, b, batch) for i, (t, b) in enumerate(zip(terms, beliefs, strict=True)) if i != j]
        pseudo = likelihood.start(batch)
        target = pseudo.target - sum(others, start=jnp.zeros((), batch.values.dtype))
        return sites_of(terms[j], k, beliefs[j], batch, pseudo._replace(target=target), state.power)

    return _over(batches, own)


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
def _totals(batches: AbstractBatches, state: State) -> tuple[Totals, list[Array]]:
    """How far some batches are from the signal's mean, and sums of weight times each term's squared mean."""
    likelihood, terms, beliefs = state.model.likelihood, state.model.terms, state.beliefs
    assert isinstance(likelihood, BoundGaussian)

    def own(batch: Observations) -> tuple[Totals, list[Array]]:
        means = [term_mean(t, b, batch) for t, b in zip(terms, beliefs, strict=True)]
        signal = Moments(sum(means, start=jnp.zeros(batch.values.shape)), total_variance=jnp.zeros(()))
        return likelihood.totals(batch, signal), [jnp.sum(batch.weights * mean**2) for mean in means]

    return _over(batches, own)


@compiled
def _variance(batches: AbstractBatches, state: State, j: int) -> Array:
    """A term's variance times weight, summed over some batches."""
    return _over(batches, lambda batch: state.model.terms[j].total_variance(state.beliefs[j], batch))


@compiled
def _told(state: State, sites: Sites | None, squared_mean: Array, j: int) -> tuple[Array, Array]:
    """`_variance` over all by what a term's last block was told, and whether that has digits enough."""
    likelihood = state.model.likelihood
    assert isinstance(likelihood, BoundGaussian)
    if sites is None or sites.origin is not None:
        return jnp.zeros(()), jnp.zeros((), bool)
    return variance_told(sites.precision / (state.power * likelihood.precision), state.beliefs[j][-1], squared_mean)


@compiled
def _ended(state: State, totals: Totals) -> tuple[State, Float[Array, ""]]:
    """The likelihood's parameters from the sums, and the objective."""
    likelihood = state.model.likelihood
    assert isinstance(likelihood, BoundGaussian)
    if not state.rule.held:
        likelihood = likelihood.learned_from(totals)
    state = eqx.tree_at(lambda s: s.model.likelihood, state, likelihood)
    return state, state.power * likelihood.expected_from(totals) + prior_bound(state)
