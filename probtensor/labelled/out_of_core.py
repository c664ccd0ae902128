"""Dask arrays that are fitted without being held in memory: read once, checked, and copied to disk in random parts."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from probtensor.errors import DataError, ModelError
from probtensor.labelled import chunks, predictions
from probtensor.labelled.encode import (
    NOTHING_OBSERVED,
    Encoded,
    GridOf,
    check_finite,
    check_weights,
    grid_of,
)
from probtensor.likelihoods.base import AbstractLikelihood
from probtensor.likelihoods.gaussian import Gaussian
from probtensor.observations.domain import Domain, Observations, observations
from probtensor.observations.sources import ROWS, VALUES, WEIGHTS, AbstractSource, some
from probtensor.observations.spilled import Spill

#: Entries of a chunk that are looked at together, about.
_AT_ONCE = 2**20
#: Bytes of an entry's place, and of each number that comes with it.
_NUMBER = 8


def outline(data: xr.DataArray, weights: Any, known: Mapping[str, Any]) -> Encoded:
    """Data that stay where they are. Raises DataError for all that can be said without reading them."""
    apart = {} if weights is None else {WEIGHTS: chunks.like(WEIGHTS, weights, data)}
    grid = grid_of(data)
    apart |= {name: chunks.beside(name, own, data) for name, own in known.items()}
    nothing: Any = None
    return Encoded(grid.coordinates, nothing, nothing, None, data.copy(deep=True), apart=apart)


def has_room(entries: int, columns: int) -> bool:
    """Whether the temporary folder's disk could hold so many entries with so many numbers, if all were observed."""
    return _NUMBER * (1 + columns) * entries <= shutil.disk_usage(tempfile.gettempdir()).free


@contextlib.contextmanager
def spilled(encoded: Encoded, likelihood: AbstractLikelihood) -> Iterator[Spill]:
    """The observed entries of data on disk, in a temporary folder that is gone afterwards, whatever happens.

    The folder is where Python's ``tempfile`` says: TMPDIR names it. It takes 16 bytes an observation (12 below 2^31
    entries), and 8 more for weights and for errors, exposures or trials.

    Args:
        encoded: see `outline`.
        likelihood: which values must suit.

    Raises:
        DataError: values or weights cannot be used, nothing is observed, or the disk is full.
    """
    data, apart = encoded.template, encoded.apart or {}
    assert isinstance(data, xr.DataArray)
    grid = grid_of(data)
    try:
        folder = tempfile.TemporaryDirectory(prefix="probtensor-")
    except OSError as error:
        raise DataError(
            f"the observations of a dask array are copied to a temporary folder, and none can be made: "
            f"{error.strerror or error}. Name one in the environment's TMPDIR, or load the data first, data.load()"
        ) from error
    with folder as path:
        spill = Spill(Path(path), int(np.prod(grid.shape)), (VALUES, *apart))
        try:
            arrays = {VALUES: data, **apart}
            arrays = {name: own.transpose(*grid.positions) for name, own in arrays.items()}
            chunks.visit(arrays, lambda place, blocks: _add(spill, grid, likelihood, place, blocks))
            if not spill.count:
                raise DataError(NOTHING_OBSERVED)
            yield spill
        finally:
            spill.close()


def _add(
    spill: Spill, grid: GridOf, likelihood: AbstractLikelihood, place: chunks.Place, blocks: dict[str, np.ndarray]
) -> None:
    """The observed entries of a chunk, some slices of it at a time."""
    positions = [own[part] for own, part in zip(grid.positions.values(), place, strict=True)]
    if not all(len(own) for own in positions):
        return
    step = max(_AT_ONCE // int(np.prod([len(own) for own in positions[1:]])), 1)
    for begin in range(0, len(positions[0]), step):
        some = slice(begin, begin + step)
        _add_slices(
            spill, grid, likelihood, [positions[0][some], *positions[1:]], {n: b[some] for n, b in blocks.items()}
        )


def _add_slices(
    spill: Spill,
    grid: GridOf,
    likelihood: AbstractLikelihood,
    positions: list[np.ndarray],
    blocks: dict[str, np.ndarray],
) -> None:
    values, weights = blocks[VALUES], blocks.get(WEIGHTS)

    def describe(at: tuple[int, ...]) -> str:
        return grid.describe(tuple(int(own[i]) for own, i in zip(positions, at, strict=True)))

    try:
        check_finite(values, describe)
        seen = np.isfinite(values)
        if weights is not None:
            check_weights(weights, values, describe)
            seen &= weights > 0
        beside = {name: own for name, own in blocks.items() if name not in (VALUES, WEIGHTS)}
        predictions.refuse(likelihood, np.where(seen, values, np.nan), beside, describe)
    except DataError as error:
        raise DataError(f"{error} (counted in the first chunk with any; the rest was not looked at)") from None
    columns = {name: own[seen] for name, own in blocks.items()}
    columns[VALUES] = likelihood.transformed(columns[VALUES])
    spill.add({ROWS: grid.rows(positions)[seen], **columns})


def sample(source: AbstractSource, encoded: Encoded, likelihood: AbstractLikelihood) -> Observations:
    """Some random observations on the scale of the signal, or all if they are few: what defaults are read off."""
    columns = some(source)
    rows, values = columns.pop(ROWS), columns.pop(VALUES)
    weights = columns.pop(WEIGHTS, np.ones(len(rows)))
    if not isinstance(likelihood, Gaussian):
        values = likelihood.latent(values, columns)
    labels = {name: c.labels for name, c in encoded.coordinates.items()}
    index = np.stack(np.unravel_index(rows, tuple(len(own) for own in labels.values())), axis=1)
    return observations(encoded.domain((), labels, index), values, weights)


def own_domain(encoded: Encoded, modes: tuple[str, ...]) -> Domain:
    """Of the whole grid."""
    return encoded.domain(modes, {name: c.labels for name, c in encoded.coordinates.items()}, None)


def refuse_choice(model: Any) -> None:
    """Raises ModelError for what chooses a model or a rank, which looks at all data again and again."""
    raise ModelError(
        f"{model}: a choice looks at all data again and again, and this dask array is not held in memory. Choose on "
        "a part of them, pt.fit(part.load()), and fit its post.model to all; or load all, data.load(), if they fit"
    )


def refuse_scale(likelihood: AbstractLikelihood) -> None:
    """Raises ModelError for a likelihood that standardises, which reads all data before the first of them is used."""
    if isinstance(likelihood, Gaussian) and likelihood.scale:
        raise ModelError(
            f"Gaussian(scale={likelihood.scale!r}): this dask array is not held in memory, and centres and scales "
            "are read off all of it. Standardise the data beforehand, or load them, data.load(), if they fit"
        )
