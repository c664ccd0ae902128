"""The array-level face: prediction and sampling for a fitted state, for use inside a larger JAX program.

Everything here takes and returns arrays and follows the caller's dtype; nothing knows labels or units.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from probtensor.compilation import compiled, one_blas_thread
from probtensor.engines.collapsed import prediction
from probtensor.engines.sweep import State
from probtensor.observations.domain import Domain
from probtensor.priors.base import Belief, Marginals
from probtensor.terms.base import AbstractBoundTerm
from probtensor.typing import Array, Float, Key

#: Of functions at coordinates without data, in predictions from draws.
_SEED = 0


class Prediction(NamedTuple):
    """Mean and variance of the noise-free signal at each entry of a domain."""

    mean: Float[Array, "..."]
    variance: Float[Array, "..."]


def _marginals(term: AbstractBoundTerm, beliefs: Sequence[Belief], domain: Domain) -> tuple[Marginals, ...]:
    points = term.block_points(domain)
    return tuple(block.prior.predict(belief, p) for block, belief, p in zip(term.blocks, beliefs, points, strict=True))


def _combine(
    state: State, marginals: Sequence[Sequence[Marginals]], domain: Domain, terms: Sequence[int]
) -> Prediction:
    mean = variance = jnp.zeros(domain.shape, state.power.dtype)
    for j in terms:
        mean = mean + state.model.terms[j].mean(marginals[j], domain)
        variance = variance + state.model.terms[j].variance(marginals[j], domain)
    return Prediction(mean, variance)


def predict(state: State, domain: Domain, terms: tuple[int, ...]) -> Prediction:
    """The signal of these terms at any domain; terms: their positions in the model.

    With a local term this runs on the host, and not inside another program.
    """
    if state.local is not None:
        return _with_local(state, domain, terms, known=False)
    return _predict(state, domain, terms)


def _with_local(state: State, domain: Domain, terms: tuple[int, ...], known: bool) -> Prediction:
    assert state.local is not None
    with one_blas_thread():
        found = prediction.moments(state.model, state.local, domain, terms, known, jax.random.key(_SEED))
    return Prediction(*(jnp.asarray(part.reshape(domain.shape)) for part in found))


@compiled
def _predict(state: State, domain: Domain, terms: tuple[int, ...]) -> Prediction:
    pairs = zip(state.model.terms, state.beliefs, strict=True)
    marginals = [_marginals(t, b, domain) if j in terms else () for j, (t, b) in enumerate(pairs)]
    return _combine(state, marginals, domain, terms)


def fitted(state: State, domain: Domain) -> Prediction:
    """The signal at the training domain, read off the beliefs: cheaper than `predict`, and the same."""
    if state.local is not None:
        return _with_local(state, domain, tuple(range(len(state.model.terms))), known=True)
    return _fitted(state, domain)


@compiled
def _fitted(state: State, domain: Domain) -> Prediction:
    pairs = zip(state.model.terms, state.beliefs, strict=True)
    marginals = [t.training_marginals(b, domain) for t, b in pairs]
    return _combine(state, marginals, domain, tuple(range(len(marginals))))


def sample(state: State, domain: Domain, key: Key, n: int) -> Float[Array, "n ..."]:
    """Joint draws of the signal at every entry of a domain: functions are drawn once and used everywhere."""
    if state.local is None:
        return _sample(state, domain, key, n)
    with one_blas_thread():
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
