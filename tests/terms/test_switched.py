"""A term with functions switched off is the term without them."""

import jax.numpy as jnp
import numpy as np
import pytest

from probtensor.engines import resizing
from probtensor.priors.base import empty_sites
from probtensor.terms.cp import CP
from probtensor.terms.switched import Switched
from probtensor.terms.tensor_train import TensorTrain
from probtensor.terms.tucker import Tucker
from tests.helpers import DTYPE, assert_close, mostly_slow
from tests.terms.problems import AXES, SCALE, data, everything, observed, random_beliefs

#: A small term, a larger one, and how many functions each letter counts in both.
PAIRS = {
    "cp": (CP(2), CP(3), {"a": 2}, {"a": 3}),
    "tucker": (
        Tucker({"time": 2, "lat": 1, "site": 2}),
        Tucker(3),
        {"a": 2, "b": 1, "c": 2},
        {"a": 3, "b": 3, "c": 3},
    ),
    "tensor train": (TensorTrain([2, 1]), TensorTrain([3, 2]), {"a": 2, "b": 1}, {"a": 3, "b": 2}),
}


def pair(kind):
    """The small term with random beliefs, and the same functions among those of the large one."""
    small, large, sizes, capacity = PAIRS[kind]
    small, large = small.bind(AXES, SCALE), large.bind(AXES, SCALE)
    beliefs, _ = random_beliefs(small)
    functions = resizing.read(small, beliefs, sizes, sizes)
    return small, beliefs, functions, *resizing.switched(large, functions, capacity), capacity


@pytest.mark.parametrize("layout", mostly_slow(["grid", "points"]))
@pytest.mark.parametrize("kind", mostly_slow(PAIRS, "cp"))
def test_what_is_off_is_not_there(kind, layout):
    small, beliefs, _, large, padded, _ = pair(kind)
    # Whatever stands where a function is off is never read.
    junk = [b._replace(mean=b.mean + 7 * (1 - on)) for b, on in zip(padded, large.active, strict=True)]
    where = observed(layout, *data())
    residual = 1.5 * where.values
    few, many = everything(small, beliefs, where, residual), everything(large, junk, where, residual)
    for a, b in zip(few[:3], many[:3], strict=True):
        assert_close(b, a, 10)
    for a, b, on in zip(few[3], many[3], large.active, strict=True):
        on = np.asarray(on) > 0
        assert_close(b.eta[:, on], a.eta, 10)
        assert_close(b.precision[:, on][:, :, on], a.precision, 10)
        assert not np.any(np.asarray(b.eta)[:, ~on]) and not np.any(np.asarray(b.precision)[:, ~on])


@pytest.mark.parametrize("kind", PAIRS)
def test_reading_gives_back_what_was_written(kind):
    _, _, functions, large, padded, capacity = pair(kind)
    again = resizing.read(large.term, padded, capacity, resizing.sizes_of(functions))
    for a, b in zip(functions, again, strict=True):
        np.testing.assert_array_equal(a.mean, b.mean)
        np.testing.assert_array_equal(a.cov, b.cov)
        for one, other in zip(a.raws, b.raws, strict=True):
            assert_close(one.ravel(), other.ravel())


@pytest.mark.slow
def test_a_function_that_is_off_believes_its_prior():
    bound = CP(2).bind(AXES, SCALE)
    off = Switched(bound, tuple(jnp.zeros(2, DTYPE) for _ in bound.blocks))
    where = observed("points", *data())
    sites = off.sites(0, random_beliefs(bound)[0], where, where.values)
    belief = off.blocks[0].posterior(sites)
    empty = off.blocks[0].posterior(empty_sites(5, 2, DTYPE))
    assert not np.any(belief.mean)
    assert_close(belief.cov, empty.cov)
    assert abs(float(belief.kl)) < 1e-6
