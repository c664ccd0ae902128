"""Reads a file once, in a process of its own: libraries for NetCDF can crash or hang on damaged files.

Run as a program, which imports nothing of this package: it takes the path, the bytes of memory that there are, and the
name of a variable, or none for all. It reads what would be read of the file, part by part, and writes a dot for each
part, so that whoever waits sees that it goes on. If the file cannot be read its last line says why.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import os
import re
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

#: Bytes of a part that is read at once, about, and those that a process takes beside the data.
PART, _OWN = 2**26, 2**30
#: How many times the size of its file a variable may have that is larger than memory, and is read part by part.
_PACKED = 1000
#: Attributes that name other variables of a file (CF), alone or behind words such as ``area:``.
REFERENCES = (
    *("bounds", "climatology", "grid_mapping", "cell_measures", "formula_terms", "ancillary_variables"),
    *("coordinates", "geometry", "node_coordinates", "node_count", "part_node_count", "interior_ring"),
)


def words(references: Any) -> list[str]:
    """Names of variables in the text of such an attribute."""
    return re.split(r"[\s:]+", str(references))


@contextlib.contextmanager
def without_pickles() -> Iterator[None]:
    """No zarr store is read with the codec that runs what the store says, and which no data need."""
    registry = importlib.import_module("numcodecs.registry").codec_registry
    codec = registry.pop("pickle", None)
    try:
        yield
    finally:
        registry |= {} if codec is None else {"pickle": codec}


def chunk_of(encoding: dict[str, Any]) -> tuple[int, ...] | None:
    """The shape of the chunks of a variable of xarray, in a NetCDF file or a zarr store; None: it has none."""
    return encoding.get("chunksizes") or encoding.get("chunks")


def parts(shape: tuple[int, ...], chunk: tuple[int, ...] | None, itemsize: int) -> Iterator[tuple[slice, ...]]:
    """Blocks of an array of about `PART` bytes, of whole chunks as they lie in the file, if it has any that fit it."""
    if chunk is None or len(chunk) != len(shape) or min(chunk, default=1) < 1:
        chunk = (1,) * len(shape)
    block = list(shape)
    while math.prod(block) * itemsize > PART and any(b > c for b, c in zip(block, chunk, strict=True)):
        first = next(d for d in range(len(block)) if block[d] > chunk[d])
        block[first] = max(-(-block[first] // (2 * chunk[first])) * chunk[first], chunk[first])
    begins = [range(0, size, max(step, 1)) for size, step in zip(shape, block, strict=True)]
    at = [0] * len(shape)
    for number in range(math.prod(map(len, begins))):
        for d in reversed(range(len(shape))):
            number, at[d] = divmod(number, len(begins[d]))
        yield tuple(slice(own[i], own[i] + step) for own, i, step in zip(begins, at, block, strict=True))


def _is_netcdf(path: str) -> bool:
    """Whether it begins as NetCDF or HDF5 do; what else xarray can read, such as a packed file, is left to it."""
    if os.path.isdir(path):
        return False
    with open(path, "rb") as file:
        return file.read(8).startswith((b"CDF", b"\x89HDF"))


class _Most(NamedTuple):
    """Bytes of the largest variable that is read, and what they are."""

    taken: int
    what: str

    @classmethod
    def of(cls, path: str, room: int, name: str | None) -> _Most:
        """A variable that is asked for has to fit into memory; what is only looked at need not."""
        memory = cls(room, "the memory that there is")
        if name is not None:
            return memory
        files = [os.path.join(at, own) for at, _, names in os.walk(path) for own in names] or [path]
        packed = _PACKED * sum(map(os.path.getsize, files))
        return max(memory, cls(packed, f"{_PACKED:,} times the size of what it is read from"))


def _read_netcdf(path: str, most: _Most, name: str | None) -> None:
    import netCDF4

    with netCDF4.Dataset(path) as dataset:
        dataset.set_auto_maskandscale(False)
        dataset.set_auto_chartostring(False)
        groups = [dataset]
        while groups:
            group = groups.pop()
            groups += [] if name in dataset.variables else group.groups.values()
            _attributes(group)
            attributes = {own: _attributes(variable) for own, variable in group.variables.items()}
            for own in _wanted(group.dimensions, attributes, name):
                variable = group.variables[own]
                told = variable.chunking()
                chunk = tuple(map(int, told)) if isinstance(told, list) else None
                _read(variable, own, chunk, getattr(variable.dtype, "itemsize", 8), most)


def _attributes(group: Any) -> dict[str, Any]:
    return {key: group.getncattr(key) for key in group.ncattrs()}


def _read_otherwise(path: str, most: _Most, name: str | None) -> None:
    """Where netCDF4 is not installed, zarr stores, and other files that xarray knows."""
    import xarray as xr

    folder = os.path.isdir(path)
    how: dict[str, Any] = {"engine": "zarr", "consolidated": False} if folder else {}
    with (
        without_pickles() if folder else contextlib.nullcontext(),
        xr.open_dataset(path, decode_cf=False, cache=False, **how) as dataset,
    ):
        attributes = {str(own): variable.attrs for own, variable in dataset.variables.items()}
        for own in _wanted(dataset.sizes, attributes, name):
            variable = dataset.variables[own]
            _read(_Values(variable), own, chunk_of(variable.encoding), variable.dtype.itemsize, most)


class _Values:
    """A variable of xarray whose parts are arrays."""

    def __init__(self, variable: Any) -> None:
        self._variable, self.shape = variable, variable.shape

    def __getitem__(self, part: Any) -> Any:
        return self._variable[part].to_numpy()


def _wanted(dimensions: Any, attributes: dict[str, dict[str, Any]], name: str | None) -> list[str]:
    """Names of what may be read: the variable, coordinates, and whatever any variable refers to."""
    if name is None:
        return list(attributes)
    told = {word for own in attributes.values() for key in REFERENCES for word in words(own.get(key, ""))}
    return [own for own in attributes if own == name or own in dimensions or own in told]


def _read(values: Any, name: str, chunk: tuple[int, ...] | None, itemsize: int, most: _Most) -> None:
    shape = tuple(map(int, values.shape))
    taken = math.prod(shape) * max(itemsize, 1)
    if taken > most.taken:
        sizes = [f"{own / 2**30:,.1f} GiB" for own in (taken, most.taken)]
        raise ValueError(f"{name!r} is of {sizes[0]}, more than {sizes[1]}, {most.what}")
    for part in parts(shape, chunk, itemsize):
        _ = values[part]
        sys.stdout.write(".")
        sys.stdout.flush()


def _limit(path: str, room: int) -> None:
    """Takes no more memory than there is, where the system has such limits; a file that is mapped takes none."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        most = resource.getrlimit(resource.RLIMIT_AS)[1]
        limit = room + _OWN + (os.path.getsize(path) if os.path.isfile(path) else 0)
        resource.setrlimit(resource.RLIMIT_AS, (limit if most == resource.RLIM_INFINITY else min(limit, most), most))


def main(path: str, room: str, name: str | None = None) -> int:
    """What is run; the exit status is 0 if all could be read, else 1."""
    _limit(path, int(room))
    try:
        netcdf = _is_netcdf(path) and importlib.util.find_spec("netCDF4") is not None
        (_read_netcdf if netcdf else _read_otherwise)(path, _Most.of(path, int(room), name), name)
    except MemoryError:
        print("\n" + json.dumps("it asks for more memory than there is"))
        return 1
    except Exception as error:
        said = str(getattr(error, "strerror", None) or error) or type(error).__name__
        print("\n" + json.dumps(said))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
