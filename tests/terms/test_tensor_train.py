"""Tensor trains: their definition, what they reduce to, what they refuse; their laws are in `test_conformance.py`."""

import jax.numpy as jnp
import numpy as np
import pytest

from probtensor.axes import Axis
from probtensor.errors import ModelError
from probtensor.hyperparameters import fixed, parameters
from probtensor.kernels.matern import Matern
from probtensor.likelihoods.gaussian import Gaussian
from probtensor.model import as_sum, bind
from probtensor.observations.domain import domain, observations
from probtensor.terms.cp import CP
from probtensor.terms.tensor_train import TensorTrain
from tests.helpers import DTYPE, assert_close
from tests.oracles import gaussian_process
from tests.terms.problems import (
    AXES,
    LAYOUTS,
    SCALE,
    SIZES,
    data,
    everything,
    fit,
    in_order,
    observed,
    points_of,
    random_beliefs,
)

both_layouts = pytest.mark.parametrize("layout", LAYOUTS)


def bound(rank=(2, 3), modes=None):
    return TensorTrain(rank, modes).bind(AXES, SCALE)


def test_the_value_of_an_entry_is_a_product_of_matrices():
    """The functions of a mode are numbered row-major over what is on its left and on its right."""
    term, rng = bound((2, 3), ["lat", "time", "site"]), np.random.default_rng(0)
    shapes = {"lat": (4, 1, 2), "time": (5, 2, 3), "site": (3, 3, 1)}
    values = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    drawn = [jnp.asarray(values[name].reshape(len(values[name]), -1), DTYPE) for name in term.names]
    found = term.draw(drawn, domain(points_of(), {}))
    assert_close(found, np.einsum("axy,cyz,bzx->abc", *values.values()))


@pytest.mark.slow
@both_layouts
def test_two_modes_are_a_cp(layout):
    """One bond between two modes is a sum of products of functions: with equal priors the fits are the same."""
    where = observed(layout, *data())
    modes = {n: Matern(3 / 2, lengthscale=fixed(2.0), variance=fixed(1.0)) for n in ("time", "lat")}
    (one, elbo), (other, elbo_cp) = (fit(term, where, [False] * 6) for term in (TensorTrain(2, modes), CP(2, modes)))
    assert one.model.terms[0].names == other.model.terms[0].names
    assert_close(elbo, elbo_cp)
    for a, b in zip(one.beliefs[0], other.beliefs[0], strict=True):
        assert_close(a.mean, b.mean)
        assert_close(a.cov, b.cov)


def test_diagonal_matrices_are_a_cp():
    """Functions off the diagonal known to be zero, and every other one given."""
    where = observed("grid", *data())
    cp = CP(2).bind(AXES, SCALE)
    train = TensorTrain(2, modes=["lat", "time", "site"]).bind(AXES, SCALE)
    beliefs, _ = random_beliefs(cp)
    given = dict(zip(cp.names, beliefs, strict=True))
    own = []
    for name in train.names:
        b = given[name]
        if name == "time":
            mean = jnp.zeros((5, 4), DTYPE).at[:, jnp.array([0, 3])].set(b.mean)
            cov = jnp.zeros((5, 4, 4), DTYPE).at[:, jnp.array([[0], [3]]), jnp.array([[0, 3]])].set(b.cov)
            b = b._replace(mean=mean, cov=cov)
        own.append(b)
    mean, variance, total, _ = everything(train, own, where, where.values)
    expected = everything(cp, beliefs, where, where.values)
    assert_close(mean, expected[0])
    assert_close(variance, expected[1])
    assert_close(total, expected[2])


def test_one_mode_is_gaussian_process_regression():
    """In closed form, in one sweep: the objective is the log evidence."""
    axes = {"x": Axis("x", "numeric", np.array([0.0, 0.3, 1.0, 1.1, 2.0, 4.0]))}
    rng = np.random.default_rng(0)
    index, sd = rng.integers(0, 6, 20), 0.3
    y, w = rng.normal(size=20).astype(DTYPE).astype(float), rng.uniform(0.5, 2.0, 20).astype(DTYPE).astype(float)
    where = observations(domain({"x": axes["x"].points}, {}, index[:, None]), y, w)
    kernel = Matern(3 / 2, lengthscale=fixed(1.5), variance=fixed(0.8))
    state, elbo = fit(TensorTrain(3, {"x": kernel}), where, [False] * 2, sd=fixed(sd), axes=axes)
    K = gaussian_process.matern(1.5, 1.5, 0.8, gaussian_process.distances(axes["x"].points))
    cross, noisy = K[:, index], K[np.ix_(index, index)] + np.diag(sd**2 / w)
    assert_close(state.beliefs[0][0].mean[:, 0], cross @ np.linalg.solve(noisy, y))
    assert_close(elbo, np.full(2, gaussian_process.log_density(y, np.zeros(20), noisy)))


@pytest.mark.slow
def test_grid_and_points_are_one_fit():
    values, weights = data()
    (_, elbo), (_, elbo_points) = (fit(TensorTrain(2), observed(x, values, weights), [False] * 6) for x in LAYOUTS)
    assert_close(elbo_points, elbo)


@pytest.mark.slow
def test_a_mode_of_size_one_changes_nothing():
    values, weights = data()
    _, elbo = fit(TensorTrain((2, 3)), observed("grid", values, weights), [False] * 6)
    axes = {**AXES, "member": Axis("member", "numeric", np.array([17.0]))}
    shape = (*SIZES.values(), 1)
    wide = observations(domain(points_of(axes), {}), values.reshape(shape), weights.reshape(shape))
    state, elbo_wide = fit(TensorTrain((2, 3)), wide, [False] * 6, axes=axes)
    assert_close(elbo_wide, elbo)
    assert state.model.terms[0].constant == ("member",)


@pytest.mark.slow
def test_a_train_finds_missing_cells():
    """Two bonds of two: the truth has them, 30% of the cells are missing."""
    rng = np.random.default_rng(5)
    lat, site, time = (np.linspace(-1, 1, T) for T in SIZES.values())
    first = np.stack([np.ones(4), lat], axis=1)
    middle = np.stack([np.stack([np.ones(5), time], 1), np.stack([-time, 0.5 + time**2], 1)], axis=1)
    last = np.stack([np.ones(3), site], axis=1)
    truth = np.einsum("ia,kab,jb->ijk", first, middle, last).ravel()
    values = (truth + 0.02 * rng.normal(size=len(truth))).astype(DTYPE).astype(float)
    weights = (rng.random(len(truth)) < 0.7).astype(float)
    where = observed("grid", values, weights)
    declared = TensorTrain(2, modes=["lat", "time", "site"])
    fits = [fit(declared, where, np.arange(60) > 5, seed=s) for s in range(3)]
    state, _ = max(fits, key=lambda f: f[1][-1])
    mean = state.model.terms[0].mean([b.marginals for b in state.beliefs[0]], where.domain)
    error = np.sqrt(np.mean((in_order("grid", mean) - truth)[weights == 0] ** 2))
    assert error < 0.15 * truth.std()


def test_the_order_of_the_train_and_one_variance():
    term = bound((2, 3), modes=["site", "time", "lat"])
    assert term.names == ("time", "site", "lat") and term.order == (1, 0, 2)
    assert term.sides(0) == (2, 3)
    variances = {n: parameters(b.prior)[-1] for n, b in zip(term.names, term.blocks, strict=True)}
    assert {n: v.learned for n, v in variances.items()} == {"time": True, "site": False, "lat": False}
    assert_close(variances["time"].value, np.full(6, SCALE.variance / 6))
    rest = bound((2, 3), modes={"time": None, ...: None})
    assert [rest.names[rest.order.index(d)] for d in range(3)] == ["time", "lat", "site"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rank": 0}, r"TensorTrain\(rank=0\): the rank must be a positive integer, or one for each bond"),
        ({"rank": (2, 0)}, r"TensorTrain\(rank=\(2, 0\)\)"),
        ({"rank": "Auto"}, r"TensorTrain\(rank='Auto'\)"),
        ({"rank": {"time": 2}}, r"TensorTrain\(rank=\{'time': 2\}\)"),
        ({"rank": 2, "modes": ["time", "time"]}, "TensorTrain: mode 'time' is named 2 times"),
        ({"rank": 2, "modes": {"time": 3.0}}, "TensorTrain: the prior of mode 'time' is 3.0"),
    ],
)
def test_bad_declarations(arguments, message):
    with pytest.raises(ModelError, match=message):
        TensorTrain(**arguments)


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (TensorTrain((2, 2, 2)), r"3 bonds for 3 modes that vary \(lat, site, time\); give 2, or one number"),
        (TensorTrain(5), "bond of 5 between modes 'lat' and 'site' is above 4, all that mode 'lat' with its 4 levels"),
        (TensorTrain(4, modes=["time", "lat", "site"]), "bond of 4 between modes 'lat' and 'site' is above 3.*'site'"),
        (TensorTrain(2, modes=["time", "depth"]), "TensorTrain names mode 'depth', which the data do not have"),
    ],
)
def test_what_does_not_fit_the_axes(declared, message):
    with pytest.raises(ModelError, match=message):
        bind(as_sum(declared), AXES, Gaussian(), SCALE)


def test_a_middle_too_wide_says_how_wide():
    axes = {n: Axis(n, "numeric", np.arange(20.0)) for n in "abc"}
    TensorTrain(8).bind(axes, SCALE)
    with pytest.raises(ModelError, match="mode 'b' would have 9 x 9 = 81 functions.*at most 64"):
        TensorTrain(9).bind(axes, SCALE)
