"""Distances between the points of a joined mode, which has several coordinates: flat, stretched or on the sphere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from probtensor import earth, hyperparameters
from probtensor.axes import Axis
from probtensor.compilation import compiled
from probtensor.errors import ModelError
from probtensor.hyperparameters import Fixed, Parameter
from probtensor.typing import Array, Float

#: Mean radius of the Earth in km.
EARTH_RADIUS = 6371.0
KM_IN_A_DEGREE = np.pi * EARTH_RADIUS / 180
#: Of places on a circle of radius 1.
_DIGITS = 9


def sphere_places(latitude: Float[Array, "..."], longitude: Float[Array, "..."]) -> Float[Array, "... 3"]:
    """Places in km of coordinates in degrees."""
    lat, lon = jnp.deg2rad(latitude), jnp.deg2rad(longitude)
    across = jnp.cos(lat)
    return EARTH_RADIUS * jnp.stack([across * jnp.cos(lon), across * jnp.sin(lon), jnp.sin(lat)], axis=-1)


def circle_places(x: Float[Array, "..."], circumference: Float[Array, ""]) -> Float[Array, "... 2"]:
    """Places of a line that is wound up, in its unit."""
    turns = x / circumference
    angle = 2 * jnp.pi * (turns - jnp.floor(turns))
    # Whole turns apart is one place, not one that differs by the rounding of the angle.
    unit = jnp.round(jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1), _DIGITS)
    return circumference / (2 * jnp.pi) * unit


def euclidean(a: Float[Array, "... E"], b: Float[Array, "... E"]) -> Float[Array, "..."]:
    """Distances, broadcast against each other, with gradients that are finite where places are equal."""
    if a.shape[-1] == 1:
        return jnp.abs(a[..., 0] - b[..., 0])
    square = jnp.sum((a - b) ** 2, axis=-1)
    apart = square > 0
    return jnp.where(apart, jnp.sqrt(jnp.where(apart, square, 1.0)), 0.0)


class Chart(eqx.Module):
    """Flat coordinates of a mode's points: those columns that vary, about an origin.

    Attributes:
        columns: of the points, those that vary.
        origin: (d,) what becomes zero; scale: (d,) what each coordinate is then multiplied by.
        period: (d,) length of a circle whose farthest place from the origin is cut open; 0 on a line.
    """

    columns: tuple[int, ...] = eqx.field(static=True)
    origin: Float[Array, "d"]
    scale: Float[Array, "d"]
    period: Float[Array, "d"]

    def __call__(self, points: Float[Array, "T ..."]) -> Float[Array, "T d"]:
        """The coordinates of points (T,) or (T, D)."""
        x = points[:, None] if points.ndim == 1 else points[:, jnp.asarray(self.columns)]
        away = x - self.origin.astype(x.dtype)[None]
        period = self.period.astype(x.dtype)[None]
        turn = jnp.where(period > 0, period, 1.0)
        away = jnp.where(period > 0, (away + turn / 2) % turn - turn / 2, away)
        return away * self.scale.astype(x.dtype)[None]


@compiled
def on_chart(chart: Chart, points: Float[Array, "T ..."]) -> Float[Array, "T d"]:
    """Flat coordinates of points, outside other programs: one program, not one for each operation."""
    return chart(points)


class Metric(eqx.Module):
    """Places the points of a mode in a Euclidean space, whose distance a kernel reads.

    Attributes:
        chart: flat coordinates.
        stretch: (d - 1,) what coordinates behind the first are multiplied by, learned and shared by all components: a
            lengthscale is that of the first coordinate, and divided by the stretch that of another. None for one.
        sphere: columns of latitude and longitude in degrees, which are placed on the sphere instead of the chart: the
            distance is the chord's in km. (A Matern kernel of great-circle distance is not positive definite.)
        unit: of lengthscales.
        stretched: names of the coordinates that ``stretch`` belongs to.

    Source: Guinness and Fuentes 2016 (chordal distance).
    """

    chart: Chart
    stretch: Parameter | None
    sphere: tuple[int, int] | None = eqx.field(static=True)
    unit: str = eqx.field(static=True)
    stretched: tuple[str, ...] = eqx.field(static=True)

    def factors(self) -> Float[Array, "d"]:
        """What each flat coordinate is multiplied by."""
        one = jnp.ones(1, self.chart.origin.dtype)
        return one if self.stretch is None else jnp.concatenate([one, self.stretch.value])

    def place(self, points: Float[Array, "T D"]) -> Float[Array, "T E"]:
        """Places in the Euclidean space."""
        if self.sphere is None:
            return self.chart(points) * self.factors()[None]
        return sphere_places(*(points[:, column] for column in self.sphere))

    def distance(self, a: Float[Array, "T D"], b: Float[Array, "M D"]) -> Float[Array, "T M"]:
        """Distances, with gradients that are finite where points are equal."""
        return euclidean(self.place(a)[:, None], self.place(b)[None])


def said_latitude_longitude(axes: Sequence[Axis]) -> tuple[int, int] | None:
    """Positions of the latitude and the longitude, if by their names or attributes these two are all."""
    meanings = [axis.meaning or earth.role(axis.name) for axis in axes]
    if sorted(meanings) != [earth.LATITUDE, earth.LONGITUDE]:
        return None
    return meanings.index(earth.LATITUDE), meanings.index(earth.LONGITUDE)


def latitude_longitude(axes: Sequence[Axis]) -> tuple[int, int] | None:
    """Positions of the latitude and the longitude, if these two are all and can be in degrees."""
    found = said_latitude_longitude(axes)
    if found is None or any(axis.kind == "category" or not axis.meaning for axis in axes):
        return None
    latitudes, longitudes = (axes[k].points for k in found)
    possible = np.abs(latitudes).max() <= 90 and np.ptp(longitudes) <= 360
    return found if possible else None


def sphere_line(latitude: Axis, longitude: Axis) -> Axis:
    """A line in km with the extent and spacing of a grid on the sphere."""
    across = np.cos(np.deg2rad(np.mean(latitude.points)))
    extent = KM_IN_A_DEGREE * float(np.hypot(latitude.range, longitude.range * across))
    spacing = KM_IN_A_DEGREE * min(latitude.spacing, longitude.spacing * max(across, 0.1))
    number = max(2, round(extent / spacing)) if spacing > 0 else 2
    # A chord is no longer than the Earth's diameter.
    points = np.linspace(0.0, min(extent, 2 * EARTH_RADIUS), number)
    return Axis(f"{latitude.name}, {longitude.name}", "numeric", points, "km")


def measure(axis: Axis, kernel: Any, on_sphere: bool) -> tuple[Metric, Axis]:
    """A metric for a mode, and a line with the extent and spacing of its points in that metric's unit.

    Latitude and longitude are measured in km. Other coordinates with one unit start without a stretch, those with
    several with the one that makes their ranges equal. A kernel with a declared lengthscale starts without a stretch,
    and one with a fixed lengthscale keeps it so.

    Args:
        axis: the mode's; one that is not joined has a flat coordinate.
        kernel: as declared.
        on_sphere: whether latitude and longitude lie on the sphere; else on a map, true to scale at their middle.

    Raises:
        ModelError: a part of a joined mode holds names.
    """
    parts = axis.parts or (axis,)
    names = [part.name for part in parts if part.kind == "category"]
    if names and axis.parts:
        raise ModelError(
            f"coordinate {names[0]!r} holds names, which have no distance; use pt.Categorical() for the joined mode, "
            "or read it as a mode of its own"
        )
    points = axis.points.reshape(axis.size, len(parts)).astype(float)
    columns = tuple(k for k in range(len(parts)) if np.ptp(points[:, k]) > 0) or (0,)
    globe = latitude_longitude(parts)
    origin = 0.5 * (points.min(axis=0) + points.max(axis=0))
    scale, period, extent = np.ones(len(parts)), np.zeros(len(parts)), np.ptp(points, axis=0)
    if globe is not None:
        lat, lon = globe
        # On the shortest arc with all longitudes: the circle is cut open at its widest gap.
        cut = earth.opened(points[:, lon])
        period[lon], origin[lon], extent[lon] = earth.TURN, cut.low + earth.TURN / 2, earth.TURN - cut.gap
        scale[:] = KM_IN_A_DEGREE
        scale[lon] *= max(np.cos(np.deg2rad(origin[lat])), 0.05)
    chosen = list(columns)
    chart = Chart(columns, *(jnp.asarray(x[chosen]) for x in (origin, scale, period)))
    extents = (extent * scale)[chosen]
    units = {parts[k].unit for k in chosen}
    unit = "km" if globe is not None else parts[columns[0]].unit
    sphere = globe if on_sphere else None
    declared = getattr(kernel, "lengthscale", None)
    alike = globe is not None or declared is not None or (len(units) == 1 and units != {""})
    ratio = np.ones(len(chosen)) if alike or len(chosen) == 1 else extents[0] / extents
    stretch = None
    if len(chosen) > 1 and sphere is None:
        stretch = hyperparameters.bind(None, ratio[1:], "stretch", held=isinstance(declared, Fixed))
    metric = Metric(chart, stretch, sphere, unit, tuple(parts[k].name for k in columns[1:]))
    # A chord is no longer than the Earth's diameter.
    extents = np.minimum(extents, 2 * EARTH_RADIUS) if sphere else extents * ratio
    return metric, _line(axis, parts[columns[0]], extents, unit)


def _line(axis: Axis, first: Axis, extents: np.ndarray, unit: str) -> Axis:
    """A line as long as the longest extent, with the spacing of as many points spread evenly."""
    longest = float(extents.max()) or 1.0
    spread = np.where(extents > 0, extents, longest)
    spacing = float(np.prod(spread / longest) / axis.distinct) ** (1 / len(spread))
    number = int(np.clip(round(1 / spacing), 2, 10_000))
    return Axis(axis.name, "numeric", np.linspace(0.0, longest, number), unit, first.parse)
