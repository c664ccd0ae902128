"""Sums of products of cosines through their cosines, against the products themselves."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from probtensor.linalg import cosines
from tests.helpers import DTYPE, assert_close, mostly_slow

T, P = 23, 3


def wave(order, angle):
    return np.cos(order * angle) if order >= 0 else np.sin(-order * angle)


def problem(d, sines):
    rng = np.random.default_rng(d)
    angles = rng.uniform(0, np.pi, (T, d)).astype(DTYPE)
    every = np.array(list(itertools.product(range(-7 if sines else 0, 8), repeat=d)))
    orders = every[rng.permutation(len(every))[:7]]
    S = np.array([[np.prod([wave(o, a) for o, a in zip(m, x, strict=True)]) for m in orders] for x in angles])
    return angles, orders, S, rng


@pytest.mark.parametrize("sines", [False, True])
@pytest.mark.parametrize("chunk", mostly_slow([2**20, 500, 1], 2**20, 500))
@pytest.mark.parametrize("d", mostly_slow([1, 2, 3], 2))
def test_sums_and_forms_are_those_of_the_products(monkeypatch, d, chunk, sines):
    monkeypatch.setattr(cosines, "CHUNK_NUMBERS", chunk)
    angles, orders, S, rng = problem(d, sines)
    assert (orders < 0).any() == sines
    weights, A = rng.normal(size=(T, P)).astype(DTYPE), rng.normal(size=(7, 7, P)).astype(DTYPE)
    x, waves = jnp.asarray(angles), cosines.waves(orders)
    assert_close(waves.project(x, jnp.asarray(weights)), S.T @ weights)
    assert_close(waves.expand(x, jnp.asarray(A[0])), S @ A[0])
    assert_close(waves.gram(x, jnp.asarray(weights)), np.einsum("tm,tn,tp->mnp", S, S, weights))
    assert_close(waves.quadratic(x, jnp.asarray(A)), np.einsum("tm,tn,mnp->tp", S, S, A))
