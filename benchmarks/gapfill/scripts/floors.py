"""What one would do by hand: the fills of `probtensor.evaluation.floors`, and a line along each parallel."""

import numpy as np
from exchange import Answer, Task, climatology, run

from probtensor.evaluation import floors


def fill(task: Task, floor: str) -> Answer:
    y = task.y
    if floor == "climatology":
        return Answer(floors.climatology(y, task.months))
    if floor == "levels":
        return Answer(_levels(y))
    if floor == "in time":
        return Answer(floors.interpolation(y, task.times, task.longitudes))
    if floor == "in space":
        return Answer(_in_space(task))
    if floor == "anomaly in space":
        mean = climatology(y, task.months)
        return Answer(mean + _in_space(task._replace(y=y - mean)))
    return Answer(floors.anomaly_interpolation(y, task.months, task.times, task.longitudes))


def _levels(y: np.ndarray) -> np.ndarray:
    """A constant, and what each time, latitude and longitude adds to it on average, fitted in turn."""
    observed = np.isfinite(y)
    mean = np.full(y.shape, np.mean(y[observed]))
    for _ in range(20):
        for axis in range(y.ndim):
            others = tuple(other for other in range(y.ndim) if other != axis)
            rest = np.where(observed, y - mean, 0.0).sum(axis=others, keepdims=True)
            mean = mean + rest / np.maximum(observed.sum(axis=others, keepdims=True), 1)
    return mean


def _in_space(task: Task) -> np.ndarray:
    """Linear between the observations of a time, nearest outside of them; the climatology where there are none."""
    from scipy.interpolate import LinearNDInterpolator, NearestNDInterpolator

    filled = floors.climatology(task.y, task.months)
    grid = np.stack(np.meshgrid(task.latitudes, task.longitudes, indexing="ij"), axis=-1)
    for values, into in zip(task.y, filled, strict=True):
        seen = np.isfinite(values)
        if not seen.any():
            continue
        into[seen] = values[seen]
        nearest = NearestNDInterpolator(grid[seen], values[seen])(grid[~seen])
        if np.count_nonzero(seen) > 3:
            linear = LinearNDInterpolator(grid[seen], values[seen])(grid[~seen])
            nearest = np.where(np.isfinite(linear), linear, nearest)
        into[~seen] = nearest
    return filled


if __name__ == "__main__":
    run(fill)
