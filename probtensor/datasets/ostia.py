"""Monthly sea-surface temperature around the equator, from the sample files of the Iris project."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from probtensor.errors import DataError
from probtensor.evaluation import gaps

if TYPE_CHECKING:
    import xarray as xr

#: Holes like those that clouds leave, of a third of a year, 4 degrees and 33 degrees: what the demo hides.
CLOUDS = gaps.blocks(0.3, size={"time": 4, "latitude": 8, "longitude": 40})

_PACKAGES = {"iris_sample_data": "iris-sample-data", "netCDF4": "netCDF4"}
_VARIABLE = "surface_temperature"


def load() -> xr.DataArray:
    """The OSTIA analysis, April 2006 to September 2010, 5S to 5N.

    Returns:
        ``surface_temperature`` (time 54, latitude 18, longitude 432) in kelvin, float32, NaN over land, in memory.

    Raises:
        DataError: a package is missing, or its file is not where it should be.
    """
    import xarray as xr

    path = _file()
    with xr.open_dataset(path, engine="netcdf4") as dataset:
        field = dataset[_VARIABLE].load()
    field = field.drop_vars(["forecast_period", "forecast_reference_time"], errors="ignore")
    field.attrs.pop("grid_mapping", None)  # names a variable that stays behind in the file
    field.encoding.pop("coordinates", None)
    return field


def _file() -> Path:
    missing = [package for module, package in _PACKAGES.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise DataError(
            f"the data set 'ostia' needs {' and '.join(missing)}, not installed here: pip install {' '.join(missing)} "
            "(or pip install 'probtensor[demo]'). datasets.load('synthetic') needs neither."
        )
    spec = importlib.util.find_spec("iris_sample_data")
    folders = spec.submodule_search_locations if spec is not None else None
    for folder in folders or ():
        path = Path(folder) / "sample_data" / "ostia_monthly.nc"
        if path.is_file():
            return path
    raise DataError(
        "iris-sample-data is installed, but holds no sample_data/ostia_monthly.nc; install it again: "
        "pip install --force-reinstall iris-sample-data"
    )
