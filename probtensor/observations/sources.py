"""Where an engine reads observations in batches: from memory or from disk, in the same order.

Entries are dealt to parts by a hash of their place, so that each part is a random share of all of them, whatever order
they came in. A pass takes the parts in random order, each shuffled in memory: the two-level shuffle, which reads every
part from its beginning to its end and holds one at a time. Memory and disk deal alike, so that the same data give the
same batches from both.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from probtensor.compilation import on_device
from probtensor.observations.domain import Domain, Observations
from probtensor.typing import Array, Float, Int

#: Entries of a part, missing ones included, and parts, at most: from so many parts on they grow.
PART, PARTS = 2**20, 2**12
#: Defaults are read off so many random observations, or all if there are fewer.
SAMPLE = 2**19
#: What columns are called: places among the flattened domain, values, and weights; others are what else is known.
ROWS, VALUES, WEIGHTS = "rows", "values", "weights"
#: What stands where there is no entry; 1 in other columns.
_BLANK = {ROWS: -1, VALUES: 0, WEIGHTS: 0}
#: Entries by column, each column (n,).
Columns = dict[str, np.ndarray]


class AbstractBatches(eqx.Module):
    """Some batches of one size, which a compiled loop reads one after the other."""

    @property
    @abc.abstractmethod
    def number(self) -> int:
        """How many."""

    @abc.abstractmethod
    def at(self, k: Int[Array, ""]) -> Observations:
        """The k-th, with weight 0 where it has no entry."""


class Gathered(AbstractBatches):
    """Of observations in memory; rows: places among the flattened observations, -1 for none."""

    observations: Observations
    rows: Int[Array, "n B"]

    @property
    def number(self) -> int:
        """As many as there are rows of places."""
        return self.rows.shape[0]

    def at(self, k: Int[Array, ""]) -> Observations:
        """Gathered when it is asked for."""
        return self.observations.at(self.rows[k])


class Carried(AbstractBatches):
    """With their values; rows: places among the flattened domain, -1 for none; weights None: 1 for each."""

    domain: Domain
    rows: Int[Array, "n B"]
    values: Float[Array, "n B"]
    weights: Float[Array, "n B"] | None
    known: dict[str, Float[Array, "n B"]]

    @property
    def number(self) -> int:
        """As many as there are rows of places."""
        return self.rows.shape[0]

    def at(self, k: Int[Array, ""]) -> Observations:
        """As it is."""
        rows = self.rows[k]
        real = rows >= 0
        weights = real.astype(self.values.dtype) if self.weights is None else self.weights[k]
        known = {name: own[k] for name, own in self.known.items()}
        return Observations(self.domain.at(jnp.where(real, rows, 0)), self.values[k], weights, known)


class AbstractSource(abc.ABC):
    """Observations that are read in batches; only entries with a positive weight are in it."""

    @property
    @abc.abstractmethod
    def count(self) -> int:
        """How many there are."""

    @property
    def entries(self) -> int:
        """How many are read, with those that hold no observation."""
        return self.count

    @abc.abstractmethod
    def in_order(self, size: int, length: int) -> Iterator[AbstractBatches]:
        """Every entry once, so many batches of a size at a time."""

    @abc.abstractmethod
    def nothing(self) -> Observations:
        """A batch without observations, for shapes."""

    @abc.abstractmethod
    def some(self) -> Columns:
        """Whole parts until there are enough entries to read defaults off: a random sample of them, or all."""


class AbstractDealt(AbstractSource):
    """Observations that were dealt to parts, and are read as lists."""

    @property
    @abc.abstractmethod
    def parts(self) -> int:
        """How many parts they are dealt to."""

    @property
    @abc.abstractmethod
    def observations(self) -> Observations | None:
        """All of them, where they are in memory; otherwise None."""

    @abc.abstractmethod
    def part(self, number: int) -> Columns:
        """The entries of one part, by place; `ROWS` is among the columns."""

    @abc.abstractmethod
    def batches(self, columns: Columns) -> AbstractBatches:
        """Batches from (n, B) columns, with -1 among the rows where there is no entry; nobody else has these arrays."""

    def shuffled(self, size: int, random: np.random.Generator) -> Iterator[Columns]:
        """Every entry once, in batches of a size, in a new random order; the last batch may be smaller."""
        order = random.permutation(self.parts) if self.parts > 1 else [0]
        return _cut((_mixed(self.part(int(k)), random) for k in order), size)

    def in_order(self, size: int, length: int) -> Iterator[AbstractBatches]:
        """Part after part."""
        several: list[Columns] = []
        for batch in _cut((self.part(k) for k in range(self.parts)), size):
            several.append(batch)
            if len(several) == length:
                yield self.stacked(several, size, length)
                several = []
        if several:
            yield self.stacked(several, size, length)

    def nothing(self) -> Observations:
        """One place, without an entry."""
        return self.stacked([], 1, 1).at(jnp.zeros((), int))

    def some(self) -> Columns:
        """The first ones."""
        found: list[Columns] = []
        for number in range(self.parts):
            found.append(self.part(number))
            if sum(len(own[ROWS]) for own in found) >= SAMPLE:
                break
        return {name: np.concatenate([own[name] for own in found]) for name in found[0]}

    def stacked(self, batches: Sequence[Columns], size: int, length: int) -> AbstractBatches:
        """Batches of at most a size, and at most so many, padded to that size and number."""
        columns = {}
        for name, own in (batches[0] if batches else self.part(0)).items():
            columns[name] = np.full((length, size), _BLANK.get(name, 1), own.dtype)
            for k, batch in enumerate(batches):
                columns[name][k, : len(batch[name])] = batch[name]
        return self.batches(columns)


class Elsewhere(eqx.Module):
    """Observations that were read from a source and are not in memory: where they are, and how many."""

    domain: Domain
    count: int = eqx.field(static=True)


class InMemory(AbstractDealt):
    """Observations as they are."""

    def __init__(self, observations: Observations) -> None:
        weights = np.asarray(observations.weights).reshape(-1)
        self._observations, self._rows = observations, np.flatnonzero(weights > 0).astype(place_type(weights.size))
        self._parts, self._begin = parts_of(weights.size), np.array([0, len(self._rows)])
        if self._parts > 1:
            dealt = part_of(self._rows, self._parts)
            self._rows = self._rows[np.argsort(dealt, kind="stable")]
            self._begin = np.concatenate([[0], np.cumsum(np.bincount(dealt, minlength=self._parts))])

    @property
    def count(self) -> int:
        """Entries with a positive weight."""
        return len(self._rows)

    @property
    def parts(self) -> int:
        """As `parts_of` says."""
        return self._parts

    @property
    def observations(self) -> Observations:
        """All of them."""
        return self._observations

    def part(self, number: int) -> Columns:
        """Places alone."""
        return {ROWS: self._rows[self._begin[number] : self._begin[number + 1]]}

    def batches(self, columns: Columns) -> Gathered:
        """Gathered from memory."""
        return Gathered(self._observations, on_device(columns[ROWS], fresh=True))


def sampled(observations: Observations) -> Observations:
    """`AbstractSource.some` of observations in memory, as a list; as they are where they are one part."""
    source = InMemory(observations)
    return observations if source.parts == 1 else observations.at(source.some()[ROWS])


def parts_of(entries: int) -> int:
    """How many parts so many entries, missing ones included, are dealt to."""
    return min(-(-entries // PART), PARTS)


def place_type(entries: int) -> type[np.signedinteger]:
    """Of numbers that can count so many entries."""
    return np.int32 if entries <= np.iinfo(np.int32).max else np.int64


def part_of(rows: Int[np.ndarray, "n"], parts: int) -> Int[np.ndarray, "n"]:
    """The part of each entry, from its place alone: a hash (Steele, Lea and Flood 2014), scaled to the parts."""
    mixed = rows.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((mixed >> np.uint64(32)) * np.uint64(parts) >> np.uint64(32)).astype(np.intp)


def _mixed(columns: Columns, random: np.random.Generator) -> Columns:
    order = random.permutation(len(columns[ROWS]))
    return {name: own[order] for name, own in columns.items()}


def _cut(parts: Iterator[Columns], size: int) -> Iterator[Columns]:
    """Batches from parts, across their borders."""
    rest: Columns = {}
    for own in parts:
        if rest:
            own = {name: np.concatenate([rest[name], column]) for name, column in own.items()}
        full = len(own[ROWS]) // size * size
        for begin in range(0, full, size):
            yield {name: column[begin : begin + size] for name, column in own.items()}
        rest = {name: column[full:].copy() for name, column in own.items()}
    if len(rest.get(ROWS, ())):
        yield rest
