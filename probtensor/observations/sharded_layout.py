"""Layouts whose entries are split over devices: each works on its own, and only what is summed over entries is sent.

Contractions have an axis of devices, of which XLA's partitioner leaves each device its own part. Factors and sums are
whole on every device, which is said where they enter and leave: otherwise the smoothers that read the sums could be
split along their levels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from probtensor.observations.layout import AbstractLayout, Factor, Grid, Place, Points, modes_of
from probtensor.typing import Array, Float, Int


def whole(mesh: Mesh) -> NamedSharding:
    """All of an array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def parts(mesh: Mesh) -> NamedSharding:
    """An array split along its first axis."""
    return NamedSharding(mesh, PartitionSpec(*mesh.axis_names))


def _with(factors: Sequence[Factor], arrays: Sequence[Array]) -> list[Factor]:
    """The same network of other arrays."""
    return [f._replace(array=array) for f, array in zip(factors, arrays, strict=True)]


def _everywhere(array: Array, mesh: Mesh) -> Array:
    """All of an array on every device."""
    return jax.lax.with_sharding_constraint(array, whole(mesh))


def _apart(array: Array, mesh: Mesh) -> Array:
    """An array split along its first axis."""
    return jax.lax.with_sharding_constraint(array, parts(mesh))


class ShardedGrid(AbstractLayout):
    """A grid that is split along its first mode.

    Attributes:
        grid: a device's share of it, with the levels that the first mode is filled up with.
        levels: of the first mode, of all devices and without those.
        mesh: of one axis, along which it is split.
    """

    grid: Grid
    levels: int = eqx.field(static=True)
    mesh: Mesh = eqx.field(static=True)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of all devices, with the levels that the first mode is filled up with."""
        first, *rest = self.grid.sizes
        return (first * self.mesh.size, *rest)

    def _dealt(self, place: Place | None, array: Float[Array, "T ..."]) -> tuple[Array, int | None]:
        """To each device the rows of its levels, and which axis the devices are; all rows, and None for all devices.

        The rows of levels that are filled up with are those of the last one: their numbers are finite.
        """
        array, modes = _everywhere(array, self.mesh), modes_of(place)
        if 0 not in modes:
            return array, None
        at, (first, *_) = modes.index(0), self.grid.sizes
        array = array.reshape(*(self.levels if m == 0 else self.grid.sizes[m] for m in modes), *array.shape[1:])
        more = [(0, first * self.mesh.size - self.levels if axis == at else 0) for axis in range(array.ndim)]
        # Filled up on every device, which then keeps its part: split before, the last level would be sent.
        array = _everywhere(jnp.pad(array, more, mode="edge"), self.mesh)
        array = array.reshape(*array.shape[:at], self.mesh.size, first, *array.shape[at + 1 :])
        array = jnp.moveaxis(array, at, 0)
        return _apart(array.reshape(self.mesh.size, -1, *array.shape[1 + len(modes) :]), self.mesh), 0

    def _gathered(self, place: Place | None, each: Float[Array, "n F ..."]) -> Float[Array, "T ..."]:
        """Every device's sums: the rows of its levels one after the other, or added up."""
        each, modes = _apart(each, self.mesh), modes_of(place)
        if 0 not in modes:
            return _everywhere(each.sum(axis=0), self.mesh)
        at, rest = modes.index(0), each.shape[2:]
        array = _everywhere(each, self.mesh).reshape(self.mesh.size, *(self.grid.sizes[m] for m in modes), *rest)
        array = jnp.moveaxis(array, 0, at)
        array = array.reshape(*array.shape[:at], -1, *array.shape[at + 2 :])
        return jax.lax.slice_in_dim(array, 0, self.levels, axis=at).reshape(-1, *rest)

    def _shares(self, array: Array) -> Array:
        """Numbers at entries with an axis of devices in front."""
        return _apart(array.reshape(self.mesh.size, -1, *array.shape[1:]), self.mesh)

    def _each(self, function: Callable[..., Array], dealt: Sequence[tuple[Array, int | None]]) -> Float[Array, "n ..."]:
        """A function on each device."""
        arrays, axes = zip(*dealt, strict=True)
        return jax.vmap(function, in_axes=axes, axis_size=self.mesh.size)(*arrays)

    def _at_entries(self, each: Float[Array, "n F ..."]) -> Float[Array, "..."]:
        return _apart(each.reshape(-1, *each.shape[2:]), self.mesh)

    def evaluate(self, factors: Mapping[Place, Float[Array, "T C"]]) -> Float[Array, "..."]:
        """Each device at its own entries."""
        dealt = [self._dealt(place, columns) for place, columns in factors.items()]
        own = self._each(lambda *columns: self.grid.evaluate(dict(zip(factors, columns, strict=True))), dealt)
        return self._at_entries(own)

    def contract(
        self, values: Float[Array, "..."], factors: Mapping[Place, Float[Array, "T C"]], keep: Place, levels: int
    ) -> Float[Array, "T C"]:
        """Each device's sums, added up."""
        number = int(np.prod([self.grid.sizes[m] for m in modes_of(keep)]))
        dealt = [(self._shares(values), 0), *(self._dealt(place, columns) for place, columns in factors.items())]

        def own(values: Array, *columns: Array) -> Array:
            return self.grid.contract(values, dict(zip(factors, columns, strict=True)), keep, number)

        return self._gathered(keep, self._each(own, dealt))

    def evaluate_network(self, factors: Sequence[Factor]) -> Float[Array, "..."]:
        """Each device at its own entries."""
        dealt = [self._dealt(f.mode, f.array) for f in factors]
        return self._at_entries(self._each(lambda *arrays: self.grid.evaluate_network(_with(factors, arrays)), dealt))

    def contract_network(
        self, values: Float[Array, "..."], factors: Sequence[Factor], out: str, keep: Place | None, levels: int = 1
    ) -> Array:
        """Each device's sums, added up."""
        number = int(np.prod([self.grid.sizes[m] for m in modes_of(keep)]))
        dealt = [(self._shares(values), 0), *(self._dealt(f.mode, f.array) for f in factors)]

        def own(values: Array, *arrays: Array) -> Array:
            return self.grid.contract_network(values, _with(factors, arrays), out, keep, number)

        return self._gathered(keep, self._each(own, dealt))

    def combine(
        self, modes: Sequence[int], codes: Sequence[Int[Array, "T"]], sizes: Sequence[int]
    ) -> Int[Array, "..."]:
        """Entries that are filled up with are of the group of the last level."""
        dealt = [self._dealt(mode, own) for mode, own in zip(modes, codes, strict=True)]
        if 0 not in modes:
            return self.grid.combine(modes, [own for own, _ in dealt], sizes)
        return self._at_entries(self._each(lambda *own: self.grid.combine(modes, own, sizes), dealt))

    def sum_groups(self, values: Float[Array, "..."], groups: Int[Array, "..."], number: int) -> Float[Array, "G"]:
        """Each device's sums, added up."""
        dealt = (self._shares(groups), 0) if groups.shape[0] == self.shape[0] else (groups, None)
        own = self._each(
            lambda values, groups: self.grid.sum_groups(values, groups, number), [(self._shares(values), 0), dealt]
        )
        return self._gathered(None, own)


class ShardedPoints(AbstractLayout):
    """A list of entries that is split into a run for each device.

    Attributes:
        points: all entries, with those that are filled up with.
        mesh: of one axis, along which they are split.
    """

    points: Points
    mesh: Mesh = eqx.field(static=True)

    @property
    def shape(self) -> tuple[int, ...]:
        """With the rows that are filled up with."""
        return self.points.shape

    def _runs(self, array: Array) -> Array:
        """With an axis of devices in front, so that a device goes through the chunks of its own run.

        A loop over chunks of the whole list would make XLA gather all of it on every device.
        """
        return _apart(array.reshape(self.mesh.size, -1, *array.shape[1:]), self.mesh)

    def _wired(self, factors: Sequence[Factor]) -> list[Factor]:
        return _with(factors, [_everywhere(f.array, self.mesh) for f in factors])

    def _columns(self, factors: Mapping[Place, Float[Array, "T C"]]) -> dict[Place, Float[Array, "T C"]]:
        return {place: _everywhere(own, self.mesh) for place, own in factors.items()}

    def evaluate(self, factors: Mapping[Place, Float[Array, "T C"]]) -> Float[Array, "..."]:
        """Each device at its own entries."""
        whole = self._columns(factors)
        out = jax.vmap(lambda index: Points(index).evaluate(whole))(self._runs(self.points.index))
        return _apart(out.reshape(-1), self.mesh)

    def contract(
        self, values: Float[Array, "..."], factors: Mapping[Place, Float[Array, "T C"]], keep: Place, levels: int
    ) -> Float[Array, "T C"]:
        """Each device's sums, added up."""
        whole = self._columns(factors)
        own = jax.vmap(lambda index, values: Points(index).contract(values, whole, keep, levels))
        return self._sum(own(self._runs(self.points.index), self._runs(values)))

    def evaluate_network(self, factors: Sequence[Factor]) -> Float[Array, "..."]:
        """Each device at its own entries."""
        whole = self._wired(factors)
        out = jax.vmap(lambda index: Points(index).evaluate_network(whole))(self._runs(self.points.index))
        return _apart(out.reshape(-1), self.mesh)

    def contract_network(
        self, values: Float[Array, "..."], factors: Sequence[Factor], out: str, keep: Place | None, levels: int = 1
    ) -> Array:
        """Each device's sums, added up."""
        whole = self._wired(factors)
        own = jax.vmap(lambda index, values: Points(index).contract_network(values, whole, out, keep, levels))
        return self._sum(own(self._runs(self.points.index), self._runs(values)))

    def _sum(self, each: Float[Array, "n ..."]) -> Array:
        return _everywhere(_apart(each, self.mesh).sum(axis=0), self.mesh)

    def combine(
        self, modes: Sequence[int], codes: Sequence[Int[Array, "T"]], sizes: Sequence[int]
    ) -> Int[Array, "..."]:
        """Codes gathered entry by entry."""
        groups = self.points.combine(modes, [_everywhere(own, self.mesh) for own in codes], sizes)
        return _apart(groups, self.mesh) if modes else groups

    def sum_groups(self, values: Float[Array, "..."], groups: Int[Array, "..."], number: int) -> Float[Array, "G"]:
        """Each device's sums, added up."""
        groups = jnp.broadcast_to(groups, values.shape)
        own = jax.vmap(lambda index, values, groups: Points(index).sum_groups(values, groups, number))
        return self._sum(own(self._runs(self.points.index), self._runs(values), self._runs(groups)))
