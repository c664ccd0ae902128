"""What the command line writes: NetCDF files and zarr stores with what the input had beside its variable."""

from __future__ import annotations

import os
import shlex
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from probtensor import files
from probtensor.cli import inputs
from probtensor.errors import DataError, FormatError
from probtensor.labelled import conventions

if TYPE_CHECKING:
    import xarray as xr


def check(output: Path, sources: Iterable[Path]) -> None:
    """Raises an error, before the fit, for an output that could not be written after it, or would replace an input."""
    place = files.real(output)
    for source in map(files.real, sources):
        if output.exists() and source.exists() and os.path.samefile(output, source):
            raise DataError(f"-o {output} is the input file; name another one, so that the data stay as they are")
        if place in source.parents or source in place.parents:
            raise DataError(f"-o {output}: it would be written into the input, or over it; name another place")
    if is_zarr(output):
        _check_replaceable(output)
    elif output.is_dir():
        raise DataError(f"output: {output} is a folder; name a file in it, such as {output / 'filled.nc'}")
    files.check_writable(output, "output")


def is_zarr(output: Path) -> bool:
    """Whether an output is to be a zarr store, by its suffix."""
    return output.suffix == ".zarr"


def _check_replaceable(folder: Path) -> None:
    """Raises FormatError for what is there and is no zarr store of data, with nothing else in it."""
    if not folder.exists():
        return
    if inputs.zarr_format(folder) is None or (folder / inputs.POSTERIOR).exists():
        raise FormatError(f"output: {folder} exists and is no zarr store of data; choose another path")
    for child in folder.iterdir():
        if not child.name.startswith(".") and child.name != "zarr.json" and inputs.zarr_format(child) is None:
            raise FormatError(f"output: {folder} has a file that is not the store's, {child.name}; choose another path")


def with_beside(filled: xr.Dataset, beside: xr.Dataset) -> xr.Dataset:
    """What was filled, with what its variable referred to in the input and the input's global attributes.

    What was called, and when, goes before the history, as other tools that work on files have it.
    """
    more = {name: array for name, array in beside.variables.items() if name not in filled.variables}
    out = filled.assign(more).set_coords([name for name in more if name in beside.coords]).assign_attrs(beside.attrs)
    called = conventions.history(shlex.join(["probtensor", *sys.argv[1:]]))
    out.attrs["history"] = "\n".join([called, *str(out.attrs.get("history", "")).splitlines()])
    out.attrs.setdefault("Conventions", conventions.CONVENTIONS)
    unlimited = beside.encoding.get("unlimited_dims", set())
    out.encoding["unlimited_dims"] = {dim for dim in unlimited if dim in out.dims}
    return out


def write(dataset: xr.Dataset, output: Path, zarr_format: int | None) -> None:
    """Writes NetCDF, or zarr of that version of the format (None: 3). Raises FormatError if it cannot be written."""
    try:
        with files.whole(output, "output") as part:
            if is_zarr(output):
                with warnings.catch_warnings():
                    # zarr warns of what xarray writes by default: consolidated metadata, text of a fixed length.
                    for message in ("Consolidated metadata is currently not part", "The data type .*Zarr V3 spec"):
                        warnings.filterwarnings("ignore", message)
                    dataset.to_zarr(part, mode="w-", zarr_format=zarr_format or 3, consolidated=True)
            else:
                dataset.to_netcdf(part)
    except FormatError:
        raise
    except Exception as error:  # of the libraries that write, for names, attributes and encodings that they do not take
        raise FormatError(f"output: {output} cannot be written: {files.reason(error)}") from error
