"""One turn of a Gibbs sampler: every block drawn given all others.

Given the others, the signal is linear in a block, so that under normal noise its posterior is a Gaussian process with
sites, which is drawn in the time that a sweep of message passing takes. Under another likelihood the same process with
fixed pseudo-observations proposes: the block moves on the ellipse through where it is and a draw of that process, to a
place that is accepted by what the likelihood differs from its pseudo-observations.

Source: Murray, Adams and MacKay 2010, Elliptical slice sampling, figure 2; Nishihara, Murray and Adams 2014, Parallel
MCMC with generalized elliptical slice sampling, section 3 (a Gaussian approximation in the place of the prior).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp

from probtensor.engines.drawn import Values, total
from probtensor.engines.sweep import Beliefs, State
from probtensor.likelihoods.base import Moments, Pseudo
from probtensor.model import BoundModel
from probtensor.observations.domain import Observations
from probtensor.priors.base import Belief
from probtensor.typing import Array, Float, Key

#: Brackets on the ellipse that are shrunk before the block stays where it is; each leaves about half.
_BRACKETS = 60


class Target(NamedTuple):
    """What is sampled.

    Attributes:
        model: where all hyper-parameters are held.
        observations: the data.
        power: exponent of the likelihood, see `MessagePassing`.
        pseudo: what stands for the likelihood in proposals; None for normal noise, where these are exact.
        beliefs: of the shapes of the blocks; their numbers are not read.
    """

    model: BoundModel
    observations: Observations
    power: Float[Array, ""]
    pseudo: Pseudo | None
    beliefs: Beliefs

    @classmethod
    def of(cls, state: State, observations: Observations) -> Target:
        """The posterior at a fitted state's hyper-parameters."""
        pseudo = None if state.model.likelihood.normal else state.pseudo
        target = cls(state.model, observations, state.power, pseudo, state.beliefs)
        return target.near(target.signal(means(state)))

    @property
    def gaussian(self) -> Pseudo:
        """The pseudo-observations, or what the likelihood exactly is."""
        if self.pseudo is not None:
            return self.pseudo
        return self.model.likelihood.pseudo(self.observations, Moments(self.observations.values))

    def near(self, signal: Float[Array, "..."]) -> Target:
        """The same, proposing by the likelihood's tangent at a signal.

        Not by its expectation over a spread: where the spread is wide and skew, as of the logarithm of a rate near
        zero, that of a normal belief is far from anything that is drawn.
        """
        if self.pseudo is None:
            return self
        certain = Moments(signal, jnp.zeros_like(signal))
        return self._replace(pseudo=self.model.likelihood.pseudo(self.observations, certain))

    def signal(self, values: Values, chosen: Sequence[int] | None = None) -> Float[Array, "..."]:
        """The sum of the terms, or of some of them by position, at every entry."""
        some = range(len(values)) if chosen is None else chosen
        terms, own = tuple(self.model.terms[j] for j in some), tuple(values[j] for j in some)
        return total(terms, own, self.observations.domain).reshape(self.observations.values.shape)

    def log_likelihood(self, signal: Float[Array, "..."]) -> Float[Array, ""]:
        """Of the data in nats, with the power."""
        return self.power * self.model.likelihood.log_likelihood(self.observations, signal)

    def excess(self, signal: Float[Array, "..."]) -> Float[Array, ""]:
        """The same over that of the pseudo-observations, up to a constant.

        Squares of the targets, which may be huge where precisions are tiny, are a part of that constant.
        """
        weights = self.power * self.observations.weights * self.gaussian.precision
        return self.log_likelihood(signal) + jnp.sum(weights * (0.5 * signal - self.gaussian.target) * signal)


class Place(NamedTuple):
    """Where a chain is: function values, and `Target.excess` there."""

    values: Values
    excess: Float[Array, ""]


def means(state: State) -> Values:
    """Function values of all blocks at the means of their beliefs."""
    return tuple(tuple(b.mean for b in part) for part in state.beliefs)


def turn(target: Target, place: Place, key: Key) -> Place:
    """All blocks of all terms drawn once, in the order of a sweep."""
    observations, pseudo = target.observations, target.gaussian
    weights = target.power * observations.weights * pseudo.precision
    working = eqx.tree_at(lambda o: o.weights, observations, weights)
    drawn, excess = list(place.values), place.excess
    for j, term in enumerate(target.model.terms):
        others = target.signal(tuple(drawn), [i for i in range(len(drawn)) if i != j])
        for k, block in enumerate(term.blocks):
            key, first, second = jax.random.split(key, 3)
            beliefs = [_certain(b, v) for b, v in zip(target.beliefs[j], drawn[j], strict=True)]
            belief = block.posterior(term.sites(k, beliefs, working, pseudo.target - others))
            fresh = block.prior.sample(belief, block.points, first, 1)[0]
            if target.pseudo is not None:
                at = functools.partial(_excess_with, target, others, j, k, tuple(drawn))
                fresh, excess = on_ellipse(at, belief.mean, drawn[j][k], excess, fresh, second)
            drawn[j] = (*drawn[j][:k], fresh, *drawn[j][k + 1 :])
    return Place(tuple(drawn), excess)


def _excess_with(
    target: Target, others: Array, j: int, k: int, values: Values, value: Float[Array, "T R"]
) -> Float[Array, ""]:
    """`Target.excess` with a block's value in the place of its own; others: the sum of the other terms."""
    own = (*values[j][:k], value, *values[j][k + 1 :])
    return target.excess(others + target.signal((*values[:j], own, *values[j + 1 :]), [j]))


def _certain(belief: Belief, value: Float[Array, "T R"]) -> Belief:
    """A belief that is sure of a value."""
    return belief._replace(mean=value, cov=jnp.zeros_like(belief.cov))


def on_ellipse(
    excess: Callable[[Array], Array],
    centre: Float[Array, "T R"],
    now: Float[Array, "T R"],
    there: Float[Array, ""],
    fresh: Float[Array, "T R"],
    key: Key,
) -> tuple[Float[Array, "T R"], Float[Array, ""]]:
    """Where a block moves to on an ellipse, and the excess there.

    Args:
        excess: the log density less that of a Gaussian process.
        centre: of that process.
        now: where the block is.
        there: the excess of it.
        fresh: a draw of the process.
        key: of the move.
    """
    first, second, third = jax.random.split(key, 3)
    least = there + jnp.log(jax.random.uniform(first, dtype=now.dtype))
    angle = 2 * jnp.pi * jax.random.uniform(second, dtype=now.dtype)

    def refused(search: _Search) -> Array:
        return (search.tries < _BRACKETS) & ~(search.found > least)

    def further(search: _Search) -> _Search:
        angle = search.angle
        value = centre + jnp.cos(angle) * (now - centre) + jnp.sin(angle) * (fresh - centre)
        low, high = jnp.where(angle < 0, angle, search.low), jnp.where(angle < 0, search.high, angle)
        key, one = jax.random.split(search.key)
        angle = low + (high - low) * jax.random.uniform(one, dtype=now.dtype)
        return _Search(search.tries + 1, low, high, angle, key, value, excess(value))

    nowhere = jnp.full_like(there, -jnp.inf)
    start = _Search(jnp.zeros((), int), angle - 2 * jnp.pi, angle, angle, third, now, nowhere)
    end = jax.lax.while_loop(refused, further, start)
    good = end.found > least
    return jnp.where(good, end.value, now), jnp.where(good, end.found, there)


class _Search(NamedTuple):
    """The bracket of angles from where the block is that is left after some tries, and the last try with its excess."""

    tries: Array
    low: Array
    high: Array
    angle: Array
    key: Key
    value: Array
    found: Array
