"""Matern kernels of latitude and longitude, and their hyper-parameters by the exact likelihood of some slices."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.linalg import lapack
from scipy.optimize import minimize

SMOOTHNESSES = (0.5, 1.5, 2.5)
METRICS = ("plane", "sphere")
_SLICES, _POINTS = 5, 400  # that the likelihood is taken on: together some seconds for each form of the kernel


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A Matern covariance plus noise.

    Attributes:
        nu: smoothness.
        metric: "plane", degrees with a lengthscale for each coordinate, or "sphere", the chord through the unit globe.
        variance: of the process.
        noise: variance of the noise.
        scales: lengthscales, two for a plane and one for a sphere.
    """

    nu: float
    metric: str
    variance: float
    noise: float
    scales: tuple[float, ...]

    def __str__(self) -> str:
        scales = ", ".join(f"{scale:.3g}" for scale in self.scales)
        noise = np.sqrt(self.noise)
        sizes = f"sd {np.sqrt(self.variance):.3g}, noise {noise:.2g}, scales {scales}"
        return f"Matern-{self.nu:g} on the {self.metric}, {sizes}"

    def points(self, places: np.ndarray) -> np.ndarray:
        """Places (n, 2) of latitude and longitude as points (n, d) whose distance is in lengthscales."""
        return embed(places, self.metric) / np.array(self.scales)

    def between(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """(n, m) covariances of the process at points."""
        return self.variance * matern(self.nu, distances(a, b))

    def within(self, a: np.ndarray) -> np.ndarray:
        """(n, n) covariances of observations at points."""
        covariance = self.between(a, a)
        covariance[np.diag_indices(len(a))] += self.noise
        return covariance


def embed(places: np.ndarray, metric: str) -> np.ndarray:
    """Places (n, 2) of latitude and longitude in degrees as points, unscaled."""
    if metric == "plane":
        return np.asarray(places, dtype=float)
    latitude, longitude = np.deg2rad(places).T
    return np.stack(
        [np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)], axis=-1
    )


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(n, m) Euclidean distances."""
    return np.sqrt(sum((a[:, None, k] - b[None, :, k]) ** 2 for k in range(a.shape[1])))


def matern(nu: float, s: np.ndarray) -> np.ndarray:
    """Correlation at distance s in lengthscales."""
    s = np.sqrt(2.0 * nu) * s
    polynomial = {0.5: 1.0, 1.5: 1.0 + s, 2.5: 1.0 + s + s * s / 3.0}[nu]
    return polynomial * np.exp(-s)


def _slope(nu: float, s: np.ndarray) -> np.ndarray:
    """Minus the derivative of the correlation by s, over s."""
    if nu == 0.5:
        return np.exp(-s) / np.maximum(s, 1e-12)
    if nu == 1.5:
        return 3.0 * np.exp(-np.sqrt(3.0) * s)
    return 5.0 / 3.0 * (1.0 + np.sqrt(5.0) * s) * np.exp(-np.sqrt(5.0) * s)


def factor(covariance: np.ndarray) -> np.ndarray:
    """Lower Cholesky factor.

    Raises:
        numpy.linalg.LinAlgError: the matrix is not positive definite.
    """
    lower, info = lapack.dpotrf(covariance, lower=1)
    if info:
        raise np.linalg.LinAlgError("the covariance is not positive definite")
    return lower


def inverse(lower: np.ndarray) -> np.ndarray:
    """The inverse of the matrix that has this factor."""
    half, _ = lapack.dpotri(lower, lower=1)
    return np.tril(half) + np.tril(half, -1).T


def fit(
    places: np.ndarray,
    values: np.ndarray,
    start: Kernel | None = None,
    seed: int = 0,
    forms: bool = True,
    metrics: tuple[str, ...] = METRICS,
) -> Kernel:
    """The kernel of highest likelihood on some slices, over smoothnesses and metrics.

    Args:
        places: (C, 2) latitude and longitude.
        values: (T, C) residuals, NaN where nothing was observed; slices are independent.
        start: where to start from.
        seed: of the choice of slices and of points in them: half near each other, half anywhere.
        forms: whether other smoothnesses and metrics than that of ``start`` are tried.
        metrics: that are tried.
    """
    random = np.random.default_rng(seed)
    seen = np.isfinite(values)
    rich = np.flatnonzero(seen.sum(axis=1) >= min(50, seen.sum(axis=1).max()))
    slices = []
    for t in random.permutation(rich)[:_SLICES]:
        there = np.flatnonzero(seen[t])
        if there.size > _POINTS:
            middle = places[random.choice(there)]
            near = there[np.argsort(np.sum((places[there] - middle) ** 2, axis=1))[: _POINTS // 2]]
            there = np.concatenate([near, random.choice(np.setdiff1d(there, near), _POINTS // 2, replace=False)])
        slices.append((places[there], values[t, there]))
    if start is None or forms:
        tried = [(nu, metric) for metric in metrics for nu in SMOOTHNESSES]
    else:
        tried = [(start.nu, start.metric)]
    found = [_climb(nu, metric, slices, start) for nu, metric in tried]
    return min(found, key=lambda one: one[0])[1]


def _climb(
    nu: float, metric: str, slices: list[tuple[np.ndarray, np.ndarray]], start: Kernel | None
) -> tuple[float, Kernel]:
    """The least negative log likelihood for one form of the kernel, and its kernel."""
    pairs = []
    for places, values in slices:
        points = embed(places, metric)
        squares = [(points[:, None, k] - points[None, :, k]) ** 2 for k in range(points.shape[1])]
        pairs.append((squares if metric == "plane" else [sum(squares)], values))
    total = np.mean(np.concatenate([values for _, values in slices]) ** 2)
    spans = [np.sqrt(np.max(square)) for square in pairs[0][0]]
    if start is not None and start.metric == metric:
        first = np.log([start.variance, max(start.noise, 1e-7 * total), *start.scales])
    else:
        first = np.log([total, 1e-3 * total, *(0.2 * span for span in spans)])
    low = np.log([1e-3 * total, 1e-8 * total, *(1e-3 * span for span in spans)])
    high = np.log([1e3 * total, 1e1 * total, *(20.0 * span for span in spans)])
    done = minimize(
        _objective,
        np.clip(first, low, high),
        args=(nu, pairs),
        jac=True,
        method="L-BFGS-B",
        bounds=list(zip(low, high, strict=True)),
        options={"maxiter": 40},
    )
    variance, noise, *scales = np.exp(done.x)
    return float(done.fun), Kernel(nu, metric, float(variance), float(noise), tuple(map(float, scales)))


def _objective(logs: np.ndarray, nu: float, pairs: list) -> tuple[float, np.ndarray]:
    """Negative log likelihood of the slices, and its gradient by the logarithms of the hyper-parameters."""
    variance, noise, *scales = np.exp(logs)
    value, gradient = 0.0, np.zeros(len(logs))
    for squares, values in pairs:
        parts = [square / scale**2 for square, scale in zip(squares, scales, strict=True)]
        s = np.sqrt(sum(parts))
        signal = variance * matern(nu, s)
        covariance = signal.copy()
        covariance[np.diag_indices(len(values))] += noise
        try:
            lower = factor(covariance)
        except np.linalg.LinAlgError:
            return 1e25, np.zeros(len(logs))
        precision = inverse(lower)
        weighted = precision @ values
        value += 0.5 * values @ weighted + np.sum(np.log(np.diag(lower)))
        outer = np.outer(weighted, weighted) - precision
        slope = outer * (variance * _slope(nu, s))
        gradient -= 0.5 * np.array(
            [np.sum(outer * signal), noise * np.trace(outer), *(np.sum(slope * part) for part in parts)]
        )
    return float(value), gradient
