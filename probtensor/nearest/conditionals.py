"""Each entry given its neighbours: weights and variances, and the density that they make.

With r the noisy values, the contrasts c_n = r_n - sum_j B_nj r_j over the neighbours j of n among earlier entries are
independent with variance D_n.

Source: Vecchia 1988; Finley et al. 2019, section 2.2 (the response model: noise collapsed).
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from probtensor.compilation import compiled
from probtensor.kernels.field import AbstractFieldKernel
from probtensor.typing import Array, Float, Int

#: Entries whose covariances are formed at once, and the one batch size for which that is compiled.
_CHUNK = 1024


class Entries(NamedTuple):
    """Places of entries, and the variance of the noise in their values relative to that of an entry with weight 1."""

    points: Float[np.ndarray, "N D"]
    unit_noise: Float[np.ndarray, "N"]


class Conditionals(NamedTuple):
    """Weights B and variances D of each target given its neighbours; index -1 is no neighbour, its weight 0."""

    index: Int[np.ndarray, "n k"]
    weights: Float[np.ndarray, "n k"]
    variance: Float[np.ndarray, "n"]


class Neighbourhood(NamedTuple):
    """A batch of targets with their neighbours, gathered."""

    target: Float[Array, "n D"]
    unit_noise: Float[Array, "n"]
    near: Float[Array, "n k D"]
    near_unit_noise: Float[Array, "n k"]
    live: Float[Array, "n k"]


def gather(targets: Entries, sources: Entries, index: Int[np.ndarray, "n k"]) -> Neighbourhood:
    """The neighbours' places and noise; missing neighbours have no covariance with anything."""
    live = index >= 0
    return Neighbourhood(
        targets.points,
        targets.unit_noise,
        sources.points[index],
        sources.unit_noise[index],
        live.astype(sources.unit_noise.dtype),
    )


def covariances(
    kernel: AbstractFieldKernel, noise: Float[Array, ""], hood: Neighbourhood
) -> tuple[Array, Array, Array]:
    """Covariance among the neighbours (noise included), of the target with them, and of the target itself."""
    pair = hood.live[:, :, None] * hood.live[:, None, :]
    among = kernel.covariance(hood.near[:, :, None], hood.near[:, None, :]) * pair
    own = kernel.covariance(hood.target, hood.target)
    # A missing neighbour is an independent value of some variance; a jitter far below the noise floor keeps repeated
    # places solvable.
    diagonal = hood.live * noise * hood.near_unit_noise + (1 - hood.live) * own[:, None] + 1e-10 * own[:, None]
    among = among + diagonal[:, :, None] * jnp.eye(among.shape[-1], dtype=among.dtype)
    cross = kernel.covariance(hood.target[:, None], hood.near) * hood.live
    return among, cross, own + noise * hood.unit_noise


_compiled_covariances = compiled(covariances)


def condition(
    kernel: AbstractFieldKernel,
    noise: Float[Array, ""],
    targets: Entries,
    sources: Entries,
    index: Int[np.ndarray, "n k"],
) -> Conditionals:
    """Each target given its neighbours among the sources, in chunks; a target's unit noise 0 asks for the signal."""
    weights = np.zeros(index.shape)
    variance = np.zeros(len(index))
    for at in range(0, len(index), _CHUNK):
        some = slice(at, min(at + _CHUNK, len(index)))
        part = Entries(*(_padded(a[some]) for a in targets))
        among, cross, own = _compiled_covariances(kernel, noise, gather(part, sources, _padded(index[some])))
        n = some.stop - at
        cross_n = np.asarray(cross)[:n]
        solved = np.linalg.solve(np.asarray(among)[:n], cross_n[..., None])[..., 0]
        weights[some] = solved
        variance[some] = np.asarray(own)[:n] - np.sum(solved * cross_n, axis=1)
    floor = float(noise) * targets.unit_noise + 1e-12 * float(np.max(np.abs(variance), initial=0.0))
    return Conditionals(index, weights * (index >= 0), np.maximum(variance, floor))


def _padded(array: np.ndarray) -> np.ndarray:
    """Repeats the last row, so that every batch has one shape."""
    missing = _CHUNK - len(array)
    return array if missing == 0 else np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])


def log_density(
    kernel: AbstractFieldKernel,
    noise: Float[Array, ""],
    hood: Neighbourhood,
    residual: Float[Array, "S n"],
    near_residual: Float[Array, "S n k"],
    solved: Float[Array, "n k"],
    solved_residual: Float[Array, "S n k"],
) -> Float[Array, ""]:
    """Sum over targets of the log density given the neighbours, averaged over S draws of the residual.

    The solutions of the neighbours' system (against the cross-covariance and against their residuals) come from
    outside and are constants here; value and gradient with respect to the kernel and the noise are exact, since the
    conditional variance is stationary in the weights and the mean's derivative is written with the solved residual.
    """
    among, cross, own = covariances(kernel, noise, hood)
    image = jnp.einsum("nij,nj->ni", among, solved)
    variance = own - 2 * jnp.sum(solved * cross, axis=-1) + jnp.sum(solved * image, axis=-1)
    moved = jnp.einsum("snk,nk->sn", solved_residual, cross - image)
    contrast = residual - jnp.sum(solved * near_residual, axis=-1) - moved
    terms = -0.5 * (jnp.log(2 * jnp.pi * variance) + contrast**2 / variance)
    return jnp.sum(jnp.mean(terms, axis=0))


def solve_neighbours(
    kernel: AbstractFieldKernel,
    noise: Float[Array, ""],
    hood: Neighbourhood,
    near_residual: Float[np.ndarray, "S n k"],
) -> tuple[Float[np.ndarray, "n k"], Float[np.ndarray, "S n k"]]:
    """What `log_density` needs: the neighbours' system solved for the cross-covariance and for each residual."""
    among, cross, _ = _compiled_covariances(kernel, noise, hood)
    right = np.concatenate([np.asarray(cross)[:, :, None], np.moveaxis(near_residual, 0, -1)], axis=-1)
    solved = np.linalg.solve(np.asarray(among), right)
    return solved[..., 0], np.moveaxis(solved[..., 1:], -1, 0)
