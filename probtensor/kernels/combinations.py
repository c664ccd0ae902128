"""Sums and products of kernels: of functions that add up, and of covariances that multiply."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable
from typing import TypeVar

import jax.numpy as jnp
import numpy as np

from probtensor.axes import Axis
from probtensor.kernels.base import AbstractKernel, Start
from probtensor.linalg.small import triangular_root
from probtensor.typing import Array, Float

_Factor = TypeVar("_Factor")


def joined(kind: type[_OfParts], *kernels: AbstractKernel) -> tuple[AbstractKernel, ...]:
    """The kernels' parts, where they are of this kind, one after the other."""
    return tuple(part for k in kernels for part in (k.parts if isinstance(k, kind) else (k,)))


def expanded(parts: Iterable[tuple[tuple[_Factor, ...], ...]]) -> tuple[tuple[_Factor, ...], ...]:
    """The product of sums of products as one: every choice of one product from each sum."""
    return tuple(tuple(itertools.chain.from_iterable(chosen)) for chosen in itertools.product(*parts))


def _kron(a: Float[Array, "R s t"], b: Float[Array, "R u v"]) -> Float[Array, "R su tv"]:
    out = jnp.einsum("rij,rkl->rikjl", a, b)
    return out.reshape(out.shape[0], a.shape[1] * b.shape[1], a.shape[2] * b.shape[2])


def _block_diagonal(blocks: list[Float[Array, "R s s"]]) -> Float[Array, "R S S"]:
    size = sum(b.shape[-1] for b in blocks)
    out = jnp.zeros((blocks[0].shape[0], size, size), blocks[0].dtype)
    at = 0
    for b in blocks:
        s = b.shape[-1]
        out = out.at[:, at : at + s, at : at + s].set(b)
        at += s
    return out


class _OfParts(AbstractKernel):
    """What a sum and a product of kernels have in common."""

    parts: tuple[AbstractKernel, ...]

    def _periods(self, start: Start) -> list[tuple[float, ...]]:
        """For each part the periods that are left by those before it, one for each component at least."""
        known = start.cycles(self.open_periods + len(start.lengthscales) - 1)
        taken = itertools.accumulate((part.open_periods for part in self.parts), initial=0)
        return [known[n:] for n in itertools.islice(taken, len(self.parts))]

    def factors(self) -> tuple[AbstractKernel, ...]:
        """Those of all parts."""
        return tuple(factor for part in self.parts for factor in part.factors())

    @property
    def open_periods(self) -> int:
        """Those of all parts."""
        return sum(part.open_periods for part in self.parts)

    @property
    def stationary(self) -> bool:
        """Whether all parts are."""
        return all(part.stationary for part in self.parts)

    @property
    def markovian(self) -> bool:
        """Whether all parts are."""
        return all(part.markovian for part in self.parts)

    @property
    def deterministic(self) -> bool:
        """Whether all parts are."""
        return all(part.deterministic for part in self.parts)


class Sum(_OfParts):
    """The sum of kernels: a function that is the sum of independent ones, such as a slow and a fast part.

    Cost: the states of the parts add up. In a mode that does not carry the components' variance the first part's
    variance is held and the others' are learned relative to it.
    """

    def bind(self, axis: Axis, start: Start) -> Sum:
        """Binds each part; the parts start at different scales, the first the longest."""
        spread = np.geomspace(1.0, 0.1, len(self.parts))
        share = start.variances / len(self.parts)
        bound = [
            part.bind(axis, Start(start.lengthscales * factor, share, start.carries_variance or k > 0, periods))
            for k, (part, factor, periods) in enumerate(zip(self.parts, spread, self._periods(start), strict=True))
        ]
        return Sum(tuple(bound))

    def between(self, x: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "R ..."]:
        """Sum of the parts' covariances."""
        return functools.reduce(jnp.add, [part.between(x, y) for part in self.parts])

    def covariance(self, distance: Float[Array, "..."]) -> Float[Array, "R ..."]:
        """Sum of the parts' covariances."""
        return functools.reduce(jnp.add, [part.covariance(distance) for part in self.parts])

    def products(self) -> tuple[tuple[AbstractKernel, ...], ...]:
        """The parts' products."""
        return tuple(product for part in self.parts for product in part.products())

    @property
    def state_size(self) -> int:
        """Sum of the parts' state sizes."""
        return sum(part.state_size for part in self.parts)

    def emission(self) -> Float[np.ndarray, "S"]:
        """The parts' emissions one after the other."""
        return np.concatenate([part.emission() for part in self.parts])

    def state_root(self, at: Float[Array, ""]) -> Float[Array, "R S S"]:
        """Block diagonal of the parts' roots."""
        return _block_diagonal([part.state_root(at) for part in self.parts])

    def transition(self, at: Float[Array, ""], step: Float[Array, ""]) -> tuple[Array, Array]:
        """Block diagonal of the parts' transitions."""
        F, root_Q = zip(*(part.transition(at, step) for part in self.parts), strict=True)
        return _block_diagonal(list(F)), _block_diagonal(list(root_Q))


class Product(_OfParts):
    """The product of kernels: a function whose covariance is the parts' covariances multiplied.

    Cost: the states of the parts multiply. The first part carries the variance; the others' are held at 1 unless
    declared. What multiplies a cycle starts from half the range at least: cycles that change slowly are found from
    there, while from a lengthscale below the period the cycle is never seen.

    Source: Solin and Sarkka 2014, section 3.3 (Kronecker products of states).
    """

    def bind(self, axis: Axis, start: Start) -> Product:
        """Binds each part."""
        cycles = self._periods(start)
        if any(part.cyclic for part in self.parts):
            start = start._replace(lengthscales=np.maximum(start.lengthscales, axis.range / 2))
        others = start._replace(variances=np.ones_like(start.variances), carries_variance=False)
        bound = [
            part.bind(axis, (others if k else start)._replace(periods=periods))
            for k, (part, periods) in enumerate(zip(self.parts, cycles, strict=True))
        ]
        return Product(tuple(bound))

    def between(self, x: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "R ..."]:
        """Product of the parts' covariances."""
        return functools.reduce(jnp.multiply, [part.between(x, y) for part in self.parts])

    def covariance(self, distance: Float[Array, "..."]) -> Float[Array, "R ..."]:
        """Product of the parts' covariances."""
        return functools.reduce(jnp.multiply, [part.covariance(distance) for part in self.parts])

    def products(self) -> tuple[tuple[AbstractKernel, ...], ...]:
        """Every choice of one product from each part."""
        return expanded(part.products() for part in self.parts)

    @property
    def state_size(self) -> int:
        """Product of the parts' state sizes."""
        return math.prod(part.state_size for part in self.parts)

    def emission(self) -> Float[np.ndarray, "S"]:
        """Kronecker product of the parts' emissions."""
        return functools.reduce(np.kron, [part.emission() for part in self.parts])

    def state_root(self, at: Float[Array, ""]) -> Float[Array, "R S S"]:
        """Kronecker product of the parts' roots."""
        return functools.reduce(_kron, [part.state_root(at) for part in self.parts])

    def transition(self, at: Float[Array, ""], step: Float[Array, ""]) -> tuple[Array, Array]:
        """Kronecker product of the parts' F, and a root of what the decay of each part lets in."""
        first = self.parts[0]
        F, root_Q = first.transition(at, step)
        here, there, deterministic = first.state_root(at), first.state_root(at + step), first.deterministic
        for part in self.parts[1:]:
            F_part, root_Q_part = part.transition(at, step)
            here_part, there_part = part.state_root(at), part.state_root(at + step)
            # With P before and N after the step, N1 kron N2 - F1 P1 F1' kron F2 P2 F2' as a sum of squares,
            # F1 P1 F1' kron Q2 + Q1 kron N2. Where one part is deterministic one square is zero and the other's root
            # has the right shape.
            if deterministic:
                root_Q = _kron(there, root_Q_part)
            elif part.deterministic:
                root_Q = _kron(root_Q, there_part)
            else:
                left = _kron(F @ here, root_Q_part), _kron(root_Q, there_part)
                root_Q = _square(jnp.concatenate(left, axis=-1))
            F, here, there = _kron(F, F_part), _kron(here, here_part), _kron(there, there_part)
            deterministic = deterministic and part.deterministic
        return F, root_Q


def _square(root: Float[Array, "R S K"]) -> Float[Array, "R S S"]:
    """Another root of the same matrix, with as many columns as rows; rows may differ in size and be zero."""
    squares = jnp.sum(root**2, axis=-1, keepdims=True)
    size = jnp.sqrt(jnp.where(squares > 0, squares, 1.0))
    return size * triangular_root(root / size)
