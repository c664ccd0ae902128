"""New labelled observations for a posterior: their coordinates beside the old ones, in the old numbering."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from probtensor.axes import Axis, axis_of
from probtensor.engines.base import Fit
from probtensor.engines.collapsed.updating import Memory
from probtensor.engines.message_passing import MessagePassing
from probtensor.engines.streaming import absorb, with_old_joint_levels
from probtensor.engines.sweep import State
from probtensor.errors import DataError, ModelError
from probtensor.labelled import coordinates
from probtensor.labelled.checking import LOCAL_IS_NORMAL
from probtensor.labelled.domains import refuse_outside
from probtensor.labelled.encoded import Encoded
from probtensor.labelled.fitted import Fitted
from probtensor.labelled.preparing import relative_to
from probtensor.likelihoods.base import AbstractLikelihood
from probtensor.likelihoods.gaussian import Gaussian
from probtensor.model import BoundModel
from probtensor.observations.domain import Observations, observations
from probtensor.precision import double_precision
from probtensor.terms.local import BoundLocal


class Batch(NamedTuple):
    """New data as a posterior sees them.

    encoded: on their own coordinates, numbered as the old ones; axes: of old and new levels; observations: as a list on
    these.
    """

    encoded: Encoded
    axes: dict[str, Axis]
    observations: Observations


def same_kind(before: AbstractLikelihood, given: AbstractLikelihood | None) -> AbstractLikelihood:
    """The likelihood of new data: as before, or given for what comes with them. Raises ModelError for another kind."""
    if given is not None and type(given) is not type(before):
        raise ModelError(f"update: the likelihood was {type(before).__name__}, and stays such")
    if isinstance(given, Gaussian) and isinstance(before, Gaussian):
        was, now = ((one.transform, one.noise, one.scale) for one in (before, given))
        if was != now:
            raise ModelError(
                f"update: the likelihood had transform={was[0]!r}, noise={was[1]!r} and scale={was[2]!r}, and keeps "
                f"them; got {now[0]!r}, {now[1]!r} and {now[2]!r}"
            )
    return before if given is None else given


def updated(
    fitted: Fitted, new: Encoded, likelihood: AbstractLikelihood, engine: MessagePassing, forget: Any, lag: Any
) -> tuple[Fitted, Fit]:
    """A fit after new observations, encoded for their likelihood. See `Posterior.update`."""
    try:
        share = 0.0 if forget is None else float(forget)
    except (TypeError, ValueError):
        share = np.nan
    if not 0 <= share < 1:
        raise ModelError(f"forget={forget!r}: expected a share from 0 to below 1")
    if new.known and fitted.state.local is not None:
        raise ModelError(LOCAL_IS_NORMAL)
    with double_precision():
        found = batch(fitted.encoded, new, fitted.modes, likelihood.transformed(new.values))
        refuse_outside(fitted.state.model, found.encoded, found.observations.domain, fitted.terms)
        state, observations = _standardised(fitted.state, found)
        observations = with_old_joint_levels(state, found.axes, observations)
        lags = {} if lag is None else _lag(lag, fitted.state.model, found.axes)
        result = absorb(state, found.axes, observations, engine, Memory(share, lags))
    return Fitted(found.encoded, fitted.modes, observations, likelihood, result.state), result


def _standardised(state: State, new: Batch) -> tuple[State, Observations]:
    """New observations relative to centre and scale of their level, which new data make for levels that had none."""
    own, standard = new.observations, getattr(state.model.likelihood, "standard", None)
    if standard is None:
        return state, own
    values, weights = np.asarray(own.values), np.asarray(own.weights)
    standard = standard.extended(new.axes, own.domain, values, weights)
    values, known = standard.relative(own.domain, values, {name: np.asarray(each) for name, each in own.known.items()})
    return relative_to(state, standard), observations(own.domain, values, weights, known)


def _lag(lag: Any, model: BoundModel, axes: Mapping[str, Axis]) -> dict[str, float]:
    """A length along one mode, in its unit: that of the only time axis where no mode is named.

    Raises ModelError if it is none, or if no local term tells observations apart along that mode.
    """
    if not isinstance(lag, Mapping):
        times = [name for name, axis in axes.items() if axis.kind == "time" and not axis.parts]
        if len(times) != 1:
            raise ModelError(
                f"lag={lag!r}: the data have {len(times)} time axes; say along which dimension, as in lag={{'x': 3.0}}"
            )
        lag = {times[0]: lag}
    if len(lag) != 1:
        raise ModelError(f"lag={dict(lag)!r}: expected a length along one dimension")
    ((name, length),) = lag.items()
    axis = axis_of("update: lag", name, {n: a for n, a in axes.items() if not (a.parts or a.parent)})
    read = {dim for term in model.terms if isinstance(term, BoundLocal) for dim in term.kernel.dims}
    if read and name not in read:
        raise ModelError(
            f"lag={{{name!r}: {length!r}}}: the local term does not read {name!r}, so that it cannot tell old "
            f"observations from new ones; it reads {', '.join(sorted(read))}"
        )
    number = axis.parse(length) if isinstance(length, str) else length
    if isinstance(number, bool) or not isinstance(number, int | float | np.number) or not 0 <= number < np.inf:
        raise ModelError(f"lag={length!r}: expected a length of {name!r}, at least zero, such as '90D' on a time axis")
    return {name: float(number)}


def batch(old: Encoded, new: Encoded, modes: Sequence[str], values: np.ndarray) -> Batch:
    """New data beside what was absorbed before.

    Args:
        old: the data of the posterior.
        new: encoded on their own.
        modes: that the model reads.
        values: the new ones as the likelihood reads them.

    Raises:
        DataError: the data have other modes, or coordinates of another kind.
        ModelError: a mode that was constant has several levels now.
    """
    if set(new.coordinates) != set(old.levels):
        raise DataError(
            f"update: the data have the modes {', '.join(new.coordinates)}; before: {', '.join(old.levels)}"
        )
    merged = {name: coordinates.merge(old.levels[name], own) for name, own in new.coordinates.items()}
    absorbed = {name: both for name, (both, _) in merged.items()}
    for name in {dimension for mode in modes for dimension in old.dimensions(mode)}:
        if len(old.levels[name].labels) == 1 < len(absorbed[name].labels):
            raise ModelError(
                f"update: mode {name!r} had a single level, {old.levels[name].labels[0]}, so the model has no function "
                "of it; fit the old and the new data together"
            )
    own = dataclasses.replace(new, coordinates={n: c for n, (_, c) in merged.items()}, absorbed=absorbed)
    places = [_places(absorbed[name], coordinate) for name, coordinate in own.coordinates.items()]
    if new.index is None:
        rows = np.stack([p.ravel() for p in np.meshgrid(*places, indexing="ij")], axis=1)
    else:
        rows = np.stack([p[new.index[:, k]] for k, p in enumerate(places)], axis=1)
    known = {name: beside.ravel() for name, beside in own.known.items()}
    listed = dataclasses.replace(
        own, coordinates=absorbed, values=new.values.ravel(), weights=new.weights.ravel(), index=rows, known=known
    )
    modes = tuple(modes)
    return Batch(own, listed.axes(modes), listed.observations(modes, values.ravel()))


def _places(among: coordinates.Coordinate, own: coordinates.Coordinate) -> np.ndarray:
    """Of a coordinate's labels among those of a larger one."""
    numbers = among.numbers(among.labels)
    return np.searchsorted(numbers, own.numbers(own.labels))
