"""Kriging of each time on its own, exactly: y = climatology + Gaussian process of latitude and longitude + noise.

The climatology is taken as given, or estimated together with the process: by generalized least squares over all times,
in turn with the hyper-parameters, free in each cell or a smooth surface itself. Its uncertainty is part of the sd.
"""

from __future__ import annotations

import kernels
import numpy as np
import surfaces
from exchange import Answer, Task, run
from scipy.linalg import cho_solve, solve_triangular

_PASSES, _DRAWS = 3, 48


def fill(task: Task, mean: str, season: bool = True, metric: str = "") -> Answer:
    """See the module; mean: "given", "free", "surface", or "quartic", a polynomial in latitude and nothing else."""
    metrics = (metric,) if metric else kernels.METRICS
    seen = surfaces.cells(task, season)
    if mean == "quartic":
        flat = np.broadcast_to(seen.places, (*seen.values.shape, 2)).reshape(-1, 2)
        known = np.isfinite(seen.values).ravel()
        means = surfaces.trend(flat, seen.values.ravel(), known).reshape(seen.values.shape)[:1]
        seen = seen._replace(groups=np.zeros_like(seen.groups))
    else:
        means = surfaces.given(task, seen)
    kernel = kernels.fit(seen.places, seen.values - means[seen.groups], seed=task.seed, metrics=metrics)
    draws = np.repeat(means[None], 2, axis=0)
    if mean in ("free", "surface"):
        heavy = len(seen.places) > 3000
        for number in range(_PASSES - heavy):
            about = _about(seen, means, mean, task.seed)
            means, draws = _least_squares(seen, kernel, *about, task.seed)
            rest = seen.values - means[seen.groups]
            kernel = kernels.fit(seen.places, rest, kernel, task.seed + number, forms=number == 0, metrics=metrics)
        means, draws = _least_squares(seen, kernel, *_about(seen, means, mean, task.seed), task.seed)
    found, sd = _predict(seen, kernel, means, draws)
    return Answer(seen.spread(found), seen.spread(sd), str(kernel))


def _known(seen: surfaces.Cells) -> np.ndarray:
    """(G, C) where a climatology rests on an observation."""
    there = np.isfinite(seen.values)
    return np.stack([there[seen.groups == group].any(axis=0) for group in range(seen.groups.max() + 1)])


def _about(seen: surfaces.Cells, means: np.ndarray, mean: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Prior mean (G, C) and precision (C, C) of a climatology; next to no precision where it is free."""
    if mean == "free":
        return means, 1e-8 / np.nanvar(seen.values) * np.eye(len(seen.places))
    centre, kernel = surfaces.prior(seen.places, means, _known(seen), seed)
    return centre, kernels.inverse(kernels.factor(kernel.within(kernel.points(seen.places))))


def _least_squares(
    seen: surfaces.Cells, kernel: kernels.Kernel, centre: np.ndarray, precision: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Climatologies (G, C) under the kernel, and draws (n, G, C) of their posterior."""
    random, points = np.random.default_rng(seed), kernel.points(seen.places)
    means, draws = np.empty_like(centre), np.empty((_DRAWS, *centre.shape))
    inverses: dict[bytes, np.ndarray] = {}
    for group in range(len(centre)):
        matrix, target = precision.copy(), precision @ centre[group]
        for values in seen.values[seen.groups == group]:
            there = np.flatnonzero(np.isfinite(values))
            if not there.size:
                continue
            key = there.tobytes()
            if key not in inverses:
                inverses.clear()  # equal gaps come one after the other
                inverses[key] = kernels.inverse(kernels.factor(kernel.within(points[there])))
            matrix[np.ix_(there, there)] += inverses[key]
            target[there] += inverses[key] @ values[there]
        lower = kernels.factor(matrix)
        means[group] = cho_solve((lower, True), target)
        noise = random.standard_normal((len(target), _DRAWS))
        draws[:, group] = means[group] + solve_triangular(lower, noise, lower=True, trans="T").T
    return means, draws


def _predict(
    seen: surfaces.Cells, kernel: kernels.Kernel, means: np.ndarray, draws: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Means and sds (T, C) of new observations at the entries asked for, NaN elsewhere."""
    points = kernel.points(seen.places)
    found, sd = np.full(seen.values.shape, np.nan), np.full(seen.values.shape, np.nan)
    last, lower, weights = b"", np.empty(0), np.empty(0)
    for t, values in enumerate(seen.values):
        there, asked = np.flatnonzero(np.isfinite(values)), np.flatnonzero(seen.ask[t])
        if not asked.size:
            continue
        mean, drawn = means[seen.groups[t]], draws[:, seen.groups[t]]
        variance = np.full(asked.size, kernel.variance + kernel.noise)
        found[t, asked], off = mean[asked], drawn[:, asked]
        if there.size:
            key = there.tobytes() + asked.tobytes()
            if key != last:
                last, lower = key, kernels.factor(kernel.within(points[there]))
                half = solve_triangular(lower, kernel.between(points[there], points[asked]), lower=True)
                weights, explained = solve_triangular(lower, half, lower=True, trans="T").T, np.sum(half**2, axis=0)
            found[t, asked] += weights @ (values - mean)[there]
            variance, off = variance - explained, off - drawn[:, there] @ weights.T
        sd[t, asked] = np.sqrt(np.maximum(variance, kernel.noise) + np.var(off, axis=0, ddof=1))
    return found, sd


if __name__ == "__main__":
    run(fill)
