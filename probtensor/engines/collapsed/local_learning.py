"""Learning the local term's kernel and the noise from residuals, by the densities of a sample of entries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.optimize import minimize

from probtensor.compilation import compiled
from probtensor.hyperparameters import Parameter, learned_mask, log_prior
from probtensor.kernels.field import AbstractFieldKernel
from probtensor.nearest import search
from probtensor.nearest.conditionals import (
    Entries,
    Neighbourhood,
    Slopes,
    compiled_covariances,
    covariances,
    gather,
    log_density,
)
from probtensor.typing import Array, Float

#: Entries whose conditional densities are looked at, in the search among starts and in the last word.
_FEW, _MANY = 700, 2000
#: Iterations there.
_SHORT, _LONG = 15, 40
#: How far a logarithm may move in one search.
_REACH = 7.0


class Learned(NamedTuple):
    """Kernel and noise with numbers, and their log density a sampled entry with the log prior's share, in nats."""

    kernel: AbstractFieldKernel
    noise_sd: Parameter
    score: float


def learn(
    starts: Sequence[AbstractFieldKernel],
    noise_sd: Parameter,
    floor: float,
    entries: Entries,
    residuals: Float[np.ndarray, "S N"],
    neighbours: int,
) -> Learned:
    """The best kernel and noise found from several starts.

    Args:
        starts: kernels with numbers.
        noise_sd: of an entry with unit noise.
        floor: the noise is not learned below it.
        entries: all entries, in their order.
        residuals: draws of the values minus the other terms.
        neighbours: how many each entry is conditioned on.
    """
    rng = np.random.default_rng(0)
    number = len(entries.points)

    def some(size: int) -> np.ndarray:
        return np.sort(rng.choice(number, min(size, number), replace=False))

    few, many = some(_FEW), some(_MANY)
    found = [Learned(kernel, noise_sd, -np.inf) for kernel in starts]
    if len(found) > 1:
        found = [_ascend(f, floor, entries, residuals, few, neighbours, _SHORT) for f in found]
    best = max(found, key=lambda f: f.score)
    for _ in range(2):
        best = _ascend(best, floor, entries, residuals, many, neighbours, _LONG)
    return best


def _ascend(
    start: Learned,
    floor: float,
    entries: Entries,
    residuals: np.ndarray,
    targets: np.ndarray,
    neighbours: int,
    iterations: int,
) -> Learned:
    """L-BFGS with the neighbours held."""
    index = search.before(start.kernel, float(start.noise_sd.value[0]) ** 2, entries, targets, neighbours)
    hood = gather(Entries(*(a[targets] for a in entries)), entries, index)
    near = residuals[:, index] * (index >= 0)
    own = residuals[:, targets]
    tree = (start.kernel, start.noise_sd)
    learned, held = eqx.partition(tree, learned_mask(tree))
    share = jnp.asarray(len(targets) / len(entries.points))
    begun, unravel = ravel_pytree(learned)
    flat = np.asarray(begun)

    def loss(vector: np.ndarray) -> tuple[float, np.ndarray]:
        here = unravel(jnp.asarray(vector))
        kernel, sd = eqx.combine(here, held)
        noise = float(sd.value[0]) ** 2
        found = compiled_covariances(kernel, kernel, hood)
        value, slopes = log_density(found, noise, hood, own, near)
        prior, gradient = _pull(here, held, hood, slopes, share)
        if not np.isfinite(value):
            return 1e300, np.zeros_like(vector)
        return -(value + float(prior)), -np.asarray(ravel_pytree(gradient)[0])

    if not flat.size:
        return start._replace(score=-loss(np.zeros(0))[0] / len(targets))
    low, high = flat - _REACH, flat + _REACH
    if start.noise_sd.learned:
        low[-1], high[-1] = np.log(floor), max(high[-1], np.log(floor))
    bounds = list(zip(low, high, strict=True))
    options = {"maxiter": iterations, "ftol": 1e-7}
    result = minimize(loss, np.clip(flat, low, high), jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    kernel, sd = eqx.combine(unravel(jnp.asarray(result.x)), held)
    return Learned(kernel, sd, -float(result.fun) / len(targets))


@compiled
def _pull(learned: Any, held: Any, hood: Neighbourhood, slopes: Slopes, share: Float[Array, ""]) -> tuple[Array, Any]:
    """The kernel's log prior, its share of it, and the gradient of that and of the density with these slopes."""

    def density(learned: Any) -> tuple[Array, Array]:
        kernel, sd = eqx.combine(learned, held)
        found = covariances(kernel, kernel, hood)
        prior = share * log_prior(kernel)
        along = jnp.sum(slopes.pairs * found.pairs) + jnp.sum(slopes.cross * found.cross)
        along = along + jnp.sum(slopes.size * found.size) + slopes.noise * sd.value[0] ** 2
        return along + prior, jnp.asarray(prior)

    gradient, prior = jax.grad(density, has_aux=True)(learned)
    return prior, gradient
