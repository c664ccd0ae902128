"""Roots of matrices that may be singular, and Cholesky factors that must exist."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probtensor.linalg.gaussian import cholesky, cholesky_above_identity
from probtensor.linalg.small import semidefinite_root, spread_of
from tests.helpers import DTYPE, assert_close


def random_semidefinite(n, rank, seed):
    """With rows of very different scales."""
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(5, n, rank)) * 10.0 ** rng.integers(-3, 4, size=(5, n, 1))
    return A @ np.swapaxes(A, 1, 2)


@pytest.mark.parametrize(("n", "rank"), [(1, 1), (1, 0), (4, 4), (4, 2), (4, 1), (4, 0), (9, 3)])
def test_root_of_a_semidefinite_matrix(n, rank):
    """G G' = A relative to the diagonal, and G z = A x, whatever the rank."""
    A = random_semidefinite(n, rank, 0)
    x = np.random.default_rng(1).normal(size=(5, n)) / np.sqrt(1e-9 + np.diagonal(A, axis1=1, axis2=2))
    eta = np.einsum("bij,bj->bi", A, x)
    G, z = (np.asarray(part, np.float64) for part in semidefinite_root(jnp.asarray(A, DTYPE), jnp.asarray(eta, DTYPE)))
    sd = np.sqrt(np.diagonal(A, axis1=1, axis2=2)) + (rank == 0)
    assert_close(G @ np.swapaxes(G, 1, 2) / (sd[:, :, None] * sd[:, None, :]), A / (sd[:, :, None] * sd[:, None, :]))
    assert_close(np.einsum("bij,bj->bi", G, z) / sd, eta / sd, factor=10)


def test_no_scale_of_a_row_matters_to_a_root():
    """Scales are powers of two, from 1e-12 to 1e6: the root of the scaled matrix is the scaled root."""
    A, D = random_semidefinite(4, 3, 5)[:1], 2.0 ** np.array([-40, 0, 20, -7])
    A = A / np.sqrt(np.diagonal(A, axis1=1, axis2=2)[:, :, None] * np.diagonal(A, axis1=1, axis2=2)[:, None, :])
    eta = A[..., 0]
    scaled = D[:, None] * A * D, D * eta
    (G, z), (own, value) = (semidefinite_root(*(jnp.asarray(x, DTYPE) for x in both)) for both in ((A, eta), scaled))
    assert_close(own / D[:, None], G)
    assert_close(value, z)


def test_gradient_of_a_singular_root_is_finite():
    A = jnp.asarray(random_semidefinite(4, 2, 2), DTYPE)
    gradient = jax.grad(lambda A: jnp.sum(semidefinite_root(A, A[..., 0])[0]))
    assert np.isfinite(gradient(A)).all() and np.isfinite(gradient(jnp.zeros_like(A))).all()


def test_cholesky_above_identity_and_its_derivative():
    """That of I + inner where nothing is lost to rounding."""
    A = np.random.default_rng(3).normal(size=(5, 3))
    inner = jnp.asarray(A @ A.T, DTYPE)

    def plain(inner):
        return jnp.linalg.cholesky(jnp.eye(5, dtype=DTYPE) + inner)

    assert_close(cholesky_above_identity(inner), plain(inner))
    weights = jnp.asarray(np.random.default_rng(4).normal(size=(5, 5)), DTYPE)
    one, other = (jax.grad(lambda A, f=f: jnp.sum(weights * f(A)))(inner) for f in (cholesky_above_identity, plain))
    assert_close(one + one.T, other + other.T)


def test_data_sharper_than_the_precision_have_a_factor():
    """A smooth Gram matrix times 1e10 (32 bits) is not positive definite after rounding, even with I added."""
    x = np.linspace(0.0, 1.0, 30)
    inner = jnp.asarray(np.exp(-((x[:, None] - x[None, :]) ** 2)), DTYPE) * (1e3 / np.finfo(DTYPE).eps).astype(DTYPE)
    assert not np.isfinite(jnp.linalg.cholesky(jnp.eye(30, dtype=DTYPE) + inner)).all()
    L = cholesky_above_identity(inner)
    assert_close(L @ L.T / inner[0, 0], inner / inner[0, 0])


def test_spread_of_single_numbers():
    assert_close(spread_of(jnp.asarray([[[4.0]], [[0.0]], [[-1e-9]]], DTYPE))[:, 0, 0], [2.0, 0.0, 0.0])


def test_factor_of_a_singular_covariance():
    """Jitter is a few rounding errors, and none where it is not needed."""
    x = np.linspace(0.0, 1.0, 30)
    K = np.exp(-((x[:, None] - x[None, :]) ** 2))
    L = np.asarray(cholesky(jnp.asarray(K, DTYPE)), np.float64)
    np.testing.assert_allclose(L @ L.T, K, rtol=0, atol=300 * np.finfo(DTYPE).eps)
    np.testing.assert_array_equal(cholesky(jnp.eye(3, dtype=DTYPE)), np.eye(3))


@pytest.mark.parametrize(("lacking", "jitter"), [(0.1, 4), (3, 32), (20, 256), (4e5, 4 * 8**6), (6e5, np.nan)])
def test_jitter_is_the_least_of_its_sizes(lacking, jitter):
    """In units of epsilon and the mean diagonal: none, 4 and six times 8 times as much; beyond them there is none."""
    eps = np.finfo(DTYPE).eps
    L = cholesky(jnp.diag(jnp.asarray([1.0, -lacking * eps], DTYPE)))
    mean = (1 - lacking * eps) / 2
    np.testing.assert_allclose(L[1, 1] ** 2 / eps, jitter * mean - lacking, rtol=1e-3)
