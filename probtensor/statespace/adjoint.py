"""Smoothing by a covariance filter forward and its adjoint backward: the least arithmetic, for 64 bits.

Noise and transition of a state are blocks, one for each function, and a site sees R numbers of the R S states. So the
filter moves covariances by blocks and updates them by R x R systems, and the backward pass solves nothing: it carries
the first two derivatives of the log-normaliser with respect to what the filter predicts, from which both the posterior
and the gradient follow. Posterior covariances are then the filter's less what later levels say: sure where a level has
data, but without digits where one without any comes before very sharp ones. There, and nothing is read there but by
people, a variance is at least a millionth of the filter's.

Here a state is all functions' values, then all their slopes, and so on (n = S R). A block-diagonal matrix is then S x S
vectors over functions, and multiplies in arithmetic on whole vectors.

Source: Bierman 1973, Fixed interval smoothing with discrete measurements (the modified Bryson-Frazier smoother), with
sites in natural parameters and the filter's update in Joseph's form.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

from probtensor.linalg.gaussian import cholesky_above_identity, cholesky_of_sites
from probtensor.linalg.small import one_by_one
from probtensor.statespace.chain import Chain
from probtensor.typing import Array, Float

#: Where a site tells so many times more than earlier levels, a difference would lose half of the digits.
_SHARP = 1e8
#: Less than this share of the filter's variance is a difference that rounding may have made.
_LEAST = 1e-6
#: Up to so many states of a function, products with blocks on both sides are one expression.
_FEW = 3


class Filtered(NamedTuple):
    """What earlier levels and its own site say of the state at a level, n = S R.

    Attributes:
        cov: of the state.
        seen: covariance of the R functions with the state before the site.
        information: of the site and the state before it about the functions' values, (S + W^-1)^-1.
        whole: that from whitened residuals: information = whole' root' for the root of the site's precision.
        log_det: log det(I + S W).
    """

    cov: Float[Array, "T n n"]
    seen: Float[Array, "T R n"]
    information: Float[Array, "T R R"]
    whole: Float[Array, "T R R"]
    log_det: Float[Array, "T"]


class Whitened(NamedTuple):
    """Sites as standard normal residuals target - root' f, where eta = root target and precision = root root'."""

    root: Float[Array, "T R R"]
    target: Float[Array, "T R"]


def whitened(eta: Float[Array, "T R"], precision: Float[Array, "T R R"]) -> Whitened:
    """Of sites that may be singular or empty."""
    if eta.shape[1] == 1:
        root = jnp.sqrt(jnp.maximum(precision, jnp.finfo(eta.dtype).tiny))
        return Whitened(root, eta / root[..., 0])

    def one(eta: Float[Array, "R"], precision: Float[Array, "R R"]) -> Whitened:
        root = cholesky_of_sites(precision)
        return Whitened(root, solve_triangular(root, eta, lower=True))

    return Whitened(*one_by_one(one, eta, precision))


def filter_covariances(chain: Chain, root: Float[Array, "T R R"]) -> Filtered:
    """The forward pass, which needs nothing of the sites but their precisions."""
    F, root_Q = _vectors(chain.F), _vectors(chain.root_Q)
    Q = jnp.sum(root_Q[:, :, None] * root_Q[:, None, :], axis=3)
    S, R = F.shape[2:]
    n, own = S * R, jnp.eye(R, dtype=Q.dtype)

    def step(cov: Float[Array, "n n"], inputs: tuple[Any, ...]) -> tuple[Array, Filtered]:
        F, Q, root = inputs
        noise = jnp.swapaxes(Q, 1, 2)[..., None] * own[None, :, None]
        found = _observed(_moved(F, cov) + noise.reshape(n, n), root, chain.emission)
        return found.cov, found

    return jax.lax.scan(step, jnp.zeros((n, n), Q.dtype), (F, Q, root))[1]


def _observed(cov: Float[Array, "n n"], root: Float[Array, "R R"], emission: Float[Array, "S"]) -> Filtered:
    """A state of that covariance after a site."""
    seen = _emitted(cov, emission)
    inner = root.T @ _emitted(seen.T, emission) @ root
    if root.shape[0] == 1:
        half, whole = root / jnp.sqrt(1.0 + inner), root / (1.0 + inner)
        log_det = jnp.log1p(inner[0, 0])
    else:
        chol_B = cholesky_above_identity(0.5 * (inner + inner.T))
        half = solve_triangular(chol_B, root.T, lower=True)
        whole = solve_triangular(chol_B, half, lower=True, trans=1)
        log_det = 2 * jnp.sum(jnp.log(jnp.diagonal(chol_B)))
    information = half.T @ half

    def by_difference() -> Float[Array, "n n"]:
        explained = half @ seen
        return cov - explained.T @ explained

    def in_josephs_form() -> Float[Array, "n n"]:
        gain = seen.T @ information
        left = cov - gain @ seen
        spread = whole @ seen
        after = left - _emitted(left.T, emission).T @ gain.T + spread.T @ spread
        return 0.5 * (after + after.T)

    sharp = jnp.max(jnp.diagonal(inner)) > _SHARP
    after = jax.lax.cond(sharp, in_josephs_form, by_difference)
    return Filtered(after, seen, information, whole, log_det)


class Adjoint(NamedTuple):
    """What the backward pass gives of second moments.

    Attributes:
        cov: posterior covariances of the functions.
        curvature: minus the log-normaliser's second derivatives by the predicted states.
    """

    cov: Float[Array, "T R R"]
    curvature: Float[Array, "T n n"]


def adjoint_covariances(chain: Chain, filtered: Filtered) -> Adjoint:
    """The backward pass of what needs nothing of the sites but their precisions."""
    h = chain.emission

    def step(later: Float[Array, "n n"], inputs: tuple[Any, ...]) -> tuple[Array, Adjoint]:
        F, (P, seen, information, _, _) = inputs
        R = seen.shape[0]
        own = _emitted(P, h)
        told = jnp.concatenate([own, information @ seen]) @ later
        earlier = _emitted(own.T, h)
        cov = _with_least(earlier - told[:R] @ own.T, _LEAST * jnp.diagonal(earlier))
        gained = told[R:] @ seen.T @ information
        crossed = _lifted(told[R:] - 0.5 * _lifted(information + gained.T, h).T, h)
        curvature = later - crossed - crossed.T
        return _moved(F, curvature), Adjoint(cov, curvature)

    n = filtered.cov.shape[-1]
    back = jnp.swapaxes(_vectors(chain.F), 1, 2)
    return jax.lax.scan(step, jnp.zeros((n, n), h.dtype), (back, filtered), reverse=True)[1]


def _with_least(cov: Float[Array, "R R"], least: Float[Array, "R"]) -> Float[Array, "R R"]:
    """A difference of covariances in which functions without digits have a least variance, and no correlations."""
    lost = jnp.diagonal(cov) < least
    kept = jnp.where(lost[:, None] | lost[None, :], 0.0, 0.5 * (cov + cov.T))
    return kept + jnp.diag(jnp.where(lost, least, 0.0))


class Means(NamedTuple):
    """Of the posterior's functions and the filter's states; and the log-normaliser's slopes by predicted states."""

    functions: Float[Array, "T R"]
    filtered: Float[Array, "T n"]
    slopes: Float[Array, "T n"]


def smooth_means(chain: Chain, sites: Whitened, filtered: Filtered) -> Means:
    """Both passes of means, given those of covariances."""
    h, F = chain.emission, _vectors(chain.F)

    def forward(mean: Float[Array, "n"], inputs: tuple[Any, ...]) -> tuple[Array, tuple[Array, Array]]:
        F, root, target, seen, whole = inputs
        predicted = _times(F, mean)
        pull = whole.T @ (target - root.T @ _emitted(predicted, h))
        mean = predicted + seen.T @ pull
        return mean, (mean, pull)

    def backward(later: Float[Array, "n"], inputs: tuple[Any, ...]) -> tuple[Array, tuple[Array, Array]]:
        back, P, seen, information, pull, mean = inputs
        function = _emitted(mean + P @ later, h)
        slope = later + _lifted(pull - information @ (seen @ later), h)
        return _times(back, slope), (function, slope)

    zero = jnp.zeros(filtered.cov.shape[-1], h.dtype)
    _, (mean, pull) = jax.lax.scan(forward, zero, (F, *sites, filtered.seen, filtered.whole))
    inputs = (jnp.swapaxes(F, 1, 2), filtered.cov, filtered.seen, filtered.information, pull, mean)
    _, (functions, slopes) = jax.lax.scan(backward, zero, inputs, reverse=True)
    return Means(functions, mean, slopes)


def innovations(chain: Chain, means: Means) -> Float[Array, "T R S"]:
    """Posterior means of the noise that drives the chain."""
    T, R, S, _ = chain.root_Q.shape
    return jnp.einsum("trji,tjr->tri", chain.root_Q, means.slopes.reshape(T, S, R))


def chain_slopes(
    chain: Chain, means: Means, filtered: Filtered, curvature: Float[Array, "T n n"]
) -> tuple[Float[Array, "T R S S"], Float[Array, "T R S S"]]:
    """Derivatives of the log-normaliser by transitions and roots of their noise."""
    T, R, S, _ = chain.F.shape
    mean, P = (jnp.concatenate([jnp.zeros_like(x[:1]), x[:-1]]) for x in (means.filtered, filtered.cov))
    moved = jax.vmap(_times)(_vectors(chain.F), P)
    along = mean + jnp.einsum("tn,tnm->tm", means.slopes, moved)
    slopes, along = (jnp.swapaxes(x.reshape(T, S, R), 1, 2) for x in (means.slopes, along))
    curved = jnp.einsum("tirm,tmjr->trij", curvature.reshape(T, S, R, S * R), moved.reshape(T, S * R, S, R))
    by_F = slopes[..., :, None] * along[..., None, :] - curved
    second = slopes[..., :, None] * slopes[..., None, :]
    second = second - jnp.einsum("tirjr->trij", curvature.reshape(T, S, R, S, R))
    return by_F, second @ chain.root_Q


def _vectors(blocks: Float[Array, "T R S S"]) -> Float[Array, "T S S R"]:
    return jnp.moveaxis(blocks, 1, 3)


def _times(F: Float[Array, "S S R"], states: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
    """A block-diagonal matrix times columns."""
    S, R = F.shape[1:]
    parts, along = states.reshape(S, R, *states.shape[1:]), (..., *[None] * (states.ndim - 1))
    rows = [_sum([F[i, j][along] * parts[j] for j in range(S)]) for i in range(S)]
    return jnp.concatenate(rows)


def _moved(F: Float[Array, "S S R"], cov: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """F cov F', for a symmetric matrix."""
    S, R = F.shape[1:]
    if S > _FEW:
        return _times(F, _times(F, cov).T)
    pairs = list(itertools.product(range(S), repeat=2))
    parts, right = cov.reshape(S, R, S, R), {pair: F[pair][None, :] for pair in pairs}
    middle, left = {(j, m): parts[j, :, m] for j, m in pairs}, {pair: right[pair].T for pair in pairs}

    def part(i: int, k: int) -> Float[Array, "R R"]:
        return _sum([left[i, j] * middle[j, m] * right[k, m] for j, m in pairs])

    return jnp.concatenate([jnp.concatenate([part(i, k) for k in range(S)], axis=1) for i in range(S)])


def _sum(parts: Sequence[Array]) -> Array:
    return functools.reduce(jnp.add, parts)


def _emitted(states: Float[Array, "n ..."], emission: Float[Array, "S"]) -> Float[Array, "R ..."]:
    """Function values of states: rows."""
    parts = states.reshape(emission.shape[0], -1, *states.shape[1:])
    return _sum([emission[i] * part for i, part in enumerate(parts)])


def _lifted(values: Float[Array, "R ..."], emission: Float[Array, "S"]) -> Float[Array, "n ..."]:
    """The transpose of `_emitted`."""
    return jnp.concatenate([weight * values for weight in emission])
