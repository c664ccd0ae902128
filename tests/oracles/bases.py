"""Processes that are sums of polynomials or harmonics with independent weights, by loops over functions.

The weights' variances are the spectral density at the functions' frequencies, scaled so that the orthonormal functions'
add up to the kernel's variance, for each part of a sum of kernels on its own.
"""

import math

import numpy as np
from numpy.polynomial import Chebyshev, Legendre


def polynomial(kind, degree, share):
    """One orthonormal polynomial at shares from -1 to 1: over the angle for Chebyshev, over the share for Legendre."""
    if kind == "chebyshev":
        return Chebyshev.basis(degree)(share) * (math.sqrt(2) if degree else 1.0)
    return Legendre.basis(degree)(share) * math.sqrt(2 * degree + 1)


def harmonic(number, turns):
    """One orthonormal harmonic; below zero a sine."""
    if number == 0:
        return np.ones_like(turns)
    wave = np.cos if number > 0 else np.sin
    return math.sqrt(2) * wave(2 * np.pi * abs(number) * turns)


def frequency(kind, order, length):
    """length: half the domain, or the period."""
    if kind == "fourier":
        return 2 * math.pi * abs(order) / length
    return (math.sqrt(order * (order + 1)) if kind == "legendre" else order) / length


def values(kind, orders, x, middle, length):
    """(T, M) functions at x, and which points are in the domain."""
    if kind == "fourier":
        return np.stack([harmonic(m, (x - middle) / length) for m in orders], axis=1), np.ones(len(x), bool)
    share = (x - middle) / length
    inside = np.abs(share) <= 1 + 1e-6
    return np.stack([polynomial(kind, k, np.clip(share, -1, 1)) for k in orders], axis=1), inside


def variances(densities, frequencies, dimensions):
    """(M,) of orthonormal functions' weights; densities: (function of frequency and dimensions, variance) of parts."""
    total = np.zeros(len(frequencies))
    for density, variance in densities:
        own = np.array([density(w, dimensions) for w in frequencies])
        total += variance * own / own.sum()
    return total


def covariance(kind, densities, x, middle, length, size):
    """(T, T) covariance of one component; outside the domain a point has the variance on its own."""
    orders = list(range(size))
    if kind == "fourier":
        orders = [0, *(sign * k for k in range(1, (size - 1) // 2 + 1) for sign in (1, -1))]
    own = variances(densities, [frequency(kind, m, length) for m in orders], 1)
    F, inside = values(kind, orders, x, middle, length)
    F = F * inside[:, None]
    alone = np.where(inside, 0.0, sum(variance for _, variance in densities))
    return (F * own) @ F.T + np.sqrt(np.outer(alone, alone)) * (x[:, None] == x[None])
