"""Starts: positive, random, of the asked size."""

import jax
import jax.numpy as jnp
import numpy as np

from probtensor.priors.categorical import Categorical
from probtensor.terms.base import Block
from probtensor.terms.start import uniform_start
from tests.helpers import DTYPE

BLOCK = Block(Categorical(), jnp.arange(2000, dtype=DTYPE))


def test_values_are_uniform_and_positive():
    """4,000 values: mean within 5 standard errors of a half of the scale, a false alarm in a million seeds."""
    belief = uniform_start(jax.random.key(0), BLOCK, 2, 3.0)
    assert belief.mean.shape == (2000, 2) and belief.mean.dtype == DTYPE
    assert belief.mean.min() >= 0 and belief.mean.max() <= 3
    assert abs(float(belief.mean.mean()) - 1.5) < 5 * 3 / np.sqrt(12 * 4000)
    assert np.linalg.matrix_rank(np.asarray(belief.mean)) == 2
    np.testing.assert_allclose(belief.cov[7], 0.9 * np.eye(2), rtol=1e-6)


def test_scale_zero_is_zero():
    belief = uniform_start(jax.random.key(0), BLOCK, 2, 0.0)
    assert not np.any(belief.mean) and not np.any(belief.cov)
