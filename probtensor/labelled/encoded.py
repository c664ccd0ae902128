"""Labelled data as arrays, with what is needed to find the way back to their labels."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import xarray as xr

from probtensor.axes import Axis, join
from probtensor.errors import ModelError
from probtensor.labelled import stacking
from probtensor.labelled.coordinates import Coordinate
from probtensor.labelled.tables import PointData
from probtensor.observations.domain import Domain, Observations, domain, joint_levels, observations
from probtensor.terms.base import absent
from probtensor.terms.modes import parts_of


@dataclasses.dataclass(frozen=True, eq=False)
class Encoded:
    """Data as arrays, with what is needed to find the way back.

    Attributes:
        coordinates: mode name -> its labels, in the core's order of modes.
        values: grid: the sorted grid; points: (N,) in lexicographic order. NaN where missing.
        weights: same shape; 0 where missing. Of a grid whose entries all count alike truth values: which are observed.
        known: what comes with each value for its likelihood, by name, same shape.
        absorbed: the coordinates with all labels that a posterior knows, where earlier data had others; else None.
        index: (N, D) level of each point; None for a grid.
        template: the user's DataArray or points.
        rows: (N,) for points of a DataArray, which has a multi-index, their places in it, flattened.
        apart: of data that are not in memory, so that values and weights are None: weights and what is known, as dask
            arrays like the template, where given. None: they are in memory, or were left out of a store.
    """

    coordinates: dict[str, Coordinate]
    values: np.ndarray
    weights: np.ndarray
    index: np.ndarray | None
    template: xr.DataArray | PointData
    known: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    absorbed: dict[str, Coordinate] | None = None
    rows: np.ndarray | None = None
    apart: dict[str, xr.DataArray] | None = None

    @property
    def in_memory(self) -> bool:
        """Whether it holds the values."""
        return self.values is not None

    def require_memory(self, what: str, instead: str) -> None:
        """Raises ModelError in a call's name unless the values are in memory; instead: what to do."""
        if not self.in_memory:
            raise ModelError(f"{what}: the fit was out of core, and its data are not in memory; {instead}")

    def without_data(self) -> Encoded:
        """The same without a way to data that are not in memory: of these only the outline stays."""
        if self.in_memory or not isinstance(self.template, xr.DataArray):
            return self
        blank = np.full((), np.nan if self.template.dtype.kind == "f" else 0, self.template.dtype)
        template = self.template.copy(data=np.broadcast_to(blank, self.template.shape))
        return dataclasses.replace(self, template=template, apart=None)

    @property
    def levels(self) -> dict[str, Coordinate]:
        """The coordinates with all labels that a posterior knows."""
        return self.coordinates if self.absorbed is None else self.absorbed

    @property
    def positions(self) -> dict[str, np.ndarray]:
        """The level of each place along the dimensions of a grid: by the coordinates of the fit.

        Those that are loaded may have been read otherwise than they would be now.
        """
        assert isinstance(self.template, xr.DataArray) and self.rows is None
        return {n: self.coordinates[n].find(own.labels)[0] for n, own in stacking.modes_of(self.template).items()}

    @property
    def name(self) -> str:
        """Name of the data, ``"value"`` if they have none."""
        return str(self.template.name or "value")

    @property
    def seen(self) -> np.ndarray:
        """True where an entry is observed."""
        return self.weights > 0

    @property
    def known_where_seen(self) -> dict[str, np.ndarray]:
        """What comes with observed values, 1 elsewhere."""
        return {name: np.where(self.seen, own, 1.0) for name, own in self.known.items()}

    def attrs_of(self, name: str) -> dict[str, Any]:
        """The attributes of a coordinate as the data have them; none for one that is derived or of a table."""
        template = self.template
        if not isinstance(template, xr.DataArray) or name not in template.coords:
            return {}
        return dict(template[name].attrs)

    def split(self, name: str) -> tuple[str, str]:
        """The parent and the calendar attribute of a derived mode; a mode of the data is its own parent.

        Raises ModelError if the data have neither.
        """
        if name in self.coordinates:
            return name, ""
        parent, _, attribute = name.rpartition(".")
        if parent not in self.coordinates:
            raise absent("the model names mode", name, self.coordinates)
        return parent, attribute

    def parts(self, name: str) -> tuple[str, ...]:
        """The modes that a joined mode is made of; any other mode is its own only part."""
        return parts_of(name, tuple(self.coordinates))

    def dimensions(self, name: str) -> tuple[str, ...]:
        """The data's modes that a mode reads: its own, its parent, or those of its parts."""
        return tuple(dict.fromkeys(self.split(part)[0] for part in self.parts(name)))

    def axes(self, modes: tuple[str, ...]) -> dict[str, Axis]:
        """Axes of all base modes, and of the derived and the joined modes among ``modes``."""
        axes = {name: c.axis() for name, c in self.coordinates.items()}
        for name in modes:
            for part in self.parts(name):
                if part not in axes:
                    parent, attribute = self.split(part)
                    levels = self.coordinates[parent].derive(attribute, self.coordinates[parent].labels)
                    axes[part] = Axis(part, "category", levels, parent=parent)
        for name in modes:
            if name not in axes:
                parts = [axes[part] for part in self.parts(name)]
                axes[name] = join(parts, self.joint_levels([part.points for part in parts], name))
        return axes

    def joint_levels(self, points: list[np.ndarray], name: str) -> np.ndarray:
        """(T, d) numbers of a joined mode's levels, from those of each part's levels."""
        columns = None
        if self.index is not None:
            places = [list(self.coordinates).index(self.split(part)[0]) for part in self.parts(name)]
            columns = [self.index[:, place] for place in places]
        return joint_levels(points, columns)[0]

    def domain(self, modes: tuple[str, ...], labels: dict[str, np.ndarray], index: np.ndarray | None) -> Domain:
        """A domain at any labels, with the derived and the joined modes among ``modes``."""
        places = {name: self.coordinates[name].numbers(labels[name]) for name in self.coordinates if name in labels}
        parents, joined = {}, {}
        for name in modes:
            parts = self.parts(name)
            for part in parts:
                if part not in self.coordinates:
                    parent, attribute = self.split(part)
                    places[part] = self.coordinates[parent].derive(attribute, labels[parent])
                    parents[part] = parent
            if len(parts) > 1:
                joined[name] = parts
        return domain(places, parents, index, joined)

    def observations(self, modes: tuple[str, ...], values: np.ndarray | None = None) -> Observations:
        """The training data for the core; values: in the place of the data's own."""
        labels = {name: c.labels for name, c in self.coordinates.items()}
        where = self.domain(modes, labels, self.index)
        return observations(where, self.values if values is None else values, self.weights, self.known)

    def describe(self, at: tuple[int, ...]) -> str:
        """An entry by its labels."""
        levels = at if self.index is None else self.index[at[0]]
        pairs = zip(self.coordinates.items(), levels, strict=True)
        return ", ".join(f"{name}={coordinate.labels[level]}" for (name, coordinate), level in pairs)
