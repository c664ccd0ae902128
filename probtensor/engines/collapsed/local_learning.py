"""Learning the local term's kernel and the noise from residuals, by the densities of a sample of places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from probtensor.compilation import compiled
from probtensor.engines.collapsed.ascent import Learned, ascend
from probtensor.engines.collapsed.entries import Training
from probtensor.hyperparameters import Parameter, log_prior
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
from probtensor.nearest.repeats import Differences
from probtensor.typing import Array, Bool, Float

#: Places whose conditional densities are looked at, in the search among starts and in the last word.
_FEW, _MANY = 700, 2000
#: Iterations from each of several starts, from the best of them, and in the last word.
_FIRST, _SHORT, _LONG = 4, 15, 40
#: Neighbours that numbers are learned with, at most: more say more of a place, and little more of the numbers.
_ENOUGH = 30
#: Of the sample of places.
_SEED = 0


class Residuals(NamedTuple):
    """What is learned from.

    Attributes:
        entries: all places, in their order.
        draws: S draws of their values minus the other terms.
        differences: between repeats at a place.
        neighbours: how many entries each is conditioned on.
        gaps: which entries are also looked at as if they were missing together; none: no such.
    """

    entries: Entries
    draws: Float[np.ndarray, "S M"]
    differences: Differences
    neighbours: int
    gaps: Bool[np.ndarray, "M"]

    @staticmethod
    def of(
        data: Training, residuals: Float[np.ndarray, "S N"], neighbours: int, gaps: Bool[np.ndarray, "..."]
    ) -> Residuals:
        """What some draws of the residuals at all observed entries tell; gaps: in the shape of the domain."""
        pooled = data.pooled
        draws, differences = pooled.means(residuals), pooled.differences(residuals)
        return Residuals(pooled.entries, draws, differences, neighbours, data.wholly(gaps))

    def sampled(self, kernel: AbstractFieldKernel, noise: float, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """So many places and some in gaps; their neighbours among the places before them, and outside of all gaps."""
        rng = np.random.default_rng(seed)
        before = np.sort(rng.choice(len(self.entries.points), size, replace=False))
        index = search.before(kernel, noise, self.entries, before, min(self.neighbours, _ENOUGH))
        inside = np.flatnonzero(self.gaps)
        if not inside.size:
            return before, index
        inside = np.sort(rng.choice(inside, min(size, inside.size), replace=False))
        outside = np.flatnonzero(~self.gaps)
        near = search.around(kernel, noise, self.entries, self.entries.points[inside], index.shape[1], outside)
        near = np.pad(near, ((0, 0), (0, index.shape[1] - near.shape[1])), constant_values=-1)
        return np.concatenate([before, inside]), np.concatenate([index, near])


def learn(starts: Sequence[AbstractFieldKernel], noise_sd: Parameter, floor: float, residuals: Residuals) -> Learned:
    """The best kernel and noise found from several starts.

    What is maximised is the likelihood of entries given those before them, plus that of entries in gaps given those
    outside. The likelihood alone is nearly all about close neighbours, and a field that is not quite of the kernel's
    kind then gets a range that is wrong across a gap.

    Args:
        starts: kernels with numbers; a single one is taken to be close.
        noise_sd: of an entry with unit noise.
        floor: the noise is not learned below it.
        residuals: what to learn from.

    Source: Gneiting and Raftery 2007, section 9 (scores as estimators); Varin et al. 2011 (composite likelihoods).
    """
    if len(starts) == 1:
        return _ascend(Learned(starts[0], noise_sd, -np.inf), floor, residuals, _MANY, _SHORT)
    best = glance(starts, noise_sd, floor, residuals)
    for _ in range(2):
        best = _ascend(best, floor, residuals, _MANY, _LONG)
    return best


def glance(starts: Sequence[AbstractFieldKernel], noise_sd: Parameter, floor: float, residuals: Residuals) -> Learned:
    """As `learn`, from a smaller sample and less precisely: for comparing kernels."""
    begun = [Learned(kernel, noise_sd, -np.inf) for kernel in starts]
    if len(begun) > 1:
        begun = [_ascend(start, floor, residuals, _FEW, _FIRST) for start in begun]
    return _ascend(max(begun, key=lambda f: f.score), floor, residuals, _FEW, _SHORT)


def _ascend(start: Learned, floor: float, residuals: Residuals, size: int, iterations: int) -> Learned:
    """A sample of conditional densities is climbed, the neighbours held."""
    entries, draws = residuals.entries, residuals.draws
    size = min(size, len(entries.points))
    targets, index = residuals.sampled(start.kernel, float(start.noise_sd.value[0]) ** 2, size, _SEED)
    hood = gather(Entries(*(a[targets] for a in entries)), entries, index)
    near, own = draws[:, index] * (index >= 0), draws[:, targets]
    share = size / len(entries.points)
    prior_share = jnp.asarray(len(targets) / len(entries.points))

    def density(learned: Any, held: Any) -> tuple[float, Any]:
        kernel, sd = eqx.combine(learned, held)
        noise = float(sd.value[0]) ** 2
        found = compiled_covariances(kernel, hood)
        value, slopes = log_density(found, noise, hood, own, near)
        apart, slope = residuals.differences.log_density(noise)
        value, slopes = value + share * apart, slopes._replace(noise=slopes.noise + share * slope)
        prior, gradient = _pull(learned, held, hood, slopes, prior_share)
        return value + float(prior), gradient

    return ascend(start, floor, density, len(targets), iterations)


@compiled
def _pull(learned: Any, held: Any, hood: Neighbourhood, slopes: Slopes, share: Float[Array, ""]) -> tuple[Array, Any]:
    """The kernel's log prior, its share of it, and the gradient of that and of the density with these slopes."""

    def density(learned: Any) -> tuple[Array, Array]:
        kernel, sd = eqx.combine(learned, held)
        found = covariances(kernel, hood)
        prior = share * log_prior(kernel)
        along = jnp.sum(slopes.pairs * found.pairs) + jnp.sum(slopes.cross * found.cross)
        along = along + jnp.sum(slopes.size * found.size) + jnp.sum(slopes.near_size * found.near_size)
        along = along + slopes.noise * sd.value[0] ** 2
        return along + prior, jnp.asarray(prior)

    gradient, prior = jax.grad(density, has_aux=True)(learned)
    return prior, gradient
