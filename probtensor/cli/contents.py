"""What a path holds, in plain text."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from probtensor.cli import inputs, probe
from probtensor.store import posterior

if TYPE_CHECKING:
    import xarray as xr


def of(path: Path) -> str:
    """A posterior's summary, or the variables of a NetCDF file or zarr store with the share that is missing.

    Raises:
        FormatError: it is a folder, but neither a posterior nor a zarr store; or a posterior that is damaged.
        DataError: it is a file, but cannot be read as NetCDF.
    """
    folder = path.is_dir()
    if not path.exists() or (folder and ((path / inputs.POSTERIOR).exists() or inputs.zarr_format(path) is None)):
        return posterior.load(path).summary()
    with inputs.opened(path) as dataset:
        lines = [f"{path}: a {'zarr store' if folder else 'NetCDF file'}, no saved fit"]
        lines += [_coordinate(dataset, str(dim)) for dim in dataset.sizes]
        missing = {str(name): _missing(array) for name, array in dataset.data_vars.items() if _is_field(array)}
        lines += [_variable(array, missing.get(str(name))) for name, array in dataset.data_vars.items()]
        lines += [] if dataset.data_vars else [f"  group        {name}" for name in inputs.groups_of(path)]
    if gaps := [name for name, number in missing.items() if number]:
        lines.append(
            f"fill one with: {shlex.join(['probtensor', 'impute', str(path), '--var', gaps[0], '-o'])} filled.nc"
        )
    return "\n".join(lines)


def _is_field(array: xr.DataArray) -> bool:
    """Whether it could have gaps: numbers along some dimension."""
    return array.ndim > 0 and array.dtype.kind == "f"


def _missing(array: xr.DataArray) -> int:
    """How many, read part by part: a variable may be larger than memory."""
    pieces = probe.parts(array.shape, probe.chunk_of(array.encoding), array.dtype.itemsize)
    return sum(int(np.isnan(array[piece].to_numpy()).sum()) for piece in pieces)


def _coordinate(dataset: xr.Dataset, dim: str) -> str:
    size = dataset.sizes[dim]
    if dim not in dataset.coords or not size:
        return f"  dimension    {dim}: {size}"
    labels = dataset[dim].to_numpy()
    return f"  dimension    {dim}: {size}, {_label(labels[0])} to {_label(labels[-1])}"


def _label(label: object) -> str:
    return f"{label:g}" if isinstance(label, float | np.floating) else str(label).removesuffix("T00:00:00.000000000")


def _variable(array: xr.DataArray, missing: int | None) -> str:
    said = [f"{array.name}: {' x '.join(map(str, array.dims)) or 'a single value'}", str(array.dtype)]
    said += [str(array.attrs["units"])] if "units" in array.attrs else []
    if missing is not None:
        said.append(f"{missing:,} of {array.size:,} missing ({missing / max(array.size, 1):.0%})")
    return f"  variable     {', '.join(said)}"
