"""The squared exponential kernel: exact under `Dense`, approximated by its states as stated."""

import re

import jax.numpy as jnp
import numpy as np
import pytest

from probtensor.errors import ModelError
from probtensor.kernels.base import Start
from probtensor.kernels.rbf import RBF
from tests.helpers import DTYPE, assert_close
from tests.kernels.cases import AXIS
from tests.oracles import kernels

START = Start(np.array([0.8, 3.0]), np.array([1.5, 0.6]), True)


def stated_errors():
    """The table in the docstring."""
    orders, errors = (line for line in RBF.__doc__.splitlines() if re.match(r"\s*(order|error) [\d.]", line))
    numbers = [re.findall(r"[\d.]+", line) for line in (orders, errors)]
    return {int(n): float(e) for n, e in zip(*numbers, strict=True)}


@pytest.mark.parametrize("order", range(2, 11))
def test_the_error_of_the_states_is_as_stated(order):
    s = np.linspace(0.0, 8.0, 401)
    worst = np.abs(kernels.rational_gaussian(order, s) - np.exp(-(s**2) / 2)).max()
    stated = stated_errors()[order]
    assert 0.6 * stated < worst <= stated * 1.05


def test_covariance_is_exact():
    d = np.linspace(0.0, 9.0, 30).astype(DTYPE)
    kernel = RBF(order=2).bind(AXIS, START)
    exact = [v * np.exp(-(d.astype(np.float64) ** 2) / (2 * s**2)) for s, v in ((0.8, 1.5), (3.0, 0.6))]
    assert_close(kernel.covariance(jnp.asarray(d)), exact)


@pytest.mark.parametrize("order", [1, 11, 2.5, 6.0, True, "6"])
def test_bad_orders(order):
    with pytest.raises(ModelError, match="must be an integer from 2 to 10"):
        RBF(order=order)
