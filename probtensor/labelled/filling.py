"""The filled grid: predictions put into the gaps of the user's own array, with its order, attributes and encoding."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import xarray as xr

from probtensor.errors import DataError, ProbtensorWarning

#: Encodings that describe how numbers are packed: kept only where the new values fit them.
_PACKING = ("dtype", "scale_factor", "add_offset", "_FillValue", "missing_value")


def on_template(array: xr.DataArray, template: xr.DataArray) -> xr.DataArray:
    """An array on sorted labels brought to the template's order of dimensions and labels, with its coordinates."""
    names = [d for d in template.dims if d in array.dims]
    lead = [d for d in array.dims if d not in template.dims]
    positions = {}
    for name in names:
        labels = template[name].to_numpy() if name in template.coords else np.arange(template.sizes[name])
        positions[name] = _rank(labels)
    values = array.transpose(*lead, *names).isel({n: p for n, p in positions.items()}).to_numpy()
    coords = {n: c for n, c in template.coords.items()} | {d: array[d] for d in lead if d in array.coords}
    return xr.DataArray(values, coords, (*lead, *names))


def _rank(labels: np.ndarray) -> np.ndarray:
    """Position of each label among the sorted ones."""
    try:
        order = np.argsort(labels, kind="stable")
    except TypeError:
        order = np.array(sorted(range(len(labels)), key=lambda i: (type(labels[i]).__name__, str(labels[i]))))
    rank = np.empty(len(labels), dtype=int)
    rank[order] = np.arange(len(labels))
    return rank


def fill_mask(template: xr.DataArray, observed: np.ndarray, where: Any) -> xr.DataArray:
    """True where a gap is to be filled: entries not observed, only where ``where`` says so.

    Raises:
        DataError: ``where`` is not boolean or does not broadcast against the data.
    """
    missing = template.copy(data=~observed)
    if where is None:
        _warn_of_unseen(~missing)
        return missing
    if not isinstance(where, xr.DataArray):
        array = np.asarray(where)
        if array.shape != template.shape:
            raise DataError(
                f"where has shape {array.shape}, the data {template.shape}; a DataArray would broadcast by name"
            )
        where = template.copy(data=array)
    extra = [d for d in where.dims if d not in template.dims]
    if extra:
        raise DataError(f"where has the dimension {extra[0]!r}, which the data do not have")
    if where.dtype != bool:
        where = where.fillna(0) != 0 if where.dtype.kind == "f" else where != 0
    try:
        where, _ = xr.align(where, template, join="exact", copy=False)
    except ValueError as error:
        raise DataError(f"the labels of where differ from the data's: {error}. Use where.reindex_like(data)") from error
    return (missing & where).transpose(*template.dims)


def _warn_of_unseen(seen: xr.DataArray) -> None:
    """Warns of sites (combinations of all modes but the longest) that were never observed: land, or dead stations."""
    longest = max(seen.dims, key=lambda d: seen.sizes[d])
    times = [d for d in seen.dims if d in seen.coords and seen[d].dtype.kind in "Mm"]
    along = times[0] if times else longest
    never = int((~seen.any(str(along))).sum()) if seen.ndim > 1 else 0
    if never:
        warnings.warn(
            f"{never} sites were never observed along {along!r} and are filled too; give where= to leave them missing, "
            f"for example where=data.notnull().any({along!r})",
            ProbtensorWarning,
            stacklevel=4,
        )


def finish(filled: np.ndarray, template: xr.DataArray, attrs: dict[str, Any], ancillary: str) -> xr.DataArray:
    """Filled values as the user's array: dtype, attributes and encoding kept, integers widened where they must be."""
    dtype = template.dtype if template.dtype.kind == "f" else np.dtype(float)
    out = xr.DataArray(filled.astype(dtype), template.coords, template.dims, attrs=attrs)
    out.attrs["ancillary_variables"] = ancillary
    out.encoding = _encoding(template.encoding, filled)
    return out


def _encoding(encoding: dict[str, Any], values: np.ndarray) -> dict[str, Any]:
    """The encoding, without its packing where the values would not survive it."""
    stored = np.dtype(encoding.get("dtype", float))
    if stored.kind not in "iu":
        return dict(encoding)
    scale, offset = encoding.get("scale_factor", 1), encoding.get("add_offset", 0)
    packed = (values[np.isfinite(values)] - offset) / scale
    limits = np.iinfo(stored)
    # Stored integers round a filled value by half a step; a scale keeps that small, plain integers do not.
    marks = [encoding[k] for k in ("_FillValue", "missing_value") if encoding.get(k) is not None]
    inside = packed.size == 0 or (packed.min() >= limits.min and packed.max() <= limits.max)
    markable = bool(marks) or bool(np.isfinite(values).all())
    fits = "scale_factor" in encoding and inside and markable and not np.isin(np.round(packed), marks).any()
    return dict(encoding) if fits else {k: v for k, v in encoding.items() if k not in _PACKING}
