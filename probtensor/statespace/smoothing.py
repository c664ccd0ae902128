"""Smoothing in two passes: an information filter backward, then the posterior's own chain forward.

The backward pass carries exp(eta' x - x' precision x / 2), the likelihood of all later sites as a function of the
state. It is well defined without data (zero), never inverts a site or a process noise, and yields the posterior as
another Markov chain, x_t = A_t x_(t-1) + c_t + factor_t e_t. Marginals and draws are that chain run forward: sums of
positive semi-definite terms, hence safe in 32 bits. Cost O(T (R S)^3), memory O(T (R S)^2).

Source: Fraser and Potter 1969 (backward information filter); the update is Bierman's, via B = I + root_Q' P root_Q.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

from probtensor.linalg.gaussian import condition
from probtensor.statespace.chain import Chain, apply_blocks, emit, lift
from probtensor.typing import Array, Float, Key


class PosteriorChain(NamedTuple):
    """The posterior as a Markov chain: x_t = A_t x_(t-1) + c_t + factor_t e_t, n = R S."""

    A: Float[Array, "T n n"]
    c: Float[Array, "T n"]
    factor: Float[Array, "T n n"]


class _Message(NamedTuple):
    eta: Float[Array, "n"]
    precision: Float[Array, "n n"]
    log_normaliser: Float[Array, ""]


def _absorb(message: _Message, F: Float[Array, "R S S"], root_Q: Float[Array, "R S S"]) -> tuple[_Message, tuple]:
    """Passes a message backward through one transition; also gives the conditional of the later state."""
    eta, precision, log_normaliser = message
    R, S, _ = root_Q.shape
    n = R * S
    transposed = jnp.swapaxes(root_Q, -1, -2)
    half = apply_blocks(transposed, precision)
    inner = apply_blocks(transposed, half.T)
    root = apply_blocks(root_Q, jnp.eye(n, dtype=eta.dtype))
    conditioned = condition(root, eta, 0.5 * (inner + inner.T))
    factor = conditioned.factor
    weighted = factor.T @ precision
    keep = jnp.eye(n, dtype=eta.dtype) - factor @ weighted
    # (precision^-1 + Q)^-1 without cancellation: keep' precision keep + U' U, in the manner of Joseph.
    U = solve_triangular(conditioned.chol_B, weighted, lower=True, trans=1)
    reduced = keep.T @ precision @ keep + U.T @ U
    blocks = jnp.swapaxes(F, -1, -2)
    carried = apply_blocks(blocks, apply_blocks(blocks, reduced).T)
    A = apply_blocks(blocks, keep.T).T
    before = _Message(
        apply_blocks(blocks, (keep.T @ eta)[:, None])[:, 0],
        0.5 * (carried + carried.T),
        log_normaliser + conditioned.log_normaliser,
    )
    return before, (A, factor @ (factor.T @ eta), factor)


def _backward(
    chain: Chain, eta: Float[Array, "T R"], precision: Float[Array, "T R R"], keep_chain: bool
) -> tuple[Float[Array, ""], PosteriorChain | None]:
    def step(message: _Message, inputs: tuple) -> tuple[_Message, tuple | None]:
        F, root_Q, site_eta, site_precision = inputs
        lifted_eta, lifted_precision = lift(site_eta, site_precision, chain.emission)
        here = _Message(message.eta + lifted_eta, message.precision + lifted_precision, message.log_normaliser)
        before, conditional = _absorb(here, F, root_Q)
        return before, conditional if keep_chain else None

    n = chain.rank * chain.emission.shape[0]
    dtype = eta.dtype
    empty = _Message(jnp.zeros(n, dtype), jnp.zeros((n, n), dtype), jnp.zeros((), dtype))
    last, conditionals = jax.lax.scan(step, empty, (chain.F, chain.root_Q, eta, precision), reverse=True)
    return last.log_normaliser, None if conditionals is None else PosteriorChain(*conditionals)


def log_normaliser(chain: Chain, eta: Float[Array, "T R"], precision: Float[Array, "T R R"]) -> Float[Array, ""]:
    """Log of the prior expectation of the sites' product, exp(sum_t eta_t' f_t - f_t' precision_t f_t / 2)."""
    return _backward(chain, eta, precision, keep_chain=False)[0]


def posterior_chain(
    chain: Chain, eta: Float[Array, "T R"], precision: Float[Array, "T R R"]
) -> tuple[Float[Array, ""], PosteriorChain]:
    """The log-normaliser and the posterior as a Markov chain."""
    value, posterior = _backward(chain, eta, precision, keep_chain=True)
    assert posterior is not None
    return value, posterior


def marginals(chain: Chain, posterior: PosteriorChain) -> tuple[Float[Array, "T R"], Float[Array, "T R R"]]:
    """Posterior means and covariances of the R function values at every level."""

    def step(carry: tuple, inputs: tuple) -> tuple[tuple, tuple]:
        m, P = carry
        A, c, factor = inputs
        m, P = A @ m + c, A @ P @ A.T + factor @ factor.T
        values = emit(chain, P)
        return (m, P), (emit(chain, m), emit(chain, values.T))

    n = posterior.c.shape[1]
    zero = (jnp.zeros(n, posterior.c.dtype), jnp.zeros((n, n), posterior.c.dtype))
    return jax.lax.scan(step, zero, posterior)[1]


def draw(chain: Chain, posterior: PosteriorChain, key: Key, number: int) -> Float[Array, "number T R"]:
    """Joint draws of the function values at all levels."""
    T, n = posterior.c.shape
    noise = jax.random.normal(key, (T, number, n), posterior.c.dtype)

    def step(x: Float[Array, "number n"], inputs: tuple) -> tuple[Array, Array]:
        A, c, factor, e = inputs
        x = x @ A.T + c[None] + e @ factor.T
        return x, emit(chain, x)

    values = jax.lax.scan(step, jnp.zeros((number, n), noise.dtype), (*posterior, noise))[1]
    return jnp.swapaxes(values, 0, 1)
