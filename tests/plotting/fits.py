"""Small fits that the tests of figures share, and what they read off a figure."""

import functools

import cftime
import numpy as np
import pandas as pd
import xarray as xr

import probtensor as pt

QUICK = pt.MessagePassing(max_sweeps=12)
RANDOM = np.random.default_rng(0)
#: Latitudes from north to south, and longitudes on both sides of Greenwich in 0..360.
LAT, LON = np.array([52.0, 50.0, 48.0, 46.0]), np.array([0.0, 4.0, 352.0, 356.0, 8.0])
TIME = pd.date_range("2001-01-01", periods=12, freq="MS")


def field():
    """(time 12, lat 4, lon 5) in kelvin: a season times a surface, one cell of land, a long gap at one site."""
    season = np.sin(np.arange(12) / 2)[:, None, None]
    values = 280 + season * (LAT[:, None] - 40 + np.cos(np.deg2rad(LON))) + 0.1 * RANDOM.normal(size=(12, 4, 5))
    coords = {
        "time": TIME,
        "lat": ("lat", LAT, {"units": "degrees_north"}),
        "lon": ("lon", LON, {"units": "degrees_east"}),
    }
    attrs = {"units": "K", "long_name": "air temperature"}
    return xr.DataArray(values, coords, ["time", "lat", "lon"], name="tas", attrs=attrs)


TRUTH = field()
HIDDEN = TRUTH.copy(data=RANDOM.random(TRUTH.shape) < 0.15)
HIDDEN[:, 0, 1] = True  # land: never observed
HIDDEN[3:10, 2, 3] = True  # the longest gap
HIDDEN[:, 0, 0] = False


@functools.cache
def globe():
    model = pt.Offset() + pt.CP(1, modes={"time": None, ("lat", "lon"): None})
    return pt.fit(TRUTH.where(~HIDDEN), model, engine=QUICK)


@functools.cache
def calendar():
    """Thirty years of a calendar of 360 days at three stations, one of them with a name that is no text to run."""
    time = [cftime.Datetime360Day(1990 + k, 2, 30) for k in range(30)]
    values = np.sin(np.arange(30) / 3)[:, None] * np.array([1.0, 2.0, -1.5]) + 0.1 * RANDOM.normal(size=(30, 3))
    coords = {"time": time, "station": ["Bonn", "<script>$x$</script>", "Aarhus"]}
    data = xr.DataArray(values, coords, ["time", "station"], name="v", attrs={"units": "$"})
    data[4:9, 1] = np.nan
    return pt.fit(data, pt.Offset() + pt.CP(1), engine=QUICK)


def frame():
    random = np.random.default_rng(1)
    day, station = random.integers(0, 20, 90), random.integers(0, 3, 90)
    y = np.sin(day / 4) * (1 + station) + 0.1 * random.normal(size=90)
    return pd.DataFrame({"day": day, "station": np.array(["a", "b", "c"])[station], "y": y})


@functools.cache
def table():
    return pt.fit(pt.table(frame(), "y", ["day", "station"]), pt.Offset() + pt.CP(1), engine=QUICK)


@functools.cache
def counts():
    """Counts in 24 weeks at four sites, and those that were held out."""
    random = np.random.default_rng(2)
    rate = np.exp(1.5 + np.sin(np.arange(24) / 4)[:, None] * np.array([1.0, -0.5, 0.3, 0.8]))
    data = xr.DataArray(random.poisson(rate).astype(float), dims=["week", "site"], name="cases")
    seen = data.copy(data=random.random(data.shape) > 0.3)
    return pt.fit(data.where(seen), pt.Offset() + pt.CP(1), likelihood=pt.Poisson(), engine=QUICK), data.where(~seen)


def meshes(axes):
    """Values of the meshes of a panel: its land, then its field."""
    return [np.ma.filled(mesh.get_array(), np.nan) for mesh in axes.collections if hasattr(mesh, "get_coordinates")]


def centres(mesh):
    """Ascending centres of the columns and of the rows of a mesh."""
    x, y = mesh.get_coordinates()[0, :, 0], mesh.get_coordinates()[:, 0, 1]
    return 0.5 * (x[1:] + x[:-1]), 0.5 * (y[1:] + y[:-1])


def band(collection):
    """(x, low, high) of an area between two curves."""
    vertices = collection.get_paths()[0].vertices
    x = np.unique(vertices[:, 0])
    pairs = [vertices[vertices[:, 0] == place, 1] for place in x]
    return x, np.array([p.min() for p in pairs]), np.array([p.max() for p in pairs])
