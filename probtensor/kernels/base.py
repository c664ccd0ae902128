"""What a kernel is: a covariance of distance, and the linear stochastic differential equation with that covariance."""

from __future__ import annotations

import abc
import functools
import itertools
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar, NamedTuple, Self, TypeVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from probtensor.axes import Axis
from probtensor.errors import ModelError
from probtensor.linalg.small import triangular_root
from probtensor.typing import Array, Float

if TYPE_CHECKING:
    from probtensor.kernels.field import On

_Factor = TypeVar("_Factor")


class Start(NamedTuple):
    """Where learning starts for one mode of a term.

    lengthscales: (R,) in the axis's unit; variances: (R,); carries_variance: whether this mode learns the components'
    variance (the others hold it at 1, so that a component's scale is identified).
    """

    lengthscales: np.ndarray
    variances: np.ndarray
    carries_variance: bool


class AbstractKernel(eqx.Module):
    """R stationary covariance functions on a line, one for each component, with independent hyper-parameters.

    A kernel as the user writes it holds declarations; `bind` gives the same kernel with numbers in it.
    """

    @abc.abstractmethod
    def bind(self, axis: Axis, start: Start) -> Self:
        """This kernel with every declaration turned into a `Parameter`. Raises ModelError on a bad number."""

    @abc.abstractmethod
    def covariance(self, distance: Float[Array, "..."]) -> Float[Array, "R ..."]:
        """Covariance at these distances (>= 0, in the axis's unit), safe to differentiate at distance zero."""

    @property
    @abc.abstractmethod
    def state_size(self) -> int:
        """S, the number of states of one component."""

    @abc.abstractmethod
    def emission(self) -> Float[np.ndarray, "S"]:
        """h, with f = h' x for the state x of one component."""

    @abc.abstractmethod
    def stationary_root(self) -> Float[Array, "R S S"]:
        """A square root of the stationary state covariance P_inf."""

    @abc.abstractmethod
    def transition(self, step: Float[Array, ""]) -> tuple[Float[Array, "R S S"], Float[Array, "R S S"]]:
        """F and a square root of Q that carry the state over a step >= 0; a step of 0 gives identity and no noise."""

    @property
    @abc.abstractmethod
    def deterministic(self) -> bool:
        """Whether a state says all of later ones: root_Q is zero at every step."""

    def __add__(self, other: AbstractKernel) -> Sum:
        """The kernel of a sum of independent functions."""
        if not isinstance(other, AbstractKernel):
            return NotImplemented
        return Sum(tuple(part for k in (self, other) for part in (k.parts if isinstance(k, Sum) else (k,))))

    def __mul__(self, other: AbstractKernel) -> Product:
        """The product of covariances, such as a cycle that changes its shape slowly: periodic times Matern."""
        if not isinstance(other, AbstractKernel):
            return NotImplemented
        return Product(tuple(part for k in (self, other) for part in (k.parts if isinstance(k, Product) else (k,))))

    def products(self) -> tuple[tuple[AbstractKernel, ...], ...]:
        """Its expansion as a sum of products."""
        return ((self,),)

    #: Whether it is a covariance of distances along a line only.
    on_a_line: ClassVar[bool] = False

    def circle(self) -> Float[Array, "R"] | None:
        """Circumference of the circle on which near means correlated; None: on the line itself it does."""
        return None

    def reach(self, extent: float) -> float:
        """The distance, on a circle the chord, at which half of the first function's correlation is left.

        On a line it is looked for up to ten extents.
        """
        distance = jnp.asarray(extent * np.geomspace(1e-6, 10, 400))
        values = np.asarray(self.covariance(jnp.concatenate([jnp.zeros(1), distance]))[0])
        below = np.flatnonzero(values[1:] < 0.5 * values[0])
        return float(distance[below[0]]) if below.size else 10 * extent

    def on(self, *dims: str, metric: str | None = None) -> On:
        """This kernel of the distance in the named coordinates, for `Local`; see `probtensor.kernels.field.On`."""
        from probtensor.kernels.field import On

        return On(self, dims, metric)


def check_of_several(kernel: AbstractKernel, names: Sequence[str]) -> None:
    """Raises ModelError for a kernel that is none of the distance over several coordinates, which have these names."""
    for part in (part for product in kernel.products() for part in product):
        if part.on_a_line and len(names) > 1:
            own = type(part).__name__
            raise ModelError(
                f"{own} is a covariance along one coordinate, and not of a distance over {', '.join(names)} together; "
                f"in pt.Local multiply one for each, {own}(...).on({names[0]!r}) * {own}(...).on({names[1]!r})"
            )


def expanded(parts: Iterable[tuple[tuple[_Factor, ...], ...]]) -> tuple[tuple[_Factor, ...], ...]:
    """The product of sums of products as one: every choice of one product from each sum."""
    return tuple(tuple(itertools.chain.from_iterable(chosen)) for chosen in itertools.product(*parts))


def _kron(a: Float[Array, "R s t"], b: Float[Array, "R u v"]) -> Float[Array, "R su tv"]:
    out = jnp.einsum("rij,rkl->rikjl", a, b)
    return out.reshape(out.shape[0], a.shape[1] * b.shape[1], a.shape[2] * b.shape[2])


def _block_diagonal(blocks: list[Float[Array, "R s s"]]) -> Float[Array, "R S S"]:
    size = sum(b.shape[-1] for b in blocks)
    out = jnp.zeros((blocks[0].shape[0], size, size), blocks[0].dtype)
    at = 0
    for b in blocks:
        s = b.shape[-1]
        out = out.at[:, at : at + s, at : at + s].set(b)
        at += s
    return out


class Sum(AbstractKernel):
    """The sum of kernels: a function that is the sum of independent ones, such as a slow and a fast part.

    Cost: the states of the parts add up. In a mode that does not carry the components' variance the first part's
    variance is held and the others' are learned relative to it.
    """

    parts: tuple[AbstractKernel, ...]

    def bind(self, axis: Axis, start: Start) -> Sum:
        """Binds each part; the parts start at different scales, the first the longest."""
        spread = np.geomspace(1.0, 0.1, len(self.parts))
        share = start.variances / len(self.parts)
        bound = [
            part.bind(axis, Start(start.lengthscales * factor, share, start.carries_variance or k > 0))
            for k, (part, factor) in enumerate(zip(self.parts, spread, strict=True))
        ]
        return Sum(tuple(bound))

    def covariance(self, distance: Float[Array, "..."]) -> Float[Array, "R ..."]:
        """Sum of the parts' covariances."""
        total = self.parts[0].covariance(distance)
        for part in self.parts[1:]:
            total = total + part.covariance(distance)
        return total

    def products(self) -> tuple[tuple[AbstractKernel, ...], ...]:
        """The parts' products."""
        return tuple(product for part in self.parts for product in part.products())

    @property
    def state_size(self) -> int:
        """Sum of the parts' state sizes."""
        return sum(part.state_size for part in self.parts)

    @property
    def deterministic(self) -> bool:
        """Whether all parts are."""
        return all(part.deterministic for part in self.parts)

    def emission(self) -> Float[np.ndarray, "S"]:
        """The parts' emissions one after the other."""
        return np.concatenate([part.emission() for part in self.parts])

    def stationary_root(self) -> Float[Array, "R S S"]:
        """Block diagonal of the parts' roots."""
        return _block_diagonal([part.stationary_root() for part in self.parts])

    def transition(self, step: Float[Array, ""]) -> tuple[Float[Array, "R S S"], Float[Array, "R S S"]]:
        """Block diagonal of the parts' transitions."""
        F, root_Q = zip(*(part.transition(step) for part in self.parts), strict=True)
        return _block_diagonal(list(F)), _block_diagonal(list(root_Q))


class Product(AbstractKernel):
    """The product of kernels: a function whose covariance is the parts' covariances multiplied.

    Cost: the states of the parts multiply. The first part carries the variance; the others' are held at 1 unless
    declared.

    Source: Solin and Sarkka 2014, section 3.3 (Kronecker products of states).
    """

    parts: tuple[AbstractKernel, ...]

    def bind(self, axis: Axis, start: Start) -> Product:
        """Binds each part."""
        others = Start(start.lengthscales, np.ones_like(start.variances), False)
        return Product(tuple(part.bind(axis, others if k else start) for k, part in enumerate(self.parts)))

    def covariance(self, distance: Float[Array, "..."]) -> Float[Array, "R ..."]:
        """Product of the parts' covariances."""
        return functools.reduce(jnp.multiply, [part.covariance(distance) for part in self.parts])

    def products(self) -> tuple[tuple[AbstractKernel, ...], ...]:
        """Every choice of one product from each part."""
        return expanded(part.products() for part in self.parts)

    @property
    def state_size(self) -> int:
        """Product of the parts' state sizes."""
        return math.prod(part.state_size for part in self.parts)

    @property
    def deterministic(self) -> bool:
        """Whether all parts are."""
        return all(part.deterministic for part in self.parts)

    def emission(self) -> Float[np.ndarray, "S"]:
        """Kronecker product of the parts' emissions."""
        return functools.reduce(np.kron, [part.emission() for part in self.parts])

    def stationary_root(self) -> Float[Array, "R S S"]:
        """Kronecker product of the parts' roots."""
        return functools.reduce(_kron, [part.stationary_root() for part in self.parts])

    def transition(self, step: Float[Array, ""]) -> tuple[Float[Array, "R S S"], Float[Array, "R S S"]]:
        """Kronecker product of the parts' F, and a root of what the decay of each part lets in."""
        first = self.parts[0]
        F, root_Q = first.transition(step)
        root_P, deterministic = first.stationary_root(), first.deterministic
        for part in self.parts[1:]:
            F_part, root_Q_part = part.transition(step)
            root_P_part = part.stationary_root()
            # P1 kron P2 - F1 P1 F1' kron F2 P2 F2' as a sum of squares, F1 P1 F1' kron Q2 + Q1 kron P2. Where one part
            # is deterministic one square is zero and the other's root has the right shape.
            if deterministic:
                root_Q = _kron(root_P, root_Q_part)
            elif part.deterministic:
                root_Q = _kron(root_Q, root_P_part)
            else:
                both = jnp.concatenate([_kron(F @ root_P, root_Q_part), _kron(root_Q, root_P_part)], axis=-1)
                root_Q = _square(both)
            F, root_P = _kron(F, F_part), _kron(root_P, root_P_part)
            deterministic = deterministic and part.deterministic
        return F, root_Q


def _square(root: Float[Array, "R S K"]) -> Float[Array, "R S S"]:
    """Another root of the same matrix, with as many columns as rows; rows may differ in size and be zero."""
    squares = jnp.sum(root**2, axis=-1, keepdims=True)
    size = jnp.sqrt(jnp.where(squares > 0, squares, 1.0))
    return size * triangular_root(root / size)
