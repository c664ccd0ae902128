"""A functional Tucker decomposition on a full grid, from the definition of Chebyshev polynomials."""

import numpy as np


def series(coefficients, x, low, high):
    """(N, r): sums of coefficients times cos(k arccos t)."""
    t = np.clip((2 * np.asarray(x) - low - high) / (high - low), -1, 1)
    return np.cos(np.outer(np.arccos(t), np.arange(len(coefficients)))) @ coefficients


def on_grid(core, coefficients, bounds, grids):
    """The decomposition at all combinations of coordinates: the core summed against each mode's functions."""
    operands = []
    for axis, (c, (low, high), x) in enumerate(zip(coefficients, bounds, grids, strict=True)):
        operands += [series(c, x, low, high), [core.ndim + axis, axis]]
    return np.einsum(core, list(range(core.ndim)), *operands, [core.ndim + axis for axis in range(core.ndim)])
