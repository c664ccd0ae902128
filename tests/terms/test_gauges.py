"""Canonical forms: the same term, and the properties by which they are defined."""

import numpy as np
import pytest

from probtensor.terms.gauges import Gaussian, higher_order_svd, left_orthogonal
from tests.oracles import network as oracle

RANKS, LEVELS = (2, 3, 2), (7, 5, 4)


def random_blocks(seed=0, rank_of_first=2):
    rng, blocks = np.random.default_rng(seed), []
    for T, R in [*zip(LEVELS, RANKS, strict=True), (1, int(np.prod(RANKS)))]:
        A = 0.3 * rng.normal(size=(T, R, R + 1))
        blocks.append(Gaussian(rng.normal(size=(T, R)), A @ np.swapaxes(A, 1, 2)))
    if rank_of_first == 1:
        blocks[0] = Gaussian(blocks[0].mean[:, :1] * np.array([1.0, -2.0]), blocks[0].cov)
    return blocks


def values(factors, core):
    return np.einsum("abc,ia,jb,kc->ijk", core.mean.reshape(RANKS), *(f.mean for f in factors))


@pytest.mark.parametrize("rank_of_first", [1, 2])
def test_higher_order_svd_is_the_same_term(rank_of_first):
    *factors, core = random_blocks(rank_of_first=rank_of_first)
    turned, into = higher_order_svd(factors, core, RANKS)
    np.testing.assert_allclose(values(turned, into), values(factors, core), atol=1e-10)
    assert all(np.isfinite(b.sd).all() for b in (*turned, into))


def test_higher_order_svd_of_a_term_that_has_died():
    """Its means are all but zero, and their inverses would overflow."""
    *factors, core = (Gaussian(1e-240 * block.mean, block.cov) for block in random_blocks())
    turned, into = higher_order_svd(factors, core, RANKS)
    assert all(np.isfinite(b.sd).all() and np.abs(b.mean).max() < 10 for b in (*turned, into))


def test_higher_order_svd_is_orthogonal_ordered_and_signed():
    *factors, core = random_blocks()
    turned, into = higher_order_svd(factors, core, RANKS)
    for d, f in enumerate(turned):
        np.testing.assert_allclose(f.mean.T @ f.mean / len(f.mean), np.eye(RANKS[d]), atol=1e-12)
        assert np.all(f.mean.max(axis=0) >= np.abs(f.mean).max(axis=0))
        slices = np.moveaxis(into.mean.reshape(RANKS), d, 0).reshape(RANKS[d], -1)
        gram = slices @ slices.T
        np.testing.assert_allclose(gram, np.diag(np.diagonal(gram)), atol=1e-12)
        assert np.all(np.diff(np.diagonal(gram)) <= 0)
    np.testing.assert_allclose(np.sum(into.mean**2), np.mean(values(factors, core) ** 2))


def test_covariances_turn_with_the_functions():
    """Every moment of the term is the same in both gauges: entries' variances, by the loops over the core."""
    *factors, core = random_blocks(1)
    turned, into = higher_order_svd(factors, core, RANKS)
    paths = oracle.tucker_paths(RANKS)
    for index in [(0, 0, 0, 0), (6, 4, 3, 0), (3, 1, 2, 0)]:
        one = oracle.variance([*factors, core], paths, index)
        np.testing.assert_allclose(oracle.variance([*turned, into], paths, index), one)


BONDS = (1, 2, 3, 1)


def random_train(seed=0, singular=False):
    rng, cores = np.random.default_rng(seed), []
    for d, T in enumerate(LEVELS):
        R = BONDS[d] * BONDS[d + 1]
        A = 0.3 * rng.normal(size=(T, R, R + 1))
        cores.append(Gaussian(rng.normal(size=(T, R)), A @ np.swapaxes(A, 1, 2)))
    if singular:
        cores[2] = Gaussian(cores[2].mean[:, :1] * np.array([1.0, -2.0, 0.5]), cores[2].cov)
    return cores


def train_values(cores):
    first, middle, last = (c.mean.reshape(-1, BONDS[d], BONDS[d + 1]) for d, c in enumerate(cores))
    return np.einsum("ixa,jab,kby->ijk", first, middle, last)


@pytest.mark.parametrize("singular", [False, True])
def test_left_orthogonal_is_the_same_term(singular):
    cores = random_train(singular=singular)
    turned = left_orthogonal(cores, BONDS)
    np.testing.assert_allclose(train_values(turned), train_values(cores), atol=1e-10)
    assert all(np.isfinite(c.sd).all() for c in turned)


def test_left_orthogonal_is_orthogonal_ordered_and_signed():
    first, middle, last = left_orthogonal(random_train(), BONDS)
    np.testing.assert_allclose(first.mean.T @ first.mean / 7, np.eye(2), atol=1e-12)
    pair = np.einsum("ia,jab->ijb", first.mean, middle.mean.reshape(-1, 2, 3)).reshape(-1, 3)
    np.testing.assert_allclose(pair.T @ pair / len(pair), np.eye(3), atol=1e-12)
    gram = last.mean.T @ last.mean
    np.testing.assert_allclose(gram, np.diag(np.diagonal(gram)), atol=1e-12)
    assert np.all(np.diff(np.diagonal(gram)) <= 0)
    assert np.all(first.mean.max(axis=0) >= np.abs(first.mean).max(axis=0))


def test_covariances_of_a_train_turn_with_its_functions():
    cores = random_train(1)
    turned, paths = left_orthogonal(cores, BONDS), oracle.train_paths(BONDS[1:-1])
    for index in [(0, 0, 0), (6, 4, 3), (3, 1, 2)]:
        one = oracle.variance(cores, paths, index)
        np.testing.assert_allclose(oracle.variance(turned, paths, index), one)
