"""Observations split over several devices: each holds its share of the entries, and all of what is believed.

All that a sweep wants of the observations are numbers at each entry, which a device makes for its own, and sums over
entries. So it is enough to say where arrays are: entries are split, factors and sums whole on every device, and XLA
puts an all-reduce behind each sum. A grid is split along one mode, which becomes its first; a list into equal runs.
What is left over is filled up with entries of weight 0, at the last level or row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from probtensor.observations.domain import Domain, Observations
from probtensor.observations.layout import Grid, Place, Points
from probtensor.observations.sharded_layout import ShardedGrid, ShardedPoints, parts, whole
from probtensor.typing import Array, Float

#: What the one axis of the mesh is called.
_AXIS = "observations"


class Split(NamedTuple):
    """How the entries of a domain are split.

    Attributes:
        mesh: of one axis.
        shape: of the entries in memory.
        mode: of a grid, along which they are split; 0 for a list.
    """

    mesh: Mesh
    shape: tuple[int, ...]
    mode: int

    @classmethod
    def of(cls, domain: Domain, mesh: Mesh) -> Split:
        """Over all devices of a mesh, along the mode that has to be filled up least; of several the longest."""
        flat, shape = Mesh(mesh.devices.ravel(), (_AXIS,)), domain.shape
        cost = [(_filled(length, flat.size) / length, -length) for length in shape]
        return cls(flat, shape, cost.index(min(cost)))

    def observations(self, given: Observations) -> Observations:
        """Observations in memory, split; every process that has devices of the mesh calls it with the same ones."""
        known = {name: self.entries(own, 1.0) for name, own in given.known.items()}
        values, weights = self.entries(given.values), self.entries(given.weights)
        return Observations(self._domain(given.domain), values, weights, known)

    def in_memory(self, entries: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
        """Numbers at split entries as those of the entries in memory; one number for all is left as it is."""
        if entries.ndim < len(self.shape):
            return entries
        return np.moveaxis(entries[: self.shape[self.mode]], 0, self.mode)

    def on_host(self, array: Array) -> np.ndarray:
        """An array with the parts that other processes have, all of which call it together."""
        if not (array.is_fully_addressable or array.is_fully_replicated):
            array = jax.jit(lambda array: array, out_shardings=whole(self.mesh))(array)
        return np.asarray(array)

    def entries(self, array: Array, blank: float = 0.0) -> Array:
        """Numbers at the entries in memory, split; blank: at entries that are filled up with."""
        moved = np.moveaxis(np.asarray(array), self.mode, 0)
        more = _filled(len(moved), self.mesh.size) - len(moved)
        return self._placed(np.concatenate([moved, np.full((more, *moved.shape[1:]), blank, moved.dtype)]))

    def _domain(self, domain: Domain) -> Domain:
        if isinstance(domain.layout, Points):
            index = np.asarray(domain.layout.index)
            more = _filled(len(index), self.mesh.size) - len(index)
            rows = Points(self._placed(np.concatenate([index, np.repeat(index[-1:], more, axis=0)])))
            return Domain(ShardedPoints(rows, self.mesh), domain.points, domain.position)
        order = [self.mode, *(m for m in range(len(self.shape)) if m != self.mode)]
        sizes = [self.shape[m] for m in order]
        grid = Grid((_filled(sizes[0], self.mesh.size) // self.mesh.size, *sizes[1:]))
        position = tuple((name, _moved(place, order)) for name, place in domain.position)
        return Domain(ShardedGrid(grid, sizes[0], self.mesh), domain.points, position)

    def _placed(self, host: np.ndarray) -> Array:
        """Each device's share of an array, split along its first axis; no process sends its own to another."""
        return jax.make_array_from_callback(host.shape, parts(self.mesh), lambda i: host[i])


def is_shared(mesh: Mesh) -> bool:
    """Whether its devices are those of several processes."""
    return len({device.process_index for device in mesh.devices.flat}) > 1


def same_everywhere(mesh: Mesh, digest: bytes) -> bool:
    """Whether all processes of a mesh of one axis, which call it together, have the same digest."""
    own = np.broadcast_to(np.frombuffer(digest, np.uint8), (mesh.size, len(digest)))
    each = jax.make_array_from_callback(own.shape, parts(mesh), lambda i: own[i])
    return bool(jax.jit(lambda each: jnp.all(each == each[0]), out_shardings=whole(mesh))(each))


def _filled(length: int, devices: int) -> int:
    """The next multiple of the number of devices."""
    return -(-length // devices) * devices


def _moved(place: Place, order: Sequence[int]) -> Place:
    """A place where the modes have this order."""
    return tuple(order.index(m) for m in place) if isinstance(place, tuple) else order.index(place)
