"""Covariance functions of a user's own: taken where they are ones, refused by name where they are not."""

import jax.numpy as jnp
import numpy as np
import pytest

from probtensor.axes import Axis, join
from probtensor.errors import ModelError
from probtensor.kernels.base import Start
from probtensor.kernels.custom import Custom
from probtensor.kernels.matern import Matern
from probtensor.priors.dense import Dense
from probtensor.priors.markov import Markov
from tests.helpers import DTYPE, assert_close
from tests.kernels.cases import AXIS
from tests.priors.cases import random_points, random_sites, run

START = Start(np.array([0.8, 3.0]), np.array([1.5, 0.6]), True)


def exponential(s):
    return jnp.exp(-s)


def plateau(s):
    return jnp.where(s < 1, 1.0, 0.0).astype(s.dtype)


def test_it_is_the_function():
    """Matern-1/2 written out: the same posterior and gradients as the kernel itself."""
    points, sites = random_points(15, 1), random_sites(15, "part", 1)
    own, known = (
        run(Dense(kernel.bind(AXIS, START)), points, sites) for kernel in (Custom(exponential), Matern(1 / 2))
    )
    for one, other in zip(own[:4], known[:4], strict=True):
        assert_close(one, other)
    assert_close(np.concatenate(own.gradient), np.concatenate(known.gradient))


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda: Custom(3.0), "expected a function of an array"),
        (lambda: Custom(lambda s: 2 * jnp.exp(-s)), "the first of them 1"),
        (lambda: Custom(lambda s: jnp.sum(s)), "the function gives"),
        (lambda: Custom(lambda s: jnp.log(s)), "expected as many finite numbers"),
        (lambda: Custom(lambda s: jnp.exp(-jnp.sqrt(s))), "derivative at distance 0"),
        (lambda: Dense(Custom(plateau, lengthscale=0.2)).bind(AXIS, START), "Custom is not positive definite"),
        (lambda: Custom(lambda s: np.exp(-float(s))), "fails for an array of scaled distances"),
        (lambda: Markov(Custom(exponential)).bind(AXIS, START), "Custom has no state-space form; use pt.Dense"),
        (lambda: Markov(Matern(1 / 2) * Custom(exponential)).bind(AXIS, START), "use pt.Dense"),
    ],
)
def test_bad_functions(declare, message):
    with pytest.raises(ModelError, match=message):
        declare()


@pytest.mark.parametrize("joined", [False, True])
def test_a_function_that_is_no_covariance(joined):
    axis = Axis("x", "numeric", np.linspace(0.0, 5.0, 40))
    if joined:
        points = np.stack([np.linspace(0, 3, 40), np.cos(np.arange(40.0))], axis=1)
        axis = join([Axis(name, "numeric", points[:, k]) for k, name in enumerate("xy")], points)
    with pytest.raises(ModelError, match="Custom is not positive definite: at 40 of the levels"):
        Dense(Custom(plateau)).bind(axis, START)
    bound = Dense(Custom(exponential)).bind(axis, START)
    assert bound.kernel.lengthscale.value.dtype == DTYPE
