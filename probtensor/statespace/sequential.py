"""One level after the other: the least arithmetic, and the way on a processor."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from probtensor.statespace.chain import Chain, apply_blocks, emit, lift
from probtensor.statespace.passes import Message, Path, PosteriorChain, absorb, carry, transition
from probtensor.typing import Array, Float


def backward(
    chain: Chain, eta: Float[Array, "T R"], precision: Float[Array, "T R R"]
) -> tuple[Float[Array, ""], PosteriorChain, Message]:
    """The log-normaliser, the posterior's chain, and the messages about each F_t x_(t-1)."""

    def step(message: Message, inputs: tuple[Any, ...]) -> tuple[Message, tuple[PosteriorChain, Message]]:
        F, root_Q, site_eta, site_precision = inputs
        lifted_eta, lifted_precision = lift(site_eta, site_precision, chain.emission)
        here = Message(message.eta + lifted_eta, message.precision + lifted_precision, message.log_normaliser)
        before, conditional = absorb(here, root_Q)
        return carry(before, F), (conditional, before)

    n = chain.rank * chain.emission.shape[0]
    dtype = eta.dtype
    empty = Message(jnp.zeros(n, dtype), jnp.zeros((n, n), dtype), jnp.zeros((), dtype))
    last, kept = jax.lax.scan(step, empty, (chain.F, chain.root_Q, eta, precision), reverse=True)
    return last.log_normaliser, *kept


def forward(chain: Chain, posterior: PosteriorChain) -> Path:
    """Means and covariances along the posterior's chain."""

    def step(before: tuple[Array, Array], inputs: tuple[Any, ...]) -> tuple[tuple[Array, Array], Path]:
        m, P = before
        F, root_Q, (U, c, factor, _) = inputs
        y = apply_blocks(F, m[:, None])[:, 0]
        innovation = c - U @ y
        m = y + apply_blocks(root_Q, innovation[:, None])[:, 0]
        A = transition(F, root_Q, U)
        P = A @ P @ A.T + factor @ factor.T
        return (m, P), Path(m, P, innovation)

    n = posterior.c.shape[1]
    zero = (jnp.zeros(n, posterior.c.dtype), jnp.zeros((n, n), posterior.c.dtype))
    return jax.lax.scan(step, zero, (chain.F, chain.root_Q, posterior))[1]


def walk(chain: Chain, posterior: PosteriorChain, noise: Float[Array, "T number n"]) -> Float[Array, "T number R"]:
    """Function values along the posterior's chain, driven by this noise."""

    def step(x: Float[Array, "number n"], inputs: tuple[Any, ...]) -> tuple[Array, Array]:
        F, root_Q, (U, c, factor, _), e = inputs
        shift = apply_blocks(root_Q, c[:, None])[:, 0]
        x = x @ transition(F, root_Q, U).T + shift[None] + e @ factor.T
        return x, emit(chain, x)

    start = jnp.zeros(noise.shape[1:], noise.dtype)
    return jax.lax.scan(step, start, (chain.F, chain.root_Q, posterior, noise))[1]


def run(chain: Chain, innovations: Float[Array, "T R S"]) -> Float[Array, "T R"]:
    """The function values of a chain driven by these innovations."""

    def step(x: Float[Array, "R S"], inputs: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        F, root_Q, e = inputs
        x = jnp.einsum("rij,rj->ri", F, x) + jnp.einsum("rij,rj->ri", root_Q, e)
        return x, x @ chain.emission

    start = jnp.zeros(innovations.shape[1:], innovations.dtype)
    return jax.lax.scan(step, start, (chain.F, chain.root_Q, innovations))[1]
