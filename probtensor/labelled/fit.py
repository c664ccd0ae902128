"""The way in: labelled data and a model to a posterior."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import xarray as xr
from jax.sharding import Mesh

from probtensor.engines import sharded
from probtensor.engines.base import AbstractEngine, Fit, Progress
from probtensor.engines.checkpoint import Journal
from probtensor.engines.collapsed import fit as collapsed
from probtensor.engines.cost import cost_of
from probtensor.engines.message_passing import MessagePassing
from probtensor.engines.svi.engine import SVI
from probtensor.errors import ModelError, warn
from probtensor.labelled import arguments, checkpointing, chunks, filling, out_of_core, preparing, stacking, warm_start
from probtensor.labelled.checking import LOCAL_IS_NORMAL, encode_for, known_for
from probtensor.labelled.encode import Encoded
from probtensor.labelled.fitted import Fitted
from probtensor.labelled.made import Made
from probtensor.labelled.memory import check_cost, check_data, peak_memory, size
from probtensor.labelled.posterior import Posterior
from probtensor.likelihoods.base import AbstractLikelihood
from probtensor.likelihoods.gaussian import Gaussian
from probtensor.model import BoundModel, as_sum, bind
from probtensor.observations.domain import Observations
from probtensor.observations.sources import Elsewhere, sampled
from probtensor.progress import bar, telling_time_left
from probtensor.selection import automatic, rank
from probtensor.selection.hold_out import hold_out
from probtensor.selection.roles import times
from probtensor.terms.base import DataScale, Sum
from probtensor.terms.local import Local
from probtensor.terms.scale import scale_of

#: From fewer observations no gaps are made.
_FEW = 50
#: A message-passing fit that could take so many seconds is told what it will take.
_LONG = 60.0
_LOG = logging.getLogger("probtensor")


def fit(
    data: Any,
    model: Any = "auto",
    *,
    likelihood: AbstractLikelihood | None = None,
    weights: Any = None,
    errors: Any = None,
    engine: AbstractEngine | None = None,
    seed: int = 0,
    init: Any = None,
    progress: Progress | bool | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    mesh: Mesh | None = None,
) -> Posterior:
    """Fits a model to data with gaps.

    Args:
        data: an ``xarray.DataArray`` (NaN = missing; every dimension is a mode, its coordinate the mode's index;
            where that is a multi-index, its levels are modes by their names), or ``pt.table(...)`` or
            ``pt.points(...)``. A dask array is read chunk by chunk into memory; under ``pt.SVI`` it is never held
            there: its observations are copied once to a temporary folder (TMPDIR), 16 bytes for each, and read from it
            in random batches. ``data.load()`` first, to fit it in memory.
        model: a sum of terms, or ``"auto"``: an offset and what earns its place beside it (a CP over all modes, main
            effects, a local term) on held-out gaps shaped like those of the data.
        likelihood: how observations are distributed around the model; ``pt.Gaussian()`` by default, but where the model
            is chosen for several variables, a dimension or column of names called ``"variable"`` such as
            ``ds.to_array("variable")`` has: ``pt.Gaussian(noise="variable", scale="variable")``. Local terms are tried
            only where all have one noise level, ``pt.Gaussian(scale="variable")``.
        weights: how often each observation counts (variance sd^2 / w; otherwise its log likelihood times w); 0 = not
            observed. Like the data.
        errors: known standard errors of the observations, in the data's unit, beside the learned noise. Like the data,
            or one number; under normal noise only.
        engine: how to fit; ``pt.MessagePassing()`` by default.
        seed: of every random draw.
        init: where to start: the posterior of an earlier fit with the same terms, whose functions and learned numbers
            are read off at these data's coordinates (with ``model="auto"`` its model, likelihood and power are taken,
            and none searched for); or a ``CPTensor`` or ``TuckerTensor`` of tensorly's, for a grid and a model with one
            such term over all dimensions. It stands for the first of the engine's ``restarts``.
        progress: True shows a bar on the terminal; a function is called with (sweeps done, sweeps at most, objective).
        checkpoint: where the posterior is written at the end, as `Posterior.save` would, and before, at most every 10
            seconds, how far message passing is: to one file beside it, ``"fit.zarr.checkpoint"``, that is replaced
            whole and gone at the end. The same call after an end of any kind, a killed process too, goes on from there
            to the same answer bit for bit on the same machine; once there is a posterior it only reads that. Models and
            ranks are chosen again, and a local term is fitted again behind message passing.
        mesh: a ``jax.sharding.Mesh``, over all of whose devices message passing splits the observations; the answer is
            the same, but for rounding, and the posterior is on the default device as ever. Models and ranks are chosen,
            and local terms fitted, on one device. docs/distributed.md has more, for several hosts too.

    Returns:
        The posterior, computed in 64 bits.

    Raises:
        DataError: the data cannot be used, memory has no room for them, or what is at ``checkpoint`` is of a fit to
            others.
        ModelError: the model does not fit them, memory has no room for message passing (not asked with a mesh or a
            local term), or ``seed`` is not a whole number; what is at ``checkpoint`` is of another fit, or the engine
            has no use for it or there is a mesh.
        FormatError: what is at ``checkpoint`` is damaged or something else, or nothing can be written there.

    Example:
        >>> import numpy as np, xarray as xr, probtensor as pt
        >>> x = np.linspace(0, 1, 8)
        >>> field = xr.DataArray(np.outer(np.sin(3 * x), np.cos(2 * x)), {"a": x, "b": x}, ["a", "b"])
        >>> post = pt.fit(field.where(field < 0.9), pt.Offset() + pt.CP(rank=1))
        >>> bool(abs(post.impute()["value"] - field).max() < 0.05)
        True
    """
    return _checked_fit(
        lambda encoded: None,
        data,
        model,
        likelihood=likelihood,
        weights=weights,
        errors=errors,
        engine=engine,
        seed=seed,
        init=init,
        progress=progress,
        checkpoint=checkpoint,
        mesh=mesh,
    )


def _checked_fit(
    check: Callable[[Encoded], object],
    data: Any,
    model: Any,
    *,
    likelihood: AbstractLikelihood | None = None,
    weights: Any = None,
    errors: Any = None,
    engine: AbstractEngine | None = None,
    seed: int = 0,
    init: Any = None,
    progress: Progress | bool | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    mesh: Mesh | None = None,
) -> Posterior:
    """See `fit`; check: of the encoded data, before anything is fitted."""
    engine = MessagePassing() if engine is None else engine
    if not isinstance(engine, AbstractEngine):
        raise ModelError(f"engine={engine!r}: expected an engine such as pt.MessagePassing()")
    seed = arguments.whole("seed", seed, 0)
    warm_start.check(init)
    if init is not None and isinstance(model, str) and model == "auto":
        model, engine = warm_start.model_of(init), warm_start.as_before(init, engine)
        likelihood = init.likelihood if likelihood is None else likelihood
    if mesh is not None:
        sharded.check(mesh, engine)
    if checkpoint is not None:
        checkpointing.check(engine, mesh)
    given = Gaussian() if likelihood is None else likelihood
    if isinstance(engine, SVI) and chunks.is_lazy(data) and not stacking.is_stacked(data):
        encoded = out_of_core.outline(data, weights, known_for(given, errors))
        check(encoded)
        with jax.enable_x64(True):
            return _fit_out_of_core(encoded, model, given, engine, seed, init, progress)
    if isinstance(data, xr.DataArray):
        check_data(data.size, chunks.is_lazy(data))
    encoded = encode_for(given, data, weights, errors)
    check(encoded)
    if likelihood is None:
        likelihood = preparing.default_likelihood(encoded) if _is_open(model) else Gaussian()
    made = functools.partial(_fit, encoded, model, likelihood, engine, seed, init, progress, mesh)
    with jax.enable_x64(True):
        if checkpoint is None:
            return made()
        from probtensor.store import checkpoint as store

        return store.fitted(checkpoint, checkpointing.asked(encoded, model, likelihood, engine, seed, init), made)


def _fit(
    encoded: Encoded,
    model: Any,
    likelihood: AbstractLikelihood,
    engine: AbstractEngine,
    seed: int,
    init: Any,
    progress: Any,
    mesh: Mesh | None,
    journal: Callable[[BoundModel], Journal] | None = None,
) -> Posterior:
    """Models and ranks are chosen by message passing on the scale of the signal, as if values were normal there.

    journal: of message passing, for the bound model.
    """
    passing = engine if isinstance(engine, MessagePassing) else MessagePassing()
    prepared = preparing.prepare(likelihood, encoded)
    choice: automatic.Choice | rank.Growth | None = None
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
    # Of very many observations SVI reads its defaults off a sample, as it does where they are not in memory.
    shown = sampled(on_signal) if isinstance(engine, SVI) else on_signal
    scale = scale_of(shown, cycles=declared.open_periods > 0)
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
    if isinstance(choice, automatic.Choice):
        result = result._replace(state=result.state.with_spread(choice.spread))
    _tell_end(result)
    fitted = Fitted(encoded, modes, observations, likelihood, result.state)
    return Posterior(fitted, Made(declared, engine, choice, seed, result, peak_memory()))


def _fit_out_of_core(
    encoded: Encoded,
    model: Any,
    likelihood: AbstractLikelihood,
    engine: SVI,
    seed: int,
    init: Any,
    progress: Any,
) -> Posterior:
    """From a copy of the observations on disk; what can be refused without reading them is refused first."""
    if _is_open(model):
        out_of_core.refuse_choice(f"model={model!r}")
    declared = as_sum(model)
    if rank.is_open(declared):
        out_of_core.refuse_choice('rank="auto"')
    out_of_core.refuse_scale(likelihood)
    modes = _modes_read(declared, likelihood, encoded)
    _warn_of_unread(modes, encoded)
    axes = encoded.axes(modes)
    engine.resolved_for(bind(declared, axes, likelihood, DataScale(0.0, 1.0)))
    with out_of_core.spilled(encoded, likelihood) as spill:
        source = spill.sealed(out_of_core.own_domain(encoded, modes))
        scale = scale_of(out_of_core.sample(source, encoded, likelihood), cycles=declared.open_periods > 0)
        bound = bind(declared, axes, likelihood, scale)
        engine = engine.resolved_for(bound)
        start = None if init is None else warm_start.state(init, bound, encoded, modes)
        _tell_start(engine, bound, source.count, math.prod(source.domain.shape))
        with _progress(progress) as report:
            result = engine.run(bound, source, jax.random.key(seed), report, start)
    _tell_end(result)
    fitted = Fitted(encoded, modes, Elsewhere(source.domain, source.count), likelihood, result.state)
    return Posterior(fitted, Made(declared, engine, None, seed, result, peak_memory()))


def _tell_start(engine: AbstractEngine, bound: BoundModel, seen: int, size: int) -> None:
    _LOG.info("%s begins: terms %d, observed %d of %d entries", type(engine).__name__, len(bound.terms), seen, size)


def _check_cost(engine: MessagePassing, bound: BoundModel, observations: Observations) -> None:
    """Raises ModelError where memory has no room for the fit; tells of one that could take long."""
    cost = cost_of(bound, observations, engine.coupling == "component", engine.rule == "cep")
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


def _modes_read(declared: Sum, likelihood: AbstractLikelihood, encoded: Encoded) -> tuple[str, ...]:
    """Those of the terms and of the likelihood, each once."""
    return tuple(dict.fromkeys((*declared.mode_names(tuple(encoded.coordinates)), *likelihood.mode_names())))


def _is_open(model: Any) -> bool:
    """Whether the model itself is to be chosen."""
    return isinstance(model, str | automatic.Automatic)


def _choose(
    prepared: preparing.Prepared, engine: MessagePassing, seed: int, ranks: tuple[int, ...] | None
) -> automatic.Choice:
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


def impute(
    data: Any,
    model: Any = "auto",
    *,
    where: Any = None,
    quantiles: Any = None,
    samples: int | None = None,
    **fit_arguments: Any,
) -> xr.Dataset:
    """Fills the gaps of a DataArray in one line: ``fit(data, model, ...)`` then ``Posterior.impute``.

    Args:
        data: an ``xarray.DataArray``, NaN = missing.
        model: as in `fit`.
        where: fill only there (broadcasts against the data).
        quantiles: also give these predictive quantiles.
        samples: also give this many joint draws.
        **fit_arguments: as in `fit`.

    Raises:
        DataError: the data, ``where`` or ``quantiles`` cannot be used.
        ModelError: the model does not fit the data, they are a table, or ``samples`` is no number of draws.
    """
    return imputed(data, model, where=where, quantiles=quantiles, samples=samples, **fit_arguments)[1]


def imputed(
    data: Any, model: Any, *, where: Any, quantiles: Any, samples: int | None = None, **fit_arguments: Any
) -> tuple[Posterior, xr.Dataset]:
    """The posterior and what `impute` gives, which is asked whether it can be before the fit."""
    asked = functools.partial(filling.check, where=where, quantiles=quantiles, samples=samples)
    post = _checked_fit(asked, data, model, **fit_arguments)
    return post, post.impute(where=where, quantiles=quantiles, samples=samples)
