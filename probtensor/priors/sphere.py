"""Gaussian processes on the Earth's surface."""

from __future__ import annotations

from probtensor.axes import Axis
from probtensor.errors import ModelError
from probtensor.kernels.base import AbstractKernel, Start
from probtensor.kernels.matern import Matern
from probtensor.kernels.metric import latitude_longitude
from probtensor.priors.base import AbstractModePrior, Belief, Colouring, Marginals, Sites
from probtensor.priors.dense import Dense
from probtensor.priors.nearest import Nearest
from probtensor.typing import Array, Float, Key

#: A process is exact while it has at most so many levels, and levels times functions.
EXACT_LEVELS, EXACT_SIZE = 300, 1200


def is_small(levels: int, rank: int) -> bool:
    """Whether a joined mode has an exact process by default."""
    return levels <= EXACT_LEVELS and levels * rank <= EXACT_SIZE


class Sphere(AbstractModePrior):
    """Independent Gaussian processes on the sphere, one for each component: without a seam, and smooth at the poles.

    Use it for a joined latitude and longitude, ``{("lat", "lon"): pt.Sphere(kernel)}``, that reach around the globe or
    near a pole. The kernel reads the length in km of the chord through the Earth, and so are its lengthscales in km.
    Any order of the two dimensions, any range of 360 degrees of longitude.

    Bound, it is `Dense` while that is quick (to 300 levels and 1,200 levels times components), and then `Nearest`, with
    the cost of these.

    Args:
        kernel: of the chord's length; Matern-3/2 by default.

    Raises:
        ModelError: the mode is not a latitude joined with a longitude, both in degrees.

    Source: Guinness and Fuentes 2016 (chordal distance).
    """

    kernel: AbstractKernel | None = None

    def __check_init__(self) -> None:
        """Raises ModelError for what is no kernel."""
        if not isinstance(self.kernel, AbstractKernel | None):
            raise ModelError(f"Sphere({self.kernel!r}): expected a kernel such as pt.Matern(3/2), or nothing")

    def bind(self, axis: Axis, start: Start) -> AbstractModePrior:  # type: ignore[override]
        """The bound `Dense` or `Nearest`."""
        if not axis.parts or latitude_longitude(axis.parts) is None:
            raise ModelError(_complaint(axis))
        kernel = Matern(3 / 2) if self.kernel is None else self.kernel
        small = is_small(axis.size, len(start.lengthscales))
        return (Dense(kernel) if small else Nearest(kernel)).bind(axis, start)

    def posterior(self, points: Float[Array, "T ..."], sites: Sites) -> Belief:
        """Not before it is bound."""
        raise _unbound()

    def predict(self, belief: Belief, new_points: Float[Array, "M ..."]) -> Marginals:
        """Not before it is bound."""
        raise _unbound()

    def sample(self, belief: Belief, new_points: Float[Array, "M ..."], key: Key, n: int) -> Float[Array, "n M R"]:
        """Not before it is bound."""
        raise _unbound()

    def white_shape(self, levels: int, rank: int) -> tuple[int, ...]:
        """Not before it is bound."""
        raise _unbound()

    def colouring(self, points: Float[Array, "T ..."]) -> Colouring:
        """Not before it is bound."""
        raise _unbound()

    def improve(self, points: Float[Array, "T ..."], sites: Sites) -> AbstractModePrior:  # type: ignore[override]
        """Not before it is bound."""
        raise _unbound()


def _unbound() -> ModelError:
    return ModelError("pt.Sphere has no functions before it is bound; use what Sphere(...).bind(axis, start) gives")


def _complaint(axis: Axis) -> str:
    """What is missing of a latitude and a longitude."""
    what = "Sphere is for a latitude joined with a longitude, both in degrees, as in {('lat', 'lon'): pt.Sphere()}; "
    if not axis.parts:
        return f"{what}this mode is {axis.name!r} alone. Join the two, or use pt.Markov(kernel) for one coordinate"
    found = ", ".join(f"{part.name!r} ({_range(part)}{part.unit or 'no unit'})" for part in axis.parts)
    return (
        f"{what}this mode joins {found}. The two must be called lat or latitude, and lon or longitude; latitudes lie "
        "within -90..90, longitudes within a turn of 360, and units, where they are given, are degrees. Otherwise use "
        "pt.Nearest(kernel) or pt.Dense(kernel)"
    )


def _range(part: Axis) -> str:
    return "names, " if part.kind == "category" else f"{part.points.min():g}..{part.points.max():g}, "
