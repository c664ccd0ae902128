"""What the command line reads: files, and options that are more than a word or a number."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probtensor import files
from probtensor.cli import probe, probing
from probtensor.errors import DataError, FormatError, ModelError
from probtensor.store import archive

if TYPE_CHECKING:
    import xarray as xr

#: Files that make a folder a zarr store, and the version of the format that each is of.
_ZARR = {"zarr.json": 3, ".zgroup": 2, ".zmetadata": 2, ".zarray": 2}
#: The file that makes a folder a saved fit.
POSTERIOR = archive.HEADER
#: Kinds of values that can be filled.
_NUMBERS = "iufb"


def zarr_format(path: Path) -> int | None:
    """The version of the zarr store that a folder is, 2 or 3; None for anything else."""
    return next((version for name, version in _ZARR.items() if (path / name).is_file()), None)


def variable(path: Path, name: str) -> xr.DataArray:
    """One variable of a NetCDF file or zarr store, in memory. Raises DataError if it cannot be read."""
    with opened(path, name) as dataset:
        return _variable(dataset, path, name)


def variable_and_beside(path: Path, name: str) -> tuple[xr.DataArray, xr.Dataset]:
    """One variable, in memory, and what belongs to it: what it refers to, directly or not, and the global attributes.

    Raises DataError if it cannot be read.
    """
    with opened(path, name) as dataset:
        found = _variable(dataset, path, name)
        return found, dataset[sorted(_referred(dataset, found), key=str)].drop_vars(name, errors="ignore").load()


def _variable(dataset: xr.Dataset, path: Path, name: str) -> xr.DataArray:
    if name in dataset.data_vars:
        if dataset[name].dtype.kind not in _NUMBERS:
            fields = sorted(
                str(n) for n, array in dataset.data_vars.items() if array.dtype.kind in _NUMBERS and array.ndim
            )
            raise DataError(
                f"{name!r} of {path} holds {dataset[name].dtype}, not numbers; fill one of {fields or 'another file'}"
            )
        return dataset[name].load()
    there = f"it has {sorted(map(str, dataset.data_vars)) or 'none at all'}"
    groups = [] if dataset.data_vars else groups_of(path)
    if groups:
        there = (
            f"all that it has is in the groups {groups}; write one as a file of its own, for example with "
            f"xarray.open_dataset({path.name!r}, group={groups[0]!r}).to_netcdf('{groups[0].replace('/', '_')}.nc')"
        )
    raise DataError(f"{path} has no variable {name!r}; {there}")


def groups_of(path: Path) -> list[str]:
    """Groups below the root that hold variables."""
    import xarray as xr

    found = xr.open_groups(path, **_how(path))
    try:
        return [group.strip("/") for group, dataset in found.items() if group != "/" and dataset.data_vars]
    finally:
        for dataset in found.values():
            dataset.close()


def _referred(dataset: xr.Dataset, array: xr.DataArray) -> set[str]:
    """Names of the variables that a variable and its coordinates refer to, and that these refer to."""
    found: set[str] = set()
    ahead = [array.variable, *(coordinate.variable for coordinate in array.coords.values())]
    while ahead:
        own = ahead.pop()
        for key in probe.REFERENCES:
            for word in probe.words({**own.encoding, **own.attrs}.get(key, "")):
                if word in dataset.variables and word not in found and word not in array.coords:
                    found.add(word)
                    ahead.append(dataset[word].variable)
    return found


@contextlib.contextmanager
def opened(path: Path, name: str | None = None) -> Iterator[xr.Dataset]:
    """A NetCDF file or zarr store, from which values are read when they are asked for.

    It is read in another process first, since a damaged one can end the process that reads it.

    Args:
        path: of the file or folder.
        name: of the variable that will be read; None: any.

    Raises DataError if there is none, or if it cannot be read, at once or while it is open.
    """
    import xarray as xr

    if not path.exists():
        raise DataError(f"there is no file {path}; check the path")
    if path.is_dir() and zarr_format(path) is None:
        raise DataError(f"{path} is a folder, and no zarr store; name a NetCDF file in it")
    if (path / POSTERIOR).exists():
        raise DataError(f"{path} is a saved fit, not data; probtensor info {path} says what it is")
    kind = "zarr" if path.is_dir() else "NetCDF"
    try:
        probing.check(path, name)
        with (
            probe.without_pickles() if path.is_dir() else contextlib.nullcontext(),
            xr.open_dataset(path, **_how(path)) as dataset,
        ):
            yield dataset
    except (DataError, FormatError, ModelError):
        raise
    except Exception as error:  # of many libraries, for what makes no sense to them
        raise DataError(f"{path} cannot be read as {kind}: {_reason(error)}") from error


def _how(path: Path) -> dict[str, Any]:
    """Options of xarray: it warns of a zarr store without consolidated metadata that is not said to have none."""
    return {"engine": "zarr", "consolidated": False} if path.is_dir() else {}


def _reason(error: Exception) -> str:
    said = files.reason(error)
    if not any(words in said for words in ("IO backends", "Unknown file format", "not a valid NetCDF 3")):
        return said
    if importlib.util.find_spec("netCDF4") is None:
        return "it is not a NetCDF file, or of a kind that needs the package netCDF4 (pip install 'probtensor[io]')"
    return "it is not a NetCDF file"


def mask(where: str) -> xr.DataArray:
    """The mask that ``--where MASK.NC:VAR`` names."""
    path, colon, name = where.rpartition(":")
    if not (path and colon and name):
        raise ModelError(f"--where {where!r}: expected FILE:VARIABLE, such as --where ocean.nc:mask")
    return variable(Path(path), name)


def rank(text: str) -> int | None:
    """None for 'auto'."""
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ModelError(f"--rank {text!r}: expected a whole number, 1 or more, or 'auto'")
    return int(text)


def quantiles(text: str) -> list[float]:
    """Numbers with commas between them."""
    try:
        levels = [float(part) for part in text.split(",")]
    except ValueError:
        levels = []
    if not levels or not all(0.0 < level < 1.0 for level in levels):
        raise ModelError(f"--quantiles {text!r}: expected numbers between 0 and 1, with commas, such as 0.05,0.95")
    return levels
