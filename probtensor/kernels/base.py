"""What a kernel is: a covariance of distance, and the linear stochastic differential equation with that covariance."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from probtensor import hyperparameters
from probtensor.axes import Axis
from probtensor.errors import ModelError
from probtensor.hyperparameters import Declaration, Parameter
from probtensor.typing import Array, Float

if TYPE_CHECKING:
    from probtensor.kernels.combinations import Product, Sum
    from probtensor.kernels.field import On


#: Periods that the data do not show start each at this share of the one before.
_SHORTER = 0.6


class Start(NamedTuple):
    """Where learning starts for one mode of a term.

    lengthscales: (R,) in the axis's unit; variances: (R,); carries_variance: whether this mode learns the components'
    variance (the others hold it at 1, so that a component's scale is identified); periods: those of the data's
    strongest cycles along the mode, the strongest first, as far as they are known.
    """

    lengthscales: np.ndarray
    variances: np.ndarray
    carries_variance: bool
    periods: tuple[float, ...] = ()

    def lengthscale(self, declared: Declaration, shared: bool, axis: Axis) -> Parameter:
        """A number for each component, or for all one that starts from their geometric mean."""
        scales = np.exp(np.log(self.lengthscales).mean(keepdims=True)) if shared else self.lengthscales
        return hyperparameters.bind(declared, scales, "lengthscale", axis)

    def cycles(self, number: int) -> tuple[float, ...]:
        """So many periods to start from, at least.

        Where the data show too few, each further one is shorter: two waves that start alike would stay alike.
        """
        last = min(self.periods, default=float(self.lengthscales.max()) / _SHORTER)
        missing = range(1, number - len(self.periods) + 1)
        return (*self.periods, *(last * _SHORTER**k for k in missing))

    def variance(self, declared: Declaration) -> Parameter:
        """Held at its start unless this mode carries it."""
        return hyperparameters.bind(declared, self.variances, "variance", held=not self.carries_variance)


def per_component(values: Float[Array, "R"], like: Float[Array, "..."]) -> Float[Array, "R ..."]:
    """One value for each component, to be broadcast against an array of coordinates or distances."""
    return values.reshape((-1,) + (1,) * like.ndim)


class AbstractKernel(eqx.Module):
    """R covariance functions on a line, one for each component, with independent hyper-parameters.

    A kernel as the user writes it holds declarations; `bind` gives the same kernel with numbers in it.
    """

    @abc.abstractmethod
    def bind(self, axis: Axis, start: Start) -> Self:
        """This kernel with every declaration turned into a `Parameter`.

        Args:
            axis: the mode, with its levels and their unit.
            start: where learning starts, and whether this mode learns the variance.

        Raises:
            ModelError: a number does not do.
        """

    @abc.abstractmethod
    def between(self, x: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "R ..."]:
        """Covariance of the function at two sets of coordinates, broadcast against each other.

        Args:
            x: coordinates, in the axis's unit.
            y: others.
        """

    @property
    @abc.abstractmethod
    def stationary(self) -> bool:
        """Whether the covariance is one of distance."""

    @abc.abstractmethod
    def covariance(self, distance: Float[Array, "..."]) -> Float[Array, "R ..."]:
        """Covariance at these distances (>= 0, in the axis's unit), safe to differentiate at distance zero.

        Args:
            distance: of two coordinates.

        Raises:
            TypeError: the kernel is not stationary.
        """

    @property
    def markovian(self) -> bool:
        """Whether it has states."""
        return True

    @property
    @abc.abstractmethod
    def state_size(self) -> int:
        """S, the number of states of one component."""

    @abc.abstractmethod
    def emission(self) -> Float[np.ndarray, "S"]:
        """h, with f = h' x for the state x of one component.

        Raises:
            TypeError: the kernel is not `markovian`.
        """

    @abc.abstractmethod
    def state_root(self, at: Float[Array, ""]) -> Float[Array, "R S S"]:
        """A square root of the state's covariance at a coordinate: P_inf everywhere for a stationary kernel.

        Args:
            at: the coordinate, in the axis's unit.

        Raises:
            TypeError: the kernel is not `markovian`.
        """

    @abc.abstractmethod
    def transition(self, at: Float[Array, ""], step: Float[Array, ""]) -> tuple[Array, Array]:
        """F and a square root of Q, (R, S, S) each, that carry the state from a coordinate over a step >= 0.

        A step of 0 gives identity and no noise.

        Args:
            at: the coordinate, in the axis's unit.
            step: in the axis's unit.

        Raises:
            TypeError: the kernel is not `markovian`.
        """

    @property
    @abc.abstractmethod
    def deterministic(self) -> bool:
        """Whether a state says all of later ones, because root_Q is zero at every step."""

    def __add__(self, other: AbstractKernel) -> Sum:
        """The kernel of a sum of independent functions."""
        from probtensor.kernels.combinations import Sum, joined

        return Sum(joined(Sum, self, other)) if isinstance(other, AbstractKernel) else NotImplemented

    def __mul__(self, other: AbstractKernel) -> Product:
        """The product of covariances, such as a cycle that changes its shape slowly: periodic times Matern."""
        from probtensor.kernels.combinations import Product, joined

        return Product(joined(Product, self, other)) if isinstance(other, AbstractKernel) else NotImplemented

    def factors(self) -> tuple[AbstractKernel, ...]:
        """The kernels of which it is made by sums and products, each once."""
        return (self,)

    def products(self) -> tuple[tuple[AbstractKernel, ...], ...]:
        """Its expansion as a sum of products."""
        return ((self,),)

    #: Whether it is a covariance along one coordinate only.
    on_a_line: ClassVar[bool] = False
    #: Whether its functions repeat themselves.
    cyclic: ClassVar[bool] = False

    @property
    def open_periods(self) -> int:
        """How many periods it has that start from the data."""
        return 0

    def circle(self) -> Float[Array, "R"] | None:
        """Circumference of the circle on which near means correlated; None: on the line itself it does."""
        return None

    def reach(self, extent: float) -> float:
        """The distance, on a circle the chord, at which half of the first function's correlation is left.

        On a line it is looked for up to ten extents, which is the answer for a kernel that is not stationary, too.

        Args:
            extent: of the data along the axis, in its unit.
        """
        if not self.stationary:
            return 10 * extent
        distance = jnp.asarray(extent * np.geomspace(1e-6, 10, 400))
        values = np.asarray(self.covariance(jnp.concatenate([jnp.zeros(1), distance]))[0])
        below = np.flatnonzero(values[1:] < 0.5 * values[0])
        return float(distance[below[0]]) if below.size else 10 * extent

    def on(self, *dims: str, metric: str | None = None) -> On:
        """This kernel of the distance in the named coordinates, for `Local`; see `probtensor.kernels.field.On`.

        Args:
            dims: names of the coordinates.
            metric: how their distance is measured: ``"ard"``, ``"euclidean"`` or ``"sphere"``.

        Raises:
            ModelError: there is no such metric, or no or repeated names.
        """
        from probtensor.kernels.field import On

        return On(self, dims, metric)


class AbstractStationaryKernel(AbstractKernel):
    """Kernels of distance."""

    def between(self, x: Float[Array, "..."], y: Float[Array, "..."]) -> Float[Array, "R ..."]:
        """The covariance at the distance."""
        return self.covariance(jnp.abs(x - y))

    @property
    def stationary(self) -> bool:
        """Yes."""
        return True


def check_of_several(kernel: AbstractKernel, names: Sequence[str]) -> None:
    """Raises ModelError for a kernel that is none of the distance over several coordinates, which have these names."""
    for part in kernel.factors():
        if part.on_a_line and len(names) > 1:
            own = type(part).__name__
            raise ModelError(
                f"{own} is a covariance along one coordinate, and not of a distance over {', '.join(names)} together; "
                f"in pt.Local multiply one for each, {own}(...).on({names[0]!r}) * {own}(...).on({names[1]!r})"
            )
