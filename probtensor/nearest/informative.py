"""Which of many candidates to condition on: those that together leave the least variance."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from probtensor.compilation import compiled
from probtensor.kernels.field import AbstractFieldKernel
from probtensor.nearest.conditionals import Entries
from probtensor.typing import Array, Bool, Float, Int

#: Numbers that a batch of targets keeps for its candidates: what fits a processor's cache.
_BATCH_NUMBERS = 2**20
#: A candidate's variance given the chosen ones counts as at least this share of its own.
_KNOWN = 1e-8
#: Numbers of candidates differ by as much.
_STEP = 8
#: How much a later candidate counts less: on a grid many are equal, and rounding must not decide between them.
_TILT = 1e-5


def most_informative(
    kernel: AbstractFieldKernel,
    noise: float,
    sources: Entries,
    targets: Float[np.ndarray, "M D"],
    candidates: Int[np.ndarray, "M C"],
    number: int,
) -> Int[np.ndarray, "M k"]:
    """For each target, candidates chosen one by one: the next is the one that lowers the target's variance most.

    They spread around a target, where the nearest can pile up on one side: of three observations side by side the
    second and third say little that is new.

    Args:
        kernel: of the function.
        noise: variance of an entry with unit noise 1.
        sources: the entries.
        targets: places.
        candidates: positions among the sources; -1 is none, and repeats are dropped.
        number: how many to choose; -1 where there are fewer.

    Cost O(M C k^2). Source: the greedy criterion of Gramacy and Apley 2015, section 3.
    """
    candidates = _distinct(candidates)
    wanted = min(number, candidates.shape[1])
    if wanted == candidates.shape[1]:
        return np.pad(candidates, ((0, 0), (0, number - wanted)), constant_values=-1)
    batch = max(1, min(len(targets), _BATCH_NUMBERS // (candidates.shape[1] * wanted)))
    out = np.full((len(targets), number), -1)
    steps = jnp.zeros(wanted)
    for at in range(0, len(targets), batch):
        some = np.arange(at, at + batch).clip(max=len(targets) - 1)
        index = candidates[some]
        near, unit = sources.points[index], sources.unit_noise[index]
        places, where, unit_noise, free = map(jnp.asarray, (targets[some], near, unit, index >= 0))
        chosen = np.asarray(_choose(kernel, jnp.asarray(noise), places, where, unit_noise, free, steps))
        kept = np.take_along_axis(index, np.maximum(chosen, 0), axis=1)
        out[some, :wanted] = np.where(chosen >= 0, kept, -1)
    return out


def _distinct(candidates: Int[np.ndarray, "M C"]) -> Int[np.ndarray, "M c"]:
    """Without repeats, missing ones last, as few columns as hold them all; in steps, so that programs are shared."""
    found = -np.sort(-candidates, axis=1)
    found[:, 1:][found[:, 1:] == found[:, :-1]] = -1
    found = -np.sort(-found, axis=1)
    most = int(np.max(np.sum(found >= 0, axis=1), initial=1))
    return found[:, : -(-most // _STEP) * _STEP]


@compiled
def _choose(
    kernel: AbstractFieldKernel,
    noise: Float[Array, ""],
    targets: Float[Array, "n D"],
    near: Float[Array, "n C D"],
    unit_noise: Float[Array, "n C"],
    free: Bool[Array, "n C"],
    steps: Float[Array, "k"],
) -> Int[Array, "n k"]:
    """Forward selection by a pivoted Cholesky factor of the candidates' covariance, of which only the columns are made.

    cross and variance are of the target with the candidates, and of these, given what is chosen.
    """
    n, C, _ = near.shape
    rows = jnp.arange(n)
    there = kernel.places(near)  # once, and not for every step
    own = kernel.between(there, there)
    floor = _KNOWN * own
    tilt = 1 - _TILT * jnp.arange(C, dtype=own.dtype) / C

    def step(j: Array, state: tuple[Array, ...]) -> tuple[Array, ...]:
        cross, variance, factor, free, chosen = state
        gain = jnp.where(free, tilt * cross**2 / jnp.maximum(variance, floor), -1.0)
        best = jnp.argmax(gain, axis=1)
        some = gain[rows, best] > 0
        root = jnp.sqrt(jnp.maximum(variance, floor)[rows, best])
        covariance = kernel.between(jax.tree.map(lambda place: place[rows, best][:, None], there), there)
        left = covariance - jnp.einsum("nkc,nk->nc", factor, factor[rows, :, best])
        column = jnp.where(some[:, None], left / root[:, None], 0.0)
        return (
            cross - column * (cross[rows, best] / root)[:, None],
            variance - column**2,
            factor.at[:, j].set(column),
            free.at[rows, best].set(False),
            chosen.at[:, j].set(jnp.where(some, best, -1)),
        )

    k = steps.shape[0]
    start = (
        kernel.between(kernel.places(targets[:, None]), there),
        own + noise * unit_noise,
        jnp.zeros((n, k, C), own.dtype),
        free,
        jnp.full((n, k), -1),
    )
    return jax.lax.fori_loop(0, k, step, start)[-1]
