"""Covariance functions of a user's own."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from probtensor.axes import Axis
from probtensor.errors import ModelError
from probtensor.hyperparameters import Declaration
from probtensor.kernels.base import AbstractKernel, AbstractStationaryKernel, Start, per_component
from probtensor.typing import Array, Float


class Custom(AbstractStationaryKernel):
    """A correlation function of one's own: covariance variance * function(d / lengthscale).

    Use it for a covariance that is not here, under ``Dense``, ``Nearest`` or `Local`; it has no state-space form, so
    ``Markov`` refuses it. Whether it is positive definite is checked at the levels of the mode.

    Args:
        function: of an array of scaled distances >= 0, written in jax.numpy; 1 at distance 0, and safe to
            differentiate there. Give the same function object each time, since programs are compiled for it.
        lengthscale: in the coordinate's unit; learned for each component by default.
        variance: of the function, in squared data units; learned in one mode of a term only.
        shared: one lengthscale for all components of a term instead of one each.

    Raises:
        ModelError: it is not a function of such an array, is not 1 at distance 0 or not finite, or a hyper-parameter is
            not positive.
    """

    function: Callable[[Array], Array] = eqx.field(static=True)
    lengthscale: Declaration = None
    variance: Declaration = None
    shared: bool = eqx.field(static=True, default=False)

    def __check_init__(self) -> None:
        """Raises ModelError for what is no correlation function."""
        name = getattr(self.function, "__name__", repr(self.function))
        if not callable(self.function):
            raise ModelError(f"Custom({name}): expected a function of an array of scaled distances")
        tried = jnp.asarray([0.0, 0.5, 1.0, 2.0])
        try:
            values = np.asarray(jax.jit(self.function)(tried))
        except Exception as error:
            raise ModelError(
                f"Custom({name}): the function fails for an array of scaled distances, {type(error).__name__}: "
                f"{str(error).splitlines()[0] if str(error) else ''}; write it in jax.numpy, for arrays of any shape"
            ) from error
        if values.shape != tried.shape or not np.isfinite(values).all() or abs(values[0] - 1) > 1e-6:
            raise ModelError(
                f"Custom({name}): at the scaled distances {np.asarray(tried)} the function gives {values}; expected as "
                "many finite numbers, the first of them 1"
            )
        if not np.isfinite(jax.grad(lambda s: jnp.sum(self.function(s)))(tried)).all():
            raise ModelError(
                f"Custom({name}): its derivative at distance 0 or beyond is no finite number, and learning needs it; "
                "write what is smooth in the distance there, or use pt.Matern(1/2)"
            )

    def bind(self, axis: Axis, start: Start) -> Custom:
        """Numbers for both hyper-parameters; the variance is held at its start unless this mode carries it."""
        lengthscale, variance = start.lengthscale(self.lengthscale, self.shared, axis), start.variance(self.variance)
        return Custom(self.function, lengthscale, variance, self.shared)

    def covariance(self, distance: Float[Array, "..."]) -> Float[Array, "R ..."]:
        """variance * function(d / lengthscale)."""
        scaled = distance[None] / per_component(self.lengthscale.value, distance)
        return per_component(self.variance.value, distance) * self.function(scaled)

    @property
    def markovian(self) -> bool:
        """No."""
        return False

    @property
    def state_size(self) -> int:
        """There are no states."""
        raise TypeError("a custom kernel has no states")

    @property
    def deterministic(self) -> bool:
        """No."""
        return False

    def emission(self) -> Float[np.ndarray, "S"]:
        """There are no states."""
        raise TypeError("a custom kernel has no states")

    def state_root(self, at: Float[Array, ""]) -> Float[Array, "R S S"]:
        """There are no states."""
        raise TypeError("a custom kernel has no states")

    def transition(self, at: Float[Array, ""], step: Float[Array, ""]) -> tuple[Array, Array]:
        """There are no states."""
        raise TypeError("a custom kernel has no states")


#: Levels at which a kernel's positive definiteness is checked, at most, and how far below zero rounding errors go.
_CHECKED, _NEGATIVE = 300, 1e-8
#: Lengthscales that are tried, relative to the start.
_FACTORS = (0.1, 1.0, 10.0)


def check_positive_definite(
    kernel: AbstractKernel, covariance: Callable[[AbstractKernel, np.ndarray], Array], points: np.ndarray
) -> None:
    """Raises ModelError for a bound kernel of a user's own that is no covariance at (some of) these points.

    Lengthscales below and above the start are tried as well.

    covariance: (R, T, T) of the function with a kernel, at T points.
    """
    if kernel.markovian:
        return
    every = [points] if len(points) <= _CHECKED else [points[:: -(-len(points) // _CHECKED)], points[:_CHECKED]]
    for factor, some in itertools.product(_FACTORS, every):
        for matrix in np.asarray(covariance(_stretched(kernel, factor), some), dtype=float):
            values = np.linalg.eigvalsh(matrix)
            if not values[0] >= -_NEGATIVE * values[-1]:
                raise ModelError(
                    f"the kernel {type(kernel).__name__} is not positive definite: at {len(some)} of the levels its "
                    f"covariance has the eigenvalue {values[0]:.3g} beside {values[-1]:.3g}, so it is no covariance "
                    "here; use another function, or one of pt.Matern and pt.RBF"
                )


def _stretched(kernel: AbstractKernel, factor: float) -> AbstractKernel:
    """With the lengthscales of all custom parts multiplied."""

    def own(node: Any) -> Any:
        if not isinstance(node, Custom):
            return node
        return eqx.tree_at(lambda k: k.lengthscale.raw, node, node.lengthscale.raw + np.log(factor))

    return jax.tree.map(own, kernel, is_leaf=lambda node: isinstance(node, Custom))
