"""Sums of products of cosines through their cosines, against the products themselves."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from probtensor.linalg import cosines
from tests.helpers import DTYPE, assert_close

T, P = 23, 3


def problem(d):
    rng = np.random.default_rng(d)
    angles = rng.uniform(0, np.pi, (T, d)).astype(DTYPE)
    every = np.array(list(itertools.product(range(8), repeat=d)))
    orders = every[rng.permutation(len(every))[:7]]
    S = np.array([[np.prod([np.cos(o * a) for o, a in zip(m, x, strict=True)]) for m in orders] for x in angles])
    return angles, orders, S, rng


@pytest.mark.parametrize("chunk", [2**20, 500, 1])
@pytest.mark.parametrize("d", [1, 2, 3])
def test_sums_and_forms_are_those_of_the_products(monkeypatch, d, chunk):
    monkeypatch.setattr(cosines, "CHUNK_NUMBERS", chunk)
    angles, orders, S, rng = problem(d)
    weights, A = rng.normal(size=(T, P)).astype(DTYPE), rng.normal(size=(7, 7, P)).astype(DTYPE)
    x, m, sizes = jnp.asarray(angles), jnp.asarray(orders), cosines.frequencies_of(orders)
    assert_close(cosines.project(x, m, sizes, jnp.asarray(weights)), S.T @ weights)
    assert_close(cosines.expand(x, m, sizes, jnp.asarray(A[0])), S @ A[0])
    assert_close(cosines.gram(x, m, sizes, jnp.asarray(weights)), np.einsum("tm,tn,tp->mnp", S, S, weights))
    assert_close(cosines.quadratic(x, m, sizes, jnp.asarray(A)), np.einsum("tm,tn,mnp->tp", S, S, A))
