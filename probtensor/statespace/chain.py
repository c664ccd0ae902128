"""A Markov chain of states: R independent components side by side, observed through Gaussian sites that couple them."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from probtensor.kernels.base import AbstractKernel
from probtensor.typing import Array, Float


class Chain(NamedTuple):
    """x_t = F_t x_(t-1) + root_Q_t e_t with e_t standard normal, f_t = h' x_t for each component.

    The first transition has F = 0 and root_Q = the root of the first state's covariance, so that every level is treated
    alike. F and root_Q are block diagonal over the components and are stored as their blocks.
    """

    F: Float[Array, "T R S S"]
    root_Q: Float[Array, "T R S S"]
    emission: Float[Array, "S"]

    @property
    def rank(self) -> int:
        """R, the number of components."""
        return self.F.shape[1]


def discretise(kernel: AbstractKernel, points: Float[Array, "T"]) -> Chain:
    """The chain of a kernel's states at ascending points; repeated points are steps of length zero."""
    F, root_Q = jax.vmap(kernel.transition)(points[:-1], jnp.diff(points))
    root = kernel.state_root(points[0])[None]
    return Chain(
        jnp.concatenate([jnp.zeros_like(root), F]),
        jnp.concatenate([root, root_Q]),
        jnp.asarray(kernel.emission(), dtype=points.dtype),
    )


def apply_blocks(blocks: Float[Array, "R S S"], matrix: Float[Array, "n k"]) -> Float[Array, "n k"]:
    """Block-diagonal matrix times a matrix, n = R S."""
    R, S, _ = blocks.shape
    return jnp.einsum("rij,rjk->rik", blocks, matrix.reshape(R, S, -1)).reshape(R * S, -1)


def blocks_of_product(a: Float[Array, "T n m"], b: Float[Array, "T m n"], S: int) -> Float[Array, "T R S S"]:
    """The S x S blocks on the diagonal of matrix products, n = R S."""
    T, n, m = a.shape
    return jnp.einsum("trik,tkrj->trij", a.reshape(T, -1, S, m), b.reshape(T, m, -1, S))


def lift(eta: Float[Array, "R"], precision: Float[Array, "R R"], emission: Float[Array, "S"]) -> tuple[Array, Array]:
    """A site on the function values as a site on the states: eta kron h and precision kron h h'."""
    return jnp.kron(eta, emission), jnp.kron(precision, jnp.outer(emission, emission))


def emit(chain: Chain, states: Float[Array, "... n"]) -> Float[Array, "... R"]:
    """Function values of states, n = R S."""
    return jnp.einsum("...rs,s->...r", states.reshape(*states.shape[:-1], chain.rank, -1), chain.emission)
