"""The posterior as draws: functions at the levels of the training data, and at others by conditioning on these."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from probtensor.compilation import compiled
from probtensor.engines.placing import placed
from probtensor.engines.sweep import Beliefs
from probtensor.errors import ModelError
from probtensor.model import BoundModel
from probtensor.observations.domain import Domain
from probtensor.observations.levels import Found
from probtensor.priors.base import Sites
from probtensor.terms.base import AbstractBoundTerm, Block
from probtensor.terms.local import BoundLocal
from probtensor.typing import Array, Float, Key

Terms = tuple[AbstractBoundTerm, ...]
#: For each term, for each of its blocks.
Values = tuple[tuple[Float[Array, "T R"], ...], ...]

#: Precision of function values that are known, relative to that of the prior's typical values.
PINNED = 1e8
#: Numbers that a program gives at once, about.
_AT_ONCE = 1_000_000


def refuse_local(engine: str, model: BoundModel) -> None:
    """Raises ModelError in an engine's name for a model with a local term."""
    if any(isinstance(term, BoundLocal) for term in model.terms):
        raise ModelError(
            f"{engine} does not sample models with a Local term, which is one with the noise; use "
            "pt.MessagePassing(), or leave the Local term out"
        )


class Draws(NamedTuple):
    """S joint draws of all functions, and of the hyper-parameters under which they were drawn.

    Attributes:
        values: for each term and block (S, T, R) functions at the block's own points.
        learned: the terms with (S, ...) arrays where hyper-parameters were drawn, None elsewhere.
        likelihood: the same of the likelihood; None: its parameters are held.
        stats: (S,) numbers that the sampler gave of each draw, by name; None where it is not known.
    """

    values: Values
    learned: Any
    likelihood: Any = None
    stats: dict[str, Array] | None = None

    @property
    def number(self) -> int:
        """S; zero for a model without blocks."""
        return next((len(values) for values in jax.tree.leaves(self.values)), 0)

    @classmethod
    def of(cls, terms: Terms, values: Sequence[Values]) -> Draws:
        """From draws one by one, all under the terms' own hyper-parameters."""
        return cls(jax.tree.map(lambda *each: jnp.stack(each), *values), eqx.filter(terms, False))


def picked(draws: Draws, key: Key, n: int) -> Draws:
    """Draws n of them in random order, none again before all have been."""
    rounds = -(-n // draws.number)
    order = jax.vmap(lambda one: jax.random.permutation(one, draws.number))(jax.random.split(key, rounds))
    return jax.tree.map(lambda leaf: leaf[order.ravel()[:n]], draws)


class Moments(NamedTuple):
    """Mean and variance at each entry of a domain, flattened."""

    mean: Float[np.ndarray, "E"]
    variance: Float[np.ndarray, "E"]


def total(terms: Terms, values: Values, domain: Domain) -> Float[Array, "E"]:
    """The terms' sum at every entry of the training domain, flattened."""
    parts = [t.draw(t.at_entries(v, domain), domain) for t, v in zip(terms, values, strict=True) if t.blocks]
    return jnp.broadcast_to(sum(parts, start=jnp.zeros(())), domain.shape).ravel()


def moments(signals: Iterable[Float[np.ndarray, "E"]]) -> Moments:
    """Over draws, one after the other: Welford's way, in which large means lose no digits."""
    number, mean, squares = 0, np.zeros(()), np.zeros(())
    for drawn in signals:
        number += 1
        before = drawn - mean
        mean = mean + before / number
        squares = squares + before * (drawn - mean)
    return Moments(mean, squares / max(number - 1, 1))


def signals(
    terms: Terms, draws: Draws, domain: Domain, chosen: Sequence[int], known: bool, key: Key
) -> Iterator[Float[np.ndarray, "E"]]:
    """The sum of some terms at every entry of a domain, for each draw.

    Args:
        terms: of the model.
        draws: of their functions.
        domain: where.
        chosen: positions of the terms; those without blocks add nothing.
        known: the domain is that of the training data.
        key: of the functions at coordinates that the training data do not have; the same functions whichever terms are
            chosen.
    """
    keep = tuple(j for j, t in enumerate(terms) if j in chosen and t.blocks)
    size, number = int(np.prod(domain.shape)), draws.number
    if not keep:
        yield from (np.zeros(size) for _ in range(max(number, 1)))
        return
    own = tuple(terms[j] for j in keep)
    found = None if known else tuple(placed(term, domain) for term in own)
    keys = jax.vmap(lambda one: jax.random.split(one, len(terms)))(jax.random.split(key, number))[:, np.array(keep)]
    drawn = (tuple(draws.values[j] for j in keep), tuple(draws.learned[j] for j in keep), keys)
    together = min(max(_AT_ONCE // max(size, 1), 1), number)
    for begin in range(0, number, together):
        # The last ones are repeated, so that one program serves all.
        rows = np.minimum(np.arange(begin, begin + together), number - 1)
        some = jax.tree.map(lambda leaf, rows=rows: leaf[rows], drawn)
        values = np.asarray(_at_training(own, some, domain) if found is None else _elsewhere(own, some, found, domain))
        yield from values[: number - begin]


@compiled
def _at_training(terms: Terms, drawn: tuple[Values, Any, Array], domain: Domain) -> Float[Array, "S E"]:
    return jax.lax.map(lambda values: total(terms, values, domain), drawn[0])


@compiled
def _elsewhere(
    terms: Terms, drawn: tuple[Values, Any, Array], found: tuple[tuple[Found, ...], ...], domain: Domain
) -> Float[Array, "S E"]:
    def one(drawn: tuple[Values, Any, Array]) -> Array:
        values, learned, keys = drawn
        under = eqx.combine(learned, terms)
        parts = zip(under, values, found, keys, strict=True)
        sums = [term.draw(_brought(term, own, places, key), domain) for term, own, places, key in parts]
        return jnp.broadcast_to(sum(sums, start=jnp.zeros(())), domain.shape).ravel()

    return jax.lax.map(one, drawn)


def _brought(
    term: AbstractBoundTerm, values: Sequence[Array], found: Sequence[Found], key: Key
) -> tuple[Float[Array, "M R"], ...]:
    """A draw of a term's functions where a domain needs them, given their values at the training levels."""
    out = []
    blocks = zip(term.blocks, values, found, jax.random.split(key, len(values)), strict=True)
    for block, value, (levels, others), one in blocks:
        if len(others):
            value = jnp.concatenate([value, _extended(block, value, jnp.asarray(others), one)])
        out.append(value[levels])
    return tuple(out)


def _extended(block: Block, value: Float[Array, "T R"], points: Float[Array, "U ..."], key: Key) -> Float[Array, "U R"]:
    precision = PINNED / jnp.maximum(jnp.mean(value**2), jnp.finfo(value.dtype).tiny)
    T, R = value.shape
    sites = Sites(precision * value, jnp.broadcast_to(precision * jnp.eye(R, dtype=value.dtype), (T, R, R)))
    return block.prior.sample(block.posterior(sites), points, key, 1)[0]


def summaries(beliefs: Beliefs, values: Values) -> Beliefs:
    """Mean and covariance over the draws in the place of each belief's own; values: (S, T, R) each."""
    out = []
    for part, own in zip(beliefs, values, strict=True):
        summed = []
        for belief, drawn in zip(part, own, strict=True):
            stack = np.asarray(drawn)
            mean = stack.mean(axis=0)
            cov = np.einsum("str,stq->trq", stack - mean, stack - mean) / max(len(stack) - 1, 1)
            summed.append(belief._replace(mean=jnp.asarray(mean), cov=jnp.asarray(cov)))
        out.append(tuple(summed))
    return tuple(out)
