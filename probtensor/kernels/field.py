"""Kernels of several coordinates: kernels on a line, each reading chosen coordinates, summed and multiplied."""

from __future__ import annotations

import abc
import functools
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from probtensor import hyperparameters
from probtensor.axes import Axis
from probtensor.compilation import compiled
from probtensor.errors import ModelError
from probtensor.hyperparameters import Fixed, Parameter
from probtensor.kernels.base import AbstractKernel, Start, check_of_several
from probtensor.kernels.combinations import expanded
from probtensor.kernels.custom import check_positive_definite
from probtensor.kernels.metric import (
    circle_places,
    euclidean,
    latitude_longitude,
    said_latitude_longitude,
    sphere_line,
    sphere_places,
)
from probtensor.typing import Array, Float

_METRICS = ("ard", "euclidean", "sphere")


#: Arrays (..., E), nested in tuples like the kernel's sums and products.
Places: TypeAlias = Any


class FieldStart(eqx.Module):
    """Where learning starts.

    Attributes:
        fraction: of each coordinate's range, for lengthscales.
        variance: of the whole.
        periods: coordinate -> those of the data's strongest cycles along it.
    """

    fraction: float
    variance: float
    periods: Mapping[str, tuple[float, ...]] = eqx.field(static=True, default_factory=dict)


class AbstractFieldKernel(eqx.Module):
    """A covariance function of several coordinates, which are the columns of an array in the order of ``names``."""

    @property
    @abc.abstractmethod
    def dims(self) -> tuple[str, ...]:
        """The coordinates that it reads, each once."""

    @abc.abstractmethod
    def bind(
        self, axes: Mapping[str, Axis], names: Sequence[str], start: FieldStart, carries: bool
    ) -> AbstractFieldKernel:
        """The kernel with numbers in it, reading columns in the order of ``names``.

        carries: whether its variance is learned. Raises ModelError for a coordinate that it cannot read.
        """

    @abc.abstractmethod
    def places(self, x: Float[Array, "... D"]) -> Places:
        """What the kernel reads of coordinates: for each `On` in it, their place in its Euclidean space."""

    @abc.abstractmethod
    def between(self, a: Places, b: Places) -> Float[Array, "..."]:
        """Covariance of the function at two sets of places, broadcast against each other."""

    def covariance(self, a: Float[Array, "... D"], b: Float[Array, "... D"]) -> Float[Array, "..."]:
        """Covariance of the function at ``a`` and at ``b``, broadcast against each other."""
        return self.between(self.places(a), self.places(b))

    @abc.abstractmethod
    def products(self) -> tuple[tuple[On, ...], ...]:
        """Its expansion as a sum of products."""

    def adapted(self, degree: int | None = 4) -> AbstractFieldKernel:
        """This kernel with a covariance that differs from place to place as the data say, for `Local`.

        See `probtensor.kernels.adapted.Adapted`.
        """
        from probtensor.kernels.adapted import Adapted

        return Adapted(self, degree)

    def __add__(self, other: AbstractFieldKernel) -> FieldSum:
        """The kernel of a sum of independent functions."""
        return FieldSum((*_parts(self, FieldSum), *_parts(other, FieldSum)))

    def __mul__(self, other: AbstractFieldKernel) -> FieldProduct:
        """The kernel of a product of independent functions."""
        return FieldProduct((*_parts(self, FieldProduct), *_parts(other, FieldProduct)))

    def __radd__(self, other: Any) -> FieldSum:
        """A sum with something that does not say which coordinates it reads. Raises ModelError."""
        return FieldSum((*_parts(other, FieldSum), *_parts(self, FieldSum)))

    def __rmul__(self, other: Any) -> FieldProduct:
        """A product with something that does not say which coordinates it reads. Raises ModelError."""
        return FieldProduct((*_parts(other, FieldProduct), *_parts(self, FieldProduct)))


@compiled
def covariance_matrix(
    kernel: AbstractFieldKernel, a: Float[Array, "n D"], b: Float[Array, "m D"]
) -> Float[Array, "n m"]:
    """Covariance of the function between all pairs of places, as a program of its own."""
    return kernel.covariance(a[:, None], b[None])


def _parts(kernel: Any, kind: type[FieldSum] | type[FieldProduct]) -> tuple[AbstractFieldKernel, ...]:
    if not isinstance(kernel, AbstractFieldKernel):
        raise ModelError(f"{kernel!r} does not say which coordinates it reads; write kernel.on('time')")
    return kernel.parts if isinstance(kernel, kind) else (kernel,)


class On(AbstractFieldKernel):
    """A kernel of the distance in chosen coordinates, made by ``kernel.on("lat", "lon")``.

    Args:
        kernel: of a distance.
        dims: the coordinates it reads.
        metric: ``"ard"``: each coordinate has a lengthscale of its own, the kernel's is that of the first;
            ``"euclidean"``: one for all; ``"sphere"``: chordal distance in km between latitude and longitude in
            degrees, the default for dimensions with these names unless their unit or numbers say otherwise. A kernel
            of great-circle distance would not be positive definite (Guinness and Fuentes 2016). What closes on itself,
            such as a longitude around the globe, is wound around a circle, whose chords are its distances.
        columns: where the coordinates stand, once bound.
        ratios: lengthscales of the second and further coordinates relative to that of the first, once bound or where
            they are known before.
        turns: after which each coordinate closes, 0 for one that does not, once bound; none: none does.
    """

    kernel: AbstractKernel
    own_dims: tuple[str, ...] = eqx.field(static=True)
    metric: str | None = eqx.field(static=True, default=None)
    columns: tuple[int, ...] = eqx.field(static=True, default=())
    ratios: Parameter | None = None
    turns: tuple[float, ...] = eqx.field(static=True, default=())

    def __check_init__(self) -> None:
        """Raises ModelError for an unknown metric, repeated or missing dimensions."""
        if not self.own_dims or len(set(self.own_dims)) < len(self.own_dims):
            raise ModelError(f"kernel.on{self.own_dims!r}: name one or more dimensions, each once")
        if self.metric not in (None, *_METRICS):
            raise ModelError(f"kernel.on(..., metric={self.metric!r}): expected one of {', '.join(_METRICS)}")
        if self.metric == "sphere" and len(self.own_dims) != 2:
            raise ModelError(
                f"kernel.on{self.own_dims!r}: metric 'sphere' reads a latitude and a longitude, only these"
            )

    @property
    def dims(self) -> tuple[str, ...]:
        """As given."""
        return self.own_dims

    def bind(self, axes: Mapping[str, Axis], names: Sequence[str], start: FieldStart, carries: bool) -> On:
        """Numbers for the lengthscales, which start at a fraction of each range but not below the spacing."""
        for name in self.own_dims:
            if axes[name].kind == "category":
                raise ModelError(
                    f"Local: coordinate {name!r} is a category, which has no distances; use CP(rank, modes=[{name!r}, "
                    "...]) for it"
                )
        check_of_several(self.kernel, self.own_dims)
        read = [axes[n] for n in self.own_dims]
        metric, ordered = self.metric or ("ard" if latitude_longitude(read) is None else "sphere"), self.own_dims
        scales = [_start_of(axis, start.fraction) for axis in read]
        axis, ratios = read[0], self.ratios
        if metric == "sphere":
            lat, lon = self._on_earth(read)
            if np.abs(lat.points).max() > 90:
                raise ModelError(
                    f"kernel.on{self.own_dims!r}: metric 'sphere' reads degrees, latitudes from -90 to 90, and "
                    f"{lat.name!r} goes to {np.abs(lat.points).max():,g}; use metric='euclidean'"
                )
            axis, ordered = sphere_line(lat, lon), (lat.name, lon.name)
            scales = [_start_of(axis, start.fraction)]
        elif metric == "ard" and len(scales) > 1 and ratios is None:
            declared = getattr(self.kernel, "lengthscale", None)
            if declared is None:
                relative = np.array([s / scales[0] for s in scales[1:]])
                ratios = hyperparameters.bind(None, relative, "relative lengthscale")
            else:
                ratios = hyperparameters.bind(
                    None, np.ones(len(scales) - 1), "relative lengthscale", held=isinstance(declared, Fixed)
                )
        cycles = start.periods.get(axis.name, ())
        own = Start(np.array(scales[:1]), np.array([start.variance if carries else 1.0]), carries, cycles)
        columns = tuple(names.index(n) for n in ordered)
        turns = tuple(axes[n].period or 0.0 for n in ordered)
        # Kernels of a single coordinate, such as waves, are none of a chord.
        if metric == "sphere" or not any(turns) or any(part.on_a_line for part in self.kernel.factors()):
            turns = ()
        bound = On(self.kernel.bind(axis, own), self.own_dims, metric, columns, ratios, turns)
        check_positive_definite(bound.kernel, bound._among, _some_places(axes, names))
        return bound

    def _on_earth(self, read: Sequence[Axis]) -> tuple[Axis, Axis]:
        """The latitude and the longitude. Raises ModelError unless the two coordinates are these."""
        found = said_latitude_longitude(read)
        if found is None:
            raise ModelError(
                f"kernel.on{self.own_dims!r}: metric 'sphere' reads a latitude and a longitude, called lat or latitude "
                "and lon or longitude, or with CF attributes that say so"
            )
        return read[found[0]], read[found[1]]

    def _among(self, kernel: AbstractKernel, x: Float[np.ndarray, "T D"]) -> Float[Array, "1 T T"]:
        places = self.place(jnp.asarray(x))
        return eqx.tree_at(lambda on: on.kernel, self, kernel).between(places[:, None], places[None])[None]

    def place(self, x: Float[Array, "... D"]) -> Float[Array, "... E"]:
        """Coordinates in a Euclidean space whose distance is what the kernel reads."""
        chosen = x[..., jnp.asarray(self.columns)]
        if self.metric == "sphere":
            return sphere_places(chosen[..., 0], chosen[..., 1])
        if self.turns:
            columns = [self._wound(chosen[..., k], turn) for k, turn in enumerate(self.turns)]
            chosen = jnp.concatenate(columns, axis=-1)
        if self.ratios is None:
            return chosen
        scales = jnp.concatenate([jnp.ones(1, chosen.dtype), self.ratios.value])
        return chosen / jnp.repeat(scales, np.array([2 if turn else 1 for turn in self.turns or (0,) * len(scales)]))

    def _wound(self, x: Float[Array, "..."], turn: float) -> Float[Array, "... e"]:
        """A coordinate on its circle, or on its line."""
        return circle_places(x, jnp.asarray(turn, x.dtype)) if turn else x[..., None]

    def places(self, x: Float[Array, "... D"]) -> Places:
        """One array."""
        return self.place(x)

    def between(self, a: Places, b: Places) -> Float[Array, "..."]:
        """The kernel at the distance of the places, or along a line at the places themselves."""
        if self.kernel.stationary:
            return self.kernel.covariance(euclidean(a, b))[0]
        return self.kernel.between(a[..., 0], b[..., 0])[0]

    @property
    def winds(self) -> bool:
        """Whether places that are far apart can be one place in `near`."""
        return self.kernel.circle() is not None

    def near(self, x: Float[Array, "... D"]) -> Float[Array, "... E"]:
        """Coordinates in a Euclidean space in which near means correlated: a circle where the kernel has one."""
        place, circle = self.place(x), self.kernel.circle()
        return place if circle is None else circle_places(place[..., 0], circle[0])

    def reach(self, extent: float) -> float:
        """The distance in `near` at which half of the correlation is left, on a line looked for up to ten extents."""
        return self.kernel.reach(extent)

    def products(self) -> tuple[tuple[On, ...], ...]:
        """Its kernel's, each factor on the same coordinates."""
        products = self.kernel.products()
        ons = {id(k): eqx.tree_at(lambda on: on.kernel, self, k) for product in products for k in product}
        return tuple(tuple(ons[id(k)] for k in product) for product in products)


class _OfParts(AbstractFieldKernel):
    """What a product and a sum of kernels have in common."""

    parts: tuple[AbstractFieldKernel, ...]

    @property
    def dims(self) -> tuple[str, ...]:
        """The parts' dimensions."""
        return tuple(dict.fromkeys(d for part in self.parts for d in part.dims))

    def places(self, x: Float[Array, "... D"]) -> Places:
        """The parts'."""
        return tuple(part.places(x) for part in self.parts)


class FieldProduct(_OfParts):
    """The product of kernels. The first factor carries the variance unless another one was given one; others' is 1."""

    def bind(self, axes: Mapping[str, Axis], names: Sequence[str], start: FieldStart, carries: bool) -> FieldProduct:
        """Binds the factors."""
        unit = FieldStart(start.fraction, 1.0, start.periods)
        if any(_has_variance(part) for part in self.parts):
            return FieldProduct(tuple(part.bind(axes, names, unit, False) for part in self.parts))
        first, *others = self.parts
        rest = [part.bind(axes, names, unit, False) for part in others]
        return FieldProduct((first.bind(axes, names, start, carries), *rest))

    def between(self, a: Places, b: Places) -> Float[Array, "..."]:
        """Product of the factors' covariances."""
        return functools.reduce(
            jnp.multiply, [part.between(*pair) for part, *pair in zip(self.parts, a, b, strict=True)]
        )

    def products(self) -> tuple[tuple[On, ...], ...]:
        """Every choice of one product from each factor."""
        return expanded(part.products() for part in self.parts)


class FieldSum(_OfParts):
    """The sum of kernels, each with a variance of its own."""

    def bind(self, axes: Mapping[str, Axis], names: Sequence[str], start: FieldStart, carries: bool) -> FieldSum:
        """Binds the parts, which share the variance; without one to carry the first part's is held."""
        share = FieldStart(start.fraction, start.variance / len(self.parts), start.periods)
        return FieldSum(tuple(p.bind(axes, names, share, carries or k > 0) for k, p in enumerate(self.parts)))

    def between(self, a: Places, b: Places) -> Float[Array, "..."]:
        """Sum of the parts' covariances."""
        return functools.reduce(jnp.add, [part.between(*pair) for part, *pair in zip(self.parts, a, b, strict=True)])

    def products(self) -> tuple[tuple[On, ...], ...]:
        """The parts' products."""
        return tuple(product for part in self.parts for product in part.products())


def summed(kernels: Sequence[AbstractFieldKernel]) -> AbstractFieldKernel:
    """The sum of one or more kernels."""
    return kernels[0] if len(kernels) == 1 else FieldSum(tuple(kernels))


def summands(kernel: AbstractFieldKernel) -> tuple[AbstractFieldKernel, ...]:
    """What a kernel is the sum of."""
    return tuple(one for part in kernel.parts for one in summands(part)) if isinstance(kernel, FieldSum) else (kernel,)


def _has_variance(kernel: AbstractFieldKernel) -> bool:
    """Whether the user gave it a variance."""
    factors = (own.kernel for product in kernel.products() for own in product)
    return any(getattr(kernel, "variance", None) is not None for kernel in factors)


def _some_places(axes: Mapping[str, Axis], names: Sequence[str]) -> Float[np.ndarray, "200 D"]:
    """Combinations of the coordinates' levels."""
    rng = np.random.default_rng(0)
    return np.stack([rng.choice(np.asarray(axes[n].points, float), 200) for n in names], axis=1)


def _start_of(axis: Axis, fraction: float) -> float:
    return max(axis.range * fraction, 0.5 * axis.spacing)
