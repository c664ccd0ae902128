"""Posteriors as ArviZ's InferenceData."""

from __future__ import annotations

import importlib.util
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import equinox as eqx
import jax
import numpy as np
import pandas as pd
import xarray as xr

from probtensor import arrays
from probtensor.compilation import compiled, on_device
from probtensor.engines import drawn
from probtensor.engines.alignment import aligned
from probtensor.engines.base import AbstractEngine
from probtensor.engines.drawn import Draws, Values
from probtensor.engines.gibbs.engine import Gibbs
from probtensor.engines.nuts.engine import NUTS
from probtensor.engines.sweep import State
from probtensor.errors import ModelError
from probtensor.interop.functions import functions
from probtensor.labelled import arguments, predictions, reading
from probtensor.labelled.fitted import Fitted
from probtensor.likelihoods.base import AbstractBoundLikelihood
from probtensor.model import BoundModel
from probtensor.observations.domain import Observations
from probtensor.precision import double_precision
from probtensor.typing import Array, Float, Int, Key

_CHAINS = ("chain", "draw")


def to_arviz(fitted: Fitted, engine: AbstractEngine, number: int, seed: int) -> Any:
    """See `probtensor.Posterior.to_arviz`."""
    number, seed = arguments.whole("draws", number, 1), arguments.whole("seed", seed, 0)
    fitted.encoded.require_memory("to_arviz", "load a part of them and fit it")
    taken = [name for name in fitted.encoded.coordinates if name in _CHAINS]
    if taken:
        raise ModelError(f"to_arviz: ArviZ has a dimension {taken[0]!r} of its own; rename that of the data first")
    make = _inference_data()
    state, encoded = fitted.state, fitted.encoded
    chains = engine.chains if state.draws is not None and isinstance(engine, NUTS | Gibbs) else 1
    first, second = jax.random.split(jax.random.key(seed))
    rows = np.flatnonzero(encoded.seen.ravel())
    with double_precision():
        draws, signal = _drawn(fitted, first, number, rows)
        random = np.random.default_rng(np.asarray(jax.random.key_data(second)))
        predictive = _predictive(fitted, draws, signal, rows, random)
        likelihood = np.asarray(_pointwise(fitted, draws, signal, rows))
        reference = int(np.argmax(np.asarray(draws.stats["lp"]))) if draws.stats else 0
        alike = aligned(state.model.terms, draws, reference)._replace(likelihood=draws.likelihood)
        numbers, held = _hyperparameters(fitted, alike)

    along, name, places = ("sample", "observation"), encoded.name, _places(fitted, rows)

    def chained(variables: Mapping[str, xr.DataArray]) -> xr.Dataset:
        return _chained(variables, chains).assign_attrs(_attrs(state))

    def observed(values: np.ndarray, prefix: str = "") -> xr.DataArray:
        coords = {f"{prefix}{key}": own for key, own in places.items()} | {"observation": np.arange(len(rows))}
        return xr.DataArray(values, coords, along[-values.ndim :], attrs=fitted.units)

    # Beside functions of time, the time of an observation needs a name of its own.
    signals = {"signal": observed(signal, "observation_")}
    groups = {
        "posterior": chained({**numbers, **functions(state, encoded, alike), **signals}),
        "posterior_predictive": chained({name: observed(predictive)}),
        "log_likelihood": chained({name: observed(likelihood).drop_attrs()}),
        "observed_data": xr.Dataset({name: observed(encoded.values.ravel()[rows])}),
    }
    if held:
        groups["constant_data"] = xr.Dataset(held)
    if draws.stats:
        stats = {key: xr.DataArray(np.asarray(own), dims="sample") for key, own in draws.stats.items()}
        groups["sample_stats"] = chained(stats)
    return make(attrs=_attrs(state), **groups)


def _chained(variables: Mapping[str, xr.DataArray], chains: int) -> xr.Dataset:
    """Along ``chain`` and ``draw`` what is along ``sample``, chain after chain."""
    out = {}
    for name, own in variables.items():
        values = own.to_numpy().reshape(chains, -1, *own.shape[1:])
        numbers = {dim: np.arange(n) for dim, n in zip(_CHAINS, values.shape, strict=False)}
        out[name] = xr.DataArray(values, {**own.coords, **numbers}, (*_CHAINS, *own.dims[1:]), attrs=own.attrs)
    return xr.Dataset(out)


def _inference_data() -> Any:
    """ArviZ's class. Raises ModelError if it is not installed."""
    if importlib.util.find_spec("arviz") is None:
        raise ModelError("to_arviz needs arviz, not installed here: pip install 'probtensor[arviz]'")
    with warnings.catch_warnings():
        # What it says of its own future on import is not about this call.
        warnings.simplefilter("ignore")
        from arviz import InferenceData
    return InferenceData


def _attrs(state: State) -> dict[str, str]:
    """Where draws are from."""
    if state.draws is not None:
        text = "chains of a sampler" if state.draws.likelihood is not None else "chains at held hyper-parameters"
    elif state.local is not None:
        text = "the draws that represent the posterior, at estimated hyper-parameters; no chain"
    else:
        text = "independent draws of the approximate posterior, at estimated hyper-parameters; no chain"
    return {"inference_library": "probtensor", "draws": text}


def _places(fitted: Fitted, rows: Int[np.ndarray, "K"]) -> dict[str, tuple[tuple[str], np.ndarray]]:
    """The labels of observed entries."""
    encoded = fitted.encoded
    levels = np.unravel_index(rows, encoded.values.shape) if encoded.index is None else encoded.index[rows].T
    pairs = zip(encoded.coordinates.items(), levels, strict=True)
    return {name: (("observation",), coordinate.labels[level]) for (name, coordinate), level in pairs}


def _drawn(fitted: Fitted, key: Key, number: int, rows: Int[np.ndarray, "K"]) -> tuple[Draws, Float[np.ndarray, "S K"]]:
    """Draws of all functions, and of the signal at the observed entries."""
    state, domain = fitted.state, fitted.observations.domain
    terms = state.model.terms
    if state.local is not None:
        kept = Draws.of(terms, state.local.values)
        signal = np.asarray(arrays.sample(state, domain, key, kept.number))
        return kept, signal.reshape(kept.number, -1)[:, rows]
    draws = state.draws
    if draws is None:
        draws = Draws(_sampled(state, key, number), eqx.filter(terms, False))
    signals = drawn.signals(terms, draws, domain, range(len(terms)), True, key)
    return draws, np.stack([np.asarray(one)[rows] for one in signals])


@compiled
def _sampled(state: State, key: Key, n: int) -> Values:
    out = []
    for term, beliefs, k in zip(
        state.model.terms, state.beliefs, jax.random.split(key, len(state.beliefs)), strict=True
    ):
        own = zip(term.blocks, beliefs, jax.random.split(k, len(beliefs)), strict=True)
        out.append(tuple(block.prior.sample(belief, block.points, one, n) for block, belief, one in own))
    return tuple(out)


def _likelihoods(fitted: Fitted, draws: Draws) -> Iterator[AbstractBoundLikelihood]:
    """Of each draw."""
    held = fitted.state.model.likelihood
    for s in range(draws.number):
        yield held if draws.likelihood is None else eqx.combine(_one(draws.likelihood, s), held)


def _one(draws: Any, s: int) -> Any:
    return jax.tree.map(lambda stacked: stacked[s], draws)


def _predictive(
    fitted: Fitted, draws: Draws, signal: Float[np.ndarray, "S K"], rows: Int[np.ndarray, "K"], random: Any
) -> Float[np.ndarray, "S K"]:
    """A new observation of weight 1 at every observed entry, for each draw."""
    known, _ = predictions.known_or_one(fitted.likelihood, fitted.encoded)
    known = {name: own.ravel()[rows] for name, own in known.items()}
    where = fitted.observations.domain.at(rows)
    out = np.empty(signal.shape)
    for s, likelihood in enumerate(_likelihoods(fitted, draws)):
        law = likelihood.predictive(signal[s], np.zeros(len(rows)), where, known)
        out[s] = law.draw(signal[s : s + 1], random)[0]
    return out


def _pointwise(
    fitted: Fitted, draws: Draws, signal: Float[np.ndarray, "S K"], rows: Int[np.ndarray, "K"]
) -> Float[Array, "S K"]:
    assert isinstance(fitted.observations, Observations)
    held, places = fitted.state.model.likelihood, (on_device(signal), on_device(rows))
    return _log_likelihoods(held, draws.likelihood, fitted.observations, *places)


@compiled
def _log_likelihoods(
    held: AbstractBoundLikelihood, own: Any, observations: Observations, signal: Array, rows: Array
) -> Float[Array, "S K"]:
    def of_draw(drawn: tuple[Any, Array]) -> Array:
        likelihood = held if drawn[0] is None else eqx.combine(drawn[0], held)

        def of_entry(row: Array, f: Array) -> Array:
            return likelihood.log_likelihood(observations.at(row[None]), f[None])

        return jax.vmap(of_entry)(rows, drawn[1])

    return jax.lax.map(of_draw, (own, signal))


def _hyperparameters(fitted: Fitted, draws: Draws) -> tuple[dict[str, xr.DataArray], dict[str, xr.DataArray]]:
    """Those that were drawn, (S, ...), and those that were not."""

    def table(state: State) -> pd.DataFrame:
        return reading.hyperparameters(state, fitted.encoded, str(fitted.attrs.get("units", "")))

    rows = table(fitted.state)
    values = np.tile(rows["value"].to_numpy(float), (draws.number, 1))
    terms = fitted.state.model.terms
    if draws.likelihood is not None or jax.tree.leaves(draws.learned):
        for s, likelihood in enumerate(_likelihoods(fitted, draws)):
            under = eqx.combine(_one(draws.learned, s), terms)
            values[s] = table(fitted.state._replace(model=BoundModel(under, likelihood)))["value"]
    moving, held = {}, {}
    for (term, mode, name), own in rows.groupby(["term", "mode", "name"], sort=False):
        of_term = term if isinstance(term, str) else f"term{term}"
        variable = "_".join(re.sub(r"\W+", "_", part) for part in (of_term, mode, name) if part)
        levels = own["level"] if isinstance(term, str) else own["component"]
        dims = [] if len(own) < 2 else [f"{of_term}_level" if isinstance(term, str) else f"{of_term}_component"]
        coords = {dim: levels.to_numpy() for dim in dims}
        some = values[:, own.index] if dims else values[:, own.index[0]]
        attrs = {"units": own["unit"].iloc[0]}
        if draws.number > 1 and np.any(np.ptp(some, axis=0) > 0):
            moving[variable] = xr.DataArray(some, coords, ("sample", *dims), attrs=attrs)
        else:
            held[variable] = xr.DataArray(some[0], coords, dims, attrs=attrs)
    return moving, held
