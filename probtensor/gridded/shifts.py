"""Covariances that stay the same when places move along a regularly spaced coordinate, as products of Fourier series.

Longitudes of a grid are such a coordinate, on the sphere, too.

Source: Dietrich and Newsam 1997 (circulant embedding).
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy import fft

from probtensor.kernels.adapted import adapted_part
from probtensor.kernels.field import AbstractFieldKernel
from probtensor.typing import Float, Int

#: How far levels may be from equal steps, as a share of one; how far covariances of equal shifts from each other,
#: relative to the largest variance.
_UNEVEN, _EQUAL = 1e-3, 1e-4
#: Pairs of places at which that is looked at.
_PAIRS = 500
#: What a product by Fourier series costs for each of its operations, in those of a matrix product.
_COST = 4.0


class Shifted(NamedTuple):
    """The covariance between n places at A x B levels, of which the second kind is regularly spaced.

    Attributes:
        first: which of the A levels each place has.
        second: which of the B levels.
        spectrum: (F, A, A) Fourier series of the covariance over shifts, on a circle of ``length``.
        length: of the circle, in steps.
    """

    first: Int[np.ndarray, "n"]
    second: Int[np.ndarray, "n"]
    spectrum: Float[np.ndarray, "F A A"]
    length: int

    def times(self, x: Float[np.ndarray, "k n"]) -> Float[np.ndarray, "k n"]:
        """The covariance times vectors."""
        A = self.spectrum.shape[1]
        spread = np.zeros((len(x), A, self.length))
        spread[:, self.first, self.second] = x
        waves = np.ascontiguousarray(fft.rfft(spread, axis=2).transpose(2, 1, 0))
        moved = (self.spectrum @ waves).transpose(2, 1, 0)
        return fft.irfft(moved, self.length, axis=2)[:, self.first, self.second]


def shifted(kernel: AbstractFieldKernel, points: Float[np.ndarray, "n D"], columns: list[int]) -> Shifted | None:
    """A kernel's covariance between places as such a product; None where it is none, or a matrix product is quicker.

    An adapted one knows its own places only, and is none.

    Args:
        kernel: with numbers.
        points: the places.
        columns: those of their coordinates that vary.
    """
    if len(columns) != 2 or adapted_part(kernel) is not None:
        return None
    for first, second in (columns, columns[::-1]):
        found = _embedded(kernel, points, first, second)
        if found is not None:
            return found
    return None


def _embedded(
    kernel: AbstractFieldKernel,
    points: Float[np.ndarray, "n D"],
    first: int,
    second: int,
) -> Shifted | None:
    others, at = np.unique(points[:, first], return_inverse=True)
    levels = np.unique(points[:, second])
    if len(levels) < 3:
        return None
    # Some levels may have no place.
    low, extent = levels[0], float(np.ptp(levels))
    B = round(extent / float(np.diff(levels).min())) + 1
    A, step = len(others), extent / (B - 1)
    place = np.rint((points[:, second] - low) / step).astype(int)
    if np.max(np.abs(points[:, second] - low - step * place)) > _UNEVEN * step:
        return None
    ends = np.repeat(points[:1], 2, axis=0)
    ends[1, second] += B * step
    size, around = _covariance(kernel, ends[[0, 0]], ends)
    length = B if abs(around - size) < _EQUAL * size else int(fft.next_fast_len(2 * B - 1, real=True))
    if _COST * A * length * (10 * np.log2(length) + 4 * A) > 2 * len(points) ** 2:
        return None
    shift = np.minimum(np.arange(length), length - np.arange(length))
    here = np.repeat(points[:1], A * A * length, axis=0)
    there = here.copy()
    one, two, moved = (a.ravel() for a in np.meshgrid(np.arange(A), np.arange(A), shift, indexing="ij"))
    here[:, first], there[:, first] = others[one], others[two]
    here[:, second], there[:, second] = low, low + step * moved
    over = np.concatenate(
        [_covariance(kernel, a, b) for a, b in zip(*(np.array_split(x, A) for x in (here, there)), strict=True)]
    )
    over = over.reshape(A, A, length)
    pairs = np.random.default_rng(0).integers(len(points), size=(2, _PAIRS))
    expected = _covariance(kernel, *points[pairs])
    between = over[at[pairs[0]], at[pairs[1]], np.abs(place[pairs[0]] - place[pairs[1]])]
    if not np.max(np.abs(between - expected)) <= _EQUAL * size:
        return None
    spectrum = np.ascontiguousarray(fft.rfft(over, axis=2).real.transpose(2, 0, 1))
    return Shifted(at.ravel(), place, spectrum, length)


def _covariance(
    kernel: AbstractFieldKernel, a: Float[np.ndarray, "n D"], b: Float[np.ndarray, "n D"]
) -> Float[np.ndarray, "n"]:
    return np.asarray(kernel.covariance(jnp.asarray(a), jnp.asarray(b)))
