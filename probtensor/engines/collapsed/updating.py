"""New observations for a model with a local term: its old ones are kept, or the newest of them.

The draws go on under the contrasts of kept and new observations together, with the hyper-parameters as they are, and
under what observations that are no longer kept said of the blocks (see `said`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from probtensor.axes import Axis
from probtensor.compilation import compiled, on_device
from probtensor.engines.collapsed.conditional import Chain
from probtensor.engines.collapsed.contrasts import contrasts
from probtensor.engines.collapsed.entries import Training, training
from probtensor.engines.collapsed.fit import IN_STEP, TO_START, Collapsed, Local
from probtensor.engines.collapsed.said import AllSaid, said_by, with_said
from probtensor.engines.collapsed.signal import Signal
from probtensor.engines.drawn import PINNED, Draws, Terms, Values, summaries
from probtensor.engines.sweep import Beliefs, State
from probtensor.kernels.adapted import extended
from probtensor.model import BoundModel
from probtensor.observations.domain import Domain, Observations
from probtensor.observations.layout import Points
from probtensor.observations.levels import find
from probtensor.priors.base import Belief, Sites, empty_sites
from probtensor.terms.base import AbstractBoundTerm, Block, Places
from probtensor.terms.local import BoundLocal
from probtensor.typing import Array, Bool, Float

#: Places at most whose covariances an adapted kernel keeps; predictions extend them by more at a time.
_MOST_CELLS = 7000
#: Sweeps that settle the chain on old and new observations, from a draw on the old ones.
_SETTLE = 4


class Memory(NamedTuple):
    """What an update keeps of what was absorbed before.

    Attributes:
        forget: the share of it that is forgotten, from 0 to below 1.
        lag: how far local terms' observations lie behind the newest at most, by mode, in its unit; none: all are kept.
    """

    forget: float = 0.0
    lag: Mapping[str, float] = {}


def update(
    state: State, axes: Mapping[str, Axis], new: Observations, draws: int, seed: int, memory: Memory
) -> Collapsed:
    """The joint fit after new observations.

    Cost that of sweeps over the kept and the new observations; without a lag all old ones are kept.

    Args:
        state: of a fit with a local term.
        axes: every mode that the model reads, with old and new levels.
        new: as a list, on a domain of these levels.
        draws: to keep.
        seed: of the draws.
        memory: what is kept of the old.
    """
    begun, local = time.perf_counter(), state.local
    assert local is not None
    grown = [term.grown(axes, new.domain) for term in state.model.terms]
    terms, places = tuple(term for term, _ in grown), tuple(own for _, own in grown)
    both = _together(local, new, 1 - memory.forget)
    data = training(both, local.names, local.kernel.dims)
    local = _with_cells(local, data.pooled.entries.points)
    terms = tuple(_with_kernel(j, term, local) for j, term in enumerate(terms))
    said = None if local.said is None else _moved(local.said, terms, places, 1 - memory.forget)
    ranks = tuple(tuple(int(b.mean.shape[1]) for b in part) for part in state.beliefs)
    signal = Signal(terms, ranks, both.domain, data.rows, levels=said is not None)
    noise, values = contrasts(local.kernel, local.noise, data.pooled, local.neighbours), data.values
    if said is not None:
        noise, values = with_said(noise, values, said)
    beliefs = _begun(terms, places, state.beliefs, local.values[-1])
    chain, trace, kept = Chain(signal.whitened(beliefs, TO_START), seed, IN_STEP), [], []
    for sweep in range(_SETTLE + max(draws // 2, 1) if signal.size else 1):
        found = chain.sweep(signal, noise, values)
        kept += found if sweep >= _SETTLE or not signal.size else []
        density = noise.log_density(values - signal(chain.white))
        trace.append(density - 0.5 * float(chain.white @ chain.white))
    drawn = tuple(signal.values(one) for one in kept)
    residuals = np.stack([data.values - signal(one)[: len(data.values)] for one in kept])
    after = local._replace(training=data, values=drawn, observations=both, said=said, field=None)
    after = after._replace(residuals=data.pooled.means(residuals))
    if memory.lag:
        after = _without_old(after, signal, residuals, memory.lag)
    summed = summaries(beliefs, Draws.of(terms, drawn).values)
    return Collapsed(
        BoundModel(terms, state.model.likelihood), summed, after, np.array(trace), time.perf_counter() - begun
    )


def _together(local: Local, new: Observations, share: float) -> Observations:
    """The kept observations, whose weights are a share of what they were, and the new ones, as a list.

    Close numbers share programs: the last of them may have no weight.
    """
    old = local.observations.at(local.training.rows)
    assert isinstance(new.domain.layout, Points) and isinstance(old.domain.layout, Points)
    index = np.array(new.domain.layout.index)
    before = np.zeros((old.values.shape[0], index.shape[1]), index.dtype)
    levels = np.asarray(old.domain.layout.index)
    for column in range(index.shape[1]):
        name = next(name for name, place in new.domain.position if place == column)
        moved = find(np.asarray(new.domain.points[name]), np.asarray(old.domain.points[name])).levels
        before[:, column] = moved[levels[:, old.domain.base(name)]]

    def joined(one: Array | np.ndarray, other: Array | np.ndarray) -> Array:
        return on_device(np.concatenate([np.asarray(one), np.asarray(other)]))

    where = Domain(Points(joined(before, index)), new.domain.points, new.domain.position)
    return Observations(where, joined(old.values, new.values), joined(share * old.weights, new.weights)).filled()


def _with_cells(local: Local, points: Float[np.ndarray, "M D"]) -> Local:
    """With an adapted kernel's covariances at places that it has not met, too."""
    return local._replace(kernels=tuple((place, extended(own, points, _MOST_CELLS)) for place, own in local.kernels))


def _with_kernel(position: int, term: AbstractBoundTerm, local: Local) -> AbstractBoundTerm:
    kernel = dict(local.kernels).get(position)
    return term if kernel is None else BoundLocal(kernel, local.names, local.neighbours)


def _moved(said: AllSaid, terms: Terms, places: tuple[tuple[Places, ...], ...], share: float) -> AllSaid:
    triples = zip(said, terms, places, strict=True)
    return tuple(
        tuple(s.moved(at, len(b.points), share) for s, b, at in zip(own, term.blocks, where, strict=True))
        for own, term, where in triples
    )


def _begun(terms: Terms, places: tuple[tuple[Places, ...], ...], beliefs: Beliefs, values: Values) -> Beliefs:
    """Beliefs at old and new levels whose means are a draw at the old ones; how wide they are is as before."""
    out = []
    for term, where, own, drawn in zip(terms, places, beliefs, values, strict=True):
        rows = zip(term.blocks, where, own, drawn, strict=True)
        out.append(tuple(_at_levels(block, at, belief, value) for block, at, belief, value in rows))
    return tuple(out)


def _at_levels(block: Block, places: Places, belief: Belief, value: Float[Array, "T R"]) -> Belief:
    levels, (_, R) = len(block.points), value.shape
    precision = PINNED / max(float(np.mean(np.asarray(value) ** 2)), np.finfo(float).tiny)
    eta, pinned = np.zeros((levels, R)), np.zeros((levels, R, R))
    eta[places], pinned[places] = precision * np.asarray(value), precision * np.eye(R)
    mean = _posterior(block, Sites(on_device(eta), on_device(pinned))).mean
    nothing = empty_sites(levels, R, value.dtype)
    return belief._replace(mean=mean, points=block.points, sites=nothing)


@compiled
def _posterior(block: Block, sites: Sites) -> Belief:
    return block.posterior(sites)


def _without_old(local: Local, signal: Signal, residuals: Float[np.ndarray, "S N"], lag: Mapping[str, float]) -> Local:
    """Without the observations behind the lag; what they said of the blocks, given those that are kept, is."""
    old = _old(local.observations, local.training, lag)
    if not old.any():
        return local
    observations, names, dims = local.observations, local.names, local.kernel.dims
    last = training(observations, names, dims, old)
    noise = contrasts(local.kernel, local.noise, last.pooled, local.neighbours)
    more = said_by(old, signal, noise, last.values, local.values)
    said = more if local.said is None else _both(local.said, more)
    kept = observations.at(last.rows[~old])
    data = training(kept, names, dims)
    return local._replace(observations=kept, training=data, residuals=data.pooled.means(residuals[:, ~old]), said=said)


def _both(one: AllSaid, other: AllSaid) -> AllSaid:
    pairs = zip(one, other, strict=True)
    return tuple(tuple(a + b for a, b in zip(*pair, strict=True)) for pair in pairs)


def _old(observations: Observations, data: Training, lag: Mapping[str, float]) -> Bool[np.ndarray, "N"]:
    """Which observed entries lie further behind the newest than they may."""
    domain = observations.domain
    assert isinstance(domain.layout, Points)
    levels, out = np.asarray(domain.layout.index)[data.rows], np.zeros(len(data.rows), dtype=bool)
    for name, length in lag.items():
        place = np.asarray(domain.points[name])[levels[:, domain.base(name)]]
        out |= place < place.max() - length
    return out
