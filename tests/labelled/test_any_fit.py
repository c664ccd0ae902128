"""Fits drawn at random: models, likelihoods, shapes, patterns of missing entries, units and dtypes.

Every one is finite, leaves what was observed as it is, climbs where it promises to, and gives the same answer for data
in another order and when it is read from disk.
"""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import probtensor as pt

pytestmark = pytest.mark.filterwarnings("ignore::probtensor.errors.ProbtensorWarning")

ENGINE = pt.MessagePassing(max_sweeps=10)
#: What an evidence lower bound may lose, as a share of it, and of its largest parts: squares over the noise.
SLACK, ROUNDING = 1e-8, 100 * np.finfo(float).eps

AXES = {
    "x": np.array([-3.0, -1.5, 0.0, 0.1, 2.0, 40.0, 41.0]),
    "site": np.array(["a", "b", "ü", "d"]),
    "lat": np.array([10.0, 20.0, 30.0, 40.0, 50.0]),
    "lon": np.array([0.0, 90.0, 180.0, 270.0]),
    "time": pd.date_range("2020-01-31", periods=3, freq="40D").to_numpy(),
    "model day": xr.date_range("2000-02-28", periods=6, calendar="360_day", use_cftime=True).to_numpy(),
}
ROUGH, SMOOTH = pt.Matern(1 / 2), pt.RBF(order=4)
OFFSET = pt.Offset()


class Case(NamedTuple):
    """What is compiled once: modes, a model, a likelihood; a table or a grid."""

    modes: tuple[str, ...]
    model: Any
    likelihood: Any = pt.Gaussian()
    table: bool = False

    def __str__(self):
        terms = self.model.terms if isinstance(self.model, type(OFFSET + OFFSET)) else (self.model,)
        return " ".join(
            [*self.modes, *(type(part).__name__ for part in (*terms, self.likelihood)), "table" * self.table]
        )


FEW = (
    Case(("x", "site"), OFFSET + pt.CP(2)),
    Case(("x", "site"), OFFSET + pt.CP(1), table=True),
)
MORE = (
    Case(("lat", "lon", "time"), pt.Offset("lat") + pt.Tucker(2)),
    Case(("x", "site"), pt.TensorTrain(2)),
    Case(("x", "site"), OFFSET + pt.CP(1), pt.Poisson()),
    Case(("lat", "lon", "time"), OFFSET + pt.CP(2, modes={"time": ROUGH, ...: SMOOTH})),
    Case(("lat", "lon", "time"), pt.TensorTrain(2)),
    Case(
        ("lat", "lon", "time"), pt.Climatology("time.month", over="lat") + pt.CP(1, modes={("lat", "lon"): pt.Sphere()})
    ),
    Case(("lat", "lon", "time"), OFFSET + pt.CP(3), table=True),
    Case(("lat", "lon", "time"), OFFSET + pt.Local(ROUGH.on("time") * ROUGH.on("lat") * ROUGH.on("lon"))),
    Case(("model day", "site"), OFFSET + pt.CP(2)),
    Case(("model day", "site"), OFFSET + pt.Tucker(2), pt.StudentT(), table=True),
    Case(("model day", "x"), OFFSET + pt.CP(8)),
    Case(("x", "site"), pt.CP(1, modes={"x": pt.Basis("hilbert", 3), ...: None})),
    Case(("x", "site"), OFFSET + pt.CP(1), pt.Gaussian(transform="log")),
    Case(("x", "site"), OFFSET + pt.CP(1), pt.Gaussian(noise="site")),
    Case(("x", "site"), OFFSET + pt.CP(1), pt.Bernoulli()),
    Case(("x", "site"), OFFSET + pt.TensorTrain(2), pt.NegativeBinomial()),
    Case(("x", "site"), OFFSET + pt.CP(1), pt.Poisson(), table=True),
    Case(("x",), pt.CP(1)),
    Case(("x", "site"), OFFSET + pt.Local(ROUGH.on("x")), table=True),
)
UNITS = st.integers(-30, 30).map(lambda k: 10.0**k)
MISSING = st.sampled_from(["none", "some", "most", "all but one", "a level", "a block"])


@st.composite
def datasets(draw, case):
    """Values on a grid with missing entries, a table of them for some cases."""
    random = np.random.default_rng(draw(st.integers(0, 2**31)))
    shape = tuple(len(AXES[name]) for name in case.modes)
    kinds = random.normal(size=shape) + 2 * np.sin(np.arange(shape[0])).reshape(-1, *[1] * (len(shape) - 1))
    if isinstance(case.likelihood, pt.Poisson | pt.NegativeBinomial):
        values = random.poisson(np.exp(np.minimum(kinds, 3.0))).astype(draw(st.sampled_from(["i2", "u4", "f8"])))
    elif isinstance(case.likelihood, pt.Bernoulli):
        values = (kinds > 0).astype(draw(st.sampled_from(["?", "i1", "f4"])))
    elif getattr(case.likelihood, "transform", None) == "log":
        values = draw(UNITS) * np.exp(kinds)
    else:
        noise, offset = draw(st.sampled_from([0.0, 1.0])), draw(st.sampled_from([0.0, 1.0, -100.0, 1e4]))
        values = noise * kinds + (1 - noise) * kinds.mean(axis=-1, keepdims=True) + offset
        values = (draw(UNITS) * values).astype(draw(st.sampled_from(["f4", "f8", ">f8"])))
    if case.table:  # pandas has no others
        values = values.astype(values.dtype.newbyteorder("="))
    data = xr.DataArray(values, {name: AXES[name] for name in case.modes}, case.modes, name="v")
    seen = _seen(draw(MISSING), shape, random)
    if case.table:  # every level has a row: other numbers of levels would be other programs
        seen[tuple(np.arange(max(shape)) % n for n in shape)] = True
    if not seen.all():
        data = data.where(seen)
    return _tabled(data, random) if case.table else data


def _seen(kind, shape, random):
    seen = np.ones(shape, bool)
    if kind in ("some", "most"):
        seen = random.random(shape) < (0.7 if kind == "some" else 0.15)
    elif kind == "all but one":
        seen[:] = False
    elif kind == "a level":
        seen[random.integers(shape[0])] = False
    elif kind == "a block":
        seen[tuple(slice(0, (n + 1) // 2) for n in shape)] = False
    seen[tuple(random.integers(n) for n in shape)] = True
    return seen


def _tabled(data, random):
    """Rows in random order, some of them twice."""
    frame = data.to_dataframe().reset_index().dropna(subset="v")
    return frame.iloc[random.permutation(np.concatenate([np.arange(len(frame)), random.integers(len(frame), size=3)]))]


def points(frame, case):
    return pt.table(frame, "v", list(case.modes))


def fit(data, case):
    return pt.fit(data, case.model, likelihood=case.likelihood, engine=ENGINE)


def check_finite(post, at):
    """Answers are numbers, what is uncertain is so by more than nothing."""
    answer = post.predict(at, quantiles=[0.05, 0.95])
    assert all(np.isfinite(own.to_numpy().astype(float)).all() for own in answer.data_vars.values())
    assert (answer["sd"] > 0).all()
    assert np.isfinite(post.objective).all()
    return answer


def check_climbs(post, case, values):
    """By message passing with the Gaussian's own bound, up to the rounding of the misfit's squares."""
    if not isinstance(case.likelihood, pt.Gaussian) or "Local" in repr(case.model):
        return
    objective, table = post.objective.to_numpy(), post.hyperparameters()
    noise = table.loc[(table["term"] == "noise") & (table["name"] == "sd"), "value"].to_numpy().min()
    signal = np.log(values) if case.likelihood.transform == "log" else values
    slack = SLACK * (np.abs(objective).max() + len(values)) + ROUNDING * np.sum((signal / noise) ** 2)
    assert (np.diff(objective) >= -slack).all()


def check(case, data, what, order, folder):
    """One example: what it gives, and one of its other roads."""
    given = points(data, case) if case.table else data
    post = fit(given, case)
    answer = check_finite(post, given)
    observed = data["v"].to_numpy().astype(float) if case.table else data.to_numpy().astype(float)
    check_climbs(post, case, observed[~np.isnan(observed)])
    if what == "permuted":
        other, at = _permuted(data, case, order)
        again = check_finite(fit(at, case), given)
        scale = max(float(np.abs(answer["mean"]).max()), float(answer["sd"].max()))
        for name in ("mean", "sd"):
            np.testing.assert_allclose(
                again[name], answer[name].transpose(*again[name].dims), rtol=0, atol=1e-7 * scale
            )
    elif what == "stored":
        post.save(folder / "fit.zarr")
        xr.testing.assert_identical(check_finite(pt.load(folder / "fit.zarr"), given), answer)
    elif what == "filled" and not case.table:
        filled = post.impute()
        assert filled["v"].dtype.kind == "f" and np.isfinite(filled["v"]).all() and np.isfinite(filled["v_sd"]).all()
        seen = data.notnull().to_numpy()
        np.testing.assert_array_equal(filled["v"].to_numpy()[seen], data.to_numpy()[seen])
        assert (filled["v_sd"].to_numpy()[~seen] > 0).all()


def _permuted(data, case, order):
    """Rows in another order; or another order of dimensions, and of the levels of each."""
    random = np.random.default_rng(order)
    if case.table:
        other = data.iloc[random.permutation(len(data))]
        return other, points(other, case)
    other = data.transpose(*random.permutation(case.modes))
    other = other.isel({name: random.permutation(other.sizes[name]) for name in other.dims})
    return other, other


OTHER_ROADS = st.sampled_from(["permuted", "permuted", "filled", "filled", "stored"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fits")


@settings(max_examples=100, derandomize=True, deadline=None, database=None)
@given(drawn=st.data(), case=st.sampled_from(FEW), what=OTHER_ROADS, order=st.integers(0, 2**31))
def test_any_fit(folder, drawn, case, what, order):
    check(case, drawn.draw(datasets(case)), what, order, folder)


@pytest.mark.slow
@pytest.mark.parametrize("case", FEW + MORE, ids=str)
def test_a_hundred_fits_of_every_kind(folder, case):
    @settings(max_examples=100, derandomize=True, deadline=None, database=None)
    @given(data=datasets(case), what=OTHER_ROADS, order=st.integers(0, 2**31))
    def examples(data, what, order):
        check(case, data, what, order, folder)

    examples()
