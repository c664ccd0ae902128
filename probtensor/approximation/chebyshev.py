"""Chebyshev series of one variable: nested points, coefficients, how fast they decay, inner products, integrals."""

from __future__ import annotations

import math

import equinox as eqx
import numpy as np
from numpy.polynomial import chebyshev
from scipy import linalg

from probtensor.approximation.box import Box
from probtensor.typing import Float

#: Points of the first grid; each further one has all points of the one before it, and one between any two.
FIRST_POINTS = 33

#: Coefficients that fall more slowly than k**-FLAT do not fall.
FLAT = 0.5

#: From one octave of degrees to the next the rate of a geometric decay doubles, that of an algebraic one stays.
STEEPER = 1.3

#: Noise lies this far below the largest coefficient, or it is taken for what it cannot be told from: fast oscillation.
NOISE_BELOW = 1e-2


class Grid(eqx.Module):
    """Chebyshev points of one variable, as float64 can place them between its bounds.

    Attributes:
        x: coordinates, ascending, both bounds among them.
        t: what they are in [-1, 1]: where the bounds are far from 0, a rounding away from Chebyshev's points.
        factors: LU factors of the Chebyshev polynomials at those points. A fast cosine transform would give the
            coefficients of points that float64 may not have.
    """

    x: Float[np.ndarray, "n"]
    t: Float[np.ndarray, "n"]
    factors: tuple[np.ndarray, np.ndarray]

    @property
    def count(self) -> int:
        """Number of points, 2**k + 1."""
        return len(self.x)

    def coefficients(self, values: Float[np.ndarray, "n R"]) -> Float[np.ndarray, "n R"]:
        """Chebyshev coefficients of the polynomials through values at the points."""
        return linalg.lu_solve(self.factors, values, check_finite=False)


def grid(box: Box, axis: int, count: int, coarser: Grid | None = None) -> Grid:
    """Chebyshev points of the second kind along a variable. Cost O(n^3), once a size.

    Args:
        box: bounds.
        axis: which variable.
        count: how many, 2**k + 1.
        coarser: a grid of half as many intervals, whose points are kept to the last bit.
    """
    x = box.place(axis, chebyshev.chebpts2(count))
    if coarser is not None:
        x[::2] = coarser.x
    t = box.unit(axis, x)
    return Grid(x, t, linalg.lu_factor(chebyshev.chebvander(t, count - 1), check_finite=False))


def first_points(max_degree: int) -> int:
    """Points of the first grid where no degree may be above max_degree."""
    return min(FIRST_POINTS, 2 ** int(math.log2(max_degree)) + 1)


def evaluate(coefficients: Float[np.ndarray, "n R"], t: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N R"]:
    """R Chebyshev series at N points of [-1, 1]. Cost O(N n R)."""
    return chebyshev.chebvander(t, len(coefficients) - 1) @ coefficients


class Decay(eqx.Module):
    """How the coefficients of some functions of one variable fall off with the degree.

    Attributes:
        resolved: the last quarter of them is below the tolerance.
        kind: ``"geometric"`` (smooth), ``"algebraic"`` (like k**-rate: a jump has rate 1, a kink 2), ``"flat"``.
        rate: the rate, from octaves of degrees.
        noise: standard deviation that white noise on the values would have to have for the last quarter of the
            coefficients; a measure of noise where these are flat.
        drop: the last half over the largest coefficient.
    """

    resolved: bool
    kind: str
    rate: float
    noise: float
    drop: float

    def is_noise(self, before: Decay | None) -> bool:
        """Whether the coefficients end in a floor of noise: one that is flat, low, and was there on half the points.

        A fast oscillation that the points cannot follow is as flat, but seldom low, and moves with the points.
        """
        return (
            before is not None
            and not self.resolved
            and abs(self.rate) < FLAT
            and abs(before.rate) < FLAT
            and self.drop < NOISE_BELOW
            and before.drop < NOISE_BELOW
            and 1 / 3 < self.noise / max(before.noise, np.finfo(float).tiny) < 3
        )


def decay(coefficients: Float[np.ndarray, "n m"], tolerance: float) -> Decay:
    """Judges m columns of coefficients together, the slowest counting most.

    Args:
        coefficients: in units in which ``tolerance`` is meant.
        tolerance: size below which a coefficient is negligible.
    """
    n = len(coefficients)
    size = np.abs(coefficients)
    largest = float(size.max(initial=0.0))
    octaves = [
        float(np.sqrt((coefficients[n // (2 * part) : n // part] ** 2).sum(axis=1).mean())) for part in (4, 2, 1)
    ]
    earlier, later = (_slope(octaves[k], octaves[k + 1]) for k in (0, 1))
    kind = "flat" if later < FLAT else "geometric" if later > STEEPER * earlier else "algebraic"
    tail = np.sqrt((coefficients[-(n // 4) :] ** 2).mean(axis=0)).max(initial=0.0)
    return Decay(
        resolved=bool(size[-(n // 4) :].max(initial=0.0) <= tolerance),
        kind=kind,
        # The last octave of an algebraic decay is lifted by what the points cannot tell from it.
        rate=earlier if kind == "algebraic" else later,
        noise=float(tail * math.sqrt(n / 2)),
        drop=float(size[n // 2 :].max(initial=0.0) / largest) if largest else 0.0,
    )


def _slope(earlier: float, later: float) -> float:
    """The p of k**-p from the root mean squares of two octaves."""
    if later == 0.0:
        return math.inf if earlier else 0.0
    return math.log2(max(earlier, np.finfo(float).tiny) / later)


def gram(count: int) -> Float[np.ndarray, "n n"]:
    """Means over [-1, 1] of the products of two Chebyshev polynomials of degree below count."""
    degree = np.arange(count)
    total, apart = degree[:, None] + degree, degree[:, None] - degree
    even = total % 2 == 0
    # The integral of T_i T_j, half the sum of those of T_(i+j) and T_|i-j|; the integral of T_k is 2 / (1 - k^2).
    integral = np.where(even, 1.0 / np.where(even, 1.0 - total**2, 1.0) + 1.0 / np.where(even, 1.0 - apart**2, 1.0), 0)
    return integral / 2


def means(count: int) -> Float[np.ndarray, "n"]:
    """Means over [-1, 1] of the Chebyshev polynomials of degree below count."""
    return gram(count)[0]
