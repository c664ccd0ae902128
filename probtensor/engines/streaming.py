"""Absorbing new observations into a fitted state without the old ones: what these said is in the sites.

The sites of old observations are a Gaussian factor of each block, and the new ones are fitted by message passing under
prior times factor. Coordinates that are new become levels of which the factor says nothing. Hyper-parameters stay.

Source: Broderick et al. 2013, Streaming variational Bayes, section 2 (the posterior as the next prior), mode by mode.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import equinox as eqx
import jax
import numpy as np

from probtensor.axes import Axis
from probtensor.compilation import compiled, on_device, one_blas_thread, padded, shared_size
from probtensor.engines.base import Fit
from probtensor.engines.collapsed import updating
from probtensor.engines.collapsed.updating import Memory
from probtensor.engines.message_passing import MessagePassing
from probtensor.engines.sweep import Beliefs, State
from probtensor.errors import ModelError
from probtensor.model import BoundModel
from probtensor.observations.domain import Domain, Observations, joint_levels
from probtensor.observations.layout import Points
from probtensor.observations.levels import find
from probtensor.priors.base import Belief, Sites
from probtensor.terms.base import AbstractBoundTerm, Places
from probtensor.typing import Array

#: Of draws; nothing else in an update is random.
_SEED = 0


def absorb(
    state: State, axes: Mapping[str, Axis], observations: Observations, engine: MessagePassing, memory: Memory
) -> Fit:
    """The state after new observations.

    Cost that of sweeps over the new observations and of smoothing all levels; how many observations were absorbed
    before does not matter, unless a local term keeps them. Numbers of observations and of levels are padded, so that
    updates of like size share their programs.

    Args:
        state: of a fit by message passing or stochastic inference.
        axes: every mode that the model reads, with old and new levels.
        observations: the new ones, as a list, on a domain of these levels (see `with_old_joint_levels`).
        engine: whose tolerance and bound on sweeps count.
        memory: what is kept of the old ones.

    Raises:
        ModelError: the state is one of draws without sites, or there is a lag and no local term to have it.
    """
    if state.draws is not None:
        raise ModelError("update: draws of a sampler need all observations; fit old and new ones together")
    if state.local is not None:
        return _with_local(state, axes, observations, engine, memory)
    if memory.lag:
        raise ModelError("lag= says which observations a Local term keeps, and the model has none; leave it out")
    sizes = {name: len(points) for name, points in observations.domain.points.items()}
    where = _padded(observations)
    terms, base = [], []
    for term, beliefs in zip(state.model.terms, state.beliefs, strict=True):
        larger, places = term.grown(axes, where.domain)
        own = zip(beliefs, places, larger.blocks, strict=True)
        base.append(tuple(_moved(b, at, len(block.points), 1 - memory.forget) for b, at, block in own))
        terms.append(larger)
    model, rule = BoundModel(tuple(terms), state.model.likelihood), state.rule
    with one_blas_thread():
        held = dataclasses.replace(rule, held=True)
        start = _beliefs(model.terms, tuple(base))
        init = state._replace(model=model, beliefs=start, base=tuple(base), rule=held)
        # Another start would know nothing of the old observations.
        fit = dataclasses.replace(engine, restarts=1).run(model, where, jax.random.key(_SEED), init=init)
    kept = [_cut(t, b, sizes) for t, b in zip(fit.state.model.terms, fit.state.beliefs, strict=True)]
    model = BoundModel(tuple(t for t, _ in kept), state.model.likelihood)
    after = fit.state._replace(model=model, beliefs=tuple(b for _, b in kept), base=None, rule=rule, pseudo=None)
    return fit._replace(state=after)


def _with_local(
    state: State, axes: Mapping[str, Axis], observations: Observations, engine: MessagePassing, memory: Memory
) -> Fit:
    with one_blas_thread():
        found = updating.update(state, axes, observations, engine.draws, _SEED, memory)
    local = found.local
    reason = (
        f"after {len(found.objective)} sweeps of draws under {len(local.training.rows)} observations that the local "
        f"term keeps, the last {len(local.values)} draws kept"
    )
    after = state._replace(model=found.model, beliefs=found.beliefs, local=local)
    return Fit(after, found.objective, True, reason, 0.0, found.seconds, (float(found.objective[-1]),))


def with_old_joint_levels(state: State, axes: Mapping[str, Axis], observations: Observations) -> Observations:
    """Joined modes with the levels of the state beside those of the observations: all combinations if it had all."""
    domain, layout = observations.domain, observations.domain.layout
    assert isinstance(layout, Points)
    points, index = dict(domain.points), np.array(layout.index)
    for term in state.model.terms:
        for k, block in enumerate(term.blocks):
            name = term.mode_of(k)
            if name is None or points[name].ndim < 2:
                continue
            old, new = np.asarray(block.points), np.asarray(points[name])
            columns = [np.unique(column) for column in old.T]
            every = np.unique(np.concatenate([old, new]), axis=0)
            if len(old) == np.prod([len(c) for c in columns]):
                parts = [np.unique(axes[part.name].points) for part in axes[name].parts]
                every = joint_levels(parts, None)[0]
            place = domain.place(name)
            assert isinstance(place, int)
            index[:, place] = find(every, new).levels[index[:, place]]
            points[name] = on_device(every)
    where = Domain(Points(on_device(index)), points, domain.position)
    return eqx.tree_at(lambda o: o.domain, observations, where)


def _padded(observations: Observations) -> Observations:
    """Sizes that close ones share: levels are repeated, and observations added that say nothing.

    On the host, like all that is done here with sizes of their own: otherwise each would be compiled for.
    """
    own = observations.domain.points.items()
    points = {name: on_device(padded(np.asarray(p), shared_size(len(p)))) for name, p in own}
    return eqx.tree_at(lambda o: o.domain.points, observations.filled(), points)


@compiled
def _beliefs(terms: tuple[AbstractBoundTerm, ...], base: tuple[tuple[Sites, ...], ...]) -> Beliefs:
    pairs = zip(terms, base, strict=True)
    return tuple(tuple(b.posterior(s) for b, s in zip(t.blocks, own, strict=True)) for t, own in pairs)


def _moved(belief: Belief, places: Places, number: int, share: float) -> Sites:
    """A share of a belief's sites at their places among more levels, where the others say nothing."""

    def moved(old: Array) -> Array:
        new = np.zeros((number, *old.shape[1:]), old.dtype)
        np.add.at(new, places, share * np.asarray(old))
        return on_device(new)

    return Sites(moved(belief.sites.eta), moved(belief.sites.precision), belief.sites.origin)


def _cut(
    term: AbstractBoundTerm, beliefs: tuple[Belief, ...], sizes: Mapping[str, int]
) -> tuple[AbstractBoundTerm, tuple[Belief, ...]]:
    """A term and its beliefs without the levels that only pad; sizes: how many levels each mode has."""
    cut = []
    for k, b in enumerate(beliefs):
        name = term.mode_of(k)
        n = b.points.shape[0] if name is None else sizes[name]
        mean, cov, points, eta, precision = (
            on_device(np.asarray(whole)[:n]) for whole in (b.mean, b.cov, b.points, b.sites.eta, b.sites.precision)
        )
        sites = Sites(eta, precision, b.sites.origin)
        cut.append(b._replace(mean=mean, cov=cov, points=points, sites=sites))
    return term.with_points([b.points for b in cut]), tuple(cut)
