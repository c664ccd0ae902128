"""A grid that is read slab by slab, from memory or from disk, so that nothing of its size is made of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from probtensor.compilation import on_device
from probtensor.observations import sources
from probtensor.observations.domain import Domain, Observations
from probtensor.observations.layout import Grid
from probtensor.observations.slab_layout import Slab
from probtensor.observations.sources import ROWS, VALUES, WEIGHTS, AbstractBatches, AbstractSource, Columns
from probtensor.typing import Array, Float, Int

#: Entries that are looked at together on the host, about.
_AT_ONCE = 2**20
#: From an array on a grid to what it has at a box of it.
Read = Callable[[tuple[slice, ...]], np.ndarray]


class Slabs(AbstractBatches):
    """Some consecutive levels of one mode, in slabs of so many; the last one begins early, so that it has as many.

    Attributes:
        domain: the whole grid.
        values: NaN where nothing is observed.
        weights: like the values; None: 1.
        begin: the first level.
        fresh: the first level that was not in slabs before.
        mode: that is cut.
        rows: levels of a slab.
    """

    domain: Domain
    values: Float[Array, "..."]
    weights: Float[Array, "..."] | None
    begin: Int[Array, ""]
    fresh: Int[Array, ""]
    mode: int = eqx.field(static=True)
    rows: int = eqx.field(static=True)

    @property
    def number(self) -> int:
        """As many as it takes."""
        return -(-self.values.shape[self.mode] // self.rows)

    def at(self, k: Int[Array, ""]) -> Observations:
        """A part of the grid; weight 0 where entries are in the slab before, too."""
        first = jnp.minimum(k * self.rows, self.values.shape[self.mode] - self.rows)
        values = jax.lax.dynamic_slice_in_dim(self.values, first, self.rows, self.mode)
        weights = jnp.ones((), values.dtype)
        if self.weights is not None:
            weights = jax.lax.dynamic_slice_in_dim(self.weights, first, self.rows, self.mode)
        levels = self.begin + first + jnp.arange(self.rows)
        new = levels >= jnp.maximum(self.fresh, self.begin + k * self.rows)
        real = ~jnp.isnan(values) & new.reshape(-1, *(1,) * (values.ndim - 1 - self.mode))
        layout = Slab(Grid(values.shape), self.mode, self.domain.shape[self.mode], self.begin + first)
        where = Domain(layout, self.domain.points, self.domain.position)
        return Observations(where, jnp.where(real, values, 0.0), jnp.where(real, weights, 0.0))


class OnGrid(AbstractSource):
    """Observations on a grid.

    Args:
        domain: the grid.
        count: of its entries with a value and a positive weight.
        arrays: `VALUES`, NaN where nothing is observed, and `WEIGHTS`, if they have any.
    """

    def __init__(self, domain: Domain, count: int, arrays: Mapping[str, Read]) -> None:
        self.domain, self._count, self._arrays = domain, count, arrays

    @classmethod
    def in_memory(
        cls, domain: Domain, values: Float[np.ndarray, "..."], weights: Float[np.ndarray, "..."] | None
    ) -> OnGrid:
        """Of arrays as they are; what they have at weight 0 is NaN."""
        arrays = {VALUES: values.__getitem__} | ({} if weights is None else {WEIGHTS: weights.__getitem__})
        return cls(domain, int(np.count_nonzero(~np.isnan(values))), arrays)

    @property
    def count(self) -> int:
        """As told."""
        return self._count

    @property
    def entries(self) -> int:
        """Of the grid."""
        return int(np.prod(self.domain.shape))

    def in_order(self, size: int, length: int) -> Iterator[Slabs]:
        """Slabs of at most so many entries, if a level has no more."""
        mode, rows = self._cut(size)
        total = self.domain.shape[mode]
        together = min(rows * length, total)
        for begin in range(0, total, together):
            first = min(begin, total - together)
            yield self._slabs(self._read(mode, first, first + together), mode, rows, first, begin)

    def nothing(self) -> Observations:
        """One level of one mode."""
        mode, shape = 0, (1, *self.domain.shape[1:])
        blank = {VALUES: np.full(shape, np.nan)} | {name: np.zeros(shape) for name in self._arrays if name != VALUES}
        return self._slabs(blank, mode, 1, 0, 0).at(jnp.zeros((), int))

    def some(self) -> Columns:
        """Part by part, as the same entries in a list would be dealt."""
        shape = self.domain.shape
        parts = sources.parts_of(self.entries)
        # As many parts as hold enough on average, and some more: what is not needed is left out below.
        wanted = parts if parts == 1 else min(int(parts * 1.1 * sources.SAMPLE / self.count) + 2, parts)
        found: list[Columns] = []
        mode, rows = self._cut(_AT_ONCE)
        for begin in range(0, shape[mode], rows):
            own = self._read(mode, begin, begin + rows)
            places = [np.arange(n) for n in shape]
            places[mode] = places[mode][begin : begin + rows]
            flat = np.ravel_multi_index(np.ix_(*places), shape)
            chosen = ~np.isnan(own[VALUES]) & (sources.part_of(flat, parts) < wanted)
            found.append({ROWS: flat[chosen]} | {name: column[chosen] for name, column in own.items()})
        columns = {name: np.concatenate([own[name] for own in found]) for name in found[0]}
        dealt = sources.part_of(columns[ROWS], parts)
        order = np.lexsort((columns[ROWS], dealt))
        ends = np.cumsum(np.bincount(dealt, minlength=parts))
        order = order[: ends[min(int(np.searchsorted(ends, sources.SAMPLE)), parts - 1)]]
        return {name: column[order] for name, column in columns.items()}

    def _cut(self, size: int) -> tuple[int, int]:
        """Which mode is cut, and how many of its levels a slab has: the first mode, unless its levels are too large."""
        shape = self.domain.shape
        mode = 0 if self.entries // shape[0] <= size else int(np.argmax(shape))
        return mode, min(max(size // (self.entries // shape[mode]), 1), shape[mode])

    def _read(self, mode: int, begin: int, end: int) -> Columns:
        place = tuple(slice(begin, end) if m == mode else slice(None) for m in range(len(self.domain.shape)))
        return {name: read(place) for name, read in self._arrays.items()}

    def _slabs(self, own: Columns, mode: int, rows: int, begin: int, fresh: int) -> Slabs:
        held = {name: on_device(np.ascontiguousarray(column), fresh=True) for name, column in own.items()}
        first, new = on_device(np.array(begin), fresh=True), on_device(np.array(fresh), fresh=True)
        return Slabs(self.domain, held[VALUES], held.get(WEIGHTS), first, new, mode, rows)
