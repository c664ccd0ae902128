"""The signal of a model with a local term: the other terms' draws, and the local term given what each leaves over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from probtensor.compilation import compiled
from probtensor.engines.collapsed.entries import coordinates
from probtensor.engines.collapsed.fit import Local, summed
from probtensor.engines.collapsed.signal import Terms, Values, total
from probtensor.engines.placing import placed
from probtensor.kernels.field import AbstractFieldKernel
from probtensor.model import BoundModel
from probtensor.nearest.conditionals import Entries
from probtensor.nearest.kriging import Kriged, draw, krige
from probtensor.observations.domain import Domain
from probtensor.observations.levels import Found
from probtensor.priors.base import Sites
from probtensor.terms.base import AbstractBoundTerm, Block
from probtensor.typing import Array, Float, Key

#: Precision of function values that are known, relative to that of the prior's typical values.
_PINNED = 1e8


class Moments(NamedTuple):
    """Mean and variance at each entry of a domain, flattened."""

    mean: Float[np.ndarray, "E"]
    variance: Float[np.ndarray, "E"]


def moments(model: BoundModel, local: Local, domain: Domain, terms: Sequence[int], known: bool, key: Key) -> Moments:
    """Mean and variance of the sum of some terms over the draws, and of the local term within each draw.

    Args:
        model: fitted.
        local: its local part.
        domain: where.
        terms: positions of the terms.
        known: the domain is that of the training data.
        key: of the functions at coordinates that the training data do not have.
    """
    size = int(np.prod(domain.shape))
    chosen = [kernel for place, kernel in local.kernels if place in terms]
    if chosen:
        found = krige(*_given(local), _places(local, domain), local.neighbours, summed(chosen))
    else:
        found = Kriged(np.zeros((len(local.residuals), size)), np.zeros(size))
    number, mean, squares = 0, np.zeros(size), np.zeros(size)
    for drawn, within in zip(_signals(model, local, domain, terms, known, key), found.mean, strict=True):
        drawn = drawn + within
        number += 1
        before = drawn - mean
        mean = mean + before / number
        squares = squares + before * (drawn - mean)
    return Moments(mean, squares / max(number - 1, 1) + found.variance)


def draws(model: BoundModel, local: Local, domain: Domain, key: Key, n: int) -> Float[np.ndarray, "n E"]:
    """Joint draws of the signal: those of the other terms in turn, each with a draw of the local term of its own."""
    first, second = jax.random.split(key)
    terms = tuple(range(len(model.terms)))
    signals = list(_signals(model, local, domain, terms, False, first))
    pick = np.arange(n) % len(signals)
    places, back = np.unique(_places(local, domain), axis=0, return_inverse=True)
    white = np.asarray(jax.random.normal(second, (n, len(places))))
    kernel, noise, entries, residuals = _given(local)
    values = draw(kernel, noise, entries, residuals[pick], places, local.neighbours, white)
    return np.stack([signals[k] for k in pick]) + values[:, back.ravel()]


def _given(local: Local) -> tuple[AbstractFieldKernel, float, Entries, Float[np.ndarray, "S M"]]:
    return local.kernel, local.noise, local.training.pooled.entries, local.residuals


def _places(local: Local, domain: Domain) -> Float[np.ndarray, "E D"]:
    return coordinates(domain, local.names, np.arange(int(np.prod(domain.shape))), local.kernel.dims)


def _signals(
    model: BoundModel, local: Local, domain: Domain, terms: Sequence[int], known: bool, key: Key
) -> Iterator[Float[np.ndarray, "E"]]:
    """The chosen terms' sum at every entry, for each draw."""
    keep = tuple(j for j, t in enumerate(model.terms) if j in terms and t.blocks)
    places = [_Placed(model.terms[j], placed(model.terms[j], domain)) for j in keep] if not known else []
    for values, one in zip(local.values, jax.random.split(key, len(local.values)), strict=True):
        chosen = tuple(model.terms[j] for j in keep)
        own = tuple(values[j] for j in keep)
        if not keep:
            yield np.zeros(int(np.prod(domain.shape)))
        elif known:
            yield np.asarray(_at_training(chosen, own, domain))
        else:
            keys = jax.random.split(one, len(model.terms))  # the same functions whichever terms are asked for
            parts = zip(places, own, [keys[j] for j in keep], strict=True)
            yield np.asarray(_elsewhere(chosen, tuple(p.values(v, k) for p, v, k in parts), domain))


@compiled
def _at_training(terms: Terms, values: Values, domain: Domain) -> Array:
    return total(terms, values, domain)


@compiled
def _elsewhere(terms: Terms, values: Values, domain: Domain) -> Array:
    parts = [term.draw(own, domain) for term, own in zip(terms, values, strict=True)]
    return jnp.broadcast_to(sum(parts, start=jnp.zeros(())), domain.shape).ravel()


class _Placed(NamedTuple):
    """Where the functions of a term's blocks are needed: at levels of the training data, and at others."""

    term: AbstractBoundTerm
    found: tuple[Found, ...]

    def values(self, values: Sequence[Array], key: Key) -> tuple[Array, ...]:
        """A draw of the functions there, given their values at the training levels."""
        out = []
        blocks = zip(self.term.blocks, values, self.found, strict=True)
        for (block, value, (levels, others)), one in zip(blocks, jax.random.split(key, len(values)), strict=True):
            if len(others):
                value = jnp.concatenate([value, _extended(block, value, jnp.asarray(others), one)])
            out.append(value[levels])
        return tuple(out)


@compiled
def _extended(block: Block, value: Float[Array, "T R"], points: Float[Array, "U ..."], key: Key) -> Float[Array, "U R"]:
    precision = _PINNED / jnp.maximum(jnp.mean(value**2), jnp.finfo(value.dtype).tiny)
    T, R = value.shape
    sites = Sites(precision * value, jnp.broadcast_to(precision * jnp.eye(R, dtype=value.dtype), (T, R, R)))
    return block.prior.sample(block.posterior(sites), points, key, 1)[0]
