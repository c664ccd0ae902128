"""Gaussian conditioning in information form, and the one Cholesky factorisation with its one jitter rule."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular

from probtensor.linalg.small import one_by_one
from probtensor.typing import Array, Float

#: Jitter added to a covariance's diagonal, in units of machine epsilon times its mean diagonal and its size.
JITTER = 4.0


def cholesky(covariance: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Lower Cholesky factor of a covariance, with a jitter that scales with its dtype, size and diagonal."""
    n = covariance.shape[-1]
    scale = jnp.mean(jnp.diagonal(covariance))
    jitter = JITTER * n * jnp.finfo(covariance.dtype).eps * scale
    return jnp.linalg.cholesky(covariance + jitter * jnp.eye(n, dtype=covariance.dtype))


class Conditioned(NamedTuple):
    """N(0, root root') times exp(eta' x - x' precision x / 2), normalised.

    mean = factor factor' eta and covariance = factor factor'; ``log_normaliser`` is the logarithm of the integral.
    """

    factor: Float[Array, "... n m"]
    chol_B: Float[Array, "... m m"]
    log_normaliser: Float[Array, "..."]

    def mean(self, eta: Float[Array, "... n"]) -> Float[Array, "... n"]:
        """Posterior mean for the same eta that was conditioned on."""
        half = jnp.einsum("...km,...k->...m", self.factor, eta)
        return jnp.einsum("...nm,...m->...n", self.factor, half)

    def covariance(self) -> Float[Array, "... n n"]:
        """Posterior covariance, positive semi-definite by construction."""
        return jnp.einsum("...nm,...km->...nk", self.factor, self.factor)


def condition(root: Float[Array, "n m"], eta: Float[Array, "n"], inner: Float[Array, "m m"]) -> Conditioned:
    """Conditions N(0, root root') on a Gaussian site in natural parameters.

    The site's precision P may be singular or zero: with B = I + root' P root, whose eigenvalues are at least one,
    the posterior covariance is (root B^-T/2)(root B^-T/2)' and nothing is ever inverted that could be singular.

    Args:
        root: (n, m) any square root of the prior covariance.
        eta: (n,) the site's precision times its mean.
        inner: (m, m) root' P root, which the caller forms with whatever structure root and P have.
    """
    m = root.shape[-1]
    chol_B = jnp.linalg.cholesky(inner + jnp.eye(m, dtype=inner.dtype))
    factor = solve_triangular(chol_B, root.T, lower=True).T
    return _conditioned(factor, chol_B, eta)


def _conditioned(factor: Array, chol_B: Array, eta: Array) -> Conditioned:
    half = jnp.einsum("...nm,...n->...m", factor, eta)
    log_det = jnp.sum(jnp.log(jnp.diagonal(chol_B, axis1=-2, axis2=-1)), axis=-1)
    return Conditioned(factor, chol_B, 0.5 * jnp.sum(half**2, axis=-1) - log_det)


def condition_each(root: Float[Array, "T n n"], eta: Float[Array, "T n"], inner: Float[Array, "T n n"]) -> Conditioned:
    """`condition` for each of T independent problems; single numbers are done in arithmetic."""
    if root.shape[-1] > 1:
        return one_by_one(condition, root, eta, inner)
    chol_B = jnp.sqrt(1 + inner)
    return _conditioned(root / chol_B, chol_B, eta)
