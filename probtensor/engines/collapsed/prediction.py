"""The signal of a model with a local term: the other terms' draws, and the local term given what each leaves over."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import jax
import numpy as np

from probtensor.engines import drawn
from probtensor.engines.collapsed.entries import coordinates
from probtensor.engines.collapsed.fit import Local
from probtensor.engines.drawn import Draws, Moments
from probtensor.kernels.adapted import adapted_part, extended
from probtensor.kernels.field import AbstractFieldKernel, summed
from probtensor.model import BoundModel
from probtensor.nearest.conditionals import Entries
from probtensor.nearest.kriging import Kriged, draw, krige
from probtensor.observations.domain import Domain
from probtensor.typing import Float, Int, Key

#: Cells of an adapted kernel that are predicted at a time.
_CELLS = 2500


def moments(model: BoundModel, local: Local, domain: Domain, terms: Sequence[int], known: bool, key: Key) -> Moments:
    """Mean and variance of the sum of some terms over the draws, and of the local term within each draw.

    Variances are as large as errors in gaps were, where that is known.

    Args:
        model: fitted.
        local: its local part.
        domain: where.
        terms: positions of the terms.
        known: the domain is that of the training data.
        key: of the functions at coordinates that the training data do not have.
    """
    places = _places(local, domain)
    found = _moments(model, local, domain, places, terms, known, key)
    if local.spread is None:
        return found
    return found._replace(variance=found.variance * local.spread.at(places) ** 2)


def _moments(
    model: BoundModel,
    local: Local,
    domain: Domain,
    places: Float[np.ndarray, "E D"],
    terms: Sequence[int],
    known: bool,
    key: Key,
) -> Moments:
    """As the model says."""
    size = int(np.prod(domain.shape))
    chosen = [kernel for place, kernel in local.kernels if place in terms]
    if local.field is not None and len(chosen) == len(local.kernels):
        solved = local.field.at(places)
        if solved is not None:
            others = drawn.moments(_signals(model, local, domain, terms, known, key))
            return Moments(others.mean + solved[0], others.variance + solved[1])
    if chosen:
        found = _kriged(local, places, summed(chosen))
    else:
        found = Kriged(np.zeros((len(local.residuals), size)), np.zeros(size))
    apart = _signals(model, local, domain, terms, known, key)
    mean, variance = drawn.moments(one + within for one, within in zip(apart, found.mean, strict=True))
    return Moments(mean, variance + found.variance)


def draws(model: BoundModel, local: Local, domain: Domain, key: Key, n: int) -> Float[np.ndarray, "n E"]:
    """Joint draws of the signal: those of the other terms in turn, each with a draw of the local term of its own."""
    first, second = jax.random.split(key)
    terms = tuple(range(len(model.terms)))
    signals = list(_signals(model, local, domain, terms, False, first))
    pick, places = np.arange(n) % len(signals), _places(local, domain)
    found = np.stack([signals[k] for k in pick]) + _local_draws(local, places, second, pick)
    if local.spread is None:
        return found
    middle = _moments(model, local, domain, places, terms, False, first).mean
    return middle + local.spread.at(places) * (found - middle)


def _local_draws(
    local: Local, points: Float[np.ndarray, "E D"], key: Key, pick: Int[np.ndarray, "n"]
) -> Float[np.ndarray, "n E"]:
    """Of the local term, each given the residuals of one draw of the other terms."""
    if local.field is not None:
        found = local.field.joint(points, int(jax.random.bits(key)), len(pick))
        if found is not None:
            return found
    places, back = np.unique(points, axis=0, return_inverse=True)
    white = np.asarray(jax.random.normal(key, (len(pick), len(places))))
    kernel, noise, entries, residuals = _given(local)
    values = draw(extended(kernel, places), noise, entries, residuals[pick], places, local.neighbours, white)
    return values[:, back.ravel()]


def _kriged(local: Local, places: Float[np.ndarray, "E D"], part: AbstractFieldKernel) -> Kriged:
    """At some places; of an adapted kernel with so many new cells at a time as its table can grow by."""
    kernel, noise, entries, residuals = _given(local)
    own = adapted_part(kernel)
    if own is None or own.table is None:
        return krige(kernel, noise, entries, residuals, places, local.neighbours, part)
    cells, cell = np.unique(places[:, list(own.columns)], axis=0, return_inverse=True)
    mean, variance = np.zeros((len(residuals), len(places))), np.zeros(len(places))
    for at in range(0, len(cells), _CELLS):
        rows = np.flatnonzero((cell.ravel() >= at) & (cell.ravel() < at + _CELLS))
        some = places[rows]
        wider = extended(kernel, some)
        found = krige(wider, noise, entries, residuals, some, local.neighbours, extended(part, some))
        mean[:, rows], variance[rows] = found.mean, found.variance
    return Kriged(mean, variance)


def _given(local: Local) -> tuple[AbstractFieldKernel, float, Entries, Float[np.ndarray, "S M"]]:
    return local.kernel, local.noise, local.training.pooled.entries, local.residuals


def _places(local: Local, domain: Domain) -> Float[np.ndarray, "E D"]:
    return coordinates(domain, local.names, np.arange(int(np.prod(domain.shape))), local.kernel.dims)


def _signals(
    model: BoundModel, local: Local, domain: Domain, terms: Sequence[int], known: bool, key: Key
) -> Iterator[Float[np.ndarray, "E"]]:
    """The chosen terms' sum at every entry, for each draw."""
    return drawn.signals(model.terms, Draws.of(model.terms, local.values), domain, terms, known, key)
