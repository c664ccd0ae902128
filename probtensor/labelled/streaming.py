"""New labelled observations for a posterior: their coordinates beside the old ones, in the old numbering."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from probtensor.axes import Axis
from probtensor.errors import DataError, ModelError
from probtensor.labelled import coordinates
from probtensor.labelled.encode import Encoded
from probtensor.observations.domain import Observations


class Batch(NamedTuple):
    """New data as a posterior sees them.

    encoded: on their own coordinates, numbered as the old ones; axes: of old and new levels; observations: as a list on
    these.
    """

    encoded: Encoded
    axes: dict[str, Axis]
    observations: Observations


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
