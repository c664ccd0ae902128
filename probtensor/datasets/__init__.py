"""Data to try things on: ``load("ostia")`` and ``load("synthetic")``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from probtensor.datasets import ostia, synthetic
from probtensor.errors import DataError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["grid_coordinates", "load"]

_LOADERS = {"ostia": ostia.load, "synthetic": synthetic.load}


def load(name: str, **options: Any) -> xr.DataArray:
    """A field in memory, with NaN where it was never observed.

    Args:
        name: ``"ostia"``, monthly sea-surface temperature around the equator (K; needs the packages
            ``iris-sample-data`` and ``netCDF4``), or ``"synthetic"``, a made field of the same kind.
        **options: what ``probtensor.datasets.synthetic.load`` takes; ``"ostia"`` takes none.

    Raises:
        DataError: there is no such data set, or a package it needs is not installed.
    """
    if name not in _LOADERS:
        raise DataError(f"there is no data set {name!r}; choose one of {sorted(_LOADERS)}")
    return _LOADERS[name](**options)


def grid_coordinates(field: xr.DataArray) -> dict[str, np.ndarray]:
    """Coordinates of a field as plain numbers, as `probtensor.evaluation.floors.compare` takes them.

    Args:
        field: with a datetime64 ``time`` and a ``longitude``.

    Returns:
        ``months`` (1..12 for each time), ``times`` (days since the first) and ``longitudes``.
    """
    time = field["time"]
    return {
        "months": time.dt.month.values,
        "times": (time.values - time.values.min()) / np.timedelta64(1, "D"),
        "longitudes": field["longitude"].values,
    }
