"""What a kernel is: a covariance of distance, and the linear stochastic differential equation with that covariance."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, NamedTuple, Self

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from probtensor.axes import Axis
from probtensor.typing import Array, Float

if TYPE_CHECKING:
    from probtensor.kernels.field import On


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

    def __add__(self, other: AbstractKernel) -> Sum:
        """The kernel of a sum of independent functions."""
        return Sum(_parts(self) + _parts(other))

    def on(self, *dims: str, metric: str | None = None) -> On:
        """This kernel of the distance in the named coordinates, for `Local`; see `probtensor.kernels.field.On`."""
        from probtensor.kernels.field import On

        return On(self, dims, metric)


def _parts(kernel: AbstractKernel) -> tuple[AbstractKernel, ...]:
    return kernel.parts if isinstance(kernel, Sum) else (kernel,)


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

    @property
    def state_size(self) -> int:
        """Sum of the parts' state sizes."""
        return sum(part.state_size for part in self.parts)

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
