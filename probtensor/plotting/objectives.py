"""The objective of a fit as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from probtensor import figures
from probtensor.errors import DataError

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure


def objective(trace: xr.DataArray) -> Figure:
    """The objective over the sweeps, and again over the last half of them, where the gains are small.

    Args:
        trace: as ``post.objective`` gives it, one dimension.

    Raises:
        DataError: the trace has another shape.
        ModelError: matplotlib is not installed.
    """
    if trace.ndim != 1 or trace.size == 0:
        raise DataError(f"an objective has one dimension, of sweeps; got {dict(trace.sizes)}")
    values, steps = np.asarray(trace.values, dtype=float), np.arange(1, trace.size + 1)
    half, step = trace.size // 2, str(trace.dims[0])
    figure = figures.empty(8.0, 2.8)
    panels = figure.subplots(1, 2)
    for axes, start, title in ((panels[0], 0, f"all {trace.size} {step}s"), (panels[1], half, "the last half")):
        axes.plot(steps[start:], values[start:], marker="." if trace.size - start <= 60 else None, color="C0", lw=1.2)
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel(step, fontsize=9)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
        axes.ticklabel_format(axis="y", useOffset=False)
        axes.xaxis.get_major_locator().set_params(integer=True)
    name = str(trace.attrs.get("long_name", "objective"))
    panels[0].set_ylabel(f"{name}\n[{trace.attrs.get('units', 'nats')}]", fontsize=9)
    return figure
