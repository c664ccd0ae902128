"""Nearest-neighbour conditioning of a separable space-time Matern kernel: weights, variances and hyper-parameters."""

from __future__ import annotations

import dataclasses

import kernels
import numpy as np
from numba import njit
from scipy.optimize import minimize
from scipy.spatial import cKDTree

_DENSITIES = (1, 2, 8, 32)  # the likelihood is that of entries given neighbours among all, a half, an eighth, ...
_ENTRIES, _NEIGHBOURS = 250, 25  # of each density, each given so many neighbours


@dataclasses.dataclass(frozen=True)
class Kernel:
    """Matern in space times Matern in time, plus noise.

    Attributes:
        nu: smoothness in space.
        nu_time: smoothness in time.
        metric: see `kernels.Kernel`.
        variance: of the process.
        noise: variance of the noise.
        scales: lengthscales, that of time last.
    """

    nu: float
    nu_time: float
    metric: str
    variance: float
    noise: float
    scales: tuple[float, ...]

    def __str__(self) -> str:
        scales = ", ".join(f"{scale:.3g}" for scale in self.scales)
        noise = f"sd {np.sqrt(self.variance):.3g}, noise {np.sqrt(self.noise):.2g}"
        return (
            f"Matern-{self.nu:g} on the {self.metric} times Matern-{self.nu_time:g} in time, {noise}, scales {scales}"
        )

    def points(self, places: np.ndarray, times: np.ndarray) -> np.ndarray:
        """(n, 4) coordinates in lengthscales, time last."""
        *scales, time = self.scales
        space = kernels.embed(places, self.metric) / np.array(scales)
        padding = np.zeros((len(places), 3 - space.shape[1]))
        return np.concatenate([space, padding, np.asarray(times, float)[:, None] / time], axis=1)


@njit(cache=True)
def _correlation(nu: float, s: float) -> float:
    s = np.sqrt(2.0 * nu) * s
    if nu == 0.5:
        return np.exp(-s)
    if nu == 1.5:
        return (1.0 + s) * np.exp(-s)
    return (1.0 + s + s * s / 3.0) * np.exp(-s)


@njit(cache=True)
def _pair(a: np.ndarray, b: np.ndarray, nu: float, nu_time: float) -> float:
    space = np.sqrt((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 + (a[2] - b[2]) ** 2)
    return _correlation(nu, space) * _correlation(nu_time, abs(a[3] - b[3]))


@njit(cache=True)
def condition(
    targets: np.ndarray, sources: np.ndarray, near: np.ndarray, nu: float, nu_time: float, noise: float
) -> tuple[np.ndarray, np.ndarray]:
    """Weights (n, k) and variances (n,), noise included, of targets given noisy sources.

    Args:
        targets: (n, 4) points.
        sources: (m, 4) points.
        near: (n, k) which sources, -1 for none; those that are there come first.
        nu: smoothness in space.
        nu_time: smoothness in time.
        noise: variance of the noise over that of the process, which is 1 here.
    """
    n, most = near.shape
    weights, variances = np.zeros((n, most)), np.empty(n)
    for i in range(n):
        k = 0
        while k < most and near[i, k] >= 0:
            k += 1
        if k == 0:
            variances[i] = 1.0 + noise
            continue
        covariance, cross = np.empty((k, k)), np.empty(k)
        for a in range(k):
            cross[a] = _pair(targets[i], sources[near[i, a]], nu, nu_time)
            covariance[a, a] = 1.0 + noise + 1e-10
            for b in range(a):
                covariance[a, b] = _pair(sources[near[i, a]], sources[near[i, b]], nu, nu_time)
                covariance[b, a] = covariance[a, b]
        weight = np.linalg.solve(covariance, cross)
        weights[i, :k] = weight
        variances[i] = max(1.0 + noise - np.dot(weight, cross), 0.5 * noise + 1e-10)
    return weights, variances


def earlier(points: np.ndarray, k: int) -> np.ndarray:
    """(n, k) the nearest of the points that come before each; -1 where there are fewer."""
    n = len(points)
    near = np.full((n, k), -1)
    first = 0
    while first < n:
        last = min(n, max(4 * k, 2 * first))
        tree = cKDTree(points[:last])
        asked, wanted = np.arange(first, last), 3 * k
        while asked.size:
            wanted = min(wanted, last)
            _, found = tree.query(points[asked], wanted)
            before = found < asked[:, None]
            short = (before.sum(axis=1) < np.minimum(k, asked)) & (wanted < last)
            order = np.argsort(~before, axis=1, kind="stable")[:, :k]
            these = np.take_along_axis(np.where(before, found, -1), order, axis=1)
            near[asked[~short], : these.shape[1]] = these[~short]
            asked, wanted = asked[short], 3 * wanted
        first = last
    return near


def fit(
    places: np.ndarray,
    times: np.ndarray,
    values: np.ndarray,
    start: Kernel | None = None,
    seed: int = 0,
    forms: bool = True,
) -> Kernel:
    """The kernel of highest likelihood of a sample of entries given their neighbours, over smoothnesses and metrics.

    Neighbours are among all entries, a half of them, an eighth and a thirty-second, so that far ones tell, too.
    """
    total = float(np.mean(values**2))
    if start is None:
        spans = np.ptp(places, axis=0)
        start = Kernel(1.5, 0.5, "plane", total, 1e-3 * total, (*(0.2 * spans), 2.0))
    found = start
    for metric in ("plane", "sphere") if forms else (start.metric,):
        for nu in kernels.SMOOTHNESSES if forms else (start.nu,):
            first = dataclasses.replace(_in_metric(start, metric), nu=nu)
            one = _climb(first, places, times, values, seed, 1 if forms else 2)
            if metric == "plane" and nu == kernels.SMOOTHNESSES[0] or not forms or one[0] < best:
                best, found = one
    if forms:
        rough = _climb(dataclasses.replace(found, nu_time=0.5), places, times, values, seed, 2)
        smooth = _climb(dataclasses.replace(found, nu_time=1.5), places, times, values, seed, 2)
        found = min(rough, smooth, key=lambda one: one[0])[1]
    return found


def _in_metric(kernel: Kernel, metric: str) -> Kernel:
    if kernel.metric == metric:
        return kernel
    *space, time = kernel.scales
    scales = (np.deg2rad(np.mean(space)),) if metric == "sphere" else (np.rad2deg(space[0]),) * 2
    return dataclasses.replace(kernel, metric=metric, scales=(*map(float, scales), time))


def _climb(
    kernel: Kernel, places: np.ndarray, times: np.ndarray, values: np.ndarray, seed: int, rounds: int
) -> tuple[float, Kernel]:
    """Least negative log likelihood from a start; neighbours are chosen anew in each round."""
    value, total = np.inf, float(np.mean(values**2))
    for _ in range(rounds):
        sample = _sample(kernel, places, times, seed)
        first = np.log([kernel.variance, max(kernel.noise, 1e-7 * total), *kernel.scales])
        low, high = first - 6.0, first + 6.0
        low[:2], high[:2] = np.log([1e-3 * total, 1e-8 * total]), np.log([1e3 * total, 1e1 * total])
        done = minimize(
            _objective,
            np.clip(first, low, high),
            args=(kernel, places, times, values, sample),
            method="L-BFGS-B",
            bounds=list(zip(low, high, strict=True)),
            options={"maxiter": 20, "ftol": 1e-6},
        )
        variance, noise, *scales = (float(part) for part in np.exp(done.x))
        value = float(done.fun)
        kernel = dataclasses.replace(kernel, variance=variance, noise=noise, scales=tuple(scales))
    return value, kernel


def _sample(kernel: Kernel, places: np.ndarray, times: np.ndarray, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Entries, and the neighbours of each among a share of all entries."""
    random, points = np.random.default_rng(seed), kernel.points(places, times)
    found = []
    for density in _DENSITIES:
        subset = random.permutation(len(points))[: max(len(points) // density, 2 * _NEIGHBOURS)]
        chosen = subset[:_ENTRIES]
        _, near = cKDTree(points[subset]).query(points[chosen], min(_NEIGHBOURS + 1, subset.size))
        found.append((chosen, subset[near[:, 1:]]))
    return found


def _objective(
    logs: np.ndarray, kernel: Kernel, places: np.ndarray, times: np.ndarray, values: np.ndarray, sample: list
) -> float:
    variance, noise, *scales = np.exp(logs)
    now, total = dataclasses.replace(kernel, scales=tuple(scales)), 0.0
    for chosen, near in sample:
        inside, where = np.unique(near, return_inverse=True)
        sources = now.points(places[inside], times[inside])
        weights, spread = condition(
            now.points(places[chosen], times[chosen]),
            sources,
            where.reshape(near.shape),
            kernel.nu,
            kernel.nu_time,
            noise / variance,
        )
        rest = values[chosen] - np.sum(weights * values[near], axis=1)
        total += 0.5 * float(np.sum(np.log(variance * spread) + rest**2 / (variance * spread)))
    return total
