"""Data that are read part by part: dask arrays from a copy on disk, made once; large grids in memory as they are."""

from __future__ import annotations

import contextlib
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from probtensor.errors import DataError, ModelError
from probtensor.labelled import chunks, predictions
from probtensor.labelled.encode import NOTHING_OBSERVED, GridOf, check_weights, grid_of
from probtensor.labelled.encoded import Encoded
from probtensor.likelihoods.base import AbstractLikelihood
from probtensor.likelihoods.gaussian import Gaussian
from probtensor.observations import magnitude
from probtensor.observations.domain import Domain, Observations, observations
from probtensor.observations.grid_files import GridFiles
from probtensor.observations.slabs import OnGrid
from probtensor.observations.sources import ROWS, VALUES, WEIGHTS, AbstractSource, Columns
from probtensor.observations.spilled import Spill

_Files = TypeVar("_Files", Spill, GridFiles)

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
    """Whether the temporary folder's disk could hold so many numbers for each of so many entries."""
    return _NUMBER * columns * entries <= shutil.disk_usage(tempfile.gettempdir()).free


@contextlib.contextmanager
def spilled(encoded: Encoded, likelihood: AbstractLikelihood) -> Iterator[Spill]:
    """The observed entries of data on disk as a source of random batches.

    The folder takes 16 bytes an observation (12 below 2^31 entries), and 8 more for weights and for errors, exposures
    or trials; see `_copied`.
    """

    def add(spill: Spill, grid: GridOf, positions: list[np.ndarray], columns: Columns) -> None:
        seen = ~np.isnan(columns[VALUES])
        spill.add({ROWS: grid.rows(positions)[seen], **{name: own[seen] for name, own in columns.items()}})

    with _copied(encoded, likelihood, lambda path, names, shape: Spill(path, math.prod(shape), names), add) as spill:
        yield spill


@contextlib.contextmanager
def on_grid(encoded: Encoded, likelihood: AbstractLikelihood) -> Iterator[GridFiles]:
    """The data on disk as a source of slabs of their grid.

    The folder takes 8 bytes an entry, missing ones included, and 8 more for weights; see `_copied`.
    """

    def add(files: GridFiles, grid: GridOf, positions: list[np.ndarray], columns: Columns) -> None:
        files.add(positions, columns)

    with _copied(encoded, likelihood, lambda path, names, shape: GridFiles(path, shape, names), add) as files:
        yield files


@contextlib.contextmanager
def _copied(
    encoded: Encoded,
    likelihood: AbstractLikelihood,
    begin: Callable[[Path, tuple[str, ...], tuple[int, ...]], _Files],
    add: Callable[[_Files, GridOf, list[np.ndarray], Columns], None],
) -> Iterator[_Files]:
    """Data on disk, in a temporary folder that is gone afterwards, whatever happens.

    The folder is where Python's ``tempfile`` says: TMPDIR names it.

    Args:
        encoded: see `outline`.
        likelihood: which values must suit.
        begin: makes what is written to, from a folder, the names of what comes with each entry, and the grid's shape.
        add: writes what stands at some positions of each mode; NaN where nothing is observed.

    Raises:
        DataError: values or weights cannot be used, nothing is observed, or the disk is full.
    """
    data: Any = encoded.template
    apart: dict[str, xr.DataArray] = encoded.apart or {}
    grid = grid_of(data)
    try:
        folder = tempfile.TemporaryDirectory(prefix="probtensor-")
    except OSError as error:
        raise DataError(
            f"the observations of a dask array are copied to a temporary folder, and none can be made: "
            f"{error.strerror or error}. Name one in the environment's TMPDIR, or load the data first, data.load()"
        ) from error
    with folder as path:
        files = begin(Path(path), (VALUES, *apart), grid.shape)

        def visit(place: chunks.Place, blocks: dict[str, np.ndarray]) -> None:
            for positions, own in _slices(grid, place, blocks):
                add(files, grid, positions, _checked(grid, likelihood, positions, own))

        try:
            arrays = {VALUES: data, **apart}
            chunks.visit({name: own.transpose(*grid.positions) for name, own in arrays.items()}, visit)
            if not files.count:
                raise DataError(NOTHING_OBSERVED)
            yield files
        finally:
            files.close()


def _slices(grid: GridOf, place: chunks.Place, blocks: Columns) -> Iterator[tuple[list[np.ndarray], Columns]]:
    """A chunk's positions and what stands there, some slices of it at a time."""
    positions = [own[part] for own, part in zip(grid.positions.values(), place, strict=True)]
    if not all(len(own) for own in positions):
        return
    step = max(_AT_ONCE // math.prod(len(own) for own in positions[1:]), 1)
    for begin in range(0, len(positions[0]), step):
        some = slice(begin, begin + step)
        yield [positions[0][some], *positions[1:]], {name: own[some] for name, own in blocks.items()}


def _checked(grid: GridOf, likelihood: AbstractLikelihood, positions: list[np.ndarray], blocks: Columns) -> Columns:
    """What stands at some positions as the likelihood reads it; NaN where nothing is observed."""
    values, weights = blocks[VALUES], blocks.get(WEIGHTS)

    def describe(at: tuple[int, ...]) -> str:
        return grid.describe(tuple(int(own[i]) for own, i in zip(positions, at, strict=True)))

    try:
        magnitude.check(values, describe)
        if weights is not None:
            check_weights(weights, values, describe)
            values = np.where(weights > 0, values, np.nan)
        beside = {name: own for name, own in blocks.items() if name not in (VALUES, WEIGHTS)}
        predictions.refuse(likelihood, values, beside, describe)
    except DataError as error:
        raise DataError(f"{error} (counted in the first chunk with any; the rest was not looked at)") from None
    return {**blocks, VALUES: likelihood.transformed(values)}


def sample(source: AbstractSource, encoded: Encoded, likelihood: AbstractLikelihood) -> Observations:
    """Some random observations on the scale of the signal, or all if they are few: what defaults are read off."""
    columns = source.some()
    rows, values = columns.pop(ROWS), columns.pop(VALUES)
    weights = columns.pop(WEIGHTS, np.ones(len(rows)))
    if not isinstance(likelihood, Gaussian):
        values = likelihood.latent(values, columns)
    labels = {name: c.labels for name, c in encoded.coordinates.items()}
    index = np.stack(np.unravel_index(rows, tuple(len(own) for own in labels.values())), axis=1)
    return observations(encoded.domain((), labels, index), values, weights)


def in_memory(encoded: Encoded, modes: tuple[str, ...]) -> OnGrid:
    """A grid in memory as a source of slabs."""
    weights = None if encoded.weights.dtype == bool else encoded.weights
    return OnGrid.in_memory(own_domain(encoded, modes), encoded.values, weights)


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
