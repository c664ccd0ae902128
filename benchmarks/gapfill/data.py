"""The data sets of the suite: four fields (time, latitude, longitude) from the packages eofs and iris-sample-data."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import xarray as xr

from probtensor import datasets

DIMS = ("time", "latitude", "longitude")


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a field comes from, and how it is judged.

    Attributes:
        package: that holds the file.
        file: path inside the package; empty for `probtensor.datasets.load`.
        variable: name in the file.
        edge: levels of a box along time, latitude and longitude.
        unit: of the scores, in words.
        monthly: the time axis has months, and a climatology is one mean for each of them.
        anomalies: scores are in units of the sd of anomalies over training entries.
    """

    package: str
    file: str
    variable: str
    edge: tuple[int, int, int]
    unit: str
    monthly: bool = False
    anomalies: bool = False


SOURCES = {
    "hgt_djf": Source(
        "eofs", "examples/example_data/hgt_djf.nc", "z", (3, 10, 16), "sd of the anomalies", anomalies=True
    ),
    "sst_ndjfm_anom": Source("eofs", "examples/example_data/sst_ndjfm_anom.nc", "sst", (3, 6, 10), "K"),
    "ostia": Source("iris_sample_data", "", "surface_temperature", (4, 8, 40), "K", monthly=True),
    "a1b": Source("iris_sample_data", "sample_data/A1B_north_america.nc", "air_temperature", (12, 8, 12), "K"),
}


def load(name: str) -> xr.DataArray:
    """The field in 64 bits, NaN over land.

    Raises:
        FileNotFoundError: the package that holds it is not installed, or lacks the file.
    """
    source = SOURCES[name]
    if not source.file:
        return datasets.load(name).astype(float)
    spec = importlib.util.find_spec(source.package)
    for folder in (spec.submodule_search_locations if spec is not None else None) or ():
        path = Path(folder) / source.file
        if path.is_file():
            # Winters are counted in hours or days since a far year, which is as good as a date.
            with xr.open_dataset(path, decode_times=source.package != "eofs") as dataset:
                field = dataset[source.variable].squeeze(drop=True).load().astype(float)
            extra = [coordinate for coordinate in field.coords if coordinate not in DIMS]
            return field.drop_vars(extra).transpose(*DIMS)
    raise FileNotFoundError(f"{name} needs {source.file} of the package {source.package}: make .venv/dev.stamp")


def coordinates(name: str, field: xr.DataArray) -> dict[str, np.ndarray]:
    """What packages without labels are given: times in steps, degrees, and months (0 where there are none).

    Longitudes that go around the globe are cut open in Africa, so that no sea is torn.
    """
    source, time = SOURCES[name], field["time"]
    if source.monthly:
        months = time.dt.month.values.astype(int)
        times = (time.dt.year.values - time.dt.year.values[0]) * 12 + months - months[0]
    else:
        months, times = np.zeros(time.size, int), np.arange(time.size)
    longitudes = field["longitude"].values.astype(float)
    if np.ptp(longitudes) > 300.0:
        longitudes = (longitudes - 20.0) % 360.0 + 20.0
    return {
        "times": times.astype(float),
        "months": months,
        "latitudes": field["latitude"].values.astype(float),
        "longitudes": longitudes,
    }


def unit(name: str, training: np.ndarray) -> float:
    """What errors are divided by: 1, or the sd of the anomalies over training entries."""
    if not SOURCES[name].anomalies:
        return 1.0
    with np.errstate(invalid="ignore"):
        count = np.isfinite(training).sum(axis=0)
        means = np.nansum(training, axis=0) / np.maximum(count, 1)
    return float(np.nanstd(training - means))
