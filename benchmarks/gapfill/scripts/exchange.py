"""How a script is asked and answers: files of arrays, so that it can run in an environment of its own.

A script is called as `python SCRIPT.py TASK.npz FOLDER`, and hands its function to `run`. Each variant (a rank, say)
is a file of its own in the folder, written as soon as it is done: a limit on time costs only the variants beyond it.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np


class Task(NamedTuple):
    """What a script sees.

    Attributes:
        y: (T, latitude, longitude), NaN where nothing was observed.
        ask: bool, the same shape, True at the entries to predict.
        times: (T,) in steps.
        months: (T,) 1..12, or all 0 where the times have no season.
        latitudes: in degrees.
        longitudes: in degrees.
        seed: for whatever is drawn.
        inner: bool, shaped as ``y``, a draw of the same gaps among the training entries, to choose on.
    """

    y: np.ndarray
    ask: np.ndarray
    times: np.ndarray
    months: np.ndarray
    latitudes: np.ndarray
    longitudes: np.ndarray
    seed: int
    inner: np.ndarray


class Answer(NamedTuple):
    """What a script says: means and predictive sds (noise included) shaped as ``y``; sd None: the script knows none.

    Attributes:
        mean: NaN is fine where it was not asked for.
        sd: likewise.
        note: what was chosen, for the record.
        compiling: seconds of that, apart from the rest.
        shared: seconds that an earlier variant spent on what this one uses.
    """

    mean: np.ndarray
    sd: np.ndarray | None = None
    note: str = ""
    compiling: float = 0.0
    shared: float = 0.0


def run(fill: Callable[..., Answer], warm: Callable[[], None] = lambda: None) -> None:
    """Answers every variant of the task on the command line; one that fails is a file that says why.

    Args:
        fill: takes the task and the arguments of a variant.
        warm: what compiles, before any clock runs.
    """
    began = time.process_time()
    warm()
    warming = time.process_time() - began
    with np.load(sys.argv[1]) as file:
        task = Task(*(file[name] if name != "seed" else int(file[name]) for name in Task._fields))
        variants = json.loads(str(file["variants"]))
    for k, variant in enumerate(variants):
        began = time.process_time()
        try:
            answer = fill(task, **variant)
        except Exception as error:
            traceback.print_exc()
            _write(k, error=f"{type(error).__name__}: {error}"[:300])
            continue
        seconds = time.process_time() - began - answer.compiling + answer.shared
        parts = {"seconds": seconds, "compiling": warming + answer.compiling, "note": answer.note}
        parts["mean"] = answer.mean[task.ask]
        _write(k, **parts, **({} if answer.sd is None else {"sd": answer.sd[task.ask]}))


def climatology(y: np.ndarray, months: np.ndarray) -> np.ndarray:
    """(T, latitude, longitude) means of a month in its cell, else of the cell, else of the nearest cell with data."""
    from scipy.ndimage import distance_transform_edt

    count = np.isfinite(y).sum(axis=0)
    cell = np.where(count > 0, np.nansum(y, axis=0) / np.maximum(count, 1), np.nan)
    cell = cell[tuple(distance_transform_edt(count == 0, return_distances=False, return_indices=True))]
    mean = np.empty_like(y)
    for month in np.unique(months):
        these = y[months == month]
        count = np.isfinite(these).sum(axis=0)
        mean[months == month] = np.where(count > 0, np.nansum(these, axis=0) / np.maximum(count, 1), cell)
    return mean


def _write(k: int, **parts: object) -> None:
    folder = Path(sys.argv[2])
    partial = folder / f"{k}.partial.npz"
    np.savez(partial, **parts)
    partial.rename(folder / f"{k}.npz")
