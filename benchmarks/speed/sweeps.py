"""Sweeps of a CP on a grid, and how many operations they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

import probtensor as pt
from probtensor.engines import by_parts, sweep
from probtensor.labelled import out_of_core
from probtensor.observations.domain import Observations
from speed import timing

MODES = ("time", "lat", "lon", "height", "scale")
MISSING, NOISE, SWEEPS = 0.3, 0.3, 10


def field(levels: Sequence[int], missing: float = MISSING) -> xr.DataArray:
    """Waves with noise and gaps, on a grid of any number of modes."""
    generator = np.random.default_rng(0)
    names = MODES[: len(levels)]
    axes = {name: np.linspace(0, 1, size) for name, size in zip(names, levels, strict=True)}
    values = np.zeros(tuple(levels))
    for k in range(1, 6):
        wave = np.ones(())
        for axis in axes.values():
            wave = np.multiply.outer(wave, np.cos(k * axis + k))
        values += wave
    values += NOISE * generator.standard_normal(values.shape)
    values[generator.random(values.shape) < missing] = np.nan
    return xr.DataArray(values, axes, names)


def fitted(data: Any, rank: int, coupling: str = "joint", sweeps: int = SWEEPS) -> Any:
    """A posterior after so many sweeps."""
    engine = pt.MessagePassing(max_sweeps=sweeps, tol=0.0, coupling=coupling)
    return pt.fit(data, pt.CP(rank), engine=engine)


def of(post: Any, learning: bool, number: int = SWEEPS) -> float:
    """Seconds of a sweep that goes on from a posterior; learning: every second one steps the hyper-parameters."""
    fitted = post._fitted
    with jax.enable_x64(True):
        learn, count = jnp.asarray((np.arange(number) % 2 == 1) & learning), jnp.asarray(number)
        if isinstance(fitted.observations, Observations):
            return timing.seconds(lambda: sweep.sweeps(fitted.state, fitted.observations, learn)) / number
        source = out_of_core.in_memory(fitted.encoded, fitted.modes)
        return timing.seconds(lambda: by_parts.sweeps(fitted.state, source, learn, count)) / number


def operations(levels: Sequence[int], rank: int) -> float:
    """Floating-point operations of a sweep that grow with the entries of a grid of three modes.

    Each block needs a contraction of the weights with R (R + 1) / 2 products, of which two blocks share one; the
    variance needs another. Residuals are contracted with R columns for each block, and made from them.
    """
    entries, pairs = float(np.prod(levels)), rank * (rank + 1) / 2
    return 2 * entries * (3 * pairs + 2 * rank * len(levels))
