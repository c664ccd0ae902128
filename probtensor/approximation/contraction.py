"""A core times vectors of each mode, at many points, and the canonical form of a functional Tucker decomposition."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import linalg

from probtensor.approximation import chebyshev
from probtensor.typing import Float

#: Numbers that one intermediate array may hold.
LARGEST_BLOCK = 2**19


def unscaled(values: Any, exponent: int) -> Any:
    """Values times a power of two, those beyond the largest number of 64 bits moved onto it."""
    largest = np.finfo(np.float64).max
    with np.errstate(over="ignore"):
        return np.clip(np.ldexp(values, exponent), -largest, largest)


def times(core: np.ndarray, matrix: Float[np.ndarray, "q r"], axis: int) -> np.ndarray:
    """A tensor times a matrix along one mode."""
    return np.moveaxis(np.tensordot(matrix, core, axes=(1, axis)), 0, axis)


def at_points(
    core: np.ndarray, factors: Sequence[Float[np.ndarray, "N r"]], keep: int | None = None
) -> Float[np.ndarray, "..."]:
    """The sum over the core of its entries times the factors' entries, at each of N points.

    Args:
        core: (r_1, ..., r_D).
        factors: values of the r_d functions of each mode at N points.
        keep: a mode over which is not summed; its factor is not read, and the result has shape (N, r_keep).

    Cost O(N prod r_d).
    """
    axes = [axis for axis in range(core.ndim) if axis != keep]
    count, kept = len(factors[0]), 1 if keep is None else core.shape[keep]
    flat = core if keep is None else np.moveaxis(core, keep, -1)
    sizes = np.cumprod([1] + [core.shape[axis] for axis in axes])
    # Products of the first modes' entries times the core as a matrix, then the products of the other modes' entries:
    # with halves of about equal size it is one matrix product.
    half = int(np.searchsorted(sizes, math.sqrt(sizes[-1])))
    matrix = np.reshape(flat, (sizes[half], -1))
    width = max(1, LARGEST_BLOCK // max(matrix.shape))
    out = np.empty((count, kept))
    for start in range(0, count, width):
        rows = slice(start, min(start + width, count))
        left, right = (_row_products([factors[axis][rows] for axis in part]) for part in (axes[:half], axes[half:]))
        inner = left @ matrix if left is not None else np.repeat(matrix, rows.stop - start, axis=0)
        out[rows] = inner if right is None else np.einsum("nq,nqk->nk", right, inner.reshape(*right.shape, kept))
    return out[:, 0] if keep is None else out


def _row_products(factors: Sequence[Float[np.ndarray, "N r"]]) -> Float[np.ndarray, "N q"] | None:
    """All products of one entry of each factor, row by row; None for no factor."""
    if not factors:
        return None
    out = factors[0]
    for values in factors[1:]:
        out = (out[:, :, None] * values[:, None, :]).reshape(len(out), -1)
    return out


def orthonormal(
    core: np.ndarray, coefficients: Sequence[Float[np.ndarray, "n r"]]
) -> tuple[np.ndarray, list[Float[np.ndarray, "n r"]]]:
    """The same function with factor functions whose products have mean 0, or 1 for a function with itself."""
    found = []
    for axis, series in enumerate(coefficients):
        root = linalg.cholesky(chebyshev.gram(len(series)), check_finite=False)
        basis, triangle = linalg.qr(root @ series, mode="economic", check_finite=False)
        found.append(linalg.solve_triangular(root, basis, check_finite=False))
        core = times(core, triangle, axis)
    return core, found


def canonical(
    core: np.ndarray,
    coefficients: Sequence[Float[np.ndarray, "n r"]],
    t: Float[np.ndarray, "N D"],
    tolerance: float,
    most: Sequence[int | None],
) -> tuple[np.ndarray, list[Float[np.ndarray, "n r"]]]:
    """The canonical form (higher-order singular value decomposition) without what does not matter.

    Factor functions are orthonormal, those of a mode ordered by how much of the function they carry, signs fixed. Of
    each mode the last functions are dropped whose sum is below the tolerance at all the points t, and then the highest
    degrees likewise: a bound on the largest error, which mean squares are not.

    Args:
        core: (r_1, ..., r_D).
        coefficients: Chebyshev coefficients of each mode's functions.
        t: points in [-1, 1]^D.
        tolerance: absolute, for all that is dropped together.
        most: highest rank of each mode, or None.

    Source: De Lathauwer, De Moor and Vandewalle 2000; truncated mode by mode as Vannieuwenhoven et al. 2012.
    """
    core, series = orthonormal(core, coefficients)
    share = tolerance / (2 * core.ndim)
    for axis in range(core.ndim):
        core, series[axis] = _rotated(core, series[axis], axis)
        values = [chebyshev.evaluate(series[d], t[:, d]) for d in range(core.ndim)]
        parts = values[axis] * at_points(core, values, keep=axis)
        left_out = np.abs(np.cumsum(parts[:, ::-1], axis=1)).max(axis=0)[::-1]
        rank = max(1, _last_above(left_out, share))
        rank = min(rank, most[axis] or rank)
        core, series[axis] = np.take(core, range(rank), axis=axis), series[axis][:, :rank]
    values = [chebyshev.evaluate(series[d], t[:, d]) for d in range(core.ndim)]
    for axis in range(core.ndim):
        weights = np.abs(at_points(core, values, keep=axis)).max(axis=0)
        left_out = np.cumsum((np.abs(series[axis]) @ weights)[::-1])[::-1]
        series[axis] = series[axis][: max(1, _last_above(left_out, share))]
    # Without those degrees the functions are orthonormal and ordered only nearly.
    return ordered(core, series)


def ordered(
    core: np.ndarray, coefficients: Sequence[Float[np.ndarray, "n r"]]
) -> tuple[np.ndarray, list[Float[np.ndarray, "n r"]]]:
    """The canonical form of all that is there: factor functions orthonormal and in order, signs fixed."""
    core, series = orthonormal(core, coefficients)
    for axis in range(core.ndim):
        core, series[axis] = _rotated(core, series[axis], axis)
    return core, series


def _rotated(
    core: np.ndarray, series: Float[np.ndarray, "n r"], axis: int
) -> tuple[np.ndarray, Float[np.ndarray, "n r"]]:
    """The same function with one mode's functions ordered by singular values, their largest coefficients positive."""
    unfolded = np.moveaxis(core, axis, 0).reshape(core.shape[axis], -1)
    rotation = linalg.svd(unfolded, full_matrices=False, check_finite=False)[0]
    series = series @ rotation
    largest = series[np.abs(series).argmax(axis=0), np.arange(series.shape[1])]
    signs = np.where(largest < 0, -1.0, 1.0)
    return times(core, (rotation * signs).T, axis), series * signs


def _last_above(sizes: Float[np.ndarray, "k"], limit: float) -> int:
    """How many of the leading entries reach to the last one above a limit."""
    above = np.flatnonzero(sizes > limit)
    return int(above[-1]) + 1 if len(above) else 0
