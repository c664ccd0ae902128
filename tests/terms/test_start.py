"""Starts: mostly positive, random, of the asked size."""

import jax
import jax.numpy as jnp
import numpy as np

from probtensor.priors.categorical import Categorical
from probtensor.terms.base import Block
from probtensor.terms.start import positive_start
from tests.helpers import DTYPE

BLOCK = Block(Categorical(), jnp.arange(2000, dtype=DTYPE))


def test_values_are_mostly_positive():
    """4,000 values u + 0.3 z: moments within 5 standard errors, a false alarm in a million seeds."""
    belief = positive_start(jax.random.key(0), BLOCK, 2, 3.0)
    assert belief.mean.shape == (2000, 2) and belief.mean.dtype == DTYPE
    values = np.asarray(belief.mean, np.float64) / 3
    variance = 1 / 12 + 0.09
    assert abs(values.mean() - 0.5) < 5 * np.sqrt(variance / 4000)
    assert abs(values.var() - variance) < 5 * variance * np.sqrt(2 / 4000)
    assert 0.05 < np.mean(values < 0) < 0.2
    assert np.linalg.matrix_rank(np.asarray(belief.mean)) == 2
    np.testing.assert_allclose(belief.cov[7], 0.9 * np.eye(2), rtol=1e-6)


def test_scale_zero_is_zero():
    belief = positive_start(jax.random.key(0), BLOCK, 2, 0.0)
    assert not np.any(belief.mean) and not np.any(belief.cov)
