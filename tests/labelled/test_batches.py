"""Predictions in batches: the same as at once, lazily, with one program for all batches."""

import threading

import jax
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import probtensor as pt
from probtensor.labelled import batches
from tests.labelled.fields import QUICK, field

dask = pytest.importorskip("dask")
dask_array = pytest.importorskip("dask.array")

AT = {
    "station": ["c", "new", "b"],
    "time": pd.date_range("2019-12-20", periods=7, freq="9D").values,
    "lat": np.array([50.0, 41.0, 39.5, 44.0]),
}


@pytest.fixture(scope="module")
def post():
    """With a joined mode, a constant for each station, and a month."""
    model = pt.Offset("station") + pt.CP(1, {("time", "lat"): pt.Dense(pt.Matern(3 / 2)), "station": None})
    return pt.fit(field()[0], model + pt.Climatology("time.month"), engine=QUICK)


def rows():
    random = np.random.default_rng(0)
    return pt.points({name: random.choice(own, 23) for name, own in AT.items()})


@pytest.mark.parametrize("size", [1000, 28, 5])
def test_a_grid(post, size):
    """84 entries, in one batch, in whole stations, and in pieces with remainders in each dimension."""
    whole = post.predict(AT, quantiles=[0.1, 0.9])
    lazy = post.predict(AT, quantiles=[0.1, 0.9], batch_size=size)
    assert all(np.prod([max(n) for n in lazy[name].chunks]) <= size for name in ("mean", "sd"))
    xr.testing.assert_allclose(lazy.compute(), whole, rtol=1e-9)
    for name, own in whole.items():
        assert (own.dims, own.attrs, own.dtype) == (lazy[name].dims, lazy[name].attrs, lazy[name].dtype)
    assert list(lazy.coords) == list(whole.coords) and lazy.attrs == whole.attrs


def test_rows(post):
    for options in ({}, {"terms": 1, "scale": "latent", "quantiles": [0.5]}):
        whole = post.predict(rows(), **options)
        lazy = post.predict(rows(), batch_size=9, **options)
        assert lazy["mean"].chunks == ((9, 9, 5),)
        xr.testing.assert_allclose(lazy.compute(), whole, rtol=1e-9)
        assert lazy["mean"].attrs == whole["mean"].attrs


@pytest.mark.slow
def test_a_chunked_grid_is_answered_in_its_chunks(post):
    values = dask_array.zeros((3, 7, 4), chunks=(2, 3, 4))
    at = xr.DataArray(values, AT, list(AT)).to_dataset(name="other").assign_coords(extra=1.0)
    lazy = post.predict(at)
    assert lazy["sd"].chunks == values.chunks
    xr.testing.assert_allclose(lazy.compute(), post.predict(AT).compute(), rtol=1e-9)
    assert post.predict(at, batch_size=4)["sd"].chunks[1] == (1,) * 7
    assert post.predict(at.drop_vars("other"))["sd"].chunks is None
    empty = dask_array.zeros((3, 7, 4), chunks=((2, 0, 1), 7, 4))
    xr.testing.assert_allclose(post.predict(at.assign(other=(at["other"].dims, empty))).compute(), post.predict(AT))


def test_a_single_place(post):
    at = {"station": "a", "time": AT["time"][3], "lat": 42.0}
    xr.testing.assert_allclose(post.predict(at, batch_size=10).compute(), post.predict(at), rtol=1e-9)


@pytest.mark.slow
def test_the_same_bytes_whenever_it_is_computed(post):
    lazy = post.predict(AT, batch_size=10)
    first = lazy.compute(scheduler="threads")
    xr.testing.assert_identical(first, lazy.compute(scheduler="synchronous"))
    xr.testing.assert_identical(first["sd"], lazy["sd"].compute())
    xr.testing.assert_identical(first.isel(time=[4]), lazy.isel(time=[4]).compute())


def test_threads_have_64_bits_of_their_own(post):
    """Where the caller has 32, as most processes have."""
    lazy, found = post.predict(AT, batch_size=20), []
    with jax.enable_x64(False):
        lazy32 = lazy.compute(scheduler="threads", num_workers=3)

        def other():
            found.append(lazy.compute(scheduler="synchronous"))

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    xr.testing.assert_allclose(lazy32, post.predict(AT), rtol=1e-9)
    xr.testing.assert_identical(lazy32, found[0])


@pytest.mark.slow
@pytest.mark.parametrize("at", [AT, rows()], ids=["grid", "rows"])
def test_one_program_serves_all_batches(post, monkeypatch, at):
    """But for the numbers of levels that the data do not have, which are rounded up."""
    lazy = post.predict(at, batch_size=6)
    lazy.compute(scheduler="synchronous")

    def traced(*_):
        raise AssertionError("a batch was traced again")

    monkeypatch.setattr("probtensor.arrays._combine", traced)
    lazy.compute(scheduler="synchronous")


def test_batches_have_few_shapes(post, monkeypatch):
    """A batch of each kind is asked of one domain, remainders included."""
    shapes = set()
    original = batches.Places

    def noted(domain, *others):
        shapes.add(tuple(own.shape for own in jax.tree.leaves(domain)) + domain.shape)
        return original(domain, *others)

    monkeypatch.setattr(batches, "Places", noted)
    post.predict(AT, batch_size=5).compute(scheduler="synchronous")
    assert len(shapes) == 1
    shapes.clear()
    post.predict(rows(), batch_size=4).compute(scheduler="synchronous")
    assert len(shapes) == 1


def test_to_zarr_and_back(post, tmp_path):
    lazy = post.predict(AT, batch_size=10).drop_vars("station")  # for text zarr warns of its own format
    lazy.to_zarr(tmp_path / "out.zarr", consolidated=False)
    with xr.open_zarr(tmp_path / "out.zarr", consolidated=False) as found:
        xr.testing.assert_identical(found.load(), lazy.compute())
        assert found["mean"].attrs["units"] == "K"


@pytest.mark.parametrize(
    ("at", "options", "error", "text"),
    [
        (AT, {"batch_size": 0}, pt.ModelError, "batch_size=0: expected a whole number, 1 or more"),
        (AT, {"batch_size": 2.5}, pt.ModelError, "batch_size=2.5"),
        (AT, {"batch_size": True}, pt.ModelError, "batch_size=True"),
        (AT, {"batch_size": "all"}, pt.ModelError, "batch_size='all'"),
        (AT | {"lat": []}, {"batch_size": 9}, pt.DataError, "'lat' in `at` is empty"),
        (AT | {"lat": [41.0, np.nan]}, {"batch_size": 9}, pt.DataError, "'lat' in `at` is missing at index 1"),
        (AT | {"lat": ["north"]}, {"batch_size": 9}, pt.DataError, "'lat' holds numbers"),
        ({"lat": [40.0]}, {"batch_size": 9}, pt.DataError, "reads coordinate"),
        (AT, {"batch_size": 9, "quantiles": [1.5]}, pt.DataError, "quantiles"),
        (AT, {"batch_size": 9, "terms": 7}, pt.ModelError, "terms"),
    ],
)
def test_bad_questions_are_refused_at_once(post, at, options, error, text):
    """And not when the answer is computed."""
    with pytest.raises(error, match=text):
        post.predict(at, **options)


@pytest.mark.slow
def test_outside_a_domain_is_refused_at_once():
    data, _ = field()
    prior = pt.Basis("chebyshev", 4, pt.Matern(3 / 2))
    fitted = pt.fit(data, pt.Offset() + pt.CP(1, {"lat": prior, "time": None, "station": None}), engine=QUICK)
    with pytest.raises(pt.ModelError, match="39.5.*outside the domain"):
        fitted.predict(AT, batch_size=10)
