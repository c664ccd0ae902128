"""A part of a grid: some levels of one of its modes, one after the other, with all levels of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from probtensor.observations.layout import AbstractLayout, Factor, Grid, Place, modes_of
from probtensor.typing import Array, Float, Int


class Slab(AbstractLayout):
    """Entries of a part of a grid. Factors and sums have all levels; those of other parts are not read, and 0.

    Attributes:
        grid: these entries.
        mode: that is cut.
        levels: how many it has in all.
        begin: which of them is the first here.
    """

    grid: Grid
    mode: int = eqx.field(static=True)
    levels: int = eqx.field(static=True)
    begin: Int[Array, ""]

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the part."""
        return self.grid.sizes

    def _read(self, place: Place | None, array: Float[Array, "T ..."]) -> Float[Array, "t ..."]:
        """The rows of the part's levels."""
        modes = modes_of(place)
        if self.mode not in modes:
            return array
        at = modes.index(self.mode)
        sizes = [self.levels if m == self.mode else self.grid.sizes[m] for m in modes]
        apart = array.reshape(*sizes, *array.shape[1:])
        own = jax.lax.dynamic_slice_in_dim(apart, self.begin, self.grid.sizes[self.mode], at)
        return own.reshape(-1, *array.shape[1:])

    def _written(self, place: Place | None, own: Float[Array, "t ..."]) -> Float[Array, "T ..."]:
        """Sums of the part's levels among those of all."""
        modes = modes_of(place)
        if self.mode not in modes:
            return own
        at = modes.index(self.mode)
        apart = own.reshape(*(self.grid.sizes[m] for m in modes), *own.shape[1:])
        nothing = jnp.zeros((*apart.shape[:at], self.levels, *apart.shape[at + 1 :]), own.dtype)
        return jax.lax.dynamic_update_slice_in_dim(nothing, apart, self.begin, at).reshape(-1, *own.shape[1:])

    def _number(self, place: Place | None) -> int:
        """Of a place's levels here."""
        return int(np.prod([self.grid.sizes[m] for m in modes_of(place)]))

    def _network(self, factors: Sequence[Factor]) -> list[Factor]:
        return [f._replace(array=self._read(f.mode, f.array)) for f in factors]

    def evaluate(self, factors: Mapping[Place, Float[Array, "T C"]]) -> Float[Array, "..."]:
        """As of a grid."""
        return self.grid.evaluate({place: self._read(place, own) for place, own in factors.items()})

    def contract(
        self, values: Float[Array, "..."], factors: Mapping[Place, Float[Array, "T C"]], keep: Place, levels: int
    ) -> Float[Array, "T C"]:
        """As of a grid."""
        own = {place: self._read(place, columns) for place, columns in factors.items()}
        return self._written(keep, self.grid.contract(values, own, keep, self._number(keep)))

    def evaluate_network(self, factors: Sequence[Factor]) -> Float[Array, "..."]:
        """As of a grid."""
        return self.grid.evaluate_network(self._network(factors))

    def contract_network(
        self, values: Float[Array, "..."], factors: Sequence[Factor], out: str, keep: Place | None, levels: int = 1
    ) -> Array:
        """As of a grid."""
        own = self.grid.contract_network(values, self._network(factors), out, keep, self._number(keep))
        return self._written(keep, own)

    def combine(
        self, modes: Sequence[int], codes: Sequence[Int[Array, "T"]], sizes: Sequence[int]
    ) -> Int[Array, "..."]:
        """As of a grid."""
        return self.grid.combine(modes, [self._read(m, own) for m, own in zip(modes, codes, strict=True)], sizes)

    def sum_groups(self, values: Float[Array, "..."], groups: Int[Array, "..."], number: int) -> Float[Array, "G"]:
        """As of a grid."""
        return self.grid.sum_groups(values, groups, number)
