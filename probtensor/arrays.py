"""The array-level face: prediction and sampling for a fitted state.

Everything here takes and returns arrays and follows the caller's dtype; nothing knows labels or units.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from probtensor.compilation import compiled, one_blas_thread
from probtensor.engines import drawn
from probtensor.engines.collapsed import prediction
from probtensor.engines.placing import Asked, asked
from probtensor.engines.sweep import State, moments
from probtensor.observations.domain import Domain, Observations
from probtensor.priors.base import Marginals
from probtensor.typing import Array, Float, Key

#: Of functions at coordinates without data, in predictions from draws.
_SEED = 0
#: An entry's share of what is known of its signal, at most: products can seem to owe it more than all.
_MOST_OF_ITSELF = 0.99


class Prediction(NamedTuple):
    """Mean and variance of the noise-free signal at each entry of a domain."""

    mean: Float[Array, "..."]
    variance: Float[Array, "..."]


def _combine(state: State, marginals: Mapping[int, Sequence[Marginals]], domain: Domain) -> Prediction:
    """The sum of terms, by their positions in the model."""
    mean = variance = jnp.zeros(domain.shape, state.power.dtype)
    for j, own in marginals.items():
        mean = mean + state.model.terms[j].mean(own, domain)
        variance = variance + state.model.terms[j].variance(own, domain)
    return Prediction(mean, variance)


def predict(state: State, domain: Domain, terms: tuple[int, ...]) -> Prediction:
    """The signal of these terms at any domain; terms: their positions in the model.

    Levels that the data have are read off the beliefs, which is the same as to smooth once more. Runs on the host, and
    not inside another program.
    """
    if state.local is not None or state.draws is not None:
        return _from_draws(state, domain, terms, known=False)
    where = {j: asked(state.model.terms[j], state.beliefs[j], domain) for j in terms}
    return _predict(state, where, domain)


@compiled
def _predict(state: State, where: dict[int, tuple[Asked, ...]], domain: Domain) -> Prediction:
    marginals = {
        j: [one.marginals(belief) for one, belief in zip(own, state.beliefs[j], strict=True)]
        for j, own in where.items()
    }
    return _combine(state, marginals, domain)


def _from_draws(state: State, domain: Domain, terms: tuple[int, ...], known: bool) -> Prediction:
    key = jax.random.key(_SEED)
    with one_blas_thread():
        if state.draws is not None:
            found = drawn.moments(drawn.signals(state.model.terms, state.draws, domain, terms, known, key))
        else:
            assert state.local is not None
            found = prediction.moments(state.model, state.local, domain, terms, known, key)
    return Prediction(*(jnp.asarray(part.reshape(domain.shape)) for part in found))


def fitted(state: State, domain: Domain) -> Prediction:
    """The signal at the training domain, read off the beliefs: cheaper than `predict`, and the same."""
    if state.local is not None or state.draws is not None:
        return _from_draws(state, domain, tuple(range(len(state.model.terms))), known=True)
    return _fitted(state, domain)


@compiled
def _fitted(state: State, domain: Domain) -> Prediction:
    pairs = zip(state.model.terms, state.beliefs, strict=True)
    marginals = {j: t.training_marginals(b, domain) for j, (t, b) in enumerate(pairs)}
    return _combine(state, marginals, domain)


@compiled
def leave_one_out(state: State, observations: Observations) -> Prediction:
    """The signal at every training entry as it is believed to be without what was observed there.

    The entry's pseudo-observation is taken out of the signal's marginal, which is exact for a Gaussian process and
    keeps hyper-parameters and, in products, the other functions as they are.

    Source: Rasmussen and Williams 2006, Gaussian processes for machine learning, equations 5.10 to 5.12.
    """
    found = moments(state.model.terms, state.beliefs, observations, by_entry=True)
    pseudo = state.pseudo or state.model.likelihood.pseudo(observations, found)
    mean, variance = found.each
    precision = state.power * observations.weights * pseudo.precision
    wider = variance / (1 - jnp.minimum(precision * variance, _MOST_OF_ITSELF))
    return Prediction(mean + wider * precision * (mean - pseudo.target), wider)


def sample(state: State, domain: Domain, key: Key, n: int) -> Float[Array, "n ..."]:
    """Joint draws of the signal at every entry of a domain: functions are drawn once and used everywhere.

    Of a sampler's S draws n different ones, in random order; where n is above S, some more than once.
    """
    if state.local is None and state.draws is None:
        return _sample(state, domain, key, n)
    with one_blas_thread():
        if state.draws is not None:
            terms = tuple(range(len(state.model.terms)))
            some = drawn.picked(state.draws, key, n)
            found = np.stack(list(drawn.signals(state.model.terms, some, domain, terms, False, key)))
        else:
            assert state.local is not None
            found = prediction.draws(state.model, state.local, domain, key, n)
    return jnp.asarray(found.reshape(n, *domain.shape))


@compiled
def _sample(state: State, domain: Domain, key: Key, n: int) -> Float[Array, "n ..."]:
    total = jnp.zeros((n, *domain.shape), state.power.dtype)
    for term, beliefs, k in zip(
        state.model.terms, state.beliefs, jax.random.split(key, len(state.beliefs)), strict=True
    ):
        keys = jax.random.split(k, len(beliefs))
        points = term.block_points(domain)
        blocks = zip(term.blocks, beliefs, points, keys, strict=True)
        values = [block.prior.sample(belief, p, one, n) for block, belief, p, one in blocks]
        total = total + jax.lax.map(lambda v, term=term: term.draw(v, domain), tuple(values))
    return total
