"""Covariances of kernels by their textbook formulas, for kernels told by the names of their classes.

Hyper-parameters come as an iterator over arrays, one value for each component or one for all, in the order in which a
kernel declares them.
"""

import math

import numpy as np

from tests.oracles import gaussian_process as oracle

#: Frequencies of the numerical Fourier integral: their step and number.
STEP, FREQUENCIES = 0.005, 40_000


def covariance(kernel, values, x, y, r, levels, states=False):
    """(T, M) covariance of component r between coordinates x and y.

    levels: of the mode, whose first is the origin of walks and whose middle that of lines; states: what the state-space
    form has, where that is an approximation.
    """
    name = type(kernel).__name__
    if name in ("Sum", "Product"):
        parts = [covariance(part, values, x, y, r, levels, states) for part in kernel.parts]
        return sum(parts) if name == "Sum" else np.prod(parts, axis=0)
    d = oracle.distances(x, y)

    def number():
        value = np.asarray(next(values), dtype=np.float64)
        return value[min(r, len(value) - 1)]

    if name == "Periodic":
        period, lengthscale, variance = number(), number(), number()
        return oracle.periodic(period, lengthscale, variance, d)
    scale, variance = number(), number()
    if name == "Matern":
        return oracle.matern(kernel.nu, scale, variance, d)
    if name == "Cosine":
        return variance * np.cos(2 * np.pi * d / scale)
    if name == "RBF":
        return variance * (rational_gaussian(kernel.order, d / scale) if states else np.exp(-(d**2) / (2 * scale**2)))
    origin = levels[0] if name != "Linear" else 0.5 * (levels[0] + levels[-1])
    u, v = ((np.asarray(z, np.float64) - origin) / scale for z in (x, y))
    return variance * {"Linear": line, "RandomWalk": walk, "IntegratedRandomWalk": integrated_walk}[name](u, v)


def line(u, v):
    """A level and a slope, each with variance 1."""
    return 1 + np.outer(u, v)


def walk(u, v):
    """A level, and increments from the origin outward on either side, variance 1 for a unit of the way."""
    return 1 + np.array([[min(abs(a), abs(b)) if a * b > 0 else 0.0 for b in v] for a in u])


def integrated_walk(u, v):
    """A line, and the integral over the common way of what a kick to the slope there moves both points by."""
    nodes, weights = np.polynomial.legendre.leggauss(4)
    out = line(u, v)
    for i, a in enumerate(u):
        for j, b in enumerate(v):
            if a * b > 0:
                a_, b_ = abs(a), abs(b)
                shared = min(a_, b_)
                t = 0.5 * shared * (nodes + 1)
                out[i, j] += np.sum(0.5 * shared * weights * (a_ - t) * (b_ - t))
    return out


def rational_gaussian(order, s):
    """Correlation at scaled distances s whose spectral density is a Pade approximant to exp(-w^2 / 2), by its integral.

    Coefficients of the [m/n] approximant to exp(-x): Baker and Graves-Morris 1996, section 1.2.
    """
    n, m, f = order, 2 if order > 4 else 0, math.factorial
    P = [(-1) ** k * f(m + n - k) * f(m) / (f(k) * f(m - k)) for k in range(m + 1)]
    Q = [f(m + n - k) * f(n) / (f(k) * f(n - k)) for k in range(n + 1)]
    w = STEP * np.arange(FREQUENCIES)
    density = np.polyval(P[::-1], w**2 / 2) / np.polyval(Q[::-1], w**2 / 2)
    density[0] *= 0.5
    flat, back = np.unique(np.asarray(s, dtype=np.float64), return_inverse=True)
    # The sum repeats itself where the integral has long been zero.
    near = [density @ np.cos(w * x) if x < 1 / STEP else 0.0 for x in flat]
    return (np.array(near) / density.sum())[back].reshape(np.shape(s))
