"""What a set of fixed functions is to a prior: their values in sums over points, and the variances of their weights."""

from __future__ import annotations

import abc
import math
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from probtensor.compilation import compiled
from probtensor.kernels.base import AbstractKernel
from probtensor.linalg.cosines import Waves
from probtensor.typing import Array, Bool, Float, Int


class Located(NamedTuple):
    """Points as the functions read them.

    Attributes:
        angles: (T, d) what the cosines in the functions are of.
        inside: whether the functions are not zero there.
        among: whether the functions have all the prior's variance there; elsewhere `AbstractFeatures.lacking` adds it.
    """

    angles: Float[Array, "T d"]
    inside: Bool[Array, "T"]
    among: Bool[Array, "T"]


class Limits(NamedTuple):
    """A domain around zero: half its length in each flat coordinate, and what may be rounding beyond it."""

    half: Float[np.ndarray, "d"]
    slack: Float[np.ndarray, "d"]


class AbstractFeatures(eqx.Module):
    """M functions of d flat coordinates (see ``probtensor.kernels.metric.Chart``), each with a frequency.

    They are sums of products of cosines and sines of multiples of d angles, so that sums over T points of products of
    two of them cost O(T M), see ``probtensor.linalg.cosines``.
    """

    waves: eqx.AbstractVar[Waves]

    @property
    def number(self) -> int:
        """M."""
        return self.waves.orders.shape[0]

    @abc.abstractmethod
    def locate(self, x: Float[Array, "T d"]) -> Located:
        """Angles of flat coordinates."""

    @abc.abstractmethod
    def change(self) -> Float[Array, "M M"] | None:
        """The functions are these sums of the waves, a column each; None: they are the waves."""

    @abc.abstractmethod
    def squares(self, factors: Float[Array, "d"]) -> Float[Array, "M"]:
        """Squared frequency of each function where the coordinates are multiplied by the factors."""

    @abc.abstractmethod
    def steps(self, factors: Float[Array, "d"]) -> Float[Array, "d"]:
        """Frequency of the first function that is not constant, in each coordinate."""

    @abc.abstractmethod
    def variances(self, kernel: AbstractKernel, factors: Float[Array, "d"]) -> Float[Array, "R M"]:
        """Prior variances of the functions' weights."""

    @abc.abstractmethod
    def lacking(self, kernel: AbstractKernel, located: Located, scales: Float[Array, "R M"]) -> Float[Array, "T R"]:
        """Variance of the kernel that the functions do not have at these points, which each point has on its own.

        scales: prior standard deviations of the weights.
        """

    @abc.abstractmethod
    def limits(self) -> Limits | None:
        """The domain outside of which the functions mean nothing; None: there is no end, or the prior is beyond it."""

    def project(self, angles: Float[Array, "T d"], values: Float[Array, "T P"]) -> Float[Array, "M P"]:
        """Sums over the points of each function times the values."""
        sums, change = self.waves.project(angles, values), self.change()
        return sums if change is None else change.T @ sums

    def expand(self, angles: Float[Array, "T d"], weights: Float[Array, "M P"]) -> Float[Array, "T P"]:
        """At each point P sums of the functions times their weights."""
        change = self.change()
        return self.waves.expand(angles, weights if change is None else change @ weights)

    def gram(self, angles: Float[Array, "T d"], weights: Float[Array, "T P"]) -> Float[Array, "M M P"]:
        """Sums over the points of weights times the product of two functions, for P sets of weights."""
        sums, change = self.waves.gram(angles, weights), self.change()
        return sums if change is None else _both_sides(change.T, sums)

    def quadratic(self, angles: Float[Array, "T d"], matrices: Float[Array, "M M P"]) -> Float[Array, "T P"]:
        """s' A s at each point for P matrices A and the functions s."""
        change = self.change()
        return self.waves.quadratic(angles, matrices if change is None else _both_sides(change, matrices))

    def highest(self, factors: Float[Array, "d"]) -> float:
        """The highest frequency; that of the first function behind the constant, if that is the only one."""
        steps, squares = (np.asarray(x, dtype=float) for x in _frequencies(self, factors))
        return float(max(np.sqrt(squares.max()), steps.min()))


@compiled
def _frequencies(features: AbstractFeatures, factors: Float[Array, "d"]) -> tuple[Array, Array]:
    """Steps and squares, outside other programs: one program, not one for each operation."""
    return features.steps(factors), features.squares(factors)


def _both_sides(change: Float[Array, "M M"], matrices: Float[Array, "M M P"]) -> Float[Array, "M M P"]:
    """C A C' for each matrix A."""
    M, _, P = matrices.shape
    left = (change @ matrices.reshape(M, M * P)).reshape(M, M, P)
    right = change @ left.transpose(1, 0, 2).reshape(M, M * P)
    return right.reshape(M, M, P).transpose(1, 0, 2)


def squares_of(orders: Int[Array, "M d"], steps: Float[Array, "d"], bend: int = 0) -> Float[Array, "M"]:
    """Sums over the dimensions of order (order + bend) step^2."""
    absolute = jnp.abs(orders)
    return jnp.sum((absolute * (absolute + bend)).astype(steps.dtype) * steps[None] ** 2, axis=1)


def lowest_orders(steps: np.ndarray, most: list[int], size: int, bend: int = 0) -> Int[np.ndarray, "M d"]:
    """The orders from 0 to ``most`` in each dimension with the ``size`` lowest frequencies; fewer if there are not.

    steps: (d,) frequency of order 1 in each dimension; squared frequencies are those of `squares_of`.
    """
    radius = float(np.prod(steps) * size) ** (1 / len(steps))
    while True:
        caps = [min(n, math.floor(radius / step)) for n, step in zip(most, steps, strict=True)]
        grid = np.stack(np.meshgrid(*(np.arange(cap + 1) for cap in caps), indexing="ij"), axis=-1)
        orders = grid.reshape(-1, len(steps))
        squares = (orders * (orders + bend) * steps**2).sum(axis=1)
        complete = all(cap == n for cap, n in zip(caps, most, strict=True))
        if complete or np.count_nonzero(squares <= radius**2) >= size:
            return orders[np.lexsort((*orders.T, np.round(squares / steps.min() ** 2, 9)))][:size]
        radius *= 1.3
