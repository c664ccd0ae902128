"""Starts: mostly positive, random, of the asked size."""

import jax
import jax.numpy as jnp
import numpy as np

from probtensor.priors.categorical import Categorical
from probtensor.terms.base import Block
from probtensor.terms.start import positive_starts
from tests.helpers import DTYPE

BLOCK = Block(Categorical(), jnp.arange(2000, dtype=DTYPE))


def test_values_are_mostly_positive():
    """4,000 values u + 0.3 z: moments within 5 standard errors, a false alarm in a million seeds."""
    (belief,) = positive_starts(jax.random.key(0), [BLOCK], [2], [3.0])
    assert belief.mean.shape == (2000, 2) and belief.mean.dtype == DTYPE
    values = np.asarray(belief.mean, np.float64) / 3
    variance = 1 / 12 + 0.09
    assert abs(values.mean() - 0.5) < 5 * np.sqrt(variance / 4000)
    assert abs(values.var() - variance) < 5 * variance * np.sqrt(2 / 4000)
    assert 0.05 < np.mean(values < 0) < 0.2
    assert np.linalg.matrix_rank(np.asarray(belief.mean)) == 2
    np.testing.assert_allclose(belief.cov[7], 0.9 * np.eye(2), rtol=1e-6)


def test_scale_zero_is_zero():
    zero, other = positive_starts(jax.random.key(0), [BLOCK, BLOCK], [2, 3], [0.0, 1.0])
    assert not np.any(zero.mean) and not np.any(zero.cov)
    assert other.mean.shape == (2000, 3) and np.all(np.diagonal(other.cov, axis1=1, axis2=2) > 0)


def test_blocks_start_apart():
    one, other = positive_starts(jax.random.key(0), [BLOCK, BLOCK], [2, 1], [1.0, 1.0])
    assert np.linalg.matrix_rank(np.concatenate([one.mean, other.mean], axis=1)) == 3
