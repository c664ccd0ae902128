"""An array that comes with the data (weights, a mask) on the data's own grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from probtensor.errors import DataError


def like(name: str, given: Any, data: xr.DataArray) -> xr.DataArray:
    """An array broadcast to the data, in the order of their dimensions and labels.

    Args:
        name: of the argument, for messages.
        given: a DataArray, which broadcasts by name, or an array of the data's shape.
        data: the data.

    Raises:
        DataError: it is not of booleans or numbers, has another shape, a dimension or labels that the data do not have.
    """
    if isinstance(given, xr.Dataset):
        raise DataError(f"{name}: a Dataset with the variables {list(given.data_vars)}; pass one of them")
    array = given if isinstance(given, xr.DataArray) else np.asarray(given)
    if array.dtype.kind not in "biuf":
        raise DataError(f"{name}: an array of {array.dtype}; expected booleans or numbers")
    if not isinstance(array, xr.DataArray):
        if array.shape != data.shape:
            raise DataError(
                f"{name}: its shape is {array.shape} and the data's {data.shape}; give a DataArray, which broadcasts "
                "by name, or one entry for each of the data"
            )
        return data.copy(data=array)
    for dim in map(str, array.dims):
        if dim not in data.dims:
            raise DataError(
                f"{name}: it has the dimension {dim!r}, which the data do not have; select one of its {dim!r} first"
            )
        if dim in array.coords and dim in data.coords:
            array = _in_order(name, array, data, dim)
        elif array.sizes[dim] != data.sizes[dim]:
            raise DataError(
                f"{name}: {array.sizes[dim]} entries along {dim!r}, where the data have {data.sizes[dim]}; without "
                "labels on both sides the sizes must agree"
            )
    return array.drop_vars(list(array.coords)).broadcast_like(data).transpose(*data.dims)


def beside(name: str, given: Any, data: xr.DataArray) -> xr.DataArray:
    """The same for what comes with each value: a number stands for all. Raises DataError as `like` does."""
    if np.ndim(given) == 0 and not isinstance(given, xr.Dataset):
        given = xr.DataArray(given)
    return like(name, given, data).astype(float)


def _in_order(name: str, array: xr.DataArray, data: xr.DataArray, dim: str) -> xr.DataArray:
    mine, theirs = array.indexes[dim], data.indexes[dim]
    if mine.equals(theirs):
        return array
    if mine.is_unique and len(mine) == len(theirs) and theirs.isin(mine).all():
        return array.isel({dim: mine.get_indexer(theirs)})
    absent = np.flatnonzero(~theirs.isin(mine))
    if not absent.size:
        raise DataError(
            f"{name}: {len(mine)} labels along {dim!r}, where the data have {len(theirs)}; select theirs, "
            f"{name}.sel({dim}=data[{dim!r}])"
        )
    first = int(absent[0])
    label = array[dim].to_numpy()[first] if first < len(mine) else "no label"
    raise DataError(
        f"{name}: {absent.size} of the data's {len(theirs)} labels along {dim!r} are not among its labels (first: "
        f"index {first}, {theirs[first]} against {label}). If only rounding differs, as between float32 and float64, "
        f"use {name}.assign_coords({dim}=data[{dim!r}])"
    )
