"""What both passes of a smoother do at one level, whatever the order in which levels are visited."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

from probtensor.linalg.gaussian import condition
from probtensor.statespace.chain import apply_blocks
from probtensor.typing import Array, Float


class PosteriorChain(NamedTuple):
    """The posterior as a Markov chain: x_t = y + root_Q_t (c_t - U_t y) + factor_t e_t with y = F_t x_(t-1), n = R S.

    The bracket is the expectation of the innovation, which is standard normal under the prior; log_det is that of its
    precision.
    """

    U: Float[Array, "T n n"]
    c: Float[Array, "T n"]
    factor: Float[Array, "T n n"]
    log_det: Float[Array, "T"]


class Message(NamedTuple):
    """The likelihood of later sites, exp(eta' x - x' precision x / 2 + log_normaliser), as a function of a state x."""

    eta: Float[Array, "... n"]
    precision: Float[Array, "... n n"]
    log_normaliser: Float[Array, "..."]


def absorb(here: Message, root_Q: Float[Array, "R S S"]) -> tuple[Message, PosteriorChain]:
    """A message about a state as one about the state without its process noise; and the state given that."""
    eta, precision, log_normaliser = here
    R, S, _ = root_Q.shape
    n = R * S
    transposed = jnp.swapaxes(root_Q, -1, -2)
    inner = apply_blocks(transposed, apply_blocks(transposed, precision).T)
    root = apply_blocks(root_Q, jnp.eye(n, dtype=eta.dtype))
    conditioned = condition(root, eta, 0.5 * (inner + inner.T))
    factor = conditioned.factor
    weighted = factor.T @ precision
    keep = jnp.eye(n, dtype=eta.dtype) - factor @ weighted
    # (precision^-1 + Q)^-1 without cancellation: keep' precision keep + U' U, in the manner of Joseph.
    right = jnp.concatenate([weighted, (factor.T @ eta)[:, None]], axis=1)
    solved = solve_triangular(conditioned.chol_B, right, lower=True, trans=1)
    U, c = solved[:, :n], solved[:, n]
    reduced = keep.T @ precision @ keep + U.T @ U
    before = Message(keep.T @ eta, 0.5 * (reduced + reduced.T), log_normaliser + conditioned.log_normaliser)
    return before, PosteriorChain(U, c, factor, conditioned.log_det)


def carry(message: Message, F: Float[Array, "R S S"]) -> Message:
    """A message about F x as one about x."""
    blocks = jnp.swapaxes(F, -1, -2)
    carried = apply_blocks(blocks, apply_blocks(blocks, message.precision).T)
    eta = apply_blocks(blocks, message.eta[:, None])[:, 0]
    return Message(eta, 0.5 * (carried + carried.T), message.log_normaliser)


class Path(NamedTuple):
    """Means and covariances of the states, and means of their innovations."""

    mean: Float[Array, "T n"]
    cov: Float[Array, "T n n"]
    innovation: Float[Array, "T n"]


def transition(F: Float[Array, "R S S"], root_Q: Float[Array, "R S S"], U: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """The matrix that takes one state to the next under the posterior."""
    dense = apply_blocks(F, jnp.eye(U.shape[0], dtype=U.dtype))
    return dense - apply_blocks(root_Q, U @ dense)
