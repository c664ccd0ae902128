"""From a checked request to a posterior: the model is chosen, bound and fitted."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from probtensor.engines import sharded
from probtensor.engines.base import AbstractEngine, Fit, Progress
from probtensor.engines.checkpoint import Journal
from probtensor.engines.collapsed import fit as collapsed
from probtensor.engines.cost import cost_of
from probtensor.engines.message_passing import MessagePassing
from probtensor.engines.svi.engine import SVI
from probtensor.engines.sweep import State
from probtensor.errors import ModelError, warn
from probtensor.labelled import out_of_core, preparing, warm_start
from probtensor.labelled.checking import LOCAL_IS_NORMAL
from probtensor.labelled.encoded import Encoded
from probtensor.labelled.fitted import Fitted
from probtensor.labelled.made import Made
from probtensor.labelled.memory import check_cost, peak_memory, size
from probtensor.labelled.posterior import Posterior
from probtensor.labelled.request import Request
from probtensor.likelihoods.base import AbstractLikelihood
from probtensor.likelihoods.gaussian import Gaussian
from probtensor.model import BoundModel, as_sum, bind
from probtensor.observations.domain import Observations
from probtensor.observations.slabs import OnGrid
from probtensor.observations.sources import WEIGHTS, Elsewhere, sampled
from probtensor.observations.spilled import OnDisk
from probtensor.progress import bar, telling_time_left
from probtensor.selection import automatic, rank
from probtensor.selection.choice import Choice
from probtensor.selection.hiding import hidden
from probtensor.selection.hold_out import HoldOut, hold_out
from probtensor.selection.roles import times
from probtensor.selection.spreading import spread
from probtensor.terms.base import DataScale, Sum
from probtensor.terms.local import Local
from probtensor.terms.scale import scale_of

#: From fewer observations no gaps are made.
_FEW = 50
#: From so many entries of a grid on nothing of its size is made of it.
_LARGE = 2**22
#: A message-passing fit that could take so many seconds is told what it will take.
_LONG = 60.0
_LOG = logging.getLogger("probtensor")


def in_memory(
    request: Request,
    progress: Any,
    mesh: Mesh | None,
    journal: Callable[[BoundModel], Journal] | None = None,
) -> Posterior:
    """Models and ranks are chosen by message passing on the scale of the signal, as if values were normal there.

    Args:
        request: what is to be fitted to what.
        progress: as in `fit`.
        mesh: over which the observations are split.
        journal: of message passing, for the bound model.
    """
    encoded, model, likelihood, engine, seed, init = request
    if mesh is None and journal is None and not is_open(model) and _in_slabs(request, declared := as_sum(model)):
        slabs = out_of_core.in_memory(encoded, _modes_read(declared, likelihood, encoded))
        return _by_parts(request, declared, slabs, progress)
    passing = engine if isinstance(engine, MessagePassing) else MessagePassing()
    prepared = preparing.prepare(likelihood, encoded)
    choice: Choice | rank.Growth | None = None
    if isinstance(model, str):
        if model != "auto":
            raise ModelError(f"model={model!r}: expected 'auto' or terms such as pt.Offset() + pt.CP(rank=8)")
        model = automatic.Automatic()
    if isinstance(model, automatic.Automatic):
        if mesh is not None:
            sharded.refuse_choice(mesh, "model='auto'")
        choice = _choose(prepared, passing, seed, model.ranks)
        model = choice.model
        if passing is engine:
            engine = choice.engine
    declared = as_sum(model)
    if mesh is not None and any(isinstance(term, Local) for term in declared.terms):
        _say_unused(chosen=choice is not None)
        mesh = None
    modes = _modes_read(declared, likelihood, encoded)
    if choice is None:
        _warn_of_unread(modes, encoded)
    axes = encoded.axes(modes)
    observations = prepared.observations(modes)
    for term in declared.terms:
        if isinstance(term, Local):
            term.check(int(encoded.seen.sum()))
            if not prepared.plain:
                raise ModelError(LOCAL_IS_NORMAL)
    on_signal = observations if prepared.plain else prepared.on_signal(modes)
    # Of very many observations defaults are read off a sample, as where they are not in memory.
    scale = scale_of(sampled(on_signal), cycles=declared.open_periods > 0)
    if rank.is_open(declared):
        if init is not None:
            raise ModelError('init= starts one fit, and rank="auto" makes many; give the rank, or leave init out')
        if mesh is not None:
            sharded.refuse_choice(mesh, 'rank="auto"')
        names = tuple(encoded.coordinates)
        choice = rank.choose(declared, axes, names, on_signal, prepared.chooser, passing, scale, seed, _LOG.info)
        declared = choice.model
    bound = bind(declared, axes, likelihood, scale)
    engine = engine.resolved_for(bound)
    _tell_start(engine, bound, int(encoded.seen.sum()), encoded.seen.size)
    if isinstance(engine, MessagePassing) and mesh is None and not collapsed.positions(bound):
        _check_cost(engine, bound, observations)
    with _progress(progress, isinstance(engine, MessagePassing)) as report:
        start = choice.start if choice is not None and prepared.plain else None
        if init is not None:
            start = warm_start.state(init, bound, encoded, modes)
        gaps = _gaps(bound, encoded, observations, seed)
        run: Callable[..., Fit] = engine.run if mesh is None else functools.partial(sharded.run, engine, mesh)
        if journal is not None:
            run = functools.partial(run, journal=journal(bound))
        result = prepared.placed(run(bound, observations, jax.random.key(seed), report, start, gaps))
    if isinstance(choice, Choice) and choice.held is not None and isinstance(engine, MessagePassing):
        state = _with_spread(result.state, choice.held, engine, encoded, observations, seed)
        result = result._replace(state=state)
    _tell_end(result)
    fitted = Fitted(encoded, modes, observations, likelihood, result.state)
    return Posterior(fitted, Made(declared, engine, choice, seed, result, peak_memory()))


def from_disk(request: Request, progress: Any) -> Posterior:
    """From a copy of the observations on disk; what can be refused without reading them is refused first.

    Args:
        request: what is to be fitted to what, by `SVI` or `MessagePassing`.
        progress: as in `fit`.
    """
    encoded, model, likelihood, engine, _, _ = request
    assert isinstance(engine, SVI | MessagePassing)
    if is_open(model):
        out_of_core.refuse_choice(f"model={model!r}")
    declared = as_sum(model)
    if rank.is_open(declared):
        out_of_core.refuse_choice('rank="auto"')
    out_of_core.refuse_scale(likelihood)
    modes = _modes_read(declared, likelihood, encoded)
    outlined = _outlined(declared, modes, likelihood, encoded)
    engine.resolved_for(outlined)
    where = out_of_core.own_domain(encoded, modes)
    if isinstance(engine, SVI):
        with out_of_core.spilled(encoded, likelihood) as spill:
            return _by_parts(request, declared, spill.sealed(where), progress)
    engine.check_by_parts(outlined, set(encoded.apart or {}) - {WEIGHTS})
    with out_of_core.on_grid(encoded, likelihood) as files:
        return _by_parts(request, declared, files.sealed(where), progress)


def _outlined(declared: Sum, modes: tuple[str, ...], likelihood: AbstractLikelihood, encoded: Encoded) -> BoundModel:
    """A model whose numbers say nothing yet: enough to ask what an engine can do with it before data are read."""
    return bind(declared, encoded.axes(modes), likelihood, DataScale(0.0, 1.0))


def _in_slabs(request: Request, declared: Sum) -> bool:
    """Whether a grid in memory is so large that nothing of its size should be made of it, and can be read by slabs."""
    encoded, _, likelihood, engine, _, init = request
    if encoded.index is not None or encoded.values.size < _LARGE or init is not None or rank.is_open(declared):
        return False
    if not (isinstance(engine, MessagePassing) and isinstance(likelihood, Gaussian)):
        return False
    if likelihood.scale or likelihood.transform:
        return False
    outlined = _outlined(declared, _modes_read(declared, likelihood, encoded), likelihood, encoded)
    try:
        engine.resolved_for(outlined).check_by_parts(outlined, encoded.known)
    except ModelError:
        return False
    return True


def _by_parts(request: Request, declared: Sum, source: OnDisk | OnGrid, progress: Any) -> Posterior:
    """Of observations that are read part by part."""
    encoded, _, likelihood, engine, seed, init = request
    assert isinstance(engine, SVI | MessagePassing)
    modes = _modes_read(declared, likelihood, encoded)
    _warn_of_unread(modes, encoded)
    scale = scale_of(out_of_core.sample(source, encoded, likelihood), cycles=declared.open_periods > 0)
    bound = bind(declared, encoded.axes(modes), likelihood, scale)
    engine = engine.resolved_for(bound)
    start = None if init is None else warm_start.state(init, bound, encoded, modes)
    entries = math.prod(source.domain.shape)
    _tell_start(engine, bound, source.count, entries)
    if isinstance(engine, MessagePassing):
        _check_cost(engine, bound, source.nothing(), entries)
    run: Callable[..., Fit] = engine.run
    with _progress(progress, isinstance(engine, MessagePassing)) as report:
        result = run(bound, source, jax.random.key(seed), report, start)
    _tell_end(result)
    fitted = Fitted(encoded, modes, Elsewhere(source.domain, source.count), likelihood, result.state)
    return Posterior(fitted, Made(declared, engine, None, seed, result, peak_memory()))


def _tell_start(engine: AbstractEngine, bound: BoundModel, seen: int, size: int) -> None:
    _LOG.info("%s begins: terms %d, observed %d of %d entries", type(engine).__name__, len(bound.terms), seen, size)


def _check_cost(
    engine: MessagePassing, bound: BoundModel, observations: Observations, whole: int | None = None
) -> None:
    """Raises ModelError where memory has no room for the fit; tells of one that could take long."""
    cost = cost_of(bound, observations, engine.coupling == "component", engine.rule == "cep", whole)
    check_cost(cost)
    assert engine.max_sweeps is not None
    if cost.sweep_seconds * engine.max_sweeps * engine.restarts > _LONG:
        said = "about %s of memory, of the order of %.2g s a sweep, and at most %d sweeps from each of %d starts"
        _LOG.info(said, size(cost.peak), cost.sweep_seconds, engine.max_sweeps, engine.restarts)


def _tell_end(result: Fit) -> None:
    _LOG.info("%s, %.1f s compiling and %.1f s running", result.reason, result.compile_seconds, result.run_seconds)


def _say_unused(chosen: bool) -> None:
    """Warns that a local term has no use for a mesh. Raises ModelError if it was asked for, and not chosen."""
    if not chosen:
        raise ModelError(
            "mesh=: a Local term is fitted on one device, since it conditions entries on their neighbours. Leave "
            "mesh out, or fit the other terms alone"
        )
    warn("mesh=: the chosen model has a Local term, which is fitted on one device; the mesh is not used")


def _gaps(bound: BoundModel, encoded: Encoded, observations: Observations, seed: int) -> np.ndarray | None:
    """Gaps shaped like those of the data, for a local term to learn from; None without one, or from few data."""
    if not collapsed.positions(bound) or encoded.seen.sum() < _FEW:
        return None
    return hold_out(tuple(encoded.coordinates), observations, seed, times(encoded.axes(()))).mask


def _with_spread(
    state: State, first: HoldOut, engine: MessagePassing, encoded: Encoded, observations: Observations, seed: int
) -> State:
    """With the error bars that hidden gaps ask for, under the numbers that were learned from all observations."""
    axes = encoded.axes(())
    held = hidden(state, first, engine, axes, observations, seed + 1, _LOG.info)
    return state.with_spread(spread(axes, observations, list(held)))


def _modes_read(declared: Sum, likelihood: AbstractLikelihood, encoded: Encoded) -> tuple[str, ...]:
    """Those of the terms and of the likelihood, each once."""
    return tuple(dict.fromkeys((*declared.mode_names(tuple(encoded.coordinates)), *likelihood.mode_names())))


def is_open(model: Any) -> bool:
    """Whether the model itself is to be chosen."""
    return isinstance(model, str | automatic.Automatic)


def _choose(prepared: preparing.Prepared, engine: MessagePassing, seed: int, ranks: tuple[int, ...] | None) -> Choice:
    """On the scale of the signal; local terms are for plain normal noise."""
    encoded = prepared.encoded
    base = {name: c.axis() for name, c in encoded.coordinates.items()}
    months = [f"{n}.month" for n, a in base.items() if automatic.has_seasons(a) and _has_calendar(encoded, n)]
    modes = (*months[:1], *automatic.surfaces(base)[:1])
    axes, observations, likelihood = encoded.axes(modes), prepared.on_signal(modes), prepared.chooser
    local = prepared.plain
    return automatic.choose(axes, observations, likelihood, engine, seed, lambda text: _LOG.info(text), ranks, local)


def _has_calendar(encoded: Encoded, name: str) -> bool:
    return encoded.coordinates[name].calendar in ("datetime", "cftime")


def _warn_of_unread(modes: tuple[str, ...], encoded: Encoded) -> None:
    """Warns of a mode that no term reads. Raises ModelError for one that the data do not have."""
    read = {dimension for name in modes for dimension in encoded.dimensions(name)}
    unread = [n for n, c in encoded.coordinates.items() if n not in read and len(c.labels) > 1]
    if unread:
        warn(
            f"no term reads mode {unread[0]!r}: the model says the same for all its levels. Add a term with it, or "
            "average over it first",
        )


@contextlib.contextmanager
def _progress(wanted: Progress | bool | None, sweeps: bool = False) -> Iterator[Progress | None]:
    """A progress bar on the terminal (True), a function (as it is) or nothing.

    sweeps: the steps are sweeps, and of a long fit the time left goes to the log; a bar shows it anyway.
    """
    if wanted is True:
        with bar() as report:
            yield report
    elif not sweeps:
        yield wanted or None
    else:
        tell = telling_time_left(_LOG.info, _LONG)

        def report_both(done: int, total: int, objective: float) -> None:
            tell(done, total, objective)
            if wanted:
                wanted(done, total, objective)

        yield report_both
