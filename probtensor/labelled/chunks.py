"""Dask arrays read chunk by chunk: each chunk is computed once, used, and dropped."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from probtensor.errors import DataError, ModelError
from probtensor.labelled import alignment

#: Where a chunk is in the array.
Place = tuple[slice, ...]


def is_lazy(data: Any) -> bool:
    """Whether it is a dask array with labels."""
    return isinstance(data, xr.DataArray) and data.chunks is not None


def check_sizes(data: xr.DataArray) -> None:
    """Raises DataError for chunks of unknown sizes."""
    for dim, sizes in zip(data.dims, data.chunks or (), strict=False):
        if np.isnan(sizes).any():
            raise DataError(
                f"data: the sizes of its chunks along {str(dim)!r} are not known, so neither is the place of a value; "
                "find them out first, data.data.compute_chunk_sizes(), and make the array anew"
            )


def like(name: str, given: Any, data: xr.DataArray) -> xr.DataArray:
    """As `alignment.like`, lazily: nothing of the data's size is made."""
    if isinstance(given, xr.DataArray) and not is_lazy(given):
        given = given.chunk()
    return alignment.like(name, given, data)


def beside(name: str, given: Any, data: xr.DataArray) -> xr.DataArray:
    """As `alignment.beside`, lazily; not floats yet, which `visit` and `mapped` make of them."""
    if np.ndim(given) == 0 and not isinstance(given, xr.Dataset):
        given = xr.DataArray(given)
    return like(name, given, data)


def visit(arrays: Mapping[str, xr.DataArray], function: Callable[[Place, dict[str, np.ndarray]], None]) -> None:
    """Calls a function with each chunk of the first array and what the others have there, as floats, NaN where masked.

    Args:
        arrays: of the same dimensions in the same order; the first is a dask array. All are computed in one graph, so
            that what they share is computed once.
        function: of a chunk's place and the arrays there by name. Called from several threads at once, those of dask's
            threaded scheduler in this process, or one after the other if dask is set to be synchronous. What it raises
            ends the visit and comes through, as does an error of the graph itself.
    """
    import dask.array as da

    first = next(iter(arrays.values()))
    parts = _in_chunks_of_first(arrays)

    def each(*blocks: Any, block_info: Any = None) -> np.ndarray:
        bounds = block_info[0]["array-location"]
        function(tuple(slice(*own) for own in bounds), dict(zip(arrays, map(as_floats, blocks), strict=True)))
        return np.zeros((1,) * first.ndim, bool)

    done = da.map_blocks(
        each,
        *parts,
        chunks=tuple((1,) * len(sizes) for sizes in first.chunks or ()),
        meta=np.zeros((0,) * first.ndim, bool),
        name=f"probtensor-{uuid.uuid4().hex}",
    )
    done.compute(scheduler=scheduler())


def mapped(
    arrays: Mapping[str, xr.DataArray], function: Callable[[Place, dict[str, np.ndarray]], np.ndarray], number: int
) -> Any:
    """So many arrays like the first, stacked along a new first axis, in its chunks: a dask array, computed later.

    Args:
        arrays: as in `visit`.
        function: from a chunk's place and what the arrays have there to the stack of results there.
        number: of results.
    """
    import dask.array as da

    parts = _in_chunks_of_first(arrays)

    def each(*blocks: Any, block_info: Any = None) -> np.ndarray:
        bounds = block_info[0]["array-location"]
        return function(tuple(slice(*own) for own in bounds), dict(zip(arrays, map(as_floats, blocks), strict=True)))

    sizes = ((number,), *parts[0].chunks)
    nothing = np.zeros((0,) * len(sizes))
    return da.map_blocks(each, *parts, new_axis=0, chunks=sizes, meta=nothing, name=f"probtensor-{uuid.uuid4().hex}")


def array_module(reader: str) -> Any:
    """dask.array. Raises ModelError in a reader's name if dask is not installed."""
    try:
        import dask.array
    except ImportError as error:
        raise ModelError(
            f"{reader}: a lazy answer is one of dask arrays, and dask is not installed: pip install 'probtensor[dask]'"
        ) from error
    return dask.array


def _in_chunks_of_first(arrays: Mapping[str, xr.DataArray]) -> list[Any]:
    """As dask arrays."""
    first = next(iter(arrays.values()))
    return [own.chunk(dict(zip(first.dims, first.chunks or (), strict=True))).data for own in arrays.values()]


def read(arrays: Mapping[str, xr.DataArray], positions: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays in memory, each label at its position; see `visit`."""
    shape = tuple(len(position) for position in positions)
    found = {name: np.empty(shape) for name in arrays}

    def put(place: Place, blocks: dict[str, np.ndarray]) -> None:
        box = np.ix_(*(position[own] for position, own in zip(positions, place, strict=True)))
        for name, block in blocks.items():
            found[name][box] = block

    visit(arrays, put)
    return found


def as_floats(block: Any) -> np.ndarray:
    """Numbers as 64-bit floats, NaN where they are masked."""
    if isinstance(block, np.ma.MaskedArray):
        return np.ma.filled(block.astype(float), np.nan)
    return np.asarray(block, dtype=float)


def scheduler() -> str:
    """Dask's threads in this process, whose memory is filled; one thread if dask is set so."""
    from dask.base import get_scheduler
    from dask.local import get_sync

    return "synchronous" if get_scheduler() is get_sync else "threads"
