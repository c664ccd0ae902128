"""Which coordinate is the time."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from probtensor.labelled.encode import encode
from probtensor.selection.roles import globe, times

GRID = {"lat": np.linspace(20, 60, 5), "lon": np.linspace(0, 80, 4), "t": np.arange(7.0)}
DATES = pd.date_range("2000-01-01", periods=7)


def axes(coords, **renamed):
    data = xr.DataArray(np.zeros([len(v) for v in coords.values()]), coords, list(coords))
    return encode(data.rename(renamed)).axes(())


@pytest.mark.parametrize(
    ("coords", "expected"),
    [
        (GRID, ["t"]),
        (GRID | {"level": np.arange(3.0)}, ["t"]),
        (GRID | {"level": np.arange(9.0)}, ["level"]),
        (GRID | {"level": np.arange(9.0), "t": DATES}, ["t"]),
        ({"x": np.arange(4.0), "y": np.arange(5.0), "t": np.arange(7.0)}, []),
        ({"x": np.arange(4.0), "t": DATES}, ["t"]),
        ({"lat": GRID["lat"], "lon": GRID["lon"], "station": list("abcdefgh")}, []),
        (GRID | {"t": np.arange(1.0)}, []),
    ],
    ids=["beside a map", "the longest", "a longer level", "dates", "no map", "a date", "names", "one time"],
)
def test_times(coords, expected):
    assert times(axes(coords)) == expected


def test_the_globe_is_a_latitude_and_a_longitude():
    assert globe(axes(GRID)) == ("lat", "lon")
    assert globe(axes(GRID, lat="y", lon="x")) == ()
