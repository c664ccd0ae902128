"""Dask arrays: read chunk by chunk, once, and answered in kind."""

import tracemalloc

import numpy as np
import pytest
import xarray as xr

import probtensor as pt
from probtensor.labelled import chunks
from probtensor.labelled.encode import encode
from tests.labelled.fields import field, fit

dask = pytest.importorskip("dask")
dask_array = pytest.importorskip("dask.array")


def counting(data, **sizes):
    """The data in chunks, and a list that grows by one with every chunk that is computed."""
    reads = []

    def load(block):
        reads.append(1)
        return block

    lazy = data.chunk(sizes)
    return lazy.copy(data=lazy.data.map_blocks(load, dtype=float, meta=np.zeros((0, 0, 0)))), reads


def test_a_fit_reads_once_and_an_answer_when_it_is_computed():
    data, truth = field()
    lazy, reads = counting(data, time=3)
    with dask.config.set(scheduler="synchronous"):
        weights = xr.ones_like(data).chunk(time=2)
        post = fit(lazy, weights=weights)
        assert reads == [1, 1]
        filled = post.impute(where=xr.ones_like(data, dtype=bool).chunk(lat=2), quantiles=[0.5])
        assert post.score(truth.where(data.isnull()).chunk(time=3))["n"] == data.isnull().sum()
        assert reads == [1, 1]
        assert filled.isel(time=[0]).compute().sizes["time"] == 1 and reads == [1] * 3
    assert lazy.chunks is not None and weights.chunks is not None
    assert filled["tas_sd"].chunks == lazy.chunks
    xr.testing.assert_allclose(filled.compute(), fit(data).impute(quantiles=[0.5]), rtol=1e-8)


def test_gaps_of_sites_never_seen_are_told_of_a_dask_array_too():
    data, _ = field()
    with pytest.warns(UserWarning, match="1 sites"):
        fit(data.where((data.lat != 42.5) | (data.station != "a")).chunk(time=3)).impute()


@pytest.mark.slow
def test_draws_of_a_dask_array_are_those_of_an_array():
    data, _ = field()
    one, other = fit(data), fit(data.chunk(time=2))
    xr.testing.assert_allclose(other.impute(samples=3).compute(), one.impute(samples=3), rtol=1e-6)
    assert other.impute(samples=3)["tas_samples"].chunks is not None


@pytest.mark.slow
def test_after_an_update_with_a_dask_array():
    """Its gaps are filled lazily, too."""
    data, _ = field()
    later = field(seed=1)[0].assign_coords(time=data.time + np.timedelta64(7, "D"))
    post = fit(data)
    found = post.update(later.chunk(time=2)).impute()
    assert found["tas"].chunks is not None
    xr.testing.assert_allclose(found.compute(), post.update(later).impute(), rtol=1e-8)


@pytest.mark.parametrize("sizes", [{"time": 4}, {"time": 1, "lat": 2}, {"time": (2, 0, 4)}], ids=str)
@pytest.mark.parametrize("kind", ["float64", "float32", "masked"])
def test_the_same_arrays_as_in_memory(sizes, kind):
    """Also with an empty chunk."""
    data, _ = field()
    data = data.astype("float32" if kind == "float32" else float)
    lazy = data.chunk(sizes)
    if kind == "masked":
        lazy = lazy.copy(data=lazy.data.map_blocks(np.ma.masked_invalid))
    weights = xr.full_like(data, 2.0, dtype=float).chunk(lat=1)
    one, other = encode(data, weights, {"errors": 0.1}), encode(lazy, weights, {"errors": 0.1})
    np.testing.assert_array_equal(one.values, other.values)
    np.testing.assert_array_equal(one.weights, other.weights)
    np.testing.assert_array_equal(one.known["errors"], other.known["errors"])
    assert other.template.chunks is not None


def test_what_arrays_share_is_computed_once():
    """A mean over everything, on which each chunk depends."""
    data, _ = field()
    lazy, reads = counting(data, time=1)
    with dask.config.set(scheduler="synchronous"):
        encode(lazy - lazy.mean(), (lazy > 0).astype(float))
    assert len(reads) == 6


def test_no_second_copy():
    """Values and weights are all that is held, with masks while they are checked: a copy would be a third array."""
    lazy = dask_array.random.default_rng(0).normal(size=(64, 64, 64), chunks=(4, 64, 64))
    data = xr.DataArray(lazy, dims=["c", "a", "b"])
    with dask.config.set(scheduler="synchronous"):
        tracemalloc.start()
        encode(data)
        largest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert largest < 2.9 * data.nbytes


def test_integers_are_not_packed_again():
    data, _ = field()
    data.encoding = {"dtype": "int16", "scale_factor": 0.01, "_FillValue": -1, "zlib": True}
    with pytest.warns(UserWarning, match="'tas' came packed as int16.*before they are computed"):
        assert fit(data.chunk()).impute()["tas"].encoding == {"zlib": True}


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (lambda d: d.astype(object).chunk(), "object, not numbers"),
        (lambda d: d.astype(str).chunk(), "not numbers"),
        (lambda d: d.isel(time=slice(0)).chunk(), "empty"),
        (lambda d: d.where(d.time != d.time[1], np.inf).chunk(time=1), "infinite.*time="),
        (lambda d: xr.full_like(d, np.nan).chunk(time=1), "no entry is observed"),
    ],
)
def test_bad_dask_arrays_are_refused(data, text):
    with pytest.raises(pt.DataError, match=text):
        fit(data(field()[0]))


def test_chunks_of_unknown_size_are_refused():
    values = dask_array.ones(9, chunks=3)
    with pytest.raises(pt.DataError, match="chunks along 'x' are not known.*compute_chunk_sizes"):
        chunks.check_sizes(xr.DataArray(xr.Variable("x", values[values > 0])))


def test_an_error_of_the_graph_comes_through():
    def fails(block, block_info=None):
        if block_info and block_info[0]["chunk-location"][0] == 1:
            raise LookupError("no such file")
        return block

    data = field()[0].chunk(time=3)
    with pytest.raises(LookupError, match="no such file"):
        fit(data.copy(data=data.data.map_blocks(fails, dtype=float, meta=np.zeros((0, 0, 0)))))
