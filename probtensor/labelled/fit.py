"""The way in: labelled data and a model to a posterior."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import xarray as xr

from probtensor.engines.base import AbstractEngine, Progress
from probtensor.engines.collapsed import fit as collapsed
from probtensor.engines.message_passing import MessagePassing
from probtensor.engines.svi.engine import SVI
from probtensor.errors import ModelError, warn
from probtensor.labelled import arguments, chunks, filling, out_of_core
from probtensor.labelled.checking import LOCAL_IS_NORMAL, encode_for, known_for
from probtensor.labelled.encode import Encoded
from probtensor.labelled.fitted import Fitted
from probtensor.labelled.made import Made
from probtensor.labelled.posterior import Posterior
from probtensor.likelihoods.base import AbstractLikelihood
from probtensor.likelihoods.gaussian import Gaussian
from probtensor.model import BoundModel, as_sum, bind
from probtensor.observations.domain import Observations
from probtensor.observations.sources import Elsewhere, sampled
from probtensor.selection import automatic, rank
from probtensor.selection.hold_out import hold_out
from probtensor.terms.base import DataScale
from probtensor.terms.local import Local

#: From fewer observations no gaps are made.
_FEW = 50
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
    progress: Progress | bool | None = None,
) -> Posterior:
    """Fits a model to data with gaps.

    Args:
        data: an ``xarray.DataArray`` (NaN = missing; every dimension is a mode, its coordinate the mode's index), or
            ``pt.table(...)`` or ``pt.points(...)``. A dask array is read chunk by chunk into memory; under ``pt.SVI``
            it is never held there: its observations are copied once to a temporary folder (TMPDIR), 16 bytes for each,
            and read from it in random batches. ``data.load()`` first, to fit it in memory.
        model: a sum of terms, or ``"auto"``: an offset and what earns its place beside it (a CP over all modes, main
            effects, a local term) on held-out gaps shaped like those of the data.
        likelihood: how observations are distributed around the model; ``pt.Gaussian()`` by default.
        weights: how often each observation counts (variance sd^2 / w; otherwise its log likelihood times w); 0 = not
            observed. Like the data.
        errors: known standard errors of the observations, in the data's unit, beside the learned noise. Like the data,
            or one number; under normal noise only.
        engine: how to fit; ``pt.MessagePassing()`` by default.
        seed: of every random draw.
        progress: True shows a bar on the terminal; a function is called with (sweeps done, sweeps at most, objective).

    Returns:
        The posterior, computed in 64 bits.

    Raises:
        DataError: the data cannot be used.
        ModelError: the model does not fit them, or ``seed`` is not a whole number.

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
        progress=progress,
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
    progress: Progress | bool | None = None,
) -> Posterior:
    """See `fit`; check: of the encoded data, before anything is fitted."""
    likelihood = Gaussian() if likelihood is None else likelihood
    engine = MessagePassing() if engine is None else engine
    if not isinstance(engine, AbstractEngine):
        raise ModelError(f"engine={engine!r}: expected an engine such as pt.MessagePassing()")
    seed = arguments.whole("seed", seed, 0)
    if isinstance(engine, SVI) and chunks.is_lazy(data):
        encoded = out_of_core.outline(data, weights, known_for(likelihood, errors))
        check(encoded)
        with jax.enable_x64(True):
            return _fit_out_of_core(encoded, model, likelihood, engine, seed, progress)
    encoded = encode_for(likelihood, data, weights, errors)
    check(encoded)
    with jax.enable_x64(True):
        return _fit(encoded, model, likelihood, engine, seed, progress)


def _fit(
    encoded: Encoded, model: Any, likelihood: AbstractLikelihood, engine: AbstractEngine, seed: int, progress: Any
) -> Posterior:
    """Models and ranks are chosen by message passing on the scale of the signal, as if values were normal there."""
    passing = engine if isinstance(engine, MessagePassing) else MessagePassing()
    plain = isinstance(likelihood, Gaussian) and not (likelihood.noise or likelihood.transform or encoded.known)
    chooser = likelihood if isinstance(likelihood, Gaussian) and plain else Gaussian()
    latent = None if plain else likelihood.latent(encoded.values, encoded.known_where_seen)
    choice: automatic.Choice | rank.Growth | None = None
    if isinstance(model, str):
        if model != "auto":
            raise ModelError(f"model={model!r}: expected 'auto' or terms such as pt.Offset() + pt.CP(rank=8)")
        model = automatic.Automatic()
    if isinstance(model, automatic.Automatic):
        choice = _choose(encoded, latent, chooser, passing, seed, model.ranks)
        model = choice.model
        if passing is engine:
            engine = choice.engine
    declared = as_sum(model)
    modes = declared.mode_names(tuple(encoded.coordinates))
    modes = tuple(dict.fromkeys((*modes, *likelihood.mode_names())))
    if choice is None:
        _warn_of_unread(modes, encoded)
    axes = encoded.axes(modes)
    observations = encoded.observations(modes, likelihood.transformed(encoded.values))
    for term in declared.terms:
        if isinstance(term, Local):
            term.check(int(encoded.seen.sum()))
            if not plain:
                raise ModelError(LOCAL_IS_NORMAL)
    on_latent = observations if plain else encoded.observations(modes, latent)
    # Of very many observations SVI reads its defaults off a sample, as it does where they are not in memory.
    shown = sampled(on_latent) if isinstance(engine, SVI) else on_latent
    scale = automatic.scale_of(shown, cycles=declared.open_periods > 0)
    if rank.is_open(declared):
        names = tuple(encoded.coordinates)
        choice = rank.choose(declared, axes, names, on_latent, chooser, passing, scale, seed, _LOG.info)
        declared = choice.model
    bound = bind(declared, axes, likelihood, scale)
    engine = engine.resolved_for(bound)
    with _progress(progress) as report:
        init = choice.start if choice is not None and plain else None
        gaps = _gaps(bound, encoded, observations, seed)
        result = engine.run(bound, observations, jax.random.key(seed), report, init, gaps)
    if not result.converged:
        _LOG.info("fit %s", result.reason)
    fitted = Fitted(encoded, modes, observations, likelihood, result.state)
    return Posterior(fitted, Made(declared, engine, choice, seed, result))


def _fit_out_of_core(
    encoded: Encoded, model: Any, likelihood: AbstractLikelihood, engine: SVI, seed: int, progress: Any
) -> Posterior:
    """From a copy of the observations on disk; what can be refused without reading them is refused first."""
    if isinstance(model, str | automatic.Automatic):
        out_of_core.refuse_choice(f"model={model!r}")
    declared = as_sum(model)
    if rank.is_open(declared):
        out_of_core.refuse_choice('rank="auto"')
    modes = declared.mode_names(tuple(encoded.coordinates))
    modes = tuple(dict.fromkeys((*modes, *likelihood.mode_names())))
    _warn_of_unread(modes, encoded)
    axes = encoded.axes(modes)
    engine.resolved_for(bind(declared, axes, likelihood, DataScale(0.0, 1.0)))
    with out_of_core.spilled(encoded, likelihood) as spill:
        source = spill.sealed(out_of_core.own_domain(encoded, modes))
        scale = automatic.scale_of(out_of_core.sample(source, encoded, likelihood), cycles=declared.open_periods > 0)
        bound = bind(declared, axes, likelihood, scale)
        engine = engine.resolved_for(bound)
        with _progress(progress) as report:
            result = engine.run(bound, source, jax.random.key(seed), report)
    if not result.converged:
        _LOG.info("fit %s", result.reason)
    fitted = Fitted(encoded, modes, Elsewhere(source.domain, source.count), likelihood, result.state)
    return Posterior(fitted, Made(declared, engine, None, seed, result))


def _gaps(bound: BoundModel, encoded: Encoded, observations: Observations, seed: int) -> np.ndarray | None:
    """Gaps shaped like those of the data, for a local term to learn from; None without one, or from few data."""
    if not collapsed.positions(bound) or encoded.seen.sum() < _FEW:
        return None
    return hold_out(tuple(encoded.coordinates), observations, seed).mask


def _choose(
    encoded: Encoded,
    latent: np.ndarray | None,
    likelihood: Gaussian,
    engine: MessagePassing,
    seed: int,
    ranks: tuple[int, ...] | None,
) -> automatic.Choice:
    """latent: values on the scale of the signal, where no local term is tried; None: the data's own."""
    base = {name: c.axis() for name, c in encoded.coordinates.items()}
    months = [f"{n}.month" for n, a in base.items() if automatic.has_seasons(a) and _has_calendar(encoded, n)]
    modes = (*months[:1], *automatic.surfaces(base)[:1])
    axes, observations = encoded.axes(modes), encoded.observations(modes, latent)
    local = latent is None
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
def _progress(wanted: Progress | bool | None) -> Iterator[Progress | None]:
    """A progress bar on the terminal (True), a function (as it is) or nothing."""
    if not wanted or callable(wanted):
        yield wanted or None
        return
    from rich.progress import Progress as Bar

    with Bar(transient=True) as bar:
        task = bar.add_task("fitting", total=None)
        yield lambda done, total, objective: bar.update(task, completed=done, total=total)


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
    asked = functools.partial(filling.check, where=where, quantiles=quantiles, samples=samples)
    post = _checked_fit(asked, data, model, **fit_arguments)
    return post.impute(where=where, quantiles=quantiles, samples=samples)
