"""Gaussian conditioning in information form, and the one Cholesky factorisation with its one jitter rule."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

from probtensor.linalg.small import one_by_one
from probtensor.typing import Array, Float

#: Jitters tried after none, in units of machine epsilon: the first, and the factor from one to the next.
_JITTER, _GROWTH, _ATTEMPTS = 4.0, 8.0, 8


@jax.custom_jvp
def _factor(A: Float[Array, "n n"], jitter: Float[Array, "n"]) -> Float[Array, "n n"]:
    """Lower Cholesky factor of A, or where rounding errors forbid that, of A plus the least jitter that allows it."""
    unit = jnp.diag(jitter) * jnp.finfo(A.dtype).eps

    def failed(carry: tuple[Array, Array]) -> Array:
        attempt, L = carry
        return (attempt < _ATTEMPTS) & ~jnp.all(jnp.isfinite(jnp.diagonal(L)))

    def again(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        attempt = carry[0]
        size = jnp.where(attempt > 0, _JITTER * _GROWTH ** (attempt - 1).astype(A.dtype), 0.0)
        return attempt + 1, jnp.linalg.cholesky(A + size * unit)

    return jax.lax.while_loop(failed, again, (jnp.zeros((), int), jnp.full_like(A, jnp.nan)))[1]


@_factor.defjvp
def _factor_jvp(primals: tuple[Array, Array], tangents: tuple[Array, Array]) -> tuple[Array, Array]:
    """dL = L lower(L^-1 dA L^-T), where ``lower`` halves the diagonal (Murray 2016, eq. 8)."""
    L = _factor(*primals)
    left = solve_triangular(L, 0.5 * (tangents[0] + tangents[0].T), lower=True)
    change = jnp.tril(solve_triangular(L, left.T, lower=True).T)
    return L, L @ (change - 0.5 * jnp.diag(jnp.diagonal(change)))


def cholesky(covariance: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Lower Cholesky factor of a covariance that may be singular, with a jitter in proportion to its mean diagonal."""
    diagonal = jnp.diagonal(covariance)
    return _factor(covariance, jnp.full_like(diagonal, jnp.mean(diagonal)))


def cholesky_above_identity(inner: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Lower Cholesky factor of I + inner, for an inner matrix without negative eigenvalues but for rounding errors.

    Those outweigh the identity where data are very sharp (in 32 bits, noise below a thousandth of the signal). The
    jitter is in proportion to the diagonal: as if the data were some rounding errors sharper.
    """
    return _factor(inner + jnp.eye(inner.shape[-1], dtype=inner.dtype), jnp.diagonal(inner))


def cholesky_of_sites(precision: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Lower Cholesky factor of a precision that may be singular or zero, with a jitter in proportion to its diagonal.

    So what is observed of one function says nothing of another whose values are of another size.
    """
    least = jnp.finfo(precision.dtype).tiny * jnp.eye(precision.shape[-1], dtype=precision.dtype)
    return _factor(precision + least, jnp.diagonal(precision + least))


class Conditioned(NamedTuple):
    """N(0, root root') times exp(eta' x - x' precision x / 2), normalised.

    mean = factor factor' eta and covariance = factor factor'; ``log_normaliser`` is the logarithm of the integral and
    ``log_det`` that of I + root' precision root.
    """

    factor: Float[Array, "... n m"]
    chol_B: Float[Array, "... m m"]
    log_normaliser: Float[Array, "..."]
    log_det: Float[Array, "..."]

    def mean(self, eta: Float[Array, "... n"]) -> Float[Array, "... n"]:
        """Posterior mean for the same eta that was conditioned on."""
        half = jnp.einsum("...km,...k->...m", self.factor, eta)
        return jnp.einsum("...nm,...m->...n", self.factor, half)

    def covariance(self) -> Float[Array, "... n n"]:
        """Posterior covariance, positive semi-definite by construction."""
        return jnp.einsum("...nm,...km->...nk", self.factor, self.factor)

    def whitened_mean(self, eta: Float[Array, "... n"]) -> Float[Array, "... m"]:
        """v with mean = root v: its square is the mean's distance from the prior."""
        half = jnp.einsum("...nm,...n->...m", self.factor, eta)
        if half.shape[-1] == 1:
            return half / self.chol_B[..., 0]
        return one_by_one(lambda L, h: solve_triangular(L, h, lower=True, trans=1), self.chol_B, half)


def condition(root: Float[Array, "n m"], eta: Float[Array, "n"], inner: Float[Array, "m m"]) -> Conditioned:
    """Conditions N(0, root root') on a Gaussian site in natural parameters.

    The site's precision P may be singular or zero: with B = I + root' P root, whose eigenvalues are at least one,
    the posterior covariance is (root B^-T/2)(root B^-T/2)' and nothing is ever inverted that could be singular.

    Args:
        root: (n, m) any square root of the prior covariance.
        eta: (n,) the site's precision times its mean.
        inner: (m, m) root' P root, which the caller forms with whatever structure root and P have.
    """
    chol_B = cholesky_above_identity(inner)
    factor = solve_triangular(chol_B, root.T, lower=True).T
    return _conditioned(factor, chol_B, eta)


def _conditioned(factor: Array, chol_B: Array, eta: Array) -> Conditioned:
    half = jnp.einsum("...nm,...n->...m", factor, eta)
    log_det = 2 * jnp.sum(jnp.log(jnp.diagonal(chol_B, axis1=-2, axis2=-1)), axis=-1)
    return Conditioned(factor, chol_B, 0.5 * (jnp.sum(half**2, axis=-1) - log_det), log_det)


def condition_each(root: Float[Array, "T n n"], eta: Float[Array, "T n"], inner: Float[Array, "T n n"]) -> Conditioned:
    """`condition` for each of T independent problems; single numbers are done in arithmetic."""
    if root.shape[-1] > 1:
        return one_by_one(condition, root, eta, inner)
    chol_B = jnp.sqrt(1 + inner)
    return _conditioned(root / chol_B, chol_B, eta)
