"""One set of data in many disguises: a grid or a table, in any order, either convention of longitude, lazy or not."""

import itertools

import numpy as np
import pandas as pd
import xarray as xr

import probtensor as pt

EAST = {"units": "degrees_east"}


def globe(closed=True, seed=0, sizes=(9, 5, 8)):
    """(time, lat, lon): a product of smooth functions and a rough part, with gaps."""
    rng = np.random.default_rng(seed)
    T, Y, X = sizes
    lon = np.arange(X) * (360.0 / X if closed else 7.5) + (0.0 if closed else 330.0)
    lat, time = np.linspace(-60.0, 60.0, Y), pd.date_range("2020-01-01", periods=T, freq="10D")
    wave = np.cos(np.deg2rad(lon) - 0.5) if closed else np.cos((lon - 330) / 20)
    shape = np.sin(np.arange(T) / 2)[:, None, None] * (1 + np.cos(np.deg2rad(lat)))[:, None] * wave
    values = 280 + 3 * shape + 0.3 * rng.normal(size=sizes)
    coords = {"time": time, "lat": ("lat", lat, {"units": "degrees_north"}), "lon": ("lon", lon % 360, EAST)}
    return xr.DataArray(values, coords, ["time", "lat", "lon"], name="tas").where(rng.random(sizes) > 0.25)


def western(data):
    """Longitudes from -180 to 180, in ascending order."""
    return data.assign_coords(lon=("lon", (data["lon"].to_numpy() + 180) % 360 - 180, EAST)).sortby("lon")


def shuffled(data, seed=0):
    """Every dimension in an order of chance."""
    rng = np.random.default_rng(seed)
    return data.isel({d: rng.permutation(n) for d, n in data.sizes.items()})


def descending(data):
    """Every dimension turned round."""
    return data.isel({d: slice(None, None, -1) for d in data.dims})


def rows(data, keep_gaps, seed=0):
    """A long table, its rows in an order of chance; without the gaps, or with them as missing values."""
    frame = data.to_dataframe().reset_index()
    frame = frame if keep_gaps else frame.dropna()
    return pt.table(frame.sample(frac=1, random_state=seed), "tas", ["time", "lat", "lon"])


def orders(data):
    """Every order of the dimensions."""
    return {"x".join(dims): data.transpose(*dims) for dims in itertools.permutations(data.dims)}


def disguises(data):
    """By name; the first is the data as they are."""
    made = {
        "as they are": data,
        "western": western(data),
        "descending": descending(data),
        "shuffled": shuffled(data),
        "western and shuffled": shuffled(western(data), 1),
        "stacked": data.stack(cell=("lon", "lat")),
        "table": rows(data, keep_gaps=True),
        "table without gaps": rows(western(data), keep_gaps=False),
    }
    return made | orders(data)
