"""Reduced-rank Gaussian processes on a box, by loops over functions and points, as Solin and Sarkka 2020 write them,
but with walls that the functions meet without slope."""

import itertools
import math

import numpy as np

BOUNDARY = 1.3


def spectral_density(nu, lengthscale, variance, frequency, dimensions):
    """Rasmussen and Williams 2006, eq. 4.15."""
    top = 2**dimensions * math.pi ** (dimensions / 2) * math.gamma(nu + dimensions / 2) * (2 * nu) ** nu
    rate = 2 * nu / lengthscale**2
    below = math.gamma(nu) * lengthscale ** (2 * nu)
    return variance * top / below * (rate + frequency**2) ** -(nu + dimensions / 2)


def lowest(dimensions, size):
    """Orders of the functions of the lowest frequencies in a cube, by trying all."""
    every = itertools.product(range(size), repeat=dimensions)
    return sorted(every, key=lambda m: (sum(o**2 for o in m), m[::-1]))[:size]


def eigenfunction(orders, half, x):
    """One function at one point, without slope at the box's walls and zero outside."""
    value = 1.0
    for m, L, own in zip(orders, half, x, strict=True):
        norm = math.sqrt(L if m else 2 * L)
        value *= math.cos(math.pi * m * (own + L) / (2 * L)) / norm if abs(own) <= L else 0.0
    return value


def covariance(densities, stretch, points, levels, size):
    """(T, T) covariance of one component.

    densities: (function of frequency and dimensions, variance) of each of the kernel's parts; stretch: what the
    coordinates are multiplied by; points: (T, d); levels: (n, d) the training levels the box is laid around; size:
    number of functions, of lowest frequency where the box is stretched to a cube.
    """
    d = points.shape[1]
    middle, reach = (levels.max(0) + levels.min(0)) / 2, np.ptp(levels, axis=0) / 2
    half = BOUNDARY * reach
    x = points - middle
    orders = lowest(d, size)
    K = np.zeros((len(points),) * 2)
    for m in orders:
        frequency = math.sqrt(sum((math.pi * o / (2 * L * s)) ** 2 for o, L, s in zip(m, half, stretch, strict=True)))
        phi = np.array([eigenfunction(m, half * stretch, own * stretch) for own in x])
        K += sum(density(frequency, d) for density, _ in densities) * np.outer(phi, phi)
    total, outside = sum(v for _, v in densities), (np.abs(x) > reach * (1 + 1e-6)).any(axis=1)
    has = np.diagonal(K).copy()
    for i, j in itertools.product(np.flatnonzero(outside), repeat=2):
        if (points[i] == points[j]).all():
            K[i, j] += max(total - has[i], 0.0)
    return K
