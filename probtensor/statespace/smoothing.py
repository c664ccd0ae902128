"""Smoothing in two passes: an information filter backward, then the posterior's own chain forward.

The backward pass carries exp(eta' x - x' precision x / 2), the likelihood of all later sites as a function of the
state. It is well defined without data (zero), never inverts a site or a process noise, and yields the posterior as
another Markov chain, whose innovations it gives. Marginals and draws are that chain run forward: sums of
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
    """The posterior as a Markov chain: x_t = F_t x_(t-1) + root_Q_t (U_t x_(t-1) + c_t) + factor_t e_t, n = R S.

    The bracket is the expectation of the innovation, which is standard normal under the prior; half_log_det is that of
    its precision.
    """

    U: Float[Array, "T n n"]
    c: Float[Array, "T n"]
    factor: Float[Array, "T n n"]
    half_log_det: Float[Array, "T"]


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
    c = solve_triangular(conditioned.chol_B, factor.T @ eta, lower=True, trans=1)
    reduced = keep.T @ precision @ keep + U.T @ U
    blocks = jnp.swapaxes(F, -1, -2)
    carried = apply_blocks(blocks, apply_blocks(blocks, reduced).T)
    carried_U = apply_blocks(blocks, U.T).T
    before = _Message(
        apply_blocks(blocks, (keep.T @ eta)[:, None])[:, 0],
        0.5 * (carried + carried.T),
        log_normaliser + conditioned.log_normaliser,
    )
    return before, (-carried_U, c, factor, 0.5 * conditioned.log_det)


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


class Smoothed(NamedTuple):
    """Posterior means and covariances of the R function values at every level, and the mean's distance from the prior.

    energy: m' K^-1 m for the prior covariance K of all states and their posterior mean m.
    """

    mean: Float[Array, "T R"]
    cov: Float[Array, "T R R"]
    energy: Float[Array, ""]


def marginals(chain: Chain, posterior: PosteriorChain) -> Smoothed:
    """The posterior chain run forward."""

    def step(carry: tuple, inputs: tuple) -> tuple[tuple, tuple]:
        m, P = carry
        F, root_Q, (U, c, factor, _) = inputs
        innovation = U @ m + c
        m = (apply_blocks(F, m[:, None]) + apply_blocks(root_Q, innovation[:, None]))[:, 0]
        A = _transition(F, root_Q, U)
        P = A @ P @ A.T + factor @ factor.T
        return (m, P), (emit(chain, m), emit(chain, emit(chain, P).T), jnp.sum(innovation**2))

    n = posterior.c.shape[1]
    zero = (jnp.zeros(n, posterior.c.dtype), jnp.zeros((n, n), posterior.c.dtype))
    mean, cov, energy = jax.lax.scan(step, zero, (chain.F, chain.root_Q, posterior))[1]
    return Smoothed(mean, cov, jnp.sum(energy))


def _transition(F: Float[Array, "R S S"], root_Q: Float[Array, "R S S"], U: Float[Array, "n n"]) -> Float[Array, "n n"]:
    return apply_blocks(F, jnp.eye(U.shape[0], dtype=U.dtype)) + apply_blocks(root_Q, U)


def draw(chain: Chain, posterior: PosteriorChain, key: Key, number: int) -> Float[Array, "number T R"]:
    """Joint draws of the function values at all levels."""
    T, n = posterior.c.shape
    noise = jax.random.normal(key, (T, number, n), posterior.c.dtype)

    def step(x: Float[Array, "number n"], inputs: tuple) -> tuple[Array, Array]:
        F, root_Q, (U, c, factor, _), e = inputs
        shift = apply_blocks(root_Q, c[:, None])[:, 0]
        x = x @ _transition(F, root_Q, U).T + shift[None] + e @ factor.T
        return x, emit(chain, x)

    start = jnp.zeros((number, n), noise.dtype)
    values = jax.lax.scan(step, start, (chain.F, chain.root_Q, posterior, noise))[1]
    return jnp.swapaxes(values, 0, 1)
