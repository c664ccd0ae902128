"""Numbers that are awkward for a machine: every fit is finite and sensible, or an error names the cause."""

import functools

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import probtensor as pt
from tests.helpers import mostly_slow

RANDOM = np.random.default_rng(0)
X, Y = np.arange(12.0), np.arange(5.0)
NOISE = 0.1
SEEN = RANDOM.random((12, 5)) > 0.2
SIGNAL = np.outer(np.sin(X / 2), np.cos(Y)) + 2
VALUES = SIGNAL + NOISE * RANDOM.normal(size=SIGNAL.shape)
ENGINE = pt.MessagePassing(max_sweeps=20)
MODELS = {
    "cp": pt.Offset() + pt.CP(2),
    "tucker": pt.Offset("y") + pt.Tucker(2),
    "train": pt.TensorTrain(2),
    "local": pt.Offset() + pt.Local(pt.Matern(3 / 2).on("x") * pt.Matern(1 / 2).on("y")),
}
every_model = pytest.mark.parametrize("name", mostly_slow(MODELS, "cp"))


def grid(values=VALUES, x=X, y=Y):
    return xr.DataArray(values, {"x": x, "y": y}, ["x", "y"], name="v").where(SEEN)


@functools.cache
def as_usual(name):
    return fitted(grid(), name)


def fitted(data, name):
    """What is predicted, and the sd of a new measurement, at the data's places; both have to be numbers."""
    post = pt.fit(data, MODELS[name], engine=ENGINE)
    answer = post.predict(data)
    mean, sd = answer["mean"].to_numpy(), answer["sd"].to_numpy()
    assert np.isfinite(mean).all() and np.isfinite(sd).all() and (sd > 0).all()
    filled = post.impute()
    assert all(np.isfinite(own).all() for own in filled.data_vars.values())
    assert np.isfinite(post.objective).all()
    return mean, sd


@every_model
@pytest.mark.parametrize("unit", mostly_slow([1e-60, 1e-30, 1e-15, 1e-6, 1e6, 1e15, 1e30, 1e60], 1e-60, 1e30, 1e60))
def test_the_unit_of_the_values_does_not_matter(name, unit):
    mean, sd = fitted(grid(unit * VALUES), name)
    own_mean, own_sd = as_usual(name)
    np.testing.assert_allclose(mean / unit, own_mean, atol=1e-3 * NOISE)
    np.testing.assert_allclose(sd / unit, own_sd, rtol=1e-2)


@pytest.mark.parametrize(("unit", "bits"), [(1e100, 64), (1e300, 64), (1e-100, 64), (1e-310, 64)])
def test_what_cannot_be_squared_is_refused(unit, bits):
    words = rf"beyond 1e\+75 .first: .*x=0.0, y=.*overflow in {bits}" if unit > 1 else f"below 1e-75 are lost in {bits}"
    with pytest.raises(pt.DataError, match=rf"{words} bits.*another unit"):
        pt.fit(grid(unit * VALUES), MODELS["cp"], engine=ENGINE)


def test_a_fill_value_that_was_left_in_is_named():
    with pytest.raises(
        pt.DataError, match=r"1 values are beyond 1e\+75 .first: 1e\+300, x=0.0, y=0.0.*mark them as NaN"
    ):
        pt.fit(grid(np.where(np.arange(60).reshape(12, 5) == 0, 1e300, VALUES)).where(True), MODELS["cp"])


@every_model
@pytest.mark.parametrize(("offset", "spread"), [(1e8, 1.0), (-1e8, 1.0), (1e8, 1e-3), (1e12, 1.0)])
def test_far_from_zero(name, offset, spread):
    """An offset takes some of the 16 digits of a value; a model without an offset has to tell it by its functions."""
    mean, sd = fitted(grid(offset + spread * VALUES), name)
    if name == "train":
        assert np.abs((mean - offset) / spread - VALUES)[SEEN].max() < 1e-6 * abs(offset / spread)
        return
    own_mean, own_sd = as_usual(name)
    rounding = abs(offset / spread) * np.finfo(float).eps
    np.testing.assert_allclose((mean - offset) / spread, own_mean, atol=0.05 * NOISE + 100 * rounding)
    np.testing.assert_allclose(sd / spread, own_sd, rtol=0.05)


@every_model
@pytest.mark.parametrize("constant", [0.0, 3.0, -1e30, 1e-30])
def test_constant_data(name, constant):
    mean, sd = fitted(grid(np.full((12, 5), constant)), name)
    np.testing.assert_allclose(mean, constant, rtol=1e-5, atol=1e-9 if constant == 0 else 0.0)
    assert (sd < 1e-3 * (abs(constant) or 1.0)).all()


@every_model
def test_no_noise_at_all(name):
    mean, _ = fitted(grid(SIGNAL), name)
    np.testing.assert_allclose(mean[SEEN], SIGNAL[SEEN], atol=1e-2)


COORDINATES = {
    "tiny": (1e-30 * X, None),
    "huge": (1e30 * X, None),
    "in nanoseconds": (pd.to_datetime(1_600_000_000_000_000_000 + np.arange(12)), None),
    "nanoseconds in numbers": (1_600_000_000_000_000_000 + 1000 * np.arange(12), None),
    "far from zero": (1e8 + 1e-3 * X, None),
    "next to each other": (np.sort(np.concatenate([X[:6] + 1, np.nextafter(X[:6] + 1, 99.0)])), np.repeat(X[:6], 2)),
    "closer than rounding": (np.sort(np.concatenate([X[:6] + 1, X[:6] + 1 + 1e-13])), np.repeat(X[:6], 2)),
    "a gap of a million lengthscales": (np.concatenate([X[:6], 1e7 + X[:6]]), None),
    "a gap of all digits": (np.concatenate([X[:6], 1e15 + X[:6]]), None),
}


@every_model
@pytest.mark.parametrize("case", COORDINATES)
def test_coordinates(name, case):
    """Two kinds that are the first in another unit give its answer; the others one within what noise and gaps allow."""
    x, places = COORDINATES[case]
    signal = SIGNAL if places is None else SIGNAL[places.astype(int)]
    mean, sd = fitted(grid(signal + VALUES - SIGNAL, x), name)
    if case in ("tiny", "huge"):
        np.testing.assert_allclose(mean, as_usual(name)[0], atol=1e-3 * NOISE)
        np.testing.assert_allclose(sd, as_usual(name)[1], rtol=1e-2)
    error = np.abs(mean - signal)[SEEN]
    assert (error < 5 * sd[SEEN]).all()


def test_coordinates_that_cannot_be_squared():
    with pytest.raises(pt.DataError, match=r"coordinate 'x': the label at index 1 is 1e\+300.*below 1e\+75"):
        pt.fit(grid(x=1e300 * X), MODELS["cp"])


@every_model
def test_places_beyond_all_data(name):
    """Where nothing is near, an answer is the prior's."""
    post = pt.fit(grid(), MODELS[name], engine=ENGINE)
    answer = post.predict({"x": [-1e70, -1e9, 1e9, 1e70], "y": Y})
    assert np.isfinite(answer["mean"]).all() and np.isfinite(answer["sd"]).all()
    assert (answer["sd"] >= float(post.predict(grid())["sd"].min())).all()
    with pytest.raises(pt.DataError, match="infinite|below"):
        post.predict({"x": [1e300], "y": Y})


def check_answered(post, at=None):
    answer = post.predict(grid() if at is None else at)
    assert np.isfinite(answer["mean"]).all() and np.isfinite(answer["sd"]).all() and (answer["sd"] > 0).all()
    assert np.isfinite(post.objective).all()


ONES = xr.ones_like(grid(np.ones((12, 5))).fillna(1.0))
ARGUMENTS = {
    **{f"weights of {w:g}": {"weights": w * ONES} for w in (1e-300, 1e-30, 1e30, 1e300)},
    "some weights of 1e30": {"weights": ONES.where(ONES["x"] > 3, 1e30)},
    **{f"errors of {e:g}": {"errors": e} for e in (1e-300, 1e-12, 1e12, 1e100)},
    "some errors of 1e-12": {"errors": ONES.where(ONES["x"] > 3, 1e-12)},
    **{f"noise of {sd:g}": {"likelihood": pt.Gaussian(sd=pt.fixed(sd))} for sd in (1e-30, 1e-12, 1e12, 1e30)},
}
EXTREME = ("weights of 1e-300", "some weights of 1e30", "errors of 1e-300", "some errors of 1e-12", "noise of 1e+30")


@pytest.mark.parametrize("case", mostly_slow(ARGUMENTS, *EXTREME))
def test_weights_errors_and_noise(case):
    check_answered(pt.fit(grid(), MODELS["cp"], engine=ENGINE, **ARGUMENTS[case]))


@pytest.mark.parametrize("sd", [1e-300, 1e300])
def test_noise_that_cannot_be_squared(sd):
    with pytest.raises(pt.ModelError, match="the objective is not finite.*a held hyper-parameter far from the data's"):
        pt.fit(grid(), MODELS["cp"], engine=ENGINE, likelihood=pt.Gaussian(sd=pt.fixed(sd)))


GAP = np.concatenate([X[:6], 1e7 + X[:6]])
CLOSE = COORDINATES["next to each other"][0]
KERNELS = [
    *(pt.Matern(3 / 2, lengthscale=kind(scale)) for scale in (1e-300, 1e-6, 1e6, 1e300) for kind in (pt.fixed, float)),
    *(pt.RBF(lengthscale=pt.fixed(scale)) for scale in (1e-30, 1e30)),
    *(pt.Matern(7 / 2), pt.RBF(order=6), pt.Periodic(2.0), pt.RandomWalk(), pt.IntegratedRandomWalk()),
]


@pytest.mark.slow
@pytest.mark.parametrize("x", [X, GAP, CLOSE], ids=["steps", "a gap", "rounding apart"])
@pytest.mark.parametrize("kernel", KERNELS, ids=repr)
def test_kernels(kernel, x):
    data = grid(x=x)
    check_answered(pt.fit(data, pt.Offset() + pt.CP(1, modes={"x": kernel, "y": None}), engine=ENGINE), data)


LIKELIHOODS = {
    "counts of 1e26": (pt.Poisson(), np.floor(np.exp(20 * VALUES))),
    "no count at all": (pt.Poisson(), 0 * VALUES),
    "no count at all, spread": (pt.NegativeBinomial(), 0 * VALUES),
    "counts of 1e15, spread": (pt.NegativeBinomial(), np.floor(np.exp(12 * VALUES))),
    "always true": (pt.Bernoulli(), 0 * VALUES + 1),
    "constant, heavy tails": (pt.StudentT(), 0 * VALUES + 1),
    "an outlier of 1e30, heavy tails": (pt.StudentT(), np.where(SIGNAL == SIGNAL[3, 1], 1e30, VALUES)),
    "logarithms of 1e-300": (pt.Gaussian(transform="log"), 1e-300 * np.exp(VALUES)),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", LIKELIHOODS)
def test_likelihoods(case):
    likelihood, values = LIKELIHOODS[case]
    check_answered(pt.fit(grid(values), MODELS["cp"], engine=ENGINE, likelihood=likelihood))


def test_one_measurement_a_level():
    """An identity matrix's worth of data: nothing says how a level goes on."""
    values = np.where(np.eye(12, dtype=bool), 1.0 + X[:, None], np.nan)
    data = xr.DataArray(values, {"x": X, "z": np.arange(12.0)}, ["x", "z"])
    post = pt.fit(data, pt.Offset() + pt.CP(2), engine=ENGINE)
    check_answered(post, data)


def test_a_single_measurement():
    one = grid().where((grid()["x"] == X[3]) & (grid()["y"] == Y[int(np.argmax(SEEN[3]))]))
    with pytest.warns(pt.ProbtensorWarning, match="were never observed"):
        post = pt.fit(one, MODELS["cp"], engine=ENGINE)
        filled = post.impute()
    assert int(one.notnull().sum()) == 1
    np.testing.assert_allclose(filled["v"], float(one.max()), atol=0.1)
    assert np.isfinite(filled["v_sd"]).all()


def test_a_rank_far_too_high():
    """Components that the data do not ask for are switched off, and cost nothing at the places without data."""
    post = pt.fit(grid(), pt.Offset() + pt.CP(20), engine=pt.MessagePassing(max_sweeps=100))
    answer = post.predict(grid())
    assert np.isfinite(answer["mean"]).all() and (answer["sd"] > 0).all()
    error = float(np.sqrt(np.mean((answer["mean"].to_numpy() - SIGNAL)[~SEEN] ** 2)))
    assert error < SIGNAL.std()


@pytest.mark.slow
def test_two_million_levels_of_which_a_hundred_have_data():
    levels, engine = 2_000_000, pt.MessagePassing(max_sweeps=5)
    values = np.full((levels, 2), np.nan)
    at = np.sort(RANDOM.choice(levels, 100, replace=False))
    values[at] = np.sin(at / 2e5)[:, None] + NOISE * RANDOM.normal(size=(100, 2))
    data = xr.DataArray(values, {"x": np.arange(float(levels)), "y": [0.0, 1.0]}, ["x", "y"])
    post = pt.fit(data, pt.Offset() + pt.CP(1), engine=engine)
    answer = post.predict(data.isel(x=slice(None, None, 1000)))
    assert np.isfinite(answer["mean"]).all() and np.isfinite(answer["sd"]).all() and (answer["sd"] > 0).all()
    at_data = post.predict(data.isel(x=at))["mean"]
    assert float(np.sqrt(np.mean((at_data - np.sin(at / 2e5)[:, None]) ** 2))) < 3 * NOISE


@pytest.mark.slow
@pytest.mark.parametrize(
    "engine",
    [pt.SVI(steps=60), pt.Gibbs(samples=20, warmup=20, chains=1), pt.NUTS(samples=10, warmup=10, chains=1)],
    ids=lambda engine: type(engine).__name__,
)
@pytest.mark.parametrize("unit", [1e-30, 1.0, 1e30])
@pytest.mark.filterwarnings("ignore::probtensor.errors.ProbtensorWarning")
def test_other_engines(engine, unit):
    answer = pt.fit(grid(unit * VALUES), pt.Offset() + pt.CP(1), engine=engine).predict(grid())
    assert np.isfinite(answer["mean"]).all() and np.isfinite(answer["sd"]).all() and (answer["sd"] > 0).all()
    assert np.abs(answer["mean"].to_numpy() / unit - SIGNAL).max() < 5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::probtensor.errors.ProbtensorWarning")
@pytest.mark.parametrize("case", ["1e-30", "1e30", "far", "constant", "nanoseconds", "gap"])
def test_the_automatic_model(case):
    data = {
        "1e-30": lambda: grid(1e-30 * VALUES),
        "1e30": lambda: grid(1e30 * VALUES),
        "far": lambda: grid(1e8 + VALUES),
        "constant": lambda: grid(np.full((12, 5), 3.0)),
        "nanoseconds": lambda: grid(VALUES, COORDINATES["in nanoseconds"][0]),
        "gap": lambda: grid(VALUES, COORDINATES["a gap of a million lengthscales"][0]),
    }[case]()
    answer = pt.fit(data).predict(data)
    assert np.isfinite(answer["mean"]).all() and np.isfinite(answer["sd"]).all() and (answer["sd"] > 0).all()
    misfit = np.abs(answer["mean"] - data).max()
    assert float(misfit) < 4 * float(data.std()) + 1e-6 * float(np.abs(data).max())
