"""Smoothing in two passes: an information filter backward, then the posterior's own chain forward.

The backward pass carries exp(eta' x - x' precision x / 2), the likelihood of all later sites as a function of the
state. It is well defined without data (zero), never inverts a site or a process noise, and yields the posterior as
another Markov chain, whose innovations it gives. Marginals and draws are that chain run forward: sums of
positive semi-definite terms, hence safe in 32 bits. Cost O(T (R S)^3), memory O(T (R S)^2).

What the passes hold also gives the log-normaliser's gradient, as expectations under the posterior: nothing is run a
third time.

Source: Fraser and Potter 1969 (backward information filter); the update is Bierman's, via B = I + root_Q' P root_Q;
the gradient is Fisher's identity (Cappe, Moulines and Ryden 2005, section 10.1), for innovations in place of states.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.scipy.linalg import solve_triangular

from probtensor.linalg.gaussian import condition
from probtensor.statespace.chain import Chain, apply_blocks, blocks_of_product, emit, lift
from probtensor.typing import Array, Float, Key


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


def _absorb(here: Message, root_Q: Float[Array, "R S S"]) -> tuple[Message, PosteriorChain]:
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


def _carry(message: Message, F: Float[Array, "R S S"]) -> Message:
    """A message about F x as one about x."""
    blocks = jnp.swapaxes(F, -1, -2)
    carried = apply_blocks(blocks, apply_blocks(blocks, message.precision).T)
    eta = apply_blocks(blocks, message.eta[:, None])[:, 0]
    return Message(eta, 0.5 * (carried + carried.T), message.log_normaliser)


def _backward(
    chain: Chain, eta: Float[Array, "T R"], precision: Float[Array, "T R R"]
) -> tuple[Float[Array, ""], PosteriorChain, Message]:
    """The log-normaliser, the posterior's chain, and the messages about each F_t x_(t-1)."""

    def step(message: Message, inputs: tuple) -> tuple[Message, tuple[PosteriorChain, Message]]:
        F, root_Q, site_eta, site_precision = inputs
        lifted_eta, lifted_precision = lift(site_eta, site_precision, chain.emission)
        here = Message(message.eta + lifted_eta, message.precision + lifted_precision, message.log_normaliser)
        before, conditional = _absorb(here, root_Q)
        return _carry(before, F), (conditional, before)

    n = chain.rank * chain.emission.shape[0]
    dtype = eta.dtype
    empty = Message(jnp.zeros(n, dtype), jnp.zeros((n, n), dtype), jnp.zeros((), dtype))
    last, kept = jax.lax.scan(step, empty, (chain.F, chain.root_Q, eta, precision), reverse=True)
    return last.log_normaliser, *kept


def posterior_chain(chain: Chain, eta: Float[Array, "T R"], precision: Float[Array, "T R R"]) -> PosteriorChain:
    """The posterior as a Markov chain."""
    return _backward(chain, eta, precision)[1]


class Smoothed(NamedTuple):
    """The posterior of the R function values at every level, and what it says of prior and sites.

    Attributes:
        mean: posterior means.
        cov: posterior covariances.
        energy: m' K^-1 m for the prior covariance K of all states and their posterior mean m.
        log_det: log det(I + K P) for the precision P of all sites.
        log_normaliser: log of the prior expectation of the sites' product, exp(sum_t eta_t' f_t - f_t' P_t f_t / 2).
    """

    mean: Float[Array, "T R"]
    cov: Float[Array, "T R R"]
    energy: Float[Array, ""]
    log_det: Float[Array, ""]
    log_normaliser: Float[Array, ""]


class _Path(NamedTuple):
    """Means and covariances of the states, and means of their innovations."""

    mean: Float[Array, "T n"]
    cov: Float[Array, "T n n"]
    innovation: Float[Array, "T n"]


def _forward(chain: Chain, posterior: PosteriorChain) -> _Path:
    def step(before: tuple[Array, Array], inputs: tuple) -> tuple[tuple[Array, Array], _Path]:
        m, P = before
        F, root_Q, (U, c, factor, _) = inputs
        y = apply_blocks(F, m[:, None])[:, 0]
        innovation = c - U @ y
        m = y + apply_blocks(root_Q, innovation[:, None])[:, 0]
        A = _transition(F, root_Q, U)
        P = A @ P @ A.T + factor @ factor.T
        return (m, P), _Path(m, P, innovation)

    n = posterior.c.shape[1]
    zero = (jnp.zeros(n, posterior.c.dtype), jnp.zeros((n, n), posterior.c.dtype))
    return jax.lax.scan(step, zero, (chain.F, chain.root_Q, posterior))[1]


def _transition(F: Float[Array, "R S S"], root_Q: Float[Array, "R S S"], U: Float[Array, "n n"]) -> Float[Array, "n n"]:
    dense = apply_blocks(F, jnp.eye(U.shape[0], dtype=U.dtype))
    return dense - apply_blocks(root_Q, U @ dense)


def _smooth(chain: Chain, eta: Float[Array, "T R"], precision: Float[Array, "T R R"]) -> tuple[Smoothed, tuple]:
    value, posterior, messages = _backward(chain, eta, precision)
    path = _forward(chain, posterior)
    cov = emit(chain, jnp.swapaxes(emit(chain, path.cov), -1, -2))
    log_det = jnp.sum(posterior.log_det)
    smoothed = Smoothed(emit(chain, path.mean), cov, jnp.sum(path.innovation**2), log_det, value)
    return smoothed, (posterior.U, messages, path)


@jax.custom_vjp
def smooth(chain: Chain, eta: Float[Array, "T R"], precision: Float[Array, "T R R"]) -> Smoothed:
    """Both passes. Of what they give, the log-normaliser can be differentiated, in reverse and at little cost.

    Raises TypeError for a derivative of anything else.
    """
    return _smooth(chain, eta, precision)[0]


def smooth_for_derivatives(
    chain: Chain, eta: Float[Array, "T R"], precision: Float[Array, "T R R"]
) -> tuple[Float[Array, "T R"], Float[Array, "T R R"]]:
    """Means and covariances of `smooth`, which can be differentiated by all that they depend on."""
    return _smooth(chain, eta, precision)[0][:2]


def _smooth_for_slopes(*given: Any) -> tuple[Smoothed, tuple]:
    chain, eta, precision = jax.tree.map(lambda leaf: leaf.value, given)
    smoothed, kept = _smooth(chain, eta, precision)
    return smoothed, (chain, eta, precision, smoothed, kept)


def _slopes(kept: tuple, cotangents: Smoothed) -> tuple[Chain, Array, Array]:
    """The log-normaliser's derivatives: expectations of those of the sites' product along the posterior's paths.

    With the message (h, M) about y_t = F_t x_(t-1), the product's derivative with respect to y_t is h - M y_t.
    """
    if not all(isinstance(leaf, SymbolicZero) for leaf in cotangents[:-1]):
        raise TypeError("only the log-normaliser of a state-space posterior has derivatives")
    chain, eta, precision, smoothed, (U, messages, path) = kept
    S = chain.emission.shape[0]
    m, P = (jnp.concatenate([jnp.zeros_like(x[:1]), x[:-1]]) for x in path[:2])
    y = jax.vmap(apply_blocks)(chain.F, m[..., None])[..., 0]
    cross = jax.vmap(apply_blocks)(chain.F, P)
    spread = jax.vmap(apply_blocks)(chain.F, jnp.swapaxes(cross, -1, -2))
    toward = messages.eta - jnp.einsum("tij,tj->ti", messages.precision, y)
    by_F = _outer(toward, m, S) - blocks_of_product(messages.precision, cross, S)
    carried = messages.precision @ spread - jnp.eye(m.shape[1], dtype=m.dtype)
    by_root = _outer(toward, path.innovation, S) + blocks_of_product(carried, jnp.swapaxes(U, -1, -2), S)
    left = eta - jnp.einsum("trq,tq->tr", precision, smoothed.mean)
    states = path.mean.reshape(*smoothed.mean.shape, S)
    covs = emit(chain, jnp.swapaxes(path.cov, -1, -2)).swapaxes(-1, -2).reshape(*precision.shape, S)
    by_emission = jnp.einsum("tr,trs->s", left, states) - jnp.einsum("trq,tqrs->s", precision, covs)
    by_precision = -0.5 * (smoothed.cov + smoothed.mean[:, :, None] * smoothed.mean[:, None, :])
    found = Chain(by_F, by_root, by_emission), smoothed.mean, by_precision
    return jax.tree.map(lambda slope: cotangents.log_normaliser * slope, found)


smooth.defvjp(_smooth_for_slopes, _slopes, symbolic_zeros=True)


def _outer(a: Float[Array, "T n"], b: Float[Array, "T n"], S: int) -> Float[Array, "T R S S"]:
    """Diagonal blocks of outer products."""
    a, b = (x.reshape(x.shape[0], -1, S) for x in (a, b))
    return a[..., :, None] * b[..., None, :]


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
