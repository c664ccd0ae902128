"""How far 32 bits are from 64, from one start: what the documentation of `probtensor.arrays` says."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import probtensor as pt
from probtensor import arrays
from tests.helpers import mostly_slow

X, Y = np.linspace(0, 1, 12), np.arange(5.0)
SIGNAL = np.outer(np.sin(3 * X), np.cos(Y))
#: In sd of a prediction, by whether hyper-parameters are learned; at noise of so much of the signal or more.
STATED = {False: (1e-3, 0.01), True: (0.05, 0.1)}
SWEEPS = 40
MODELS = {
    "cp": pt.Offset() + pt.CP(2),
    "tucker": pt.Offset() + pt.Tucker(2),
    "train": pt.TensorTrain(2),
    "rbf": pt.Offset() + pt.CP(1, modes={"x": pt.RBF(order=4), "y": None}),
}


def problem(values, dtype, model):
    return arrays.problem(model, {"x": X.astype(dtype), "y": Y.astype(dtype)}, values.astype(dtype), names=["y"])


def answered(state, observations, learn):
    after, objective = arrays.sweeps(state, observations, SWEEPS, learn)
    found = arrays.fitted(after, observations.domain)
    assert np.isfinite(objective).all()
    return np.asarray(found.mean), np.sqrt(np.asarray(found.variance))


def both(model, seed, noise, learn):
    """Mean and sd at every entry in 64 bits, then in 32."""
    random = np.random.default_rng(seed)
    values = SIGNAL + noise * random.normal(size=SIGNAL.shape)
    values[random.random(SIGNAL.shape) < 0.2] = np.nan
    with jax.enable_x64(True):
        model_64, data = problem(values, np.float64, model)
        start = arrays.start(model_64, data, jax.random.key(seed))
        wide = answered(start, data, learn)
        start = jax.tree.map(lambda leaf: np.asarray(leaf) if eqx.is_inexact_array(leaf) else leaf, start)
    with jax.enable_x64(False):
        _, data = problem(values, np.float32, model)
        assert data.values.dtype == np.float32
        start = jax.tree.map(lambda leaf: jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf, start)
        return wide, answered(start, data, learn)


@pytest.mark.parametrize("learn", mostly_slow([False, True]), ids=["held", "learned"])
@pytest.mark.parametrize("name", mostly_slow(MODELS, "cp"))
def test_distance(name, learn):
    most, least_noise = STATED[learn]
    for noise in (1.0, 0.1, 0.01):
        if noise < least_noise:
            continue
        for seed in range(4):
            (mean, sd), (mean_32, sd_32) = both(MODELS[name], seed, noise, learn)
            assert (np.abs(mean_32 - mean) < most * np.sqrt(sd**2 + noise**2)).all()
            np.testing.assert_allclose(sd_32, sd, rtol=most)


@pytest.mark.parametrize(("unit", "words"), [(1e20, r"beyond 1e\+15 .first: .*overflow in 32"), (1e-20, "lost in 32")])
def test_values_that_32_bits_cannot_square(unit, words):
    with jax.enable_x64(False), pytest.raises(pt.DataError, match=f"{words} bits.*another unit"):
        problem(unit * (2 + SIGNAL), np.float32, MODELS["cp"])


@pytest.mark.slow
def test_half_precision_is_computed_in_single():
    with jax.enable_x64(False):
        model, data = problem(2 + SIGNAL, np.float16, MODELS["cp"])
        mean, _ = answered(arrays.start(model, data, jax.random.key(0)), data, True)
    assert mean.dtype == np.float32
    np.testing.assert_allclose(mean, 2 + SIGNAL, atol=0.02)


def programs_in(tree):
    """The operations of a program and of all programs inside it."""
    for each in tree.jaxpr.eqns if hasattr(tree, "jaxpr") else tree.eqns:
        yield each
        for inner in jax.tree.leaves(each.params, is_leaf=lambda leaf: hasattr(leaf, "eqns")):
            if hasattr(inner, "eqns"):
                yield from programs_in(inner)


@pytest.mark.parametrize("name", MODELS)
def test_products_keep_32_bits_on_accelerators(name):
    """TensorFloat32 and bfloat16, their default, keep 10 bits and fewer."""

    def fit(key, weights, places):
        some = arrays.observed(data.domain, SIGNAL, weights)
        state, _ = arrays.sweeps(arrays.start(model, some, key), some, 2)
        where = arrays.at(data.domain, {"x": places, "y": np.arange(5)})
        return arrays.fitted(state, data.domain), arrays.predict(state, where), arrays.sample(state, where, key, 2)

    with jax.enable_x64(False):
        model, data = problem(SIGNAL, np.float32, MODELS[name])
        program = jax.make_jaxpr(fit)(jax.random.key(0), np.ones_like(SIGNAL), np.asarray([0.31, 0.52]))
    products = [each for each in programs_in(program) if each.primitive.name == "dot_general"]
    assert len(products) > 10
    highest = jax.lax.Precision.HIGHEST
    assert {str(each.params["precision"]) for each in products} == {str((highest, highest))}
