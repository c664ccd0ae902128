"""One sweep of message passing: every block of every term, then the likelihood's own parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from probtensor.compilation import compiled
from probtensor.engines import cavity
from probtensor.engines.learning import LearningState, start_learning, update
from probtensor.hyperparameters import log_prior
from probtensor.likelihoods.base import Moments, Pseudo
from probtensor.model import BoundModel
from probtensor.observations.domain import Observations
from probtensor.priors.base import Belief, Sites
from probtensor.terms.base import AbstractBoundTerm
from probtensor.typing import Array, Bool, Float, Int, Key

if TYPE_CHECKING:
    from probtensor.engines.collapsed.fit import Local
    from probtensor.engines.collapsed.spread import Spread
    from probtensor.engines.drawn import Draws

Beliefs = tuple[tuple[Belief, ...], ...]
#: How a damped step grows when it gains, and shrinks when it loses.
_GROW, _SHRINK = 1.5, 0.5
#: A loss of so many rounding errors of the objective is none.
_ROUNDING = 100.0
#: A difference of so many rounding errors of its parts has digits enough.
_SURE = 1e7


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Rule:
    """Which program a sweep is; to JAX a part of a state's structure.

    Attributes:
        matching: sites give cavity times likelihood its moments (conditional expectation propagation); otherwise they
            follow the natural gradient of the evidence lower bound (variational message passing).
        by_entry: of the former, whether every entry's own site is taken out of its cavity, or its level's average one.
        by_component: the R functions of a block are independent under the posterior.
        held: all hyper-parameters stay as they are, those of the likelihood included.
    """

    matching: bool = False
    by_entry: bool = False
    by_component: bool = False
    held: bool = False


class Step(NamedTuple):
    """How far sites move towards their new values: now, and at most."""

    now: Float[Array, ""]
    most: Float[Array, ""]


class State(NamedTuple):
    """What the next sweep needs: the model with its current hyper-parameters, and a belief for each block.

    power: exponent of the likelihood, see `MessagePassing`.
    local: the fitted local part of a model with a `Local` term; the beliefs then only summarise its draws.
    draws: of a sampler; the beliefs then only summarise them, and the model has their mean numbers.
    pseudo: what the likelihood makes of the observations at these beliefs; None where that is always the same.
    step: of damped sites; None: they move all the way, and the objective never falls.
    objective: of the last sweep, which a damped one must not lose.
    base: for each block, sites of observations that were absorbed before, in the place of these; None: there are none.
    """

    model: BoundModel
    power: Float[Array, ""]
    beliefs: Beliefs
    learning: tuple[tuple[LearningState, ...], ...]
    local: Local | None = None
    draws: Draws | None = None
    pseudo: Pseudo | None = None
    step: Step | None = None
    objective: Float[Array, ""] | None = None
    rule: Rule = Rule()
    base: tuple[tuple[Sites, ...], ...] | None = None

    def with_spread(self, spread: Spread | None) -> State:
        """With these standard deviations of a local part; as it is without one."""
        return self if self.local is None else self._replace(local=self.local._replace(spread=spread))


class Info(NamedTuple):
    """What a person reads of a sweep.

    elbo: evidence lower bound plus the log prior of the learned hyper-parameters, in nats, after the sweep.
    step: of the sites; zero where the sweep lost and was taken back.
    """

    elbo: Float[Array, ""]
    step: Float[Array, ""]


@compiled
def start(
    model: BoundModel,
    power: Float[Array, ""],
    observations: Observations,
    key: Key,
    rule: Rule = Rule(),
    most: Float[Array, ""] | None = None,
) -> State:
    """Beliefs drawn from the priors.

    rule: of the sweeps; most: by how much sites move at most, None: all the way, which only suits a conjugate
    likelihood.
    """
    keys = jax.random.split(key, len(model.terms))
    beliefs = tuple(t.initial(k, observations.domain) for t, k in zip(model.terms, keys, strict=True))
    learning = tuple(tuple(start_learning(b.prior) for b in t.blocks) for t in model.terms)
    return with_likelihood(State(model, power, beliefs, learning, rule=rule), observations, most, fresh=True)


def with_likelihood(state: State, observations: Observations, most: Float[Array, ""] | None, fresh: bool) -> State:
    """A state to start sweeps from on these observations.

    fresh: whether its beliefs say nothing yet, so that the likelihood starts from the observations alone.
    """
    likelihood, dtype = state.model.likelihood, observations.values.dtype
    pseudo = None
    if likelihood.by_entry(observations) and fresh:
        pseudo = likelihood.start(observations)
    elif likelihood.by_entry(observations):
        found = moments(state.model.terms, state.beliefs, observations, by_entry=True)
        pseudo = likelihood.pseudo(observations, found)
    if most is None:
        return state._replace(pseudo=pseudo, step=None, objective=None)
    return state._replace(pseudo=pseudo, step=Step(most, most), objective=jnp.asarray(-jnp.inf, dtype))


@compiled
def again(state: State, observations: Observations, most: Float[Array, ""] | None) -> State:
    """A state to go on from, perhaps on other observations or with another power."""
    return with_likelihood(state, observations, most, fresh=False)


def term_mean(term: AbstractBoundTerm, beliefs: tuple[Belief, ...], observations: Observations) -> Array:
    """Mean of a term at every training entry."""
    return term.mean(term.training_marginals(beliefs, observations.domain), observations.domain)


def term_variance(term: AbstractBoundTerm, beliefs: tuple[Belief, ...], observations: Observations) -> Array:
    """Variance of a term at every training entry."""
    return term.variance(term.training_marginals(beliefs, observations.domain), observations.domain)


def moments(
    terms: Sequence[AbstractBoundTerm],
    beliefs: Beliefs,
    observations: Observations,
    by_entry: bool,
    means: Sequence[Array] | None = None,
    told: Sequence[Array | None] | None = None,
) -> Moments:
    """Of the signal at the training entries.

    by_entry: as `AbstractBoundLikelihood.by_entry`; means: of each term; told: see `_total_variance`.
    """
    pairs = list(zip(terms, beliefs, strict=True))
    mean = _sum([term_mean(t, b, observations) for t, b in pairs] if means is None else means)
    mean = jnp.broadcast_to(mean, observations.values.shape)
    if not by_entry:
        own = [term_mean(t, b, observations) for t, b in pairs] if means is None else means
        known = [None] * len(pairs) if told is None else told
        each = [_total_variance(*pair, observations, m, p) for pair, m, p in zip(pairs, own, known, strict=True)]
        return Moments(mean, total_variance=_sum(each))
    variance = _sum([term_variance(t, b, observations) for t, b in pairs])
    return Moments(mean, jnp.broadcast_to(variance, observations.values.shape))


def _total_variance(
    term: AbstractBoundTerm, beliefs: tuple[Belief, ...], observations: Observations, mean: Array, told: Array | None
) -> Float[Array, ""]:
    """A term's variance times weight, summed over the training entries.

    Where the last block's sites are at hand this is what they say of squares, less squared means, unless that has too
    few digits.

    told: (T, R, R) precisions of these sites at noise of precision 1, with the other blocks as they are now.
    """
    if told is None:
        return term.total_variance(beliefs, observations)
    found, sure = variance_told(told, beliefs[-1], jnp.sum(observations.weights * mean**2))
    return jax.lax.cond(sure, lambda: found, lambda: term.total_variance(beliefs, observations))


def variance_told(
    told: Float[Array, "T R R"], belief: Belief, squared_mean: Float[Array, ""]
) -> tuple[Float[Array, ""], Bool[Array, ""]]:
    """A term's variance times weight, summed over observations, and whether it has digits enough.

    Args:
        told: as in `_total_variance`.
        belief: of the last block.
        squared_mean: squared means times weight, summed over observations.
    """
    squares = jnp.sum(told * belief.marginals.second_moment())
    found = squares - squared_mean
    return found, found > _SURE * jnp.finfo(squares.dtype).eps * squares


def _sum(parts: Sequence[Array]) -> Array:
    return sum(parts[1:], start=parts[0])


def _turn(state: State, observations: Observations, learn: Array) -> tuple[State, Float[Array, ""]]:
    """Every block given the others, then the likelihood's parameters; and the objective."""
    likelihood, rule = state.model.likelihood, state.rule
    terms, beliefs, learning = list(state.model.terms), list(state.beliefs), list(state.learning)
    means = [term_mean(t, b, observations) for t, b in zip(terms, beliefs, strict=True)]
    pseudo = state.pseudo
    if pseudo is None:
        pseudo = likelihood.pseudo(observations, Moments(_sum(means)))
    told: list[Array | None] = []
    for j, term in enumerate(terms):
        others = _sum([jnp.zeros((), observations.values.dtype), *(m for i, m in enumerate(means) if i != j)])
        spread = None
        if rule.matching and state.pseudo is not None:
            pairs = [(t, b) for i, (t, b) in enumerate(zip(terms, beliefs, strict=True)) if i != j]
            parts = [term_variance(t, b, observations) for t, b in pairs]
            spread = _sum([jnp.zeros((), observations.values.dtype), *parts])
        now, remembered, priors = list(beliefs[j]), list(learning[j]), [b.prior for b in term.blocks]
        last: Array | None = None
        for k, block in enumerate(term.blocks):
            if spread is not None:
                mean, own = cavity.moments(term, k, now, observations, pseudo, state.power, rule.by_entry).each
                pseudo = likelihood.matched(observations, Moments(mean + others, own + spread))
            sites = sites_of(term, k, now, observations, pseudo._replace(target=pseudo.target - others), state.power)
            last = sites.precision / (state.power * pseudo.precision) if _at_one_noise(pseudo, sites) else None
            sites = _moved(now[k].sites, sites if state.base is None else both(sites, state.base[j][k]), state.step)
            learned, now[k], remembered[k] = update(block, sites, remembered[k], learn, now[k].mean, rule.by_component)
            priors[k] = learned.prior
        terms[j], beliefs[j], learning[j] = term.with_priors(priors), tuple(now), tuple(remembered)
        means[j] = term_mean(terms[j], beliefs[j], observations)
        told.append(last)
    after = moments(terms, tuple(beliefs), observations, likelihood.by_entry(observations), means, told)
    if not rule.held:
        likelihood = likelihood.learn(observations, after)
    model = BoundModel(tuple(terms), likelihood)
    found = state._replace(model=model, beliefs=tuple(beliefs), learning=tuple(learning))
    elbo = state.power * likelihood.expected_log_likelihood(observations, after) + prior_bound(found)
    if state.base is not None:
        for belief, sites in zip(
            (b for own in beliefs for b in own), (s for own in state.base for s in own), strict=True
        ):
            elbo = elbo + _said(belief, sites)
    if state.pseudo is not None and not rule.matching:
        pseudo = likelihood.pseudo(observations, after)
    return found._replace(pseudo=None if state.pseudo is None else pseudo), elbo


def prior_bound(state: State) -> Float[Array, ""]:
    """What the evidence lower bound has beside the expected log likelihood, and log priors of learned numbers."""
    bound = state.model.likelihood.log_prior() + log_prior(state.model.terms)
    for belief in (b for own in state.beliefs for b in own):
        bound = bound - belief.kl
    return bound


def _at_one_noise(pseudo: Pseudo, sites: Sites) -> bool:
    """Whether sites are sums over weights times one number, about zero."""
    return pseudo.precision.ndim == 0 and sites.origin is None


def sites_of(
    term: AbstractBoundTerm,
    block: int,
    beliefs: Sequence[Belief],
    observations: Observations,
    pseudo: Pseudo,
    power: Float[Array, ""],
) -> Sites:
    """What observations of that precision say of a block, to the power."""
    precision = power * pseudo.precision
    if precision.ndim == 0:
        # Scaled afterwards: the compiler then finds contractions with the weights that blocks and variances share.
        return term.sites(block, beliefs, observations, pseudo.target).times(precision)
    working = eqx.tree_at(lambda o: o.weights, observations, precision * observations.weights)
    return term.sites(block, beliefs, working, pseudo.target)


def both(one: Sites, other: Sites) -> Sites:
    """The product of two sites, about the first's origin."""
    other = other.about(one.origin)
    return Sites(one.eta + other.eta, one.precision + other.precision, one.origin)


def _said(belief: Belief, sites: Sites) -> Float[Array, ""]:
    """E[log sites] under a belief, up to a constant."""
    sites = sites.about(None)
    linear = jnp.sum(sites.eta * belief.mean)
    return linear - 0.5 * jnp.sum(sites.precision * belief.marginals.second_moment())


def _moved(old: Sites, new: Sites, step: Step | None) -> Sites:
    """Sites on their way from old to new ones, in natural parameters."""
    if step is None:
        return new
    old = old.about(new.origin)
    eta = old.eta + step.now * (new.eta - old.eta)
    return Sites(eta, old.precision + step.now * (new.precision - old.precision), new.origin)


def sweep(state: State, observations: Observations, learn: Array) -> tuple[State, Info]:
    """Updates every block given the others, each to the exact optimum of the objective at the current likelihood.

    Damped sites only move towards it; a sweep that loses all the same is taken back, and the next moves less.

    learn: whether kernel hyper-parameters take a step. The likelihood's are learned in every sweep.
    """
    after, elbo = _turn(state, observations, learn)
    if state.step is None or state.objective is None:
        return after, Info(elbo, jnp.ones_like(elbo))
    rounding = _ROUNDING * jnp.finfo(elbo.dtype).eps * jnp.abs(elbo)
    gains = jnp.isfinite(elbo) & ((elbo >= state.objective - rounding) | state.rule.matching)
    now, most = state.step
    grown = jnp.minimum(now * (1.0 if state.rule.matching else _GROW), most)
    after = after._replace(step=Step(grown, most), objective=elbo)
    before = state._replace(step=Step(now * _SHRINK, most))
    kept = jax.tree.map(
        lambda new, old: jnp.where(gains, new, old), eqx.filter(after, eqx.is_array), eqx.filter(before, eqx.is_array)
    )
    found = eqx.combine(kept, after)
    return found, Info(jnp.where(gains, elbo, state.objective), jnp.where(gains, now, 0.0))


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
