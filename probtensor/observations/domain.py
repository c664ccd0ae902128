"""Where values are (a domain) and the values themselves (observations)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from probtensor.compilation import on_device, padded, shared_size
from probtensor.observations.layout import AbstractLayout, Grid, Place, Points
from probtensor.typing import Array, Float, Int


class Domain(eqx.Module):
    """A set of entries and the coordinates of the levels they index.

    Attributes:
        layout: which level of each base mode an entry belongs to.
        points: mode name -> (T,) coordinate of each level. A derived mode such as ``"time.month"`` has one value for
            each level of its parent, so its values repeat. A joined mode has (T, d) coordinates.
        position: mode name -> place in the layout; a derived mode has its parent's, a joined one those of its parts.
    """

    layout: AbstractLayout
    points: dict[str, Float[Array, "T ..."]]
    position: tuple[tuple[str, Place], ...] = eqx.field(static=True)

    def place(self, name: str) -> Place:
        """The layout's mode that the named mode is or derives from; several for a joined mode on a grid."""
        return dict(self.position)[name]

    def base(self, name: str) -> int:
        """The layout's mode that the named mode, which is not joined, is or derives from."""
        place = self.place(name)
        assert isinstance(place, int)
        return place

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an array with one number an entry."""
        return self.layout.shape

    def at(self, rows: Int[np.ndarray | Array, "n"]) -> Domain:
        """Some entries as a list, with the same levels; rows: their places in the flattened domain, perhaps traced."""
        if isinstance(self.layout, Points):
            return Domain(Points(self.layout.index[rows]), self.points, self.position)
        columns, position = list(jnp.unravel_index(jnp.asarray(rows), self.shape)), dict(self.position)
        for name, place in self.position:
            if isinstance(place, tuple):
                position[name] = len(columns)
                sizes = tuple(self.shape[p] for p in place)
                columns.append(jnp.ravel_multi_index(tuple(columns[p] for p in place), sizes, mode="clip"))
        return Domain(Points(jnp.stack(columns, axis=1)), self.points, tuple(position.items()))


class Observations(eqx.Module):
    """Values with weights on a domain; weight 0 = not observed, and its value is never seen.

    Attributes:
        domain: where.
        values: (…) data values, 0 where the weight is 0.
        weights: (…) >= 0.
        known: what else is known of each entry, such as the trials of a proportion: name -> (…), 1 where the
            weight is 0.
    """

    domain: Domain
    values: Float[Array, "..."]
    weights: Float[Array, "..."]
    known: dict[str, Float[Array, "..."]] = eqx.field(default_factory=dict)

    @property
    def count(self) -> int:
        """Number of entries with a positive weight."""
        if isinstance(self.weights, jax.Array) and not self.weights.is_fully_addressable:
            return int(jnp.count_nonzero(self.weights > 0))
        return int(np.count_nonzero(np.asarray(self.weights) > 0))

    def listed(self) -> tuple[Observations, Int[np.ndarray, "n"]]:
        """Those with a positive weight as a list, and their places in the flattened domain.

        A grid and a table of the same observations become the same numbers to the last bit; made on the host.
        """
        weights = np.asarray(self.weights).ravel()
        rows = np.flatnonzero(weights > 0)
        layout, position = self.domain.layout, dict(self.domain.position)
        if isinstance(layout, Points):
            index = np.asarray(layout.index)[rows]
        else:
            columns = list(np.unravel_index(rows, self.domain.shape))
            for name, place in self.domain.position:
                if isinstance(place, tuple):
                    position[name] = len(columns)
                    sizes = tuple(self.domain.shape[p] for p in place)
                    columns.append(np.ravel_multi_index(tuple(columns[p] for p in place), sizes))
            index = np.stack(columns, axis=1).astype(np.int32)
        domain = Domain(Points(on_device(index)), self.domain.points, tuple(position.items()))
        own = [on_device(np.asarray(x).ravel()[rows]) for x in (self.values, weights, *self.known.values())]
        return Observations(domain, own[0], own[1], dict(zip(self.known, own[2:], strict=True))), rows

    def filled(self) -> Observations:
        """A list with entries of weight 0 behind it, so that lists of about its length share programs; else as it is.

        Not inside a program.
        """
        layout = self.domain.layout
        if not isinstance(layout, Points):
            return self

        number = len(layout.index)
        size = shared_size(number)
        if size == number:
            return self

        def longer(array: Array, blank: float) -> Array:
            return on_device(np.pad(np.asarray(array), (0, size - number), constant_values=blank), fresh=True)

        index = on_device(padded(np.asarray(layout.index), size), fresh=True)
        domain = Domain(Points(index), self.domain.points, self.domain.position)
        known = {name: longer(own, 1.0) for name, own in self.known.items()}
        return Observations(domain, longer(self.values, 0.0), longer(self.weights, 0.0), known)

    def at(self, rows: Int[np.ndarray | Array, "n"]) -> Observations:
        """Some of them as a list; rows: their places in the flattened domain, -1 for a place without observation."""
        real = rows >= 0
        places = jnp.where(real, rows, 0)

        def gathered(whole: Array, blank: float) -> Array:
            return jnp.where(real, whole.reshape(-1)[places], jnp.asarray(blank, whole.dtype))

        known = {name: gathered(whole, 1.0) for name, whole in self.known.items()}
        values, weights = gathered(self.values, 0.0), gathered(self.weights, 0.0)
        return Observations(self.domain.at(places), values, weights, known)


def joint_levels(
    points: Sequence[Float[np.ndarray, "T"]], columns: Sequence[Int[np.ndarray, "N"]] | None
) -> tuple[Float[np.ndarray, "J d"], Int[np.ndarray, "N"] | None]:
    """The levels of a joined mode, and for a list of entries which of them each entry has.

    Args:
        points: the parts' coordinates.
        columns: each part's level of every entry; None: a grid, where every combination occurs, row-major.
    """
    if columns is None:
        return np.stack([x.ravel() for x in np.meshgrid(*points, indexing="ij")], axis=1), None
    sizes = tuple(len(x) for x in points)
    occurring, own = np.unique(np.ravel_multi_index(tuple(columns), sizes), return_inverse=True)
    levels = np.unravel_index(occurring, sizes)
    return np.stack([x[level] for x, level in zip(points, levels, strict=True)], axis=1), own


def domain(
    points: dict[str, np.ndarray],
    parents: dict[str, str],
    index: Int[np.ndarray, "N D"] | None = None,
    joined: Mapping[str, Sequence[str]] | None = None,
) -> Domain:
    """A domain from coordinates.

    Args:
        points: mode name -> level coordinates; base modes in the layout's order first.
        parents: derived mode -> its base mode.
        index: (N, D) level of each entry; None: the full grid.
        joined: joined mode -> its parts, which are among ``points``.
    """
    base = [name for name in points if name not in parents]
    single = {name: k for k, name in enumerate(base)} | {name: base.index(p) for name, p in parents.items()}
    position: dict[str, Place] = dict(single)
    everything, columns = dict(points), [] if index is None else list(np.asarray(index).T)
    for name, parts in (joined or {}).items():
        places = tuple(single[part] for part in parts)
        own = None if index is None else [columns[p] for p in places]
        everything[name], column = joint_levels([points[part] for part in parts], own)
        if column is None:
            position[name] = places
        else:
            # A list of entries has a column of its own for each joined mode, behind those of the base modes.
            position[name] = len(columns)
            columns.append(column)
    layout: AbstractLayout = Grid(tuple(len(points[n]) for n in base))
    if index is not None:
        layout = Points(on_device(np.stack(columns, axis=1).astype(np.int32)))
    return Domain(layout, {n: on_device(p) for n, p in everything.items()}, tuple(position.items()))


def observations(
    where: Domain, values: np.ndarray, weights: np.ndarray, known: Mapping[str, np.ndarray] | None = None
) -> Observations:
    """Observations with whatever stands at unobserved entries blanked."""
    seen = weights > 0
    blanked, counted = (on_device(np.where(seen, own, 0.0), fresh=True) for own in (values, weights))
    beside = {name: on_device(np.where(seen, own, 1.0), fresh=True) for name, own in (known or {}).items()}
    return Observations(where, blanked, counted, beside)
