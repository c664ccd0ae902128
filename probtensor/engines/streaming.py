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
import jax.numpy as jnp
import numpy as np

from probtensor.axes import Axis
from probtensor.compilation import compiled, one_blas_thread, padded, shared_size
from probtensor.engines.base import Fit
from probtensor.engines.message_passing import MessagePassing
from probtensor.engines.sweep import Beliefs, State
from probtensor.errors import ModelError
from probtensor.model import BoundModel
from probtensor.observations.domain import Domain, Observations, joint_levels
from probtensor.observations.layout import Points
from probtensor.observations.levels import find
from probtensor.priors.base import Belief, Sites, empty_sites
from probtensor.terms.base import AbstractBoundTerm, Places


def absorb(
    state: State, axes: Mapping[str, Axis], observations: Observations, engine: MessagePassing, forget: float
) -> Fit:
    """The state after new observations.

    Cost that of sweeps over the new observations and of smoothing all levels; how many observations were absorbed
    before does not matter. Numbers of observations and of levels are padded, so that updates of like size share their
    programs.

    Args:
        state: of a fit by message passing or stochastic inference.
        axes: every mode that the model reads, with old and new levels.
        observations: the new ones, as a list, on a domain of these levels (see `with_old_joint_levels`).
        engine: whose tolerance and bound on sweeps count.
        forget: the share of what the old observations say that is forgotten, from 0 to below 1.

    Raises:
        ModelError: a term cannot take new levels.
    """
    if state.local is not None or state.draws is not None:
        raise ModelError(
            "update: a Local term, and draws of NUTS, need all observations; fit old and new ones together"
        )
    sizes = {name: len(points) for name, points in observations.domain.points.items()}
    where = _padded(observations)
    keep = jnp.asarray(1 - forget, where.values.dtype)
    terms, base = [], []
    for term, beliefs in zip(state.model.terms, state.beliefs, strict=True):
        larger, places = term.grown(axes, where.domain)
        own = zip(beliefs, places, larger.blocks, strict=True)
        base.append(tuple(_moved(b, at, len(block.points)).times(keep) for b, at, block in own))
        terms.append(larger)
    model, rule = BoundModel(tuple(terms), state.model.likelihood), state.rule
    with one_blas_thread():
        held = dataclasses.replace(rule, held=True)
        start = _beliefs(model.terms, tuple(base))
        init = state._replace(model=model, beliefs=start, base=tuple(base), rule=held)
        fit = engine.run(model, where, jax.random.key(0), init=init)
    kept = [_cut(t, b, sizes) for t, b in zip(fit.state.model.terms, fit.state.beliefs, strict=True)]
    model = BoundModel(tuple(t for t, _ in kept), state.model.likelihood)
    after = fit.state._replace(model=model, beliefs=tuple(b for _, b in kept), base=None, rule=rule, pseudo=None)
    return fit._replace(state=after)


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
            points[name] = jnp.asarray(every)
    where = Domain(Points(jnp.asarray(index)), points, domain.position)
    return eqx.tree_at(lambda o: o.domain, observations, where)


def _padded(observations: Observations) -> Observations:
    """Sizes that close ones share: levels are repeated, and observations added that say nothing."""
    domain, layout = observations.domain, observations.domain.layout
    assert isinstance(layout, Points)
    points = {name: jnp.asarray(padded(np.asarray(p), shared_size(len(p)))) for name, p in domain.points.items()}
    number = len(layout.index)
    rows = np.pad(np.arange(number), (0, shared_size(number) - number), constant_values=-1)
    larger = observations.at(rows)
    return eqx.tree_at(lambda o: o.domain.points, larger, points)


@compiled
def _beliefs(terms: tuple[AbstractBoundTerm, ...], base: tuple[tuple[Sites, ...], ...]) -> Beliefs:
    pairs = zip(terms, base, strict=True)
    return tuple(tuple(b.posterior(s) for b, s in zip(t.blocks, own, strict=True)) for t, own in pairs)


def _moved(belief: Belief, places: Places, number: int) -> Sites:
    """A belief's sites at their places among more levels, where the others say nothing."""
    old = belief.sites
    empty = empty_sites(number, old.eta.shape[1], old.eta.dtype)
    return Sites(empty.eta.at[places].add(old.eta), empty.precision.at[places].add(old.precision), old.origin)


def _cut(
    term: AbstractBoundTerm, beliefs: tuple[Belief, ...], sizes: Mapping[str, int]
) -> tuple[AbstractBoundTerm, tuple[Belief, ...]]:
    """A term and its beliefs without the levels that only pad; sizes: how many levels each mode has."""
    cut = []
    for k, b in enumerate(beliefs):
        name = term.mode_of(k)
        n = b.points.shape[0] if name is None else sizes[name]
        sites = Sites(b.sites.eta[:n], b.sites.precision[:n], b.sites.origin)
        cut.append(b._replace(mean=b.mean[:n], cov=b.cov[:n], points=b.points[:n], sites=sites))
    return term.with_points([b.points for b in cut]), tuple(cut)
