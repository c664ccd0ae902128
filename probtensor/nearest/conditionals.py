"""Each entry given its neighbours: weights and variances, and the density that they make.

With r the noisy values, the contrasts c_n = r_n - sum_j B_nj r_j over the neighbours j of n among earlier entries are
independent with variance D_n.

Source: Vecchia 1988; Finley et al. 2019, section 2.2 (the response model: noise collapsed).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from probtensor.compilation import compiled, padded
from probtensor.kernels.field import AbstractFieldKernel
from probtensor.typing import Array, Float, Int

#: Entries whose covariances are formed at once, and the one batch size for which that is compiled.
_CHUNK = 1024
#: Added to the neighbours' variances, relative to the function's own.
JITTER = 1e-10


class Entries(NamedTuple):
    """Places of entries, and the variance of the noise in their values relative to that of an entry with weight 1."""

    points: Float[np.ndarray, "N D"]
    unit_noise: Float[np.ndarray, "N"]


class Conditionals(NamedTuple):
    """Weights B and variances D of each target given its neighbours; neighbour -1 is none, its weight 0."""

    neighbours: Int[np.ndarray, "n k"]
    weights: Float[np.ndarray, "n k"]
    variance: Float[np.ndarray, "n"]


class Neighbourhood(NamedTuple):
    """A batch of targets with their neighbours, gathered."""

    target: Float[Array, "n D"]
    unit_noise: Float[Array, "n"]
    near: Float[Array, "n k D"]
    near_unit_noise: Float[Array, "n k"]
    live: Float[Array, "n k"]


class Covariances(NamedTuple):
    """Of the function at a batch: among pairs i > j of neighbours, of the target with them, and the variances.

    size: of the target; near_size: of the neighbours.
    """

    pairs: Float[Array, "n P"]
    cross: Float[Array, "n k"]
    size: Float[Array, "n"]
    near_size: Float[Array, "n k"]


class Solved(NamedTuple):
    """The neighbours' system solved for the cross-covariance, and for S draws of the neighbours' residuals."""

    weights: Float[np.ndarray, "n k"]
    residuals: Float[np.ndarray, "S n k"]


def gather(targets: Entries, sources: Entries, index: Int[np.ndarray, "n k"]) -> Neighbourhood:
    """The neighbours' places and noise; missing neighbours have no covariance with anything."""
    live = jnp.asarray((index >= 0).astype(sources.points.dtype))
    points, near = jnp.asarray(targets.points), jnp.asarray(sources.points[index])
    unit_noise, near_unit_noise = jnp.asarray(targets.unit_noise), jnp.asarray(sources.unit_noise[index])
    return Neighbourhood(points, unit_noise, near, near_unit_noise, live)


def covariances(kernel: AbstractFieldKernel, hood: Neighbourhood) -> Covariances:
    """The covariances of a batch."""
    i, j = np.tril_indices(hood.near.shape[1], -1)
    near = kernel.places(hood.near)  # once, and not for every pair
    first, second = (jax.tree.map(lambda place, of=of: place[:, of], near) for of in (i, j))
    pairs = kernel.between(first, second) * hood.live[:, i] * hood.live[:, j]
    cross = kernel.covariance(hood.target[:, None], hood.near) * hood.live
    return Covariances(pairs, cross, kernel.covariance(hood.target, hood.target), kernel.between(near, near))


compiled_covariances = compiled(covariances)


def solve(found: Covariances, noise: float, hood: Neighbourhood, residuals: Float[np.ndarray, "S n k"]) -> Solved:
    """The noisy neighbours' covariance solved, on the host: one LAPACK call a system."""
    n, k = found.cross.shape
    i, j = np.tril_indices(k, -1)
    among = np.empty((n, k, k))
    among[:, i, j] = among[:, j, i] = found.pairs
    # A missing neighbour is an independent value of some variance.
    among[:, np.arange(k), np.arange(k)] = (1 + JITTER) * np.asarray(found.near_size) + _noise(noise, hood)
    right = np.concatenate([np.asarray(found.cross)[:, :, None], np.moveaxis(residuals, 0, -1)], axis=-1)
    solved = np.linalg.solve(among, right)
    return Solved(solved[..., 0], np.moveaxis(solved[..., 1:], -1, 0))


def _noise(noise: float, hood: Neighbourhood) -> Float[np.ndarray, "n k"]:
    return noise * np.asarray(hood.near_unit_noise) * np.asarray(hood.live)


def condition(
    kernel: AbstractFieldKernel,
    noise: float,
    targets: Entries,
    sources: Entries,
    index: Int[np.ndarray, "n k"],
) -> Conditionals:
    """Each target given its neighbours among the sources, in chunks; a target's unit noise 0 asks for the signal."""
    weights = np.zeros(index.shape)
    variance = np.zeros(len(index))
    none = np.zeros((0, _CHUNK, index.shape[1]))
    for at in range(0, len(index), _CHUNK):
        some = slice(at, min(at + _CHUNK, len(index)))
        n = some.stop - at
        batch = Entries(*(padded(a[some], _CHUNK) for a in targets))
        hood = gather(batch, sources, padded(index[some], _CHUNK))
        found = compiled_covariances(kernel, hood)
        solved = solve(found, noise, hood, none).weights
        weights[some] = solved[:n]
        left = np.asarray(found.size) - np.sum(solved * np.asarray(found.cross), axis=1)
        variance[some] = left[:n] + noise * targets.unit_noise[some]
    floor = noise * targets.unit_noise + 1e-12 * float(np.max(np.abs(variance), initial=0.0))
    return Conditionals(index, weights * (index >= 0), np.maximum(variance, floor))


class Slopes(NamedTuple):
    """Derivatives of a log density with respect to each of the covariances of a batch and to the noise."""

    pairs: Float[np.ndarray, "n P"]
    cross: Float[np.ndarray, "n k"]
    size: Float[np.ndarray, "n"]
    near_size: Float[np.ndarray, "n k"]
    noise: Float[np.ndarray, ""]


def log_density(
    found: Covariances,
    noise: float,
    hood: Neighbourhood,
    residual: Float[np.ndarray, "S n"],
    near_residual: Float[np.ndarray, "S n k"],
) -> tuple[float, Slopes]:
    """Sum over targets of the log density given the neighbours, averaged over S draws of the residual; and its slopes.

    With C the neighbours' noisy covariance, k the cross-covariance, w = C^-1 k and s = C^-1 r: the conditional variance
    changes by dv = d size - 2 w'dk + w'dC w, the contrast by dc = -s'dk + w'dC s.
    """
    S, n, k = near_residual.shape
    w, s = solve(found, noise, hood, near_residual)
    cross, size, unit = np.asarray(found.cross), np.asarray(found.size), np.asarray(hood.unit_noise)
    variance = np.maximum(size - np.sum(w * cross, axis=1), JITTER * size) + noise * unit
    contrast = residual - np.einsum("nk,snk->sn", w, near_residual)
    value = -0.5 * float(np.sum(np.log(2 * np.pi * variance)) + np.sum(contrast**2 / variance) / S)
    by_variance = 0.5 * np.mean(contrast**2 / variance - 1, axis=0) / variance
    by_contrast = -contrast / variance / S
    mixed = np.einsum("sn,snk->nk", by_contrast, s)
    i, j = np.tril_indices(k, -1)
    toward = by_variance[:, None] * w + mixed
    pairs = w[:, i] * toward[:, j] + w[:, j] * mixed[:, i] + by_variance[:, None] * w[:, i] * w[:, j]
    diagonal = w * toward
    own_noise = float(np.sum(by_variance * unit))
    noise_slope = own_noise + float(np.sum(diagonal * _noise(1.0, hood)))
    by_near_size = (1 + JITTER) * diagonal
    return value, Slopes(pairs, -by_variance[:, None] * w - toward, by_variance, by_near_size, np.asarray(noise_slope))
