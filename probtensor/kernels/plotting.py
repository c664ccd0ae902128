"""What a kernel says, as a picture: its covariance, and functions drawn from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from probtensor import figures
from probtensor.axes import Axis
from probtensor.durations import in_days
from probtensor.errors import ModelError
from probtensor.hyperparameters import Fixed, Parameter, middle, number_of
from probtensor.kernels.base import AbstractKernel, Start
from probtensor.typing import Float

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Coordinates at which functions are drawn, and the extent in the longest scale that is declared.
_POINTS, _SCALES = 300, 4.0


def plot(kernel: AbstractKernel, extent: float | str | None = None, samples: int = 4, seed: int = 0) -> Figure:
    """The covariance of a kernel over distance, and functions drawn from it.

    What the kernel declares is used, the rest starts as it would on an axis of that extent. Of a kernel that is not
    stationary the left panel has the covariance with the function at three coordinates.

    Args:
        kernel: as declared, ``pt.Matern(3/2, lengthscale="30D") * pt.Periodic("1Y")``.
        extent: of the coordinate; durations count in days. None: four times the longest lengthscale or period that is
            declared, or 1.
        samples: how many functions are drawn.
        seed: of the draws.

    Returns:
        A figure with two panels; ``figure.savefig(path)`` writes it, and a notebook shows it.

    Raises:
        ModelError: this is not a kernel, the extent is not above zero, or matplotlib is not installed.
    """
    if not isinstance(kernel, AbstractKernel):
        raise ModelError(f"plot({kernel!r}): expected a kernel such as pt.Matern(3/2)")
    if isinstance(samples, bool) or not isinstance(samples, int | np.integer) or samples < 1:
        raise ModelError(f"plot(samples={samples!r}): the number of functions must be a positive integer")
    longest = _longest(kernel, _axis(1.0))
    width = _SCALES * longest if extent is None else number_of(extent, _axis(1.0), "extent")
    # A period longer than what is drawn is none longer than the record.
    bound = kernel.bind(_axis(max(width, longest)), Start(np.array([width / 5]), np.ones(1), True))
    x = _axis(width).points
    K = np.asarray(bound.between(jnp.asarray(x)[:, None], jnp.asarray(x)[None]), dtype=float)[0]
    figure = figures.empty(9.0, 3.2)
    left, right = figure.subplots(1, 2)
    if bound.stationary:
        left.plot(x, K[0], color="C0")
        left.set_xlabel("distance")
    else:
        for place in (0, _POINTS // 2, _POINTS - 1):
            left.plot(x, K[place], label=f"with x = {x[place]:.3g}")
        left.legend(fontsize=8)
        left.set_xlabel("x")
    left.set_title("covariance", loc="left", fontsize=10)
    right.plot(x, _draws(K, samples, seed).T, lw=1)
    right.set_title("functions drawn from it", loc="left", fontsize=10)
    right.set_xlabel("x")
    for panel in (left, right):
        panel.grid(alpha=0.3)
    return figure


def _axis(extent: float) -> Axis:
    return Axis("x", "numeric", np.linspace(0.0, extent, _POINTS), parse=in_days)


def _longest(kernel: AbstractKernel, axis: Axis) -> float:
    """The longest lengthscale or period that is declared; 1 / `_SCALES` if none is."""
    declared = [getattr(part, "period" if part.cyclic else "lengthscale", None) for part in kernel.factors()]
    return max((_number(d, axis) for d in declared if d is not None), default=1 / _SCALES)


def _number(declared: Any, axis: Axis) -> float:
    if isinstance(declared, Parameter):
        return float(np.max(np.asarray(declared.value)))
    if hasattr(declared, "log_prob"):
        return number_of(middle(declared), axis, "the prior's middle")
    return number_of(declared.value if isinstance(declared, Fixed) else declared, axis, "lengthscale or period")


def _draws(K: Float[np.ndarray, "T T"], number: int, seed: int) -> Float[np.ndarray, "number T"]:
    values, vectors = np.linalg.eigh(K)
    white = np.random.default_rng(seed).normal(size=(number, len(K)))
    return white @ (vectors * np.sqrt(np.maximum(values, 0.0))).T
