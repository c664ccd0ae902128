"""Fits and predictions as parts of a larger JAX program: jit = eager, vmap = loop, one trace, the caller's dtype."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import probtensor as pt
from probtensor import arrays
from probtensor.engines.drawn import Draws
from probtensor.engines.message_passing import MessagePassing
from tests.helpers import DTYPE, assert_close

X, NAMES, SWEEPS = np.array([0.0, 0.5, 1.1, 1.3, 2.0, 2.6]), np.arange(4.0), 10
MODEL = pt.CP(1, {"x": pt.Matern(1 / 2), "name": None})
KEY = 3


def values(seed=0):
    random = np.random.default_rng(seed)
    return np.sin(X)[:, None] * (NAMES + 1) + 0.1 * random.normal(size=(len(X), len(NAMES)))


def problem(dtype=DTYPE):
    points = {"x": X.astype(dtype), "name": NAMES.astype(dtype)}
    return arrays.problem(MODEL, points, values().astype(dtype), names=["name"])


@pytest.fixture(scope="module")
def made():
    """The problem, a fit by itself, and the same as a program that counts its traces."""
    model, data = problem()
    traces = []

    @jax.jit
    def fit(values, weights):
        traces.append(1)
        some = arrays.observed(data.domain, values, weights)
        state, elbo = arrays.sweeps(arrays.start(model, some, jax.random.key(KEY)), some, SWEEPS)
        return state, elbo, arrays.fitted(state, some.domain)

    state, elbo = arrays.sweeps(arrays.start(model, data, jax.random.key(KEY)), data, SWEEPS)
    return model, data, state, elbo, fit, traces


def cases():
    random = np.random.default_rng(1)
    given = np.stack([values(seed) for seed in range(3)]).astype(DTYPE)
    weights = random.choice([0.0, 1.0, 2.0], p=[0.2, 0.6, 0.2], size=given.shape).astype(DTYPE)
    given[weights == 0] = np.nan
    return given, weights


def same(one, other, factor=1.0):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert_close(a, b, factor)


def test_a_fit_inside_a_program_is_that_by_itself_and_traced_once(made):
    _, data, state, elbo, fit, traces = made
    found = fit(data.values, data.weights)
    # Fused otherwise, sums round otherwise, and ten sweeps carry that on.
    same(found, (state, elbo, arrays.fitted(state, data.domain)), factor=100)
    for given, weights in zip(*cases(), strict=True):
        fit(given, weights)
    assert len(traces) == 1


@pytest.mark.slow
def test_many_fits_side_by_side_are_those_one_by_one(made):
    fit = made[4]
    given, weights = cases()
    together = jax.vmap(fit)(given, weights)
    for k in range(len(given)):
        # The states' learning goes by signs of gradients, which rounding can turn where they are zero.
        alone = fit(given[k], weights[k])
        same(jax.tree.map(lambda leaf, k=k: leaf[k], together[1:]), alone[1:], factor=1000)


def test_it_is_what_the_engine_does(made):
    model, data, *_ = made
    engine = MessagePassing(max_sweeps=SWEEPS, tol=0)
    fit = engine.run(model, data, jax.random.key(KEY))
    start = jax.random.split(jax.random.key(KEY), 1)[0]
    state, elbo = arrays.sweeps(arrays.start(model, data, start), data, SWEEPS)
    same((state, elbo), (fit.state, fit.objective))


def test_the_objective_rises_and_the_fit_is_close(made):
    _, data, state, elbo, *_ = made
    assert np.all(np.diff(np.asarray(elbo)) > -1e-2) and elbo[-1] > elbo[0] + 10
    truth = np.sin(X)[:, None] * (NAMES + 1)
    assert np.sqrt(np.mean((np.asarray(arrays.fitted(state, data.domain).mean) - truth) ** 2)) < 0.1


def test_predictions_at_traced_places_are_those_on_the_host(made):
    _, data, state, *_ = made

    def predict(x):
        return arrays.predict(state, arrays.at(data.domain, {"x": x, "name": NAMES}))

    new = np.array([[0.2, 1.1, 3.0], [-0.4, 0.5, 0.7]], DTYPE)
    program = jax.jit(predict)
    mapped = jax.jit(jax.vmap(predict))(new)
    for k, x in enumerate(new):
        same(program(x), predict(x), factor=10)
        same(jax.tree.map(lambda leaf, k=k: leaf[k], mapped), predict(x), factor=10)
    at_the_data = jax.jit(lambda d: arrays.predict(state, d))(data.domain)
    same(at_the_data, arrays.fitted(state, data.domain), factor=10)


def test_a_list_of_places_is_the_diagonal_of_their_grid(made):
    _, data, state, *_ = made
    x, name = np.array([0.2, 2.2], DTYPE), NAMES[:2].astype(DTYPE)
    index = np.array([[0, 0], [1, 1]])
    grid = arrays.predict(state, arrays.at(data.domain, {"x": x, "name": name}))
    found = arrays.predict(state, arrays.at(data.domain, {"x": x, "name": name}, index))
    same(found, jax.tree.map(jnp.diagonal, grid))


def test_slopes_of_predictions_are_differences(made):
    _, data, state, *_ = made

    def predict(x):
        there = arrays.at(data.domain, {"x": x[None], "name": NAMES[1:2]})
        found = arrays.predict(state, there)
        return found.mean[0, 0] + found.variance[0, 0]

    step = np.cbrt(np.finfo(DTYPE).eps).astype(DTYPE)
    slope, predict = jax.jit(jax.grad(predict)), jax.jit(predict)
    for x in (0.3, 2.2):
        x = jnp.asarray(x, DTYPE)
        difference = (predict(x + step) - predict(x - step)) / (2 * step)
        np.testing.assert_allclose(slope(x), difference, rtol=50 * step)


@pytest.mark.slow
def test_draws_for_many_keys_are_those_for_each(made):
    _, data, state, *_ = made
    keys = jax.random.split(jax.random.key(0), 3)

    def sample(key):
        return arrays.sample(state, data.domain, key, 5)

    together = jax.jit(jax.vmap(sample))(keys)
    assert together.shape == (3, 5, len(X), len(NAMES))
    for k in range(3):
        assert_close(together[k], sample(keys[k]), factor=10)


@pytest.mark.skipif(DTYPE == np.float32, reason="then everything is in 32 bits anyway")
def test_32_bits_stay_32_bits(made):
    model, data = problem(np.float32)
    dtypes = {leaf.dtype for leaf in jax.tree.leaves((model, data)) if jnp.issubdtype(leaf.dtype, jnp.inexact)}
    assert dtypes == {np.dtype(np.float32)}
    some = arrays.observed(data.domain, data.values)
    # A key draws other numbers in 64 bits: both fits start from these.
    narrow = arrays.start(model, some, jax.random.key(KEY))
    wide = jax.tree.map(lambda new, old: new.astype(old.dtype), narrow, arrays.start(*made[:2], jax.random.key(KEY)))
    state, elbo = arrays.sweeps(narrow, some, SWEEPS)
    there = arrays.at(data.domain, {"x": np.array([0.2, 1.2]), "name": NAMES})
    found = (state, elbo, arrays.fitted(state, data.domain), arrays.predict(state, there),
             arrays.sample(state, there, jax.random.key(0), 2))  # fmt: skip
    leaves = [leaf for leaf in jax.tree.leaves(found) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    assert {leaf.dtype for leaf in leaves} == {np.dtype(np.float32)}
    np.testing.assert_allclose(elbo, arrays.sweeps(wide, made[1], SWEEPS)[1], rtol=1e-3)
    assert jax.config.read("jax_enable_x64")


POINTS = {"x": X, "name": NAMES}


@pytest.mark.parametrize(
    ("given", "options", "error", "words"),
    [
        ({"points": {"x": X[::-1], "name": NAMES}}, {}, pt.DataError, r"points\['x'\]: levels must be finite"),
        ({"points": {"x": X[:4], "name": NAMES}}, {}, pt.DataError, r"\(6, 4\), and the modes"),
        ({"values": np.full((6, 4), np.nan)}, {}, pt.DataError, "no entry is observed"),
        ({"values": np.full((6, 4), np.inf)}, {}, pt.DataError, "24 values are infinite"),
        ({"values": np.ones(3)}, {"index": np.array([[0, 0], [5, 3], [6, 0]])}, pt.DataError, "index has shape"),
        ({"weights": -np.ones((6, 4))}, {}, pt.DataError, "at least 0"),
        ({"model": pt.CP("auto")}, {}, pt.ModelError, "rank is learned by pt.fit"),
        ({"model": pt.CP(1, ["z"])}, {}, pt.ModelError, "'z', which the data do not have"),
        ({"model": pt.Local(pt.Matern(1 / 2).on("x"))}, {}, pt.ModelError, "arrays.problem does not sample"),
    ],
    ids=["order", "shape", "nothing", "infinite", "index", "weights", "open", "mode", "local"],
)
def test_what_a_problem_refuses(given, options, error, words):
    arguments = {"model": MODEL, "points": POINTS, "values": values()} | given
    with pytest.raises(error, match=words):
        arrays.problem(**arguments, **options)


def test_a_list_of_values_is_their_grid():
    index = np.argwhere(np.ones((len(X), len(NAMES))))
    model, data = arrays.problem(MODEL, POINTS, values().ravel(), index=index, names=["name"])
    grid = problem()
    same(model, grid.model)
    same((data.values, data.weights), (grid.observations.values.ravel(), grid.observations.weights.ravel()))


def test_draws_stay_on_the_host(made):
    _, data, state, *_ = made
    drawn = state._replace(draws=Draws.of(state.model.terms, [tuple(tuple(b.mean for b in p) for p in state.beliefs)]))
    for call in (
        lambda x: arrays.predict(drawn, arrays.at(data.domain, {"x": x, "name": NAMES})),
        lambda x: arrays.sample(drawn, arrays.at(data.domain, {"x": x, "name": NAMES}), jax.random.key(0), 2),
    ):
        with pytest.raises(pt.ModelError, match="read on the host, and not inside"):
            jax.jit(call)(X)
    with pytest.raises(pt.ModelError, match="the modes"):
        arrays.at(data.domain, {"x": X})
