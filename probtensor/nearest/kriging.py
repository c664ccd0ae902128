"""The function at any places given all values: places that are near each other share one large set of neighbours.

Source: Vecchia 1988; Stein, Chi and Welty 2004 (blocks that are conditioned together).
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy.linalg import blas

from probtensor.compilation import compiled, padded, shared_size
from probtensor.errors import ModelError
from probtensor.kernels.field import AbstractFieldKernel, covariance_matrix
from probtensor.linalg.jitter import jittered
from probtensor.nearest.conditionals import JITTER, Entries
from probtensor.nearest.embedding import Embedding
from probtensor.nearest.sharing import groups, to_box
from probtensor.typing import Array, Float, Int

#: Numbers of places that programs are compiled for; the last is how many are solved for at once.
_SIZES = (4, 16, 64, 256)
#: Places drawn before that a block is conditioned on besides entries, as a multiple of a training entry's neighbours.
_DRAWN = 5
#: Of the order in which blocks are drawn.
_ORDER_SEED = 0


class Kriged(NamedTuple):
    """Mean of the function at each place for each draw of the values, and its variance."""

    mean: Float[np.ndarray, "S M"]
    variance: Float[np.ndarray, "M"]


def krige(
    kernel: AbstractFieldKernel,
    noise: float,
    entries: Entries,
    values: Float[np.ndarray, "S N"],
    targets: Float[np.ndarray, "M D"],
    neighbours: int,
    part: AbstractFieldKernel | None = None,
) -> Kriged:
    """The function, without noise, at places given noisy values.

    A place's answer depends on its cell, and the cell on the entries alone: not on which other places are asked for.

    Args:
        kernel: of the function.
        noise: variance of an entry with unit noise 1.
        entries: where the values are.
        values: draws of them.
        targets: places.
        neighbours: of a training entry; a place has many times as many, see `nearest.sharing`.
        part: what is asked for is the function with this kernel, which is one in the sum; None: the whole.

    Cost O(C K^3 + M K^2) for C cells with K neighbours each.
    """
    part = kernel if part is None else part
    mean, variance = np.zeros((len(values), len(targets))), np.zeros(len(targets))
    size, own = _largest(kernel, entries.points), _variances(part, targets)
    for rows, index in groups(kernel, entries.points, targets, neighbours):
        near = entries.points[index]
        factor = _factor(_covariance(kernel, near, near), noise * entries.unit_noise[index], size)
        white = _solved(factor, values[:, index].T)
        for some in _pieces(rows):
            toward = _solved(factor, _covariance(part, near, _padded(targets[some]))[:, : len(some)])
            mean[:, some] = white.T @ toward
            variance[some] = np.maximum(own[some] - np.sum(toward**2, axis=0), JITTER * own[some])
    return Kriged(mean, variance)


def draw(
    kernel: AbstractFieldKernel,
    noise: float,
    entries: Entries,
    values: Float[np.ndarray, "S N"],
    targets: Float[np.ndarray, "M D"],
    neighbours: int,
    white: Float[np.ndarray, "S M"],
) -> Float[np.ndarray, "S M"]:
    """A joint draw of the function at different places for each draw of the values.

    Block after block of places, each given entries and places that are drawn already.

    Args:
        kernel: as in `krige`.
        noise: as there.
        entries: as there.
        values: as there.
        targets: places, each once.
        neighbours: as there.
        white: standard normal numbers.

    Cost O(B K^3 + M K^2 + M m^2) for B blocks of m places with K neighbours each.
    """
    out, size = np.zeros(white.shape), _largest(kernel, entries.points)
    shared = groups(kernel, entries.points, targets, neighbours)
    blocks = [(some, index) for rows, index in shared for some in _pieces(rows)]
    joint = Embedding.of(kernel, entries.points).joint(targets)
    done, most = np.zeros(0, dtype=int), _DRAWN * neighbours
    for b in np.random.default_rng(_ORDER_SEED).permutation(len(blocks)):
        rows, index = blocks[b]
        before = _nearest(done, joint, rows, most)
        near = np.concatenate([entries.points[index], targets[before]])
        k, m = len(near), len(rows)
        # One shape for all blocks but the first.
        among = _padded(near, (len(index), len(index) + most))
        known = np.concatenate([values[:, index], out[:, before]], axis=1)
        unknown = noise * np.concatenate([entries.unit_noise[index], np.zeros(len(before))])
        factor = _factor(_covariance(kernel, among, among)[:k, :k], unknown, size)
        places = _padded(targets[rows])
        toward = _solved(factor, _covariance(kernel, among, places)[:k, :m])
        left = _factor(_covariance(kernel, places, places)[:m, :m] - toward.T @ toward, np.zeros(m), size)
        out[:, rows] = _solved(factor, known.T).T @ toward + white[:, rows] @ np.tril(left).T
        done = np.concatenate([done, rows])
    return out


def _pieces(rows: Int[np.ndarray, "n"]) -> list[Int[np.ndarray, "m"]]:
    return [rows[at : at + _SIZES[-1]] for at in range(0, len(rows), _SIZES[-1])]


def _nearest(
    done: Int[np.ndarray, "d"], joint: Float[np.ndarray, "M E"], rows: Int[np.ndarray, "m"], number: int
) -> Int[np.ndarray, "k"]:
    """Of what is done, what is nearest to the box around some rows."""
    if len(done) <= number:
        return done
    here = joint[rows]
    return done[np.argpartition(to_box(joint[done], here.min(axis=0), here.max(axis=0)), number)[:number]]


def _padded(points: Float[np.ndarray, "m D"], sizes: tuple[int, ...] = _SIZES) -> Float[np.ndarray, "M D"]:
    """Up to the next of some sizes, so that few programs are compiled."""
    return padded(points, next(s for s in sizes if s >= len(points)))


def _covariance(
    kernel: AbstractFieldKernel, a: Float[np.ndarray, "n D"], b: Float[np.ndarray, "m D"]
) -> Float[np.ndarray, "n m"]:
    return np.asarray(covariance_matrix(kernel, jnp.asarray(a), jnp.asarray(b)))


@compiled
def _own(kernel: AbstractFieldKernel, points: Float[Array, "n D"]) -> Float[Array, "n"]:
    return kernel.covariance(points, points)


def _variances(kernel: AbstractFieldKernel, points: Float[np.ndarray, "M D"]) -> Float[np.ndarray, "M"]:
    """Of the function at each of some places, whose number is filled up so that few programs are compiled."""
    return np.asarray(_own(kernel, jnp.asarray(padded(points, shared_size(len(points))))))[: len(points)]


def _largest(kernel: AbstractFieldKernel, points: Float[np.ndarray, "N D"]) -> float:
    """The function's largest variance at some places."""
    return float(_variances(kernel, points).max())


def _factor(
    covariance: Float[np.ndarray, "K K"], noise: Float[np.ndarray, "K"], size: float
) -> Float[np.ndarray, "K K"]:
    """Cholesky factor of covariance and noise, in the lower triangle: one LAPACK call on the host.

    size: of the function's variance; the least jitter in proportion to it that will do is added. Raises ModelError if
    none will.
    """
    found = jittered(covariance, noise, JITTER * size)
    if found is not None:
        return found.factor
    raise ModelError(
        f"Local: the covariance of {len(noise)} neighbouring entries is not positive definite; the kernel's numbers "
        "may not be finite (see post.hyperparameters()), or it is no kernel in this metric"
    )


def _solved(factor: Float[np.ndarray, "K K"], right: Float[np.ndarray, "K m"]) -> Float[np.ndarray, "K m"]:
    return blas.dtrsm(1.0, factor, right, lower=1)
