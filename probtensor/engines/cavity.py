"""Cavities of conditional expectation propagation: what the signal is believed to be without an entry's own site.

For one block, given the beliefs of the others. With sites averaged per level, an entry's site is an equal share of its
level's, so that nothing is kept for each entry; otherwise it is the entry's own pseudo-observation.

Source: Fang et al. 2024, Functional Bayesian Tucker Decomposition, section 4 (conditional moment matching); Li,
Hernandez-Lobato and Turner 2015, Stochastic expectation propagation, for the average.
"""

from __future__ import annotations

from collections.abc import Sequence

import equinox as eqx
import jax.numpy as jnp

from probtensor.likelihoods.base import Moments, Pseudo
from probtensor.linalg.small import one_by_one
from probtensor.observations.domain import Observations
from probtensor.priors.base import Belief
from probtensor.terms.base import AbstractBoundTerm
from probtensor.typing import Array, Float

#: An entry's share of what is known of its level, at most: beyond that the cavity says nothing.
_MOST = 0.99


def moments(
    term: AbstractBoundTerm,
    block: int,
    beliefs: Sequence[Belief],
    observations: Observations,
    pseudo: Pseudo,
    power: Float[Array, ""],
    by_entry: bool,
) -> Moments:
    """Of a term at every training entry, with the entry's site taken out of a block.

    by_entry: take out each entry's pseudo-observation, and not the average site of its level.
    """
    if by_entry:
        return _without_own(term, block, beliefs, observations, pseudo, power)
    # An entry of weight 2 is two entries, each without its own site; one of weight below 1 is one.
    weights = jnp.where(observations.weights > 0, jnp.maximum(observations.weights, 1.0), 0.0)
    counts = term.counts(block, eqx.tree_at(lambda o: o.weights, observations, weights))
    counts = jnp.maximum(counts, 1.0)
    changed = list(beliefs)
    changed[block] = _without_average(beliefs[block], counts)
    return _moments(term, changed, observations)


def _moments(term: AbstractBoundTerm, beliefs: Sequence[Belief], observations: Observations) -> Moments:
    marginals = term.training_marginals(beliefs, observations.domain)
    return Moments(term.mean(marginals, observations.domain), term.variance(marginals, observations.domain))


def _without_average(belief: Belief, counts: Float[Array, "T"]) -> Belief:
    """A belief without the average site of each level: (S^-1 - A)^-1 as (I - S A)^-1 S."""
    sites = belief.sites.about(None)
    share = jnp.minimum(1 / counts, _MOST)
    A, e = sites.precision * share[:, None, None], sites.eta * share[:, None]

    def solved(S: Float[Array, "R R"], A: Float[Array, "R R"]) -> Float[Array, "R R"]:
        found = jnp.linalg.solve(jnp.eye(S.shape[0], dtype=S.dtype) - S @ A, S)
        return 0.5 * (found + found.T)

    cov = one_by_one(solved, belief.cov, A)
    left = jnp.einsum("trs,ts->tr", A, belief.mean) - e
    return belief._replace(mean=belief.mean + jnp.einsum("trs,ts->tr", cov, left), cov=cov)


def _without_own(
    term: AbstractBoundTerm,
    block: int,
    beliefs: Sequence[Belief],
    observations: Observations,
    pseudo: Pseudo,
    power: Float[Array, ""],
) -> Moments:
    """By each entry's own pseudo-observation, which sees the block along the others' means."""
    found = _moments(term, beliefs, observations)
    certain = [b if k == block else b._replace(cov=jnp.zeros_like(b.cov)) for k, b in enumerate(beliefs)]
    marginals = term.training_marginals(certain, observations.domain)
    own = term.variance(marginals, observations.domain)
    precision = power * jnp.minimum(observations.weights, 1.0) * pseudo.precision
    wider = own / (1 - jnp.minimum(precision * own, _MOST))
    mean, variance = found.each
    return Moments(mean + wider * precision * (mean - pseudo.target), variance + wider - own)
