"""The way in: labelled data and a model to a posterior."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any

import xarray as xr
from jax.sharding import Mesh

from probtensor.engines import sharded
from probtensor.engines.base import AbstractEngine, Progress
from probtensor.engines.message_passing import MessagePassing
from probtensor.engines.svi.engine import SVI
from probtensor.errors import ModelError
from probtensor.labelled import (
    arguments,
    checkpointing,
    chunks,
    filling,
    fitting,
    out_of_core,
    preparing,
    stacking,
    warm_start,
)
from probtensor.labelled.checking import encode_for, known_for
from probtensor.labelled.encoded import Encoded
from probtensor.labelled.memory import check_data, has_room
from probtensor.labelled.posterior import Posterior
from probtensor.labelled.request import Request
from probtensor.likelihoods.base import AbstractLikelihood
from probtensor.likelihoods.gaussian import Gaussian
from probtensor.precision import double_precision


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
            ``pt.points(...)``. A dask array is read chunk by chunk into memory; under ``pt.SVI``, and under message
            passing where there is no room or ``out_of_core=True``, it is never held there: it is copied once to a
            temporary folder (TMPDIR), 8 bytes an entry, or for ``SVI``, which reads random batches, 16 an observation.
            ``data.load()`` first, to fit it in memory.
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
        FormatError: what is at ``checkpoint`` is damaged or something else, another process fits to it, or nothing can
            be written there.

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
    columns = 1 + (weights is not None)
    alone = checkpoint is None and mesh is None
    if _stays_on_disk(data, engine, columns if alone else None):
        if not alone:
            raise ModelError(
                "checkpoint=, mesh=: a fit to observations that are not held in memory has neither. Load the data "
                "first, data.load(), if they fit"
            )
        encoded = out_of_core.outline(data, weights, known_for(given, errors))
        check(encoded)
        with double_precision():
            return fitting.from_disk(Request(encoded, model, given, engine, seed, init), progress)
    if isinstance(data, xr.DataArray):
        check_data(data.size, chunks.is_lazy(data))
    encoded = encode_for(given, data, weights, errors)
    check(encoded)
    if likelihood is None:
        likelihood = preparing.default_likelihood(encoded) if fitting.is_open(model) else Gaussian()
    request = Request(encoded, model, likelihood, engine, seed, init)
    made = functools.partial(fitting.in_memory, request, progress, mesh)
    with double_precision():
        if checkpoint is None:
            return made()
        from probtensor.store import checkpoint as store

        return store.fitted(checkpoint, checkpointing.asked(request), made)


def _stays_on_disk(data: Any, engine: AbstractEngine, columns: int | None) -> bool:
    """Whether the data are never held in memory. Raises ModelError if they are there, and should not be.

    columns: of numbers for each entry; None: nobody but the engine may decide so.
    """
    lazy = chunks.is_lazy(data) and not stacking.is_stacked(data)
    if not isinstance(engine, MessagePassing):
        return lazy and isinstance(engine, SVI)
    if engine.out_of_core and not lazy:
        raise ModelError(
            "MessagePassing(out_of_core=True): the data are in memory already, or have a multi-index. Give a dask "
            "array over a grid, as from xr.open_dataset(path, chunks={}), or leave out_of_core out"
        )
    if not lazy or engine.out_of_core is not None:
        return lazy and bool(engine.out_of_core)
    return columns is not None and not has_room(data.size, lazy) and out_of_core.has_room(data.size, columns)


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

    Returns:
        What `Posterior.impute` gives.

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
