"""Kernels whose covariance differs from place to place, as the data say: by a smooth size, and by a table."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from scipy.linalg import cho_factor, cho_solve

from probtensor.axes import Axis
from probtensor.compilation import on_device, padded, shared_size
from probtensor.errors import ModelError
from probtensor.hyperparameters import Parameter
from probtensor.kernels.field import (
    AbstractFieldKernel,
    FieldProduct,
    FieldStart,
    FieldSum,
    On,
    Places,
    covariance_matrix,
    summands,
)
from probtensor.typing import Array, Float, Int

#: Added to the variances of the unadapted kernel before it is inverted, relative to them.
_JITTER = 1e-8
#: Prior standard deviation of each coefficient of the logarithm of the size.
_LOG_SD = 0.5
#: Cells of a table at most: its covariances are numbers of the square of that, and more are made on the way.
MOST_IN_TABLE = 10_000
#: So many are filled up to a power of two, which costs little memory.
_FEW = 1024


class Size(eqx.Module):
    """log of a standard deviation relative to the kernel's, a polynomial of the coordinates.

    Attributes:
        coefficients: one for each product; the constant is the kernel's variance.
        columns: where the coordinates stand.
        middle, half: of their ranges; beyond these the size stays as it is at the edge.
        turns: after which a coordinate closes on itself, where waves take the place of polynomials; 0: it does not.
        powers: (J, d) degrees of each product, or of waves their number: odd ones cosines, even ones sines.
    """

    coefficients: Parameter
    columns: tuple[int, ...] = eqx.field(static=True)
    middle: Float[Array, "d"]
    half: Float[Array, "d"]
    turns: tuple[float, ...] = eqx.field(static=True)
    powers: tuple[tuple[int, ...], ...] = eqx.field(static=True)

    @staticmethod
    def start(axes: Sequence[Axis], columns: tuple[int, ...], degree: int | None) -> Size:
        """The same everywhere, to be learned; along few levels not more functions than these can tell apart.

        degree: None: it stays the same.
        """
        degree = degree or 0
        turns = tuple(axis.period or 0.0 for axis in axes)
        numbers = [range(min(a.size, 2 * degree + 1 if a.period else degree + 1)) for a in axes]
        powers = tuple(
            power
            for power in itertools.product(*numbers)
            if 0 < sum(-(-k // 2) if turn else k for k, turn in zip(power, turns, strict=True)) <= degree
        )
        edges = np.array([[np.min(a.points), np.max(a.points)] for a in axes], dtype=float)
        half = 0.5 * np.ptp(edges, axis=1)
        nothing = on_device(np.zeros(len(powers)))
        middle, half = on_device(edges.mean(axis=1)), on_device(np.where(half > 0, half, 1.0))
        return Size(Parameter(nothing, nothing, log_sd=_LOG_SD), columns, middle, half, turns, powers)

    def names(self, dims: Sequence[str]) -> list[str]:
        """What each coefficient belongs to, such as ``P2(lat) cos(lon)``; dims: the coordinates' names."""
        return [
            " ".join(_function(*own) for own in zip(power, dims, self.turns, strict=True) if own[0])
            for power in self.powers
        ]

    def __call__(self, x: Float[Array, "... D"]) -> Float[Array, "..."]:
        """At coordinates."""
        functions = []
        for k, (column, turn) in enumerate(zip(self.columns, self.turns, strict=True)):
            most = max((power[k] for power in self.powers), default=0)
            if turn:
                angle = 2 * jnp.pi * (x[..., column] - self.middle[k]) / turn
                waves = [jnp.cos(-(-j // 2) * angle) if j % 2 else jnp.sin(j // 2 * angle) for j in range(1, most + 1)]
                functions.append([jnp.ones_like(angle), *waves])
            else:
                functions.append(_legendre(jnp.clip((x[..., column] - self.middle[k]) / self.half[k], -1, 1), most))
        total = jnp.zeros(x.shape[:-1], x.dtype)
        for j, power in enumerate(self.powers):
            product = jnp.ones(x.shape[:-1], x.dtype)
            for k, number in enumerate(power):
                product = product * functions[k][number]
            total = total + self.coefficients.raw[j] * product
        return jnp.exp(total)


def _function(number: int, dim: str, turn: float) -> str:
    if not turn:
        return f"P{number}({dim})"
    waves = -(-number // 2)
    return f"{'cos' if number % 2 else 'sin'}({dim if waves == 1 else f'{waves} {dim}'})"


def _legendre(x: Float[Array, "..."], degree: int) -> list[Float[Array, "..."]]:
    """Legendre polynomials up to a degree."""
    out = [jnp.ones_like(x), x]
    for k in range(1, degree):
        out.append(((2 * k + 1) * x * out[k] - k * out[k - 1]) / (k + 1))
    return out[: degree + 1]


def _size(number: int) -> int:
    """What a number of cells or levels is filled up to: each size of a table compiles all programs that read it."""
    return max(1 << max(number - 1, 0).bit_length(), 64) if number <= _FEW else shared_size(number)


class Table(eqx.Module):
    """Covariances between n cells, filled up to N so that close numbers of cells share programs.

    Attributes:
        levels: of each coordinate, ascending; infinite where filled up.
        keys: (N,) of the cells, ascending: their levels as one number.
        order: (N,) the number of the cell with each key; N where filled up.
        filled_places: (N, d) coordinates of the cells.
        filled_covariance: (N, N) between them.
        weight: how many fields the kernel counted as for each that there is, while they were learned.
    """

    levels: tuple[Float[Array, "L"], ...]
    keys: Int[Array, "N"]
    order: Int[Array, "N"]
    filled_places: Float[Array, "N d"]
    filled_covariance: Float[Array, "N N"]
    weight: Float[Array, ""]

    @staticmethod
    def of(places: Float[np.ndarray, "n d"], covariance: Float[np.ndarray, "n n"], weight: float) -> Table:
        """places: distinct."""
        levels = [np.unique(column) for column in places.T]
        index = [np.searchsorted(own, x) for own, x in zip(levels, places.T, strict=True)]
        keys = np.ravel_multi_index(index, [_size(len(own)) for own in levels])
        order = np.argsort(keys)
        missing = _size(len(keys)) - len(keys)
        arrays = (
            np.pad(keys[order], (0, missing), constant_values=keys.max() + 1),
            np.pad(order, (0, missing), constant_values=len(keys) + missing),
            np.pad(places, ((0, missing), (0, 0)), constant_values=np.nan),
            np.pad(covariance, (0, missing), constant_values=np.nan),
            np.asarray(weight),
        )
        filled = (np.pad(own, (0, _size(len(own)) - len(own)), constant_values=np.inf) for own in levels)
        return Table(tuple(map(on_device, filled)), *map(on_device, arrays))

    @property
    def number(self) -> int:
        """How many cells there are."""
        return int(np.sum(np.asarray(self.order) < len(self.order)))

    @property
    def places(self) -> Float[np.ndarray, "n d"]:
        """Coordinates of the cells."""
        return np.asarray(self.filled_places)[: self.number]

    @property
    def covariance(self) -> Float[np.ndarray, "n n"]:
        """Between the cells."""
        return np.asarray(self.filled_covariance)[: self.number, : self.number]

    def at(self, x: Float[Array, "... d"]) -> Int[Array, "..."]:
        """The number of the cell at some coordinates, exactly; N where there is none, which has no covariances."""
        key, known = jnp.zeros(x.shape[:-1], self.keys.dtype), jnp.ones(x.shape[:-1], bool)
        for k, own in enumerate(self.levels):
            level = jnp.minimum(jnp.searchsorted(own, x[..., k]), len(own) - 1)
            known = known & (own[level] == x[..., k])
            key = key * len(own) + level.astype(key.dtype)
        number = jnp.minimum(jnp.searchsorted(self.keys, key), len(self.keys) - 1)
        return jnp.where(known & (self.keys[number] == key), self.order[number], len(self.keys))

    def between(self, a: Int[Array, "..."], b: Int[Array, "..."]) -> Float[Array, "..."]:
        """Covariances of cells; not a number where a cell is not in the table: what is asked must be `extended`."""
        return self.filled_covariance.at[a, b].get(mode="fill", fill_value=jnp.nan)


class Adapted(AbstractFieldKernel):
    """A kernel that follows the data, made by ``kernel.adapted()``.

    Functions of these coordinates are taken to be alike wherever the other coordinates stand: fields of many times,
    say. First their size is learned with the other hyper-parameters, a smooth function of the coordinates. Then, if
    there are enough such fields, their covariance from place to place: the posterior mode under an inverse Wishart
    prior around the kernel's, which counts for the more, the less fields that are left out gain by it.

    Args:
        base: the kernel.
        degree: of the polynomial that the logarithm of the size is; None: each place has a size of its own, which is
            learned with the covariances, as at coasts.
        size: once bound.
        columns: where the coordinates stand, once bound.
        table: covariances once they are learned; None before, or where there are too few fields.

    Source: Kidd and Katzfuss 2022 (inverse Wishart shrinkage of spatial covariances); Paciorek and Schervish 2006
    (nonstationary covariances).
    """

    base: AbstractFieldKernel
    degree: int | None = eqx.field(static=True, default=4)
    size: Size | None = None
    columns: tuple[int, ...] = eqx.field(static=True, default=())
    table: Table | None = None

    def __check_init__(self) -> None:
        """Raises ModelError for what cannot be adapted."""
        degree = 0 if self.degree is None else self.degree
        if not isinstance(degree, int) or isinstance(degree, bool) or not 0 <= degree <= 8:
            raise ModelError(f"adapted(degree={self.degree!r}): expected a whole number from 0 to 8, or None")
        if not isinstance(self.base, AbstractFieldKernel):
            raise ModelError(f"adapted: {self.base!r} does not say which coordinates it reads; write kernel.on('lat')")
        if _all(self.base):
            raise ModelError("adapted: the kernel is adapted already, or a part of it is; adapt it once, as a whole")

    @property
    def dims(self) -> tuple[str, ...]:
        """The kernel's."""
        return self.base.dims

    def bind(self, axes: Mapping[str, Axis], names: Sequence[str], start: FieldStart, carries: bool) -> Adapted:
        """With the same size everywhere."""
        columns = tuple(names.index(n) for n in self.dims)
        size = Size.start([axes[n] for n in self.dims], columns, self.degree)
        return Adapted(self.base.bind(axes, names, start, carries), self.degree, size, columns, None)

    def places(self, x: Float[Array, "... D"]) -> Places:
        """The kernel's and the size; or the number of the cell."""
        if self.table is not None:
            return self.table.at(x[..., jnp.asarray(self.columns)])
        assert self.size is not None
        return self.base.places(x), self.size(x)

    def between(self, a: Places, b: Places) -> Float[Array, "..."]:
        """The kernel with both sizes; or the table's."""
        if self.table is not None:
            return self.table.between(a, b)
        return a[1] * b[1] * self.base.between(a[0], b[0])

    def products(self) -> tuple[tuple[On, ...], ...]:
        """The kernel's: they say what is near."""
        return self.base.products()

    def parametric(self) -> Adapted:
        """Without the table."""
        return Adapted(self.base, self.degree, self.size, self.columns, None)


def adapted_part(kernel: AbstractFieldKernel) -> Adapted | None:
    """The adapted factor of a product, or of one of those that a kernel is the sum of; None: there is none.

    Raises ModelError where there are several, or where another factor reads one of its coordinates, too.
    """
    if isinstance(kernel, FieldSum):
        holders = [part for part in summands(kernel) if _all(part)]
        if len(holders) > 1:
            raise _several()
        return adapted_part(holders[0]) if holders else None
    if isinstance(kernel, Adapted):
        return kernel
    found = _all(kernel)
    factors = kernel.parts if isinstance(kernel, FieldProduct) else ()
    if not found:
        return None
    if len(found) > 1 or not any(part is found[0] for part in factors):
        raise _several()
    twice = sorted({d for part in factors if part is not found[0] for d in part.dims} & set(found[0].dims))
    if twice:
        raise ModelError(
            f"Local: {', '.join(twice)} is read by an adapted kernel and by another factor beside it; adapt what reads "
            "it as a whole, (one * other).adapted()"
        )
    return found[0]


def _several() -> ModelError:
    return ModelError(
        "Local: kernel.adapted() goes with one product of kernels, in which one factor is adapted: the data could not "
        "tell apart the covariances of several"
    )


def _all(kernel: Any) -> list[Adapted]:
    if isinstance(kernel, Adapted):
        return [kernel, *_all(kernel.base)]
    return [found for part in getattr(kernel, "parts", ()) for found in _all(part)]


def with_table(kernel: AbstractFieldKernel, table: Table | None) -> AbstractFieldKernel:
    """The same kernel with another table in its adapted part."""
    own = adapted_part(kernel)
    assert own is not None
    other = Adapted(own.base, own.degree, own.size, own.columns, table)

    def replaced(one: AbstractFieldKernel) -> AbstractFieldKernel:
        if one is own:
            return other
        if isinstance(one, FieldSum | FieldProduct):
            return type(one)(tuple(map(replaced, one.parts)))
        return one

    return replaced(kernel)


def extended(
    kernel: AbstractFieldKernel, points: Float[np.ndarray, "M D"], most: int = MOST_IN_TABLE
) -> AbstractFieldKernel:
    """A kernel that knows the cells of these points, too.

    Where the table has none, the function is what the unadapted kernel makes of its values in the table's cells: their
    kriging, and an independent rest with the variance that kriging leaves. Where each place has a size of its own, this
    is so of the function over its size, whose logarithm is the kriging of those in the table's cells. In several steps
    this gives the same as in one.

    Args:
        kernel: any.
        points: places, in all columns.
        most: cells that the table may have.

    Raises:
        ModelError: it would have more.

    Cost O(n^3 + n^2 m) for n cells and m new ones.
    """
    own = adapted_part(kernel)
    if own is None or own.table is None:
        return kernel
    known, columns = own.table.places, list(own.columns)
    asked = np.unique(points[:, columns], axis=0)
    both = np.concatenate([known, asked])
    first, back = np.unique(both, axis=0, return_index=True)[1], len(known)
    new = both[np.sort(first[first >= back])]
    if not len(new):
        return kernel
    if back + len(new) > most:
        raise ModelError(
            f"Local: the covariances of an adapted kernel are kept for every place ({', '.join(own.dims)}), {back:,} "
            f"so far, and {len(new):,} new ones would make them more than {most:,}; ask for fewer at a time, or fit "
            "without adapted()"
        )
    plain, K = own.parametric(), own.table.covariance
    among, across = _matrix(plain, known, known), _matrix(plain, new, known)
    among[np.diag_indices_from(among)] *= 1 + _JITTER
    weights = cho_solve(cho_factor(among, lower=True), across.T).T
    size = np.sqrt(np.diagonal(K) / np.diagonal(among)) if own.degree is None else np.ones(len(K))
    left = _matrix(plain, new, new) - weights @ across.T
    K = K / np.outer(size, size)
    toward = weights @ K
    table = np.block([[K, toward.T], [toward, toward @ weights.T + left]])
    sizes = np.concatenate([size, np.exp(weights @ np.log(size))])
    table *= np.outer(sizes, sizes)
    return with_table(kernel, Table.of(np.concatenate([known, new]), table, float(own.table.weight)))


def _matrix(kernel: Adapted, a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "n m"]:
    """Covariances between cells, given by their own coordinates; close numbers of them share programs."""
    width, columns = max(kernel.columns) + 1, list(kernel.columns)
    x, y = (np.zeros((_size(len(own)), width)) for own in (a, b))
    x[:, columns], y[:, columns] = padded(a, len(x)), padded(b, len(y))
    return np.array(covariance_matrix(kernel, on_device(x), on_device(y)))[: len(a), : len(b)]
