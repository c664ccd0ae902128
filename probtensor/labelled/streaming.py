"""New labelled observations for a posterior: their coordinates beside the old ones, in the old numbering."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from probtensor.axes import Axis
from probtensor.engines.base import Fit
from probtensor.engines.message_passing import MessagePassing
from probtensor.engines.streaming import absorb, with_old_joint_levels
from probtensor.errors import DataError, ModelError
from probtensor.labelled import coordinates
from probtensor.labelled.domains import refuse_outside
from probtensor.labelled.encode import Encoded
from probtensor.labelled.fitted import Fitted
from probtensor.likelihoods.base import AbstractLikelihood
from probtensor.observations.domain import Observations


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
    return before if given is None else given


def updated(
    fitted: Fitted, new: Encoded, likelihood: AbstractLikelihood, engine: MessagePassing, forget: float | None
) -> tuple[Fitted, Fit]:
    """A fit after new observations, encoded for their likelihood. See `Posterior.update`."""
    share = 0.0 if forget is None else float(forget)
    if not 0 <= share < 1:
        raise ModelError(f"forget={forget!r}: expected a share from 0 to below 1")
    with jax.enable_x64(True):
        found = batch(fitted.encoded, new, fitted.modes, likelihood.transformed(new.values))
        refuse_outside(fitted.state.model, found.encoded, found.observations.domain, fitted.terms)
        observations = with_old_joint_levels(fitted.state, found.axes, found.observations)
        result = absorb(fitted.state, found.axes, observations, engine, share)
    return Fitted(found.encoded, fitted.modes, observations, likelihood, result.state), result


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
