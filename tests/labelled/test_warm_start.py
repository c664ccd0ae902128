"""A fit that begins where another one ended, on the same data or on others."""

import jax
import numpy as np
import pytest
import xarray as xr
from tensorly.cp_tensor import CPTensor
from tensorly.tucker_tensor import TuckerTensor

import probtensor as pt
from probtensor import arrays
from probtensor.hyperparameters import parameters
from tests.helpers import mostly_slow

MODEL = pt.Offset(over="name") + pt.CP(2, modes={"x": pt.Matern(3 / 2, lengthscale=3.0), "y": None})
ONE = pt.MessagePassing(max_sweeps=1)


def field():
    """(x, name, y) with a fifth missing; x descends."""
    random = np.random.default_rng(3)
    x, y = np.linspace(6.0, 0.0, 13), np.arange(9.0)
    values = 3.0 * np.sin(x)[:, None] * np.cos(y / 3) + np.outer(np.cos(x / 2), y / 4)
    values = values[:, None, :] + np.array([10.0, 20.0, 15.0])[:, None] + 0.05 * random.standard_normal((13, 3, 9))
    whole = xr.DataArray(values, {"x": x, "name": list("bac"), "y": y}, ["x", "name", "y"], name="v")
    return whole.where(random.random(whole.shape) > 0.2)


class Begun(Exception):
    """What an engine was to start from."""


class Recorder(pt.MessagePassing):
    """An engine that fits nothing."""

    def run(self, model, observations, key, progress=None, init=None, gaps=None):
        raise Begun(init, observations.domain, gaps)


def begun(data, model, init):
    """The signal that a fit starts from, in the core's order, and its state."""
    with pytest.raises(Begun) as caught:
        pt.fit(data, model, init=init, engine=Recorder())
    state, domain, _ = caught.value.args
    with jax.enable_x64(True):
        return arrays.fitted(state, domain), state


@pytest.fixture(scope="module")
def post():
    return pt.fit(field(), MODEL, engine=pt.MessagePassing(max_sweeps=30))


def rows(data):
    return pt.table(data.to_dataframe().dropna().reset_index().sample(frac=1.0, random_state=0), "v", list(data.dims))


def in_core_order(data, found):
    """Predictions on a grid as the core has it: dimensions by name, labels ascending."""
    return found.transpose(*sorted(data.dims)).sortby(sorted(data.dims)).to_numpy()


def finer():
    """At other levels of x, and without one of the names."""
    data = field()
    return data.interp(x=np.linspace(5.75, -0.5, 6), kwargs={"fill_value": 0.0}).isel(name=[2, 0]).fillna(1.0)


DATA = {"the same": field(), "in another order": field().transpose("y", "x", "name")[::-1], "other levels": finer()}


@pytest.mark.parametrize("case", mostly_slow(DATA, "other levels"))
def test_it_starts_from_what_the_other_fit_says_there(post, case):
    data = DATA[case]
    found, _ = begun(data, MODEL, post)
    expected = post.predict(data, scale="latent")
    np.testing.assert_allclose(found.mean, in_core_order(data, expected["mean"]), atol=1e-9)
    np.testing.assert_allclose(found.variance, in_core_order(data, expected["sd"]) ** 2, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("term", [pt.Tucker({"name": 2, "x": 3, "y": 2}), pt.TensorTrain(2)], ids=["tucker", "train"])
def test_decompositions_start_so_too_when_another_mode_has_the_most_levels(term):
    first = pt.fit(field(), term, engine=pt.MessagePassing(max_sweeps=3))
    found, _ = begun(finer(), term, first)
    expected = first.predict(finer(), scale="latent")
    np.testing.assert_allclose(found.mean, in_core_order(finer(), expected["mean"]), atol=1e-9)
    np.testing.assert_allclose(found.variance, in_core_order(finer(), expected["sd"]) ** 2, rtol=1e-6)


def test_it_starts_so_from_a_table(post):
    found, _ = begun(rows(field()), MODEL, post)
    expected = field().copy(data=post.predict(field())["mean"].transpose(*field().dims).to_numpy())
    expected = expected.where(field().notnull()).transpose("name", "x", "y").sortby(["x", "name"]).to_numpy()
    np.testing.assert_allclose(np.sort(found.mean), np.sort(expected[np.isfinite(expected)]), atol=1e-9)


def test_it_goes_on_where_the_other_fit_ended(post):
    again = pt.fit(field(), MODEL, init=post, engine=ONE)
    assert float(post.objective[-1]) - 1e-6 <= float(again.objective[0]) < float(post.objective[-1]) + 1.0


@pytest.mark.slow
def test_auto_takes_its_model_and_power():
    data = field().isel(name=0)
    first = pt.fit(data, pt.Offset() + pt.CP(1), engine=pt.MessagePassing(power=0.5, max_sweeps=20))
    again = pt.fit(data, init=first, engine=ONE)
    assert again.model == first.model and again.choice is None
    assert float(again.objective[0]) >= float(first.objective[-1]) - 1e-6


@pytest.mark.slow
def test_stochastic_inference_starts_from_it(post):
    """Four steps from a random start are far from the truth."""
    warm, cold = (pt.fit(field(), MODEL, init=init, engine=pt.SVI(steps=4)) for init in (post, None))
    truth = post.predict(field())["mean"]
    error = [float(abs(p.predict(field())["mean"] - truth).mean()) for p in (warm, cold)]
    assert error[0] < 0.3 * error[1]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*have not mixed:probtensor.ProbtensorWarning")
def test_draws_are_summarised(post):
    drawn = pt.fit(field(), MODEL, init=post, engine=pt.Gibbs(samples=4, warmup=1, chains=1))
    found, state = begun(field(), MODEL, drawn)
    assert state.draws is None
    expected = in_core_order(field(), post.predict(field())["mean"])
    np.testing.assert_allclose(found.mean, expected, atol=0.3)
    elsewhere, _ = begun(finer(), MODEL, drawn)
    np.testing.assert_allclose(elsewhere.mean, in_core_order(finer(), post.predict(finer())["mean"]), atol=1.0)


@pytest.mark.slow
def test_a_local_kernel_goes_on_from_what_was_learned():
    data = field().isel(name=0, drop=True)
    model = pt.Offset() + pt.Local(pt.Matern(3 / 2).on("x") * pt.Matern(1 / 2).on("y"), neighbours=5)
    first = pt.fit(data, model, engine=pt.MessagePassing(draws=2))
    _, state = begun(data, model, first)
    (learned, start) = (parameters(m.terms[1].kernel) for m in (first._fitted.state.model, state.model))
    assert len(learned) > 2
    for one, other in zip(learned, start, strict=True):
        np.testing.assert_array_equal(one.value, other.value)


def test_learned_numbers_are_carried_and_held_ones_stay(post):
    held = pt.Offset(over="name") + pt.CP(2, {"x": pt.Matern(3 / 2, lengthscale=pt.fixed(0.7)), "y": None})
    _, state = begun(field(), held, post)
    before = {n: b.prior.kernel.lengthscale for n, b in zip(("x", "y"), _by_name(post._fitted.state), strict=True)}
    now = {n: b.prior.kernel.lengthscale for n, b in zip(("x", "y"), _by_name(state), strict=True)}
    np.testing.assert_allclose(now["x"].value, 0.7)
    np.testing.assert_array_equal(now["y"].value, before["y"].value)
    np.testing.assert_array_equal(state.model.likelihood.sd.value, post._fitted.state.model.likelihood.sd.value)


def _by_name(state):
    cp = state.model.terms[1]
    return [block for _, block in sorted(zip(cp.names, cp.blocks, strict=True), key=lambda pair: pair[0])]


@pytest.mark.parametrize("term", [pt.CP(2), pt.Tucker({"x": 2, "name": 2, "y": 3})], ids=["cp", "tucker"])
@pytest.mark.parametrize("single", [False, True], ids=["all", "a single level"])
def test_a_decomposition_of_tensorly_is_a_start(term, single):
    data = field().isel(name=[1]) if single else field()
    random = np.random.default_rng(0)
    ranks = [2, 2, 2] if isinstance(term, pt.CP) else [2, 2, 3]
    factors = [random.standard_normal((n, r)) for n, r in zip(data.shape, ranks, strict=True)]
    if isinstance(term, pt.CP):
        decomposition = CPTensor((np.array([2.0, 0.5]), factors))
    else:
        decomposition = TuckerTensor((random.standard_normal(ranks), factors))
        term = pt.Tucker({"x": 2, "y": 3} | ({} if single else {"name": 2}))
    found, _ = begun(data, term, decomposition)
    expected = in_core_order(data, data.copy(data=decomposition.to_tensor()))
    np.testing.assert_allclose(found.mean, expected, atol=1e-10)


@pytest.mark.slow
def test_a_fit_comes_back_from_tensorly(post):
    model = pt.CP(2)
    first = pt.fit(field(), model, engine=pt.MessagePassing(max_sweeps=5))
    found, _ = begun(field(), model, first.to_tensorly())
    np.testing.assert_allclose(found.mean, in_core_order(field(), first.predict(field())["mean"]), atol=1e-9)


BAD = {
    "no posterior": (lambda p: {"init": 3}, pt.ModelError, "expected a posterior of an earlier fit"),
    "fewer terms": (lambda p: {"model": pt.CP(2), "init": p}, pt.ModelError, "has 2 terms, and this one 1"),
    "another rank": (
        lambda p: {"model": pt.Offset(over="name") + pt.CP(3, ["x", "y"]), "init": p},
        pt.ModelError,
        "term 1, a CP over x, y, has 3 functions.*has 2",
    ),
    "another term": (
        lambda p: {"model": pt.Offset(over="name") + pt.Tucker(2, ["x", "y"]), "init": p},
        pt.ModelError,
        "is a Tucker over x, y, and in the fit to go on from it is a CP over x, y",
    ),
    "other modes": (
        lambda p: {"model": pt.Offset(over="name") + pt.CP(2, ["name", "y"]), "init": p},
        pt.ModelError,
        "term 1 is a CP over name, y, and in the fit",
    ),
    "rank to be found": (
        lambda p: {"model": pt.Offset(over="name") + pt.CP("auto", ["x", "y"]), "init": p},
        pt.ModelError,
        "init= starts one fit",
    ),
    "other coordinates": (
        lambda p: {"data": field().assign_coords(y=[*"abcdefghi"]), "model": MODEL, "init": p},
        pt.DataError,
        "coordinate 'y' was numeric",
    ),
    "another mode": (
        lambda p: {"data": field().rename(y="z"), "model": pt.Offset(over="name") + pt.CP(2, ["x", "z"]), "init": p},
        pt.DataError,
        "have a mode 'z'",
    ),
    "a decomposition and no model": (
        lambda p: {"init": CPTensor((None, [np.ones((n, 2)) for n in field().shape]))},
        pt.ModelError,
        "says nothing of priors",
    ),
    "a decomposition of another shape": (
        lambda p: {"model": pt.CP(2), "init": CPTensor((None, [np.ones((n, 2)) for n in (13, 2, 9)]))},
        pt.ModelError,
        r"of an array of \(13, 2, 9\), and the data are \(13, 3, 9\)",
    ),
    "a decomposition of another rank": (
        lambda p: {"model": pt.CP(2), "init": CPTensor((None, [np.ones((n, 3)) for n in (13, 3, 9)]))},
        pt.ModelError,
        "has 3 functions, and the term 2",
    ),
    "a decomposition of another kind": (
        lambda p: {"model": pt.Tucker(2), "init": CPTensor((None, [np.ones((n, 2)) for n in (13, 3, 9)]))},
        pt.ModelError,
        "a model with one CP; there are 0",
    ),
}


@pytest.mark.filterwarnings("ignore:no term reads mode:probtensor.ProbtensorWarning")
@pytest.mark.parametrize(("arguments", "error", "words"), BAD.values(), ids=BAD)
def test_what_it_cannot_begin_with(post, arguments, error, words):
    given = {"data": field()} | arguments(post)
    with pytest.raises(error, match=words):
        pt.fit(**given)
