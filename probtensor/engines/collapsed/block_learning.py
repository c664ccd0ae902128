"""Learning a kernel on a grid, and the noise, by the exact joint density of blocks of rows and columns.

Neighbours say nearly all about each other, so that their conditional densities tell little of what varies slowly. A
block of some near and some far rows and columns tells of all distances at once.

Source: Varin et al. 2011 (composite likelihoods of blocks).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import lapack

from probtensor.compilation import compiled, padded, shared_size
from probtensor.engines.collapsed.ascent import Learned, ascend
from probtensor.engines.collapsed.local_learning import Residuals
from probtensor.gridded.grid import Grid
from probtensor.hyperparameters import log_prior
from probtensor.kernels.field import AbstractFieldKernel, covariance_matrix
from probtensor.linalg.jitter import jittered
from probtensor.nearest.conditionals import JITTER, Entries
from probtensor.typing import Array, Float, Int

#: Blocks, entries of each at most, and levels of the longer side in it.
_BLOCKS, _SIZE, _LEVELS = 6, 1400, 37
#: Half of a block's levels are nearest ones, a quarter is chosen among so many times as many, the others are anywhere.
_AROUND = 30
#: Of the middles of blocks: the golden section, by which any number of them in turn are spread evenly (Weyl 1916).
_TURN = 0.6180339887
#: Iterations at most, and while kernels are compared.
_STEPS, _GLANCE = 20, 12
#: Of the choice of blocks.
_SEED = 0


class Block(NamedTuple):
    """Entries that are looked at jointly: (k,) their numbers, places and noise, (S, k) draws of their values."""

    entries: Entries
    draws: Float[np.ndarray, "S k"]

    @property
    def padded(self) -> Float[Array, "n D"]:
        """Places, filled up so that blocks share programs."""
        return jnp.asarray(padded(self.entries.points, shared_size(len(self.entries.points))))


def learn(start: Learned, floor: float, residuals: Residuals, blocks: list[Block]) -> Learned:
    """The kernel and noise with the highest density of some blocks.

    Args:
        start: a kernel with numbers that are about right, and the noise.
        floor: the noise is not learned below it.
        residuals: what the blocks are of.
        blocks: what to learn from.
    """
    return _ascend(start, floor, residuals, blocks, _STEPS)


def glance(start: Learned, floor: float, residuals: Residuals, blocks: list[Block]) -> Learned:
    """As `learn`, less precisely: for comparing kernels on the same blocks."""
    return _ascend(start, floor, residuals, blocks, _GLANCE)


def _ascend(start: Learned, floor: float, residuals: Residuals, blocks: list[Block], iterations: int) -> Learned:
    number = sum(len(block.entries.points) for block in blocks)
    share = number / len(residuals.entries.points)

    def density(learned: Any, held: Any) -> tuple[float, Any]:
        kernel, sd = eqx.combine(learned, held)
        noise = float(sd.value[0]) ** 2
        value, slope = (share * one for one in residuals.differences.log_density(noise))
        prior, gradient = _prior(learned, held, jnp.asarray(share), jnp.asarray(slope))
        for block in blocks:
            apart, slopes, by_noise = log_density(kernel, noise, block)
            places = block.padded
            filled = jnp.asarray(np.pad(slopes, (0, len(places) - len(slopes))))
            pulled = _pull(learned, held, places, filled, jnp.asarray(by_noise))
            value, gradient = value + apart, jax.tree.map(jnp.add, gradient, pulled)
        return value + float(prior), gradient

    return ascend(start, floor, density, number, iterations)


def score(found: Learned, blocks: list[Block]) -> float:
    """The log density of some blocks, in nats an entry: also of such as were not learned from."""
    noise = float(found.noise_sd.value[0]) ** 2
    total = sum(log_density(found.kernel, noise, block)[0] for block in blocks)
    return total / sum(len(block.entries.points) for block in blocks)


def chosen(kernel: AbstractFieldKernel, grid: Grid, residuals: Residuals, number: int = _BLOCKS) -> list[Block]:
    """Some levels of the grid's longer side, and as many of the other as there is room for, with all their entries.

    Blocks are spread over both sides: what few of them lack, such as the last years of a warming, is not learned.

    Args:
        kernel: says which levels are near to each other.
        grid: of the entries.
        residuals: what the blocks are of.
        number: of blocks.
    """
    entry = np.full(grid.shape, -1)
    entry[grid.row, grid.column] = np.arange(len(grid.row))
    own = np.isin(np.arange(grid.rows.shape[1]), grid.own)
    sides = (grid.rows * own, grid.columns * ~own)
    longer = int(np.argmax(grid.shape))
    found = []
    for k in range(number):
        rng, turn = np.random.default_rng([_SEED, k]), (0.5 + k * _TURN) % 1
        levels: list[np.ndarray] = [np.empty(0)] * 2
        levels[longer] = _levels(kernel, sides[longer], _LEVELS, turn, rng)
        full = max(float(np.mean(np.take(entry, levels[longer], axis=longer) >= 0)), 1 / grid.shape[1 - longer])
        room = max(int(_SIZE / len(levels[longer]) / full), 1)
        levels[1 - longer] = _levels(kernel, sides[1 - longer], room, turn, rng)
        there = entry[np.ix_(*levels)].ravel()
        some = np.sort(there[there >= 0][:_SIZE])
        found.append(Block(Entries(*(a[some] for a in residuals.entries)), residuals.draws[:, some]))
    return found


def _levels(
    kernel: AbstractFieldKernel, points: Float[np.ndarray, "n D"], number: int, turn: float, rng: np.random.Generator
) -> Int[np.ndarray, "k"]:
    """Some near to each other as the kernel sees it, some at all distances; all of them if there are no more.

    turn: where the near ones are, as a share of all.
    """
    if len(points) <= number:
        return np.arange(len(points))
    middle = np.repeat(points[[int(turn * len(points))]], len(points), axis=0)
    there = jnp.asarray(points)
    correlation = kernel.covariance(jnp.asarray(middle), there) / jnp.sqrt(kernel.covariance(there, there))
    order = np.argsort(-np.asarray(correlation), kind="stable")
    near, reach = (number + 1) // 2, min(len(points), _AROUND * number)
    around = rng.choice(order[near:reach], min(number // 4, reach - near), replace=False)
    rest = number - near - len(around)
    anywhere = ((np.arange(rest) + rng.random(rest)) * len(points) / max(rest, 1)).astype(int)
    return np.unique(np.concatenate([order[:near], around, anywhere]))


def log_density(
    kernel: AbstractFieldKernel, noise: float, block: Block
) -> tuple[float, Float[np.ndarray, "k k"], float]:
    """Of a block, averaged over draws of the values; its derivatives by the function's covariance and by the noise.

    With A the covariance of the noisy values and w = A^-1 r, it changes by (w'dA w - tr A^-1 dA) / 2.
    """
    entries, draws = block
    k = len(entries.points)
    places = block.padded
    covariance = np.asarray(covariance_matrix(kernel, places, places))[:k, :k]
    found = jittered(covariance, noise * entries.unit_noise, JITTER * float(np.max(np.diagonal(covariance))))
    if found is None:
        return -np.inf, np.zeros((k, k)), 0.0
    half = lapack.dtrtrs(found.factor, draws.T, lower=1)[0]
    logarithms = float(np.sum(np.log(np.diagonal(found.factor))))
    value = -0.5 * float(np.sum(half**2)) / len(draws) - logarithms - 0.5 * k * np.log(2 * np.pi)
    weights = lapack.dtrtrs(found.factor, half, lower=1, trans=1)[0]
    inverse = np.tril(lapack.dpotri(found.factor, lower=1)[0])
    inverse += np.tril(inverse, -1).T
    slopes = 0.5 * (weights @ weights.T / len(draws) - inverse)
    return value, slopes, float(np.diagonal(slopes) @ entries.unit_noise)


@compiled
def _pull(
    learned: Any, held: Any, points: Float[Array, "n D"], slopes: Float[Array, "n n"], by_noise: Float[Array, ""]
) -> Any:
    """The gradient of a block's density with these slopes."""

    def density(learned: Any) -> Array:
        kernel, sd = eqx.combine(learned, held)
        return jnp.sum(slopes * kernel.covariance(points[:, None], points[None])) + by_noise * sd.value[0] ** 2

    return jax.grad(density)(learned)


@compiled
def _prior(learned: Any, held: Any, share: Float[Array, ""], by_noise: Float[Array, ""]) -> tuple[Array, Any]:
    """The share of the kernel's log prior, and the gradient of that and of a density with this slope."""

    def density(learned: Any) -> tuple[Array, Array]:
        kernel, sd = eqx.combine(learned, held)
        prior = jnp.asarray(share * log_prior(kernel))
        return prior + by_noise * sd.value[0] ** 2, prior

    gradient, prior = jax.grad(density, has_aux=True)(learned)
    return prior, gradient
