"""Kriging in space and time from the nearest observations: y = climatology + process + noise.

The climatology is taken as given, or estimated together with the process: by generalized least squares under the
nearest-neighbour approximation of the likelihood, with a smooth surface as prior, in turn with the hyper-parameters.
"""

from __future__ import annotations

import json
import time
from typing import NamedTuple

import kernels
import numpy as np
import surfaces
import vecchia
from exchange import Answer, Task, run
from scipy import sparse
from scipy.linalg import cho_solve, solve_triangular
from scipy.sparse.linalg import LinearOperator, cg
from scipy.spatial import cKDTree

_PASSES, _DRAWS, _EARLIER, _DENSE, _MANY = 3, 48, 30, 6000, 150_000


class _State(NamedTuple):
    """What variants with other numbers of neighbours share."""

    kernel: vecchia.Kernel
    means: np.ndarray
    draws: np.ndarray
    seconds: float


class _Entries(NamedTuple):
    """The observed entries in random order: index of time and of cell, and value."""

    time: np.ndarray
    cell: np.ndarray
    value: np.ndarray


_states: dict[str, _State] = {}


def fill(task: Task, neighbours: int, mean: str, season: bool = True) -> Answer:
    """See the module; mean: "given" or "surface"."""
    seen, key = surfaces.cells(task, season), json.dumps([mean, season])
    before = _states[key].seconds if key in _states else 0.0
    if key not in _states:
        began = time.process_time()
        kernel, means, draws = _learn(task, seen, mean)
        _states[key] = _State(kernel, means, draws, time.process_time() - began)
    found, sd = _predict(task, seen, _states[key], neighbours)
    return Answer(seen.spread(found), seen.spread(sd), str(_states[key].kernel), shared=before)


def _learn(task: Task, seen: surfaces.Cells, mean: str) -> tuple[vecchia.Kernel, np.ndarray, np.ndarray]:
    """The kernel, the climatologies (G, C), and draws (n, G, C) of them."""
    means, entries = surfaces.given(task, seen), _entries(seen, task.seed)
    where = (seen.places[entries.cell], task.times[entries.time])

    def rest(means: np.ndarray) -> np.ndarray:
        return entries.value - means[seen.groups[entries.time], entries.cell]

    kernel = vecchia.fit(*where, rest(means), seed=task.seed)
    draws = np.repeat(means[None], 2, axis=0)
    passes = 0 if mean == "given" else _PASSES - (entries.value.size > _MANY)
    for number in range(passes):
        means, draws = _least_squares(seen, entries, kernel.points(*where), kernel, means, task.seed)
        if number < passes - 1:
            kernel = vecchia.fit(*where, rest(means), kernel, seed=task.seed, forms=number == 0)
    return kernel, means, draws


def _entries(seen: surfaces.Cells, seed: int) -> _Entries:
    times, cells = np.nonzero(np.isfinite(seen.values))
    order = np.random.default_rng(seed).permutation(times.size)
    return _Entries(times[order], cells[order], seen.values[times[order], cells[order]])


def _least_squares(
    seen: surfaces.Cells, entries: _Entries, points: np.ndarray, kernel: vecchia.Kernel, means: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Climatologies (G, C) under the kernel, and draws of their posterior where a dense factor is affordable."""
    count = means.shape[1]
    near = vecchia.earlier(points, _EARLIER)
    weights, spread = vecchia.condition(points, points, near, kernel.nu, kernel.nu_time, kernel.noise / kernel.variance)
    contrast = _contrasts(near, weights, spread * kernel.variance)
    place = seen.groups[entries.time] * count + entries.cell
    design = contrast @ sparse.csr_matrix(
        (np.ones(place.size), (np.arange(place.size), place)), (place.size, means.size)
    )
    known = np.zeros(means.size, bool)
    known[place] = True
    centre, about = surfaces.prior(seen.places, means, known.reshape(means.shape), seed)
    penalty = sparse.block_diag([_prior_contrasts(seen.places, about, seed)] * len(means), format="csr")
    stacked = sparse.vstack([design, penalty], format="csr")
    target = design.T @ (contrast @ entries.value) + penalty.T @ (penalty @ centre.ravel())
    if means.size > _DENSE:
        diagonal, turned = np.asarray(stacked.multiply(stacked).sum(axis=0)).ravel(), stacked.T.tocsr()
        shape = (means.size, means.size)
        product = LinearOperator(shape, lambda vector: turned @ (stacked @ vector))
        scaled = LinearOperator(shape, lambda vector: vector / diagonal)
        found, _ = cg(product, target, means.ravel(), rtol=1e-5, maxiter=500, M=scaled)
        return found.reshape(means.shape), np.repeat(found.reshape(1, *means.shape), 2, axis=0)
    lower = kernels.factor((stacked.T @ stacked).toarray())
    found = cho_solve((lower, True), target)
    noise = np.random.default_rng(seed).standard_normal((means.size, _DRAWS))
    draws = found + solve_triangular(lower, noise, lower=True, trans="T").T
    return found.reshape(means.shape), draws.reshape(-1, *means.shape)


def _contrasts(near: np.ndarray, weights: np.ndarray, spread: np.ndarray) -> sparse.csr_matrix:
    """What each entry differs from its neighbours' prediction by, over the sd of that: independent standard normals."""
    n, k = near.shape
    rows, there = np.repeat(np.arange(n), k), near.ravel() >= 0
    parts = sparse.csr_matrix((-weights.ravel()[there], (rows[there], near.ravel()[there])), (n, n))
    return sparse.diags(1.0 / np.sqrt(spread)) @ (sparse.identity(n, format="csr") + parts)


def _prior_contrasts(places: np.ndarray, kernel: kernels.Kernel, seed: int) -> sparse.csr_matrix:
    """Contrasts of one climatology under its own kernel."""
    order = np.random.default_rng(seed).permutation(len(places))
    points = kernel.points(places[order])
    points = np.concatenate([points, np.zeros((len(points), 4 - points.shape[1]))], axis=1)
    near = vecchia.earlier(points, _EARLIER)
    weights, spread = vecchia.condition(points, points, near, kernel.nu, 0.5, kernel.noise / kernel.variance)
    return _contrasts(near, weights, spread * kernel.variance)[:, np.argsort(order)]


def _predict(task: Task, seen: surfaces.Cells, state: _State, neighbours: int) -> tuple[np.ndarray, np.ndarray]:
    """Means and sds (T, C) of new observations at the entries asked for, NaN elsewhere."""
    kernel, entries = state.kernel, _entries(seen, task.seed)
    sources = kernel.points(seen.places[entries.cell], task.times[entries.time])
    tree = cKDTree(sources)
    times, cells = np.nonzero(seen.ask)
    found, sd = np.full(seen.values.shape, np.nan), np.full(seen.values.shape, np.nan)
    groups = seen.groups[entries.time]
    rest = entries.value - state.means[groups, entries.cell]
    for part in np.array_split(np.arange(times.size), 1 + times.size // 4000):
        t, c = times[part], cells[part]
        targets = kernel.points(seen.places[c], task.times[t])
        _, near = tree.query(targets, min(neighbours, len(sources)))
        weights, spread = vecchia.condition(
            targets, sources, near, kernel.nu, kernel.nu_time, kernel.noise / kernel.variance
        )
        found[t, c] = state.means[seen.groups[t], c] + np.sum(weights * rest[near], axis=1)
        variance = kernel.variance * spread
        if np.ptp(state.draws, axis=0).any():
            drawn = [
                draw[seen.groups[t], c] - np.sum(weights * draw[groups[near], entries.cell[near]], axis=1)
                for draw in state.draws
            ]
            variance = variance + np.var(drawn, axis=0, ddof=1)
        sd[t, c] = np.sqrt(variance)
    return found, sd


def warm() -> None:
    """Compiles what is compiled."""
    points = np.random.default_rng(0).standard_normal((8, 4))
    vecchia.condition(points, points, vecchia.earlier(points, 2), 1.5, 0.5, 0.1)


if __name__ == "__main__":
    run(fill, warm)
