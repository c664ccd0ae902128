"""Smoothing in two passes: an information filter backward, then the posterior's own chain forward.

The backward pass carries exp(eta' x - x' precision x / 2), the likelihood of all later sites as a function of the
state. It is well defined without data (zero), never inverts a site or a process noise, and yields the posterior as
another Markov chain, whose innovations it gives. Marginals and draws are that chain run forward: sums of
positive semi-definite terms, hence safe in 32 bits. In 64 bits posteriors at the levels are found in a third of the
arithmetic (`adjoint`). Cost O(T (R S)^3), memory O(T (R S)^2).

On a processor levels come one after the other, on an accelerator all at once in O(log T) steps (`sequential`,
`parallel`); both give the same but for rounding.

What the passes hold also gives the log-normaliser's gradient, as expectations under the posterior: nothing is run a
third time.

Source: Fraser and Potter 1969 (backward information filter); the update is Bierman's, via B = I + root_Q' P root_Q;
the gradient is Fisher's identity (Cappe, Moulines and Ryden 2005, section 10.1), for innovations in place of states.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from probtensor.compilation import on_accelerator
from probtensor.statespace import adjoint, parallel, sequential
from probtensor.statespace.chain import Chain, apply_blocks, blocks_of_product, emit
from probtensor.statespace.passes import Message, Path, PosteriorChain
from probtensor.typing import Array, Float, Key


def _passes() -> ModuleType:
    """How levels are visited where programs run."""
    return parallel if on_accelerator() else sequential


def posterior_chain(chain: Chain, eta: Float[Array, "T R"], precision: Float[Array, "T R R"]) -> PosteriorChain:
    """The posterior as a Markov chain."""
    return _passes().backward(chain, eta, precision)[1]


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


class _Kept(NamedTuple):
    """What a posterior by the posterior's chain keeps for the gradient."""

    U: Float[Array, "T n n"]
    messages: Message
    path: Path


class _KeptAdjoint(NamedTuple):
    """What a posterior by the filter and its adjoint keeps for the gradient."""

    means: adjoint.Means
    filtered: adjoint.Filtered
    second: adjoint.Adjoint


def _smooth(chain: Chain, eta: Float[Array, "T R"], precision: Float[Array, "T R R"]) -> tuple[Smoothed, _Kept]:
    """By the posterior's chain: covariances are sums of positive semi-definite terms."""
    value, posterior, messages = _passes().backward(chain, eta, precision)
    path = _passes().forward(chain, posterior)
    cov = emit(chain, jnp.swapaxes(emit(chain, path.cov), -1, -2))
    log_det = jnp.sum(posterior.log_det)
    smoothed = Smoothed(emit(chain, path.mean), cov, jnp.sum(path.innovation**2), log_det, value)
    return smoothed, _Kept(posterior.U, messages, path)


def _smooth_by_adjoint(
    chain: Chain, eta: Float[Array, "T R"], precision: Float[Array, "T R R"]
) -> tuple[Smoothed, _KeptAdjoint]:
    """By a filter and its adjoint: about a third of the arithmetic."""
    sites = adjoint.whitened(eta, precision)
    filtered = adjoint.filter_covariances(chain, sites.root)
    second = adjoint.adjoint_covariances(chain, filtered)
    means = adjoint.smooth_means(chain, sites, filtered)
    energy, log_det = jnp.sum(adjoint.innovations(chain, means) ** 2), jnp.sum(filtered.log_det)
    value = 0.5 * (jnp.sum(eta * means.functions) - log_det)
    return Smoothed(means.functions, second.cov, energy, log_det, value), _KeptAdjoint(means, filtered, second)


@jax.custom_vjp
def smooth(chain: Chain, eta: Float[Array, "T R"], precision: Float[Array, "T R R"]) -> Smoothed:
    """Both passes. Of what they give, the log-normaliser can be differentiated, in reverse and at little cost.

    Raises TypeError for a derivative of anything else.
    """
    return (_smooth_by_adjoint if by_adjoint(eta) else _smooth)(chain, eta, precision)[0]


def smooth_for_derivatives(
    chain: Chain, eta: Float[Array, "T R"], precision: Float[Array, "T R R"]
) -> tuple[Float[Array, "T R"], Float[Array, "T R R"]]:
    """Means and covariances of `smooth`, which can be differentiated by all that they depend on."""
    return _smooth(chain, eta, precision)[0][:2]


def by_adjoint(eta: Float[Array, "T R"]) -> bool:
    """Whether there are digits for the filter's differences, and levels come one after the other."""
    return eta.dtype == jnp.float64 and not on_accelerator()


def _smooth_for_slopes(*given: Any) -> tuple[Smoothed, tuple[Any, ...]]:
    chain, eta, precision = jax.tree.map(lambda leaf: leaf.value, given)
    # Emissions are constants of the kernels; the adjoint knows no derivative by them.
    fast = by_adjoint(eta) and not given[0].emission.perturbed
    smoothed, kept = (_smooth_by_adjoint if fast else _smooth)(chain, eta, precision)
    return smoothed, (chain, eta, precision, smoothed, kept)


def _slopes(kept: tuple[Any, ...], cotangents: Smoothed) -> tuple[Chain, Array, Array]:
    """The log-normaliser's derivatives."""
    if not all(isinstance(leaf, SymbolicZero) for leaf in cotangents[:-1]):
        raise TypeError("only the log-normaliser of a state-space posterior has derivatives")
    chain, eta, precision, smoothed, passes = kept
    if isinstance(passes, _KeptAdjoint):
        by_F, by_root = adjoint.chain_slopes(chain, passes.means, passes.filtered, passes.second.curvature)
        by_chain = Chain(by_F, by_root, jnp.zeros_like(chain.emission))
    else:
        by_chain = Chain(*_chain_slopes(chain, passes), _emission_slopes(chain, eta, precision, smoothed, passes.path))
    by_precision = -0.5 * (smoothed.cov + smoothed.mean[:, :, None] * smoothed.mean[:, None, :])
    found = by_chain, smoothed.mean, by_precision
    return jax.tree.map(lambda slope: cotangents.log_normaliser * slope, found)


def _emission_slopes(
    chain: Chain, eta: Float[Array, "T R"], precision: Float[Array, "T R R"], smoothed: Smoothed, path: Path
) -> Float[Array, "S"]:
    S = chain.emission.shape[0]
    left = eta - jnp.einsum("trq,tq->tr", precision, smoothed.mean)
    states = path.mean.reshape(*smoothed.mean.shape, S)
    covs = emit(chain, jnp.swapaxes(path.cov, -1, -2)).swapaxes(-1, -2).reshape(*precision.shape, S)
    return jnp.einsum("tr,trs->s", left, states) - jnp.einsum("trq,tqrs->s", precision, covs)


def _chain_slopes(chain: Chain, kept: _Kept) -> tuple[Array, Array]:
    """Those by transitions and roots of their noise: expectations of the product's derivatives along the paths.

    With the message (h, M) about y_t = F_t x_(t-1), the derivative of the sites' product by y_t is h - M y_t.
    """
    U, messages, path = kept
    S = chain.emission.shape[0]
    m, P = (jnp.concatenate([jnp.zeros_like(x[:1]), x[:-1]]) for x in path[:2])
    y = jax.vmap(apply_blocks)(chain.F, m[..., None])[..., 0]
    cross = jax.vmap(apply_blocks)(chain.F, P)
    spread = jax.vmap(apply_blocks)(chain.F, jnp.swapaxes(cross, -1, -2))
    toward = messages.eta - jnp.einsum("tij,tj->ti", messages.precision, y)
    by_F = _outer(toward, m, S) - blocks_of_product(messages.precision, cross, S)
    carried = messages.precision @ spread - jnp.eye(m.shape[1], dtype=m.dtype)
    return by_F, _outer(toward, path.innovation, S) + blocks_of_product(carried, jnp.swapaxes(U, -1, -2), S)


smooth.defvjp(_smooth_for_slopes, _slopes, symbolic_zeros=True)


def _outer(a: Float[Array, "T n"], b: Float[Array, "T n"], S: int) -> Float[Array, "T R S S"]:
    """Diagonal blocks of outer products."""
    a, b = (x.reshape(x.shape[0], -1, S) for x in (a, b))
    return a[..., :, None] * b[..., None, :]


def draw(chain: Chain, posterior: PosteriorChain, key: Key, number: int) -> Float[Array, "number T R"]:
    """Joint draws of the function values at all levels."""
    T, n = posterior.c.shape
    noise = jax.random.normal(key, (T, number, n), posterior.c.dtype)
    return jnp.swapaxes(_passes().walk(chain, posterior, noise), 0, 1)


def run(chain: Chain, innovations: Float[Array, "T R S"]) -> Float[Array, "T R"]:
    """The function values of a chain driven by these innovations; white noise gives draws of the prior."""
    return _passes().run(chain, innovations)
