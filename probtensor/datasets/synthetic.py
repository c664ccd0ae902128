"""A made monthly field like the surface of a tropical sea: land, a warm pool, seasons, slow waves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from probtensor.errors import DataError

if TYPE_CHECKING:
    import xarray as xr

_MONTHS_PER_YEAR = 12


def load(
    *, times: int = 60, latitudes: int = 18, longitudes: int = 72, noise: float = 0.1, seed: int = 0
) -> xr.DataArray:
    """Makes a field on the spot; the same arguments give the same numbers.

    It is a mean with a warm pool, a yearly cycle that changes sign across the equator, an irregular oscillation of some
    four years in the east (as El Nino), a weak wave that travels, and white noise.

    Args:
        times: months, from January 2000.
        latitudes: rows between 20S and 20N.
        longitudes: columns around the globe, from 0 degrees.
        noise: standard deviation of the noise, kelvin.
        seed: of the noise, the oscillation and the shape of the land.

    Returns:
        ``sea_surface_temperature`` (time, latitude, longitude) in kelvin, float32, NaN over land.

    Raises:
        DataError: a size below 1 or a negative noise.
    """
    import xarray as xr

    for name, size in {"times": times, "latitudes": latitudes, "longitudes": longitudes}.items():
        if not isinstance(size, int | np.integer) or size < 1:
            raise DataError(f"synthetic: {name}={size!r} must be a whole number, 1 or more")
    if not (np.isfinite(noise) and noise >= 0.0):
        raise DataError(f"synthetic: noise={noise!r} must be a standard deviation in kelvin, 0 or above")
    generator = np.random.Generator(np.random.PCG64(seed))
    month = np.arange(times)
    latitude = np.linspace(-20.0, 20.0, latitudes) if latitudes > 1 else np.zeros(1)
    longitude = np.arange(longitudes) * (360.0 / longitudes)
    oscillation, land_phase = _oscillation(times, generator), generator.uniform(0.0, 2.0 * np.pi, size=3)
    field = _signal(month, latitude, longitude, oscillation)
    field += noise * generator.standard_normal(field.shape)
    field[:, _land(latitude, longitude, land_phase)] = np.nan
    time = (np.datetime64("2000-01", "M") + month).astype("datetime64[ns]")
    return xr.DataArray(
        field.astype(np.float32),
        coords={
            "time": ("time", time, {"standard_name": "time"}),
            "latitude": ("latitude", latitude, {"standard_name": "latitude", "units": "degrees_north"}),
            "longitude": ("longitude", longitude, {"standard_name": "longitude", "units": "degrees_east"}),
        },
        dims=("time", "latitude", "longitude"),
        name="sea_surface_temperature",
        attrs={"standard_name": "sea_surface_temperature", "units": "K", "long_name": "made sea-surface temperature"},
    )


def _signal(month: np.ndarray, latitude: np.ndarray, longitude: np.ndarray, oscillation: np.ndarray) -> np.ndarray:
    """The field without noise and land, (T, latitude, longitude), kelvin."""
    t = month[:, None, None]
    north = np.deg2rad(latitude)[None, :, None]
    east = np.deg2rad(longitude)[None, None, :]
    year = 2.0 * np.pi * t / _MONTHS_PER_YEAR
    pool = 2.0 * np.exp(
        -((np.rad2deg(_wrapped(east - np.deg2rad(150.0))) / 50.0) ** 2) - (np.rad2deg(north) / 15.0) ** 2
    )
    mean = 300.0 - 20.0 * np.sin(north) ** 2 + pool
    season = 4.0 * np.sin(north) * np.cos(year - np.deg2rad(240.0)) + 0.4 * np.cos(year) * np.cos(east)
    tongue = np.exp(-((np.rad2deg(_wrapped(east - np.deg2rad(230.0))) / 35.0) ** 2) - (np.rad2deg(north) / 8.0) ** 2)
    wave = 0.3 * np.cos(2.0 * east - year / 3.0) * np.cos(4.0 * north)
    return mean + season + 1.5 * oscillation[:, None, None] * tongue + wave


def _oscillation(times: int, generator: np.random.Generator) -> np.ndarray:
    """(T,) an irregular oscillation: a damped linear oscillator of 45 months under noise, sd about 1."""
    damping, angle = 0.97, 2.0 * np.pi / 45.0
    kicks = np.sqrt(1.0 - damping**2) * (generator.standard_normal(times) + 1j * generator.standard_normal(times))
    state, path = complex(generator.standard_normal(), generator.standard_normal()), np.empty(times)
    for t in range(times):
        state = damping * np.exp(1j * angle) * state + kicks[t]
        path[t] = state.real
    return path


def _land(latitude: np.ndarray, longitude: np.ndarray, phase: np.ndarray) -> np.ndarray:
    """(latitude, longitude), True on two continents with wavy coasts; never everywhere."""
    north, east = np.deg2rad(latitude)[:, None], np.deg2rad(longitude)[None, :]
    coast = np.deg2rad(5.0) * (np.sin(9.0 * north + phase[0]) + 0.5 * np.sin(23.0 * north + phase[1]))
    africa = np.abs(_wrapped(east - np.deg2rad(20.0)) + coast) < np.deg2rad(18.0)
    america = np.abs(_wrapped(east - np.deg2rad(290.0)) + np.roll(coast, 1, axis=0) + 0.6 * north) < np.deg2rad(14.0)
    land = africa | america
    return land if not land.all() else np.zeros_like(land)


def _wrapped(angle: np.ndarray) -> np.ndarray:
    """The same angle between -pi and pi."""
    return (angle + np.pi) % (2.0 * np.pi) - np.pi
