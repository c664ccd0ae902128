"""Climbing a log density of residuals over a kernel's hyper-parameters and the noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.optimize import minimize

from probtensor.hyperparameters import Parameter, learned_mask
from probtensor.kernels.field import AbstractFieldKernel

#: How far a logarithm may move in one search.
_REACH = 7.0


class Learned(NamedTuple):
    """Kernel and noise with numbers, and their log density a place with the log prior's share, in nats."""

    kernel: AbstractFieldKernel
    noise_sd: Parameter
    score: float


#: The log density with the log prior's share, and its gradient, at learned and held parts of (kernel, noise_sd).
Density = Callable[[Any, Any], tuple[float, Any]]


def ascend(start: Learned, floor: float, density: Density, places: int, iterations: int) -> Learned:
    """L-BFGS over all logarithms that are learned.

    What is searched is the gain a place, so that neither the unit of the values nor their number says when to stop.

    Args:
        start: kernel and noise.
        floor: the noise is not learned below it.
        density: what to climb.
        places: it is of so many.
        iterations: at most.
    """
    tree = (start.kernel, start.noise_sd)
    learned, held = eqx.partition(tree, learned_mask(tree))
    begun, unravel = ravel_pytree(learned)
    flat = np.asarray(begun)

    level = None

    def loss(vector: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal level
        value, gradient = density(unravel(jnp.asarray(vector)), held)
        if not np.isfinite(value):
            return 1e300, np.zeros_like(vector)
        level = value / places if level is None else level
        return level - value / places, -np.asarray(ravel_pytree(gradient)[0]) / places

    if not flat.size:
        loss(flat)
        return start._replace(score=-np.inf if level is None else level)
    low, high = flat - _REACH, flat + _REACH
    if start.noise_sd.learned:
        low[-1], high[-1] = np.log(floor), max(high[-1], np.log(floor))
    bounds = list(zip(low, high, strict=True))
    options = {"maxiter": iterations, "ftol": 1e-6}
    result = minimize(loss, np.clip(flat, low, high), jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    kernel, sd = eqx.combine(unravel(jnp.asarray(result.x)), held)
    return Learned(kernel, sd, -np.inf if level is None else level - float(result.fun))
