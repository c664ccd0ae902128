"""Draws made comparable: components of a CP and bases of a Tucker or a tensor train turned like those of one draw.

A CP is the same with its components in another order or with the signs of two of a component's functions changed, a
Tucker with a mode's functions turned and its core turned back, a tensor train with a bond turned; so chains, and a
long enough chain by itself, give functions in all these forms. What is aligned serves for reading functions alone;
the signal is the same before and after.
"""

from __future__ import annotations

import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment

from probtensor.engines.drawn import Draws, Terms
from probtensor.hyperparameters import is_parameter
from probtensor.terms.cp import BoundCP
from probtensor.terms.tensor_train import BoundTensorTrain
from probtensor.terms.tucker import BoundTucker
from probtensor.typing import Float, Int

#: Rounds: the second has the mean of the first as its reference.
_ROUNDS = 2

Blocks = list[Float[np.ndarray, "S T R"]]


def aligned(terms: Terms, draws: Draws, reference: int) -> Draws:
    """All draws like one of them, the reference, then like their mean; other terms as they are.

    Hyper-parameters that each component of a CP has of its own change places with it.
    """
    values, learned = list(draws.values), list(draws.learned)
    for j, term in enumerate(terms):
        blocks = [np.asarray(block) for block in values[j]]
        if not blocks or len(blocks[0]) == 0:
            continue
        like = [block[reference] for block in blocks]
        for _ in range(_ROUNDS):
            if isinstance(term, BoundCP):
                order = match(blocks, like)
                blocks = _with_signs([np.take_along_axis(b, order[:, None], axis=2) for b in blocks], like)
                learned[j] = _permuted(learned[j], order)
            elif isinstance(term, BoundTucker):
                blocks = _turned(blocks, like, term.ranks)
            elif isinstance(term, BoundTensorTrain):
                blocks = _bonds_turned(blocks, like, term)
            like = [block.mean(axis=0) for block in blocks]
        values[j] = tuple(jnp.asarray(block) for block in blocks)
    return Draws(tuple(values), tuple(learned))


def match(blocks: Blocks, like: list[Float[np.ndarray, "T R"]]) -> Int[np.ndarray, "S R"]:
    """For each draw which of its components stands where, so that the tensors of components are closest in sum."""
    # The inner product of two components' tensors is the product of those of their functions; a sign is free to choose
    # for every function but one, so what counts is that of the tensor.
    inner = np.prod([np.einsum("str,tq->srq", block, own) for block, own in zip(blocks, like, strict=True)], axis=0)
    order = np.empty(inner.shape[:2], dtype=int)
    for s, gain in enumerate(inner):
        row, column = linear_sum_assignment(gain, maximize=True)
        order[s, column] = row
    return order


def _with_signs(blocks: Blocks, like: list[Float[np.ndarray, "T R"]]) -> Blocks:
    """Signs like the reference's, an even number of changes in each component: the least clear one gives in."""
    inner = np.stack([np.einsum("str,tr->sr", block, own) for block, own in zip(blocks, like, strict=True)])
    sizes = [np.linalg.norm(b, axis=1) * np.linalg.norm(own, axis=0) for b, own in zip(blocks, like, strict=True)]
    size = np.stack(sizes)
    signs = np.where(inner < 0, -1.0, 1.0)
    clear = np.abs(inner) / np.where(size > 0, size, 1.0)
    least = np.argmin(clear, axis=0)[None]
    odd = np.prod(signs, axis=0)[None]
    np.put_along_axis(signs, least, np.take_along_axis(signs, least, 0) * odd, 0)
    return [block * sign[:, None] for block, sign in zip(blocks, signs, strict=True)]


def _permuted(learned: Any, order: Int[np.ndarray, "S R"]) -> Any:
    """Stacked hyper-parameters of R components in another order."""

    def own(node: Any) -> Any:
        if not is_parameter(node) or node.raw is None or node.raw.shape[1] != order.shape[1]:
            return node
        return eqx.tree_at(lambda p: p.raw, node, jnp.take_along_axis(node.raw, jnp.asarray(order), axis=1))

    return jax.tree.map(own, learned, is_leaf=is_parameter)


def _rotation(block: Float[np.ndarray, "S K R"], like: Float[np.ndarray, "K R"]) -> Float[np.ndarray, "S R R"]:
    """The orthogonal matrix Q of each draw for which block @ Q is closest to the reference (Procrustes)."""
    left, _, right = np.linalg.svd(np.einsum("skr,kq->srq", block, like))
    return left @ right


def _turned(blocks: Blocks, like: list[Float[np.ndarray, "T R"]], ranks: tuple[int, ...]) -> Blocks:
    *factors, core = blocks
    tensor = core.reshape(len(core), *ranks)
    for d, factor in enumerate(factors):
        turn = _rotation(factor, like[d])
        factors[d] = factor @ turn
        folded = np.moveaxis(tensor, d + 1, -1)
        back = np.einsum("s...r,srq->s...q", folded, turn)
        tensor = np.moveaxis(back, -1, d + 1)
    return [*factors, tensor.reshape(core.shape)]


def _bonds_turned(blocks: Blocks, like: list[Float[np.ndarray, "T R"]], term: BoundTensorTrain) -> Blocks:
    """Bond after bond from the left."""
    along = np.argsort(term.order)
    shapes = list(itertools.pairwise(term.bonds))
    cores = [blocks[k].reshape(*blocks[k].shape[:2], *shape) for k, shape in zip(along, shapes, strict=True)]
    wanted = [like[k].reshape(len(like[k]), *shape) for k, shape in zip(along, shapes, strict=True)]
    for d in range(len(cores) - 1):
        bond = term.bonds[d + 1]
        turn = _rotation(cores[d].reshape(len(cores[d]), -1, bond), wanted[d].reshape(-1, bond))
        cores[d] = np.einsum("stab,sbc->stac", cores[d], turn)
        cores[d + 1] = np.einsum("sba,stbc->stac", turn, cores[d + 1])
    out = list(blocks)
    for k, core in zip(along, cores, strict=True):
        out[k] = core.reshape(blocks[k].shape)
    return out
