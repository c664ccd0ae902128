"""How entries index the levels of the modes: one interface, two layouts (a grid, a list of points).

Each offers two contractions. One is the CP's: columns that multiply one by one. The other is that of any tensor
network (Tucker, tensor train): factors whose further axes are named by letters, summed as in einsum.
"""

from __future__ import annotations

import abc
import string
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from probtensor.typing import Array, Float, Int

#: Gathered columns of points are made in chunks of at most this many numbers, which a processor's cache holds.
CHUNK_NUMBERS = 2**19

#: What a factor's levels are: those of one of the layout's modes, or on a `Grid` all combinations of those of several,
#: the last running fastest. (In `Points` a joined mode is a mode like any other: a column of the index.)
Place: TypeAlias = int | tuple[int, ...]


class Factor(NamedTuple):
    """One factor of a tensor network.

    Attributes:
        mode: the place whose levels are the array's first axis; None: the same for every entry (a core).
        array: (T, ...) or, without a mode, (...).
        letters: a lower-case letter for each further axis; factors that share a letter are contracted over it.
    """

    mode: Place | None
    array: Array
    letters: str


class AbstractLayout(eqx.Module):
    """Which level of each mode an entry belongs to. Modes count from 0; ``factors`` maps place -> (T, C) columns."""

    @property
    @abc.abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of an array with one number an entry."""

    @abc.abstractmethod
    def evaluate(self, factors: Mapping[Place, Float[Array, "T C"]]) -> Float[Array, "..."]:
        """For each entry the sum over columns of the product of the factors at its levels (at least one factor)."""

    @abc.abstractmethod
    def contract(
        self, values: Float[Array, "..."], factors: Mapping[Place, Float[Array, "T C"]], keep: Place, levels: int
    ) -> Float[Array, "T C"]:
        """For each level of place ``keep`` the sum over its entries of value times the product of the other factors.

        The matricised-tensor times Khatri-Rao product (MTTKRP). Without factors C = 1.
        """

    @abc.abstractmethod
    def evaluate_network(self, factors: Sequence[Factor]) -> Float[Array, "..."]:
        """For each entry the product of the factors at its levels, summed over every letter."""

    @abc.abstractmethod
    def contract_network(
        self, values: Float[Array, "..."], factors: Sequence[Factor], out: str, keep: Place | None, levels: int = 1
    ) -> Array:
        """The sum over entries of value times the product of the factors, summed over the letters not in ``out``.

        keep: the place whose levels, so many, stay apart as the first axis; None: one sum over all entries.
        """

    @abc.abstractmethod
    def combine(
        self, modes: Sequence[int], codes: Sequence[Int[Array, "T"]], sizes: Sequence[int]
    ) -> Int[Array, "..."]:
        """One group number for each entry from the codes of its levels in these modes, row-major over ``sizes``.

        -1 where any code is -1. Broadcasts to `shape`; zero everywhere without modes.
        """

    @abc.abstractmethod
    def sum_groups(self, values: Float[Array, "..."], groups: Int[Array, "..."], number: int) -> Float[Array, "G"]:
        """Sum of the values of each group; entries in group -1 are left out."""


class Grid(AbstractLayout):
    """Every combination of levels, as a dense array; contractions are matrix products."""

    sizes: tuple[int, ...] = eqx.field(static=True)

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of levels of each mode."""
        return self.sizes

    def evaluate(self, factors: Mapping[Place, Float[Array, "T C"]]) -> Float[Array, "..."]:
        """One einsum over the modes that have a factor, broadcast over the others."""
        modes = sorted({m for place in factors for m in modes_of(place)})
        inputs = ",".join(f"{_capitals(place)}z" for place in factors)
        arrays = [self._unjoined(place, columns) for place, columns in factors.items()]
        out = jnp.einsum(f"{inputs}->{_capitals(modes)}", *arrays, optimize="optimal")
        return jnp.broadcast_to(self._expand(out, modes), self.sizes)

    def _expand(self, values: Array, modes: list[int]) -> Array:
        return values.reshape([self.sizes[m] if m in modes else 1 for m in range(len(self.sizes))])

    def _unjoined(self, place: Place | None, array: Float[Array, "T ..."]) -> Array:
        """An axis for each mode of a place."""
        return array.reshape(*(self.sizes[m] for m in place), *array.shape[1:]) if isinstance(place, tuple) else array

    def contract(
        self, values: Float[Array, "..."], factors: Mapping[Place, Float[Array, "T C"]], keep: Place, levels: int
    ) -> Float[Array, "T C"]:
        """One einsum for each factor, that of the largest place first."""
        kept, every = modes_of(keep), range(len(self.sizes))
        used = {*kept, *(m for place in factors for m in modes_of(place))}
        values = values.sum(axis=tuple(m for m in every if m not in used))
        current = _capitals([m for m in every if m in used])
        order = sorted(factors, key=lambda place: (-factors[place].shape[0], modes_of(place)))
        for k, place in enumerate(order):
            needed = {*kept, *(m for later in order[k + 1 :] for m in modes_of(later))}
            after = "".join(c for c in current if c in _capitals(sorted(needed))) + "z"
            columns = self._unjoined(place, factors[place])
            values = jnp.einsum(f"{current},{_capitals(place)}z->{after}", values, columns)
            current = after
        column = "z" if factors else ""
        return jnp.einsum(f"{current}->{_capitals(keep)}{column}", values).reshape(levels, -1)

    def evaluate_network(self, factors: Sequence[Factor]) -> Float[Array, "..."]:
        """One einsum, broadcast over the modes without a factor."""
        modes = sorted({m for f in factors for m in modes_of(f.mode)})
        subscripts = f"{','.join(_of_levels(f) for f in factors)}->{_capitals(modes)}"
        out = jnp.einsum(subscripts, *(self._unjoined(f.mode, f.array) for f in factors), optimize="auto")
        return jnp.broadcast_to(self._expand(out, modes), self.sizes)

    def contract_network(
        self, values: Float[Array, "..."], factors: Sequence[Factor], out: str, keep: Place | None, levels: int = 1
    ) -> Array:
        """One einsum after the sum over the modes without a factor."""
        used = {m for place in (keep, *(f.mode for f in factors)) for m in modes_of(place)}
        values = values.sum(axis=tuple(m for m in range(len(self.sizes)) if m not in used))
        inputs = ",".join([_capitals(sorted(used)), *(_of_levels(f) for f in factors)])
        arrays = [self._unjoined(f.mode, f.array) for f in factors]
        total = jnp.einsum(f"{inputs}->{_capitals(keep)}{out}", values, *arrays, optimize="auto")
        return total if keep is None else total.reshape(levels, *total.shape[len(modes_of(keep)) :])

    def combine(
        self, modes: Sequence[int], codes: Sequence[Int[Array, "T"]], sizes: Sequence[int]
    ) -> Int[Array, "..."]:
        """Codes broadcast against each other."""
        return _combine([self._expand(c, [m]) for m, c in zip(modes, codes, strict=True)], sizes, len(self.sizes))

    def sum_groups(self, values: Float[Array, "..."], groups: Int[Array, "..."], number: int) -> Float[Array, "G"]:
        """Sums over the unused modes, then by group."""
        unused = tuple(m for m, n in enumerate(groups.shape) if n == 1)
        values = values.sum(axis=unused, keepdims=True)
        return _segment_sum(values.ravel(), groups.ravel(), number)


class Points(AbstractLayout):
    """A list of entries with the level index of each in each mode; contractions are segment sums, in chunks."""

    index: Int[Array, "N D"] = eqx.field(converter=lambda index: index.astype(np.int32))

    @property
    def shape(self) -> tuple[int, ...]:
        """(N,)."""
        return (self.index.shape[0],)

    def _chunks(self, columns: int) -> tuple[int, int]:
        """Entries of a chunk, and chunks: a power of two, into which a list that was filled up goes without a copy."""
        n = self.index.shape[0]
        number = 1
        while number * CHUNK_NUMBERS < n * columns and number < n:
            number *= 2
        return max(1, -(-n // number)), number

    def _products(self, index: Int[Array, "K D"], factors: Mapping[Place, Float[Array, "T C"]]) -> Float[Array, "K C"]:
        product = None
        for mode, columns in sorted(factors.items()):
            gathered = columns[index[:, mode]]
            product = gathered if product is None else product * gathered
        assert product is not None
        return product

    def evaluate(self, factors: Mapping[Place, Float[Array, "T C"]]) -> Float[Array, "..."]:
        """Gathered rows multiplied and summed."""
        columns = next(iter(factors.values())).shape[1]
        size, number = self._chunks(columns)
        if number == 1:
            return self._products(self.index, factors).sum(axis=1)
        padded = _pad(self.index, size * number).reshape(number, size, -1)
        out = jax.lax.map(lambda index: self._products(index, factors).sum(axis=1), padded)
        return out.reshape(-1)[: self.index.shape[0]]

    def contract(
        self, values: Float[Array, "..."], factors: Mapping[Place, Float[Array, "T C"]], keep: Place, levels: int
    ) -> Float[Array, "T C"]:
        """Segment sums of the other modes' products."""
        if not factors:
            return _segment_sum(values, self.index[:, keep], levels)[:, None]
        columns = next(iter(factors.values())).shape[1]
        size, number = self._chunks(columns)

        def part(total: Array, inputs: tuple[Array, Array]) -> tuple[Array, None]:
            index, value = inputs
            return total.at[index[:, keep]].add(value[:, None] * self._products(index, factors)), None

        index = _pad(self.index, size * number).reshape(number, size, -1)
        value = _pad(values, size * number).reshape(number, size)
        start = jnp.zeros((levels, columns), values.dtype)
        return jax.lax.scan(part, start, (index, value))[0]

    def _gather(self, index: Int[Array, "K D"], factors: Sequence[Factor]) -> list[Array]:
        return [f.array if f.mode is None else f.array[index[:, f.mode]] for f in factors]

    def evaluate_network(self, factors: Sequence[Factor]) -> Float[Array, "..."]:
        """Gathered rows contracted, in chunks."""
        subscripts = f"{','.join(_of_an_entry(f) for f in factors)}->N"
        size, number = self._chunks(_numbers_of_an_entry(subscripts, factors))
        index = _pad(self.index, size * number).reshape(number, size, -1)

        def part(index: Int[Array, "K D"]) -> Float[Array, "K"]:
            return jnp.einsum(subscripts, *self._gather(index, factors), optimize="auto")

        return jax.lax.map(part, index).reshape(-1)[: self.index.shape[0]]

    def contract_network(
        self, values: Float[Array, "..."], factors: Sequence[Factor], out: str, keep: Place | None, levels: int = 1
    ) -> Array:
        """Gathered rows contracted with the values, in chunks; with ``keep`` then segment sums."""
        inputs = ",".join(["N", *(_of_an_entry(f) for f in factors)])
        subscripts = f"{inputs}->{'' if keep is None else 'N'}{out}"
        size, number = self._chunks(_numbers_of_an_entry(subscripts, [Factor(0, values, ""), *factors]))
        index = _pad(self.index, size * number).reshape(number, size, -1)
        value = _pad(values, size * number).reshape(number, size)

        def part(total: Array, inputs: tuple[Array, Array]) -> tuple[Array, None]:
            index, value = inputs
            own = jnp.einsum(subscripts, value, *self._gather(index, factors), optimize="auto")
            return (total + own if keep is None else total.at[index[:, keep]].add(own)), None

        sizes = {letter: n for f in factors for letter, n in zip(f.letters[::-1], f.array.shape[::-1], strict=False)}
        shape = tuple(sizes[letter] for letter in out)
        start = jnp.zeros(shape if keep is None else (levels, *shape), values.dtype)
        return jax.lax.scan(part, start, (index, value))[0]

    def combine(
        self, modes: Sequence[int], codes: Sequence[Int[Array, "T"]], sizes: Sequence[int]
    ) -> Int[Array, "..."]:
        """Codes gathered entry by entry."""
        return _combine([c[self.index[:, m]] for m, c in zip(modes, codes, strict=True)], sizes, 1)

    def sum_groups(self, values: Float[Array, "..."], groups: Int[Array, "..."], number: int) -> Float[Array, "G"]:
        """A segment sum."""
        return _segment_sum(values, jnp.broadcast_to(groups, values.shape), number)


def modes_of(place: Place | None) -> tuple[int, ...]:
    """The modes of a place, in the order of its levels."""
    if place is None:
        return ()
    return place if isinstance(place, tuple) else (place,)


def _capitals(place: Place | Sequence[int] | None) -> str:
    """Levels of modes in einsum's notation: a grid's entries are named by capitals, a factor's letters are not."""
    modes = modes_of(place) if isinstance(place, int | tuple | None) else place
    return "".join(string.ascii_uppercase[m] for m in modes)


def _of_levels(factor: Factor) -> str:
    return _capitals(factor.mode) + factor.letters


def _of_an_entry(factor: Factor) -> str:
    return ("" if factor.mode is None else "N") + factor.letters


def _numbers_of_an_entry(subscripts: str, factors: Sequence[Factor]) -> int:
    """How many numbers an entry takes on the way through an einsum over a chunk, at most."""
    nominal = 1024  # so large that what does not belong to entries is small beside what does
    shapes = [f.array.shape if f.mode is None else (nominal, *f.array.shape[1:]) for f in factors]
    gathered = max(int(np.prod(s)) for f, s in zip(factors, shapes, strict=True) if f.mode is not None)
    _, info = jnp.einsum_path(subscripts, *(np.broadcast_to(0.0, s) for s in shapes), optimize="auto")
    return -(-max(gathered, int(info.largest_intermediate)) // nominal)


def _pad(array: Array, length: int) -> Array:
    """Zeros behind: padded entries point at level 0 with value 0."""
    return jnp.pad(array, [(0, length - array.shape[0])] + [(0, 0)] * (array.ndim - 1))


def _segment_sum(values: Array, groups: Array, number: int) -> Array:
    """Sums by group; group -1 goes to a place behind the last that is dropped."""
    return jax.ops.segment_sum(values, jnp.where(groups < 0, number, groups), num_segments=number + 1)[:number]


def _combine(codes: Sequence[Array], sizes: Sequence[int], ndim: int) -> Array:
    group, known = jnp.zeros((1,) * ndim, int), jnp.ones((1,) * ndim, bool)
    for code, size in zip(codes, sizes, strict=True):
        group, known = group * size + code, known & (code >= 0)
    return jnp.where(known, group, -1)
