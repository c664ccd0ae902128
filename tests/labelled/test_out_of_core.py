"""Dask arrays through SVI: the same fit as in memory, without holding them, and nothing is left behind."""

import tempfile
import tracemalloc

import numpy as np
import pytest
import xarray as xr

import probtensor as pt
from probtensor.labelled import out_of_core
from probtensor.observations import sources
from tests.labelled.fields import MODEL

dask = pytest.importorskip("dask")
dask_array = pytest.importorskip("dask.array")

ENGINE = pt.SVI(batch_size=40, steps=60)
CHUNKS = {"time": 4, "lat": 2}


@pytest.fixture(autouse=True)
def several_parts(monkeypatch, tmp_path):
    """Parts of 100 entries, and a temporary folder that must be empty in the end."""
    monkeypatch.setattr(sources, "PART", 100)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield
    assert not list(tmp_path.iterdir())


def field(seed=0):
    """(time 10, lat 5, lon 6) around 10, dims and lat in no special order, a quarter missing."""
    rng = np.random.default_rng(seed)
    places = {"time": np.arange(10.0), "lat": np.array([50.0, 45, 42, 40, 30]), "lon": np.arange(6.0)}
    shape = np.sin(places["time"] / 2)[:, None, None] * np.cos(places["lat"] / 10)[:, None] * (1 + places["lon"] / 6)
    values = 10 + shape + 0.1 * rng.normal(size=shape.shape)
    values[rng.random(shape.shape) < 0.25] = np.nan
    data = xr.DataArray(values, places, list(places), name="sst", attrs={"units": "K"})
    return data.transpose("lat", "time", "lon")


def both(data, chunks=CHUNKS, lazy=None, **arguments):
    """Fits in memory and from disk; lazy: arguments of the latter."""
    engine = arguments.pop("engine", ENGINE)
    one = pt.fit(data, MODEL, engine=engine, **arguments)
    return one, pt.fit(data.chunk(chunks), MODEL, engine=engine, **(arguments if lazy is None else lazy))


def same(one, other):
    """Objectives to rounding, which steps multiply."""
    np.testing.assert_allclose(other.objective, one.objective, rtol=1e-8)


@pytest.fixture(scope="module")
def fits():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "PART", 100)
        return both(field())


def test_the_same_fit_as_in_memory(fits):
    one, other = fits
    same(one, other)
    assert other.noise_sd == pytest.approx(one.noise_sd, rel=1e-8)
    at = {"time": [0.5, 20.0], "lat": [41.0], "lon": [2.0]}
    xr.testing.assert_allclose(other.predict(at), one.predict(at), rtol=1e-8)
    counted = one.summary().splitlines()[2]
    assert counted in other.summary() and "of 300 entries" in counted


def test_chunks_do_not_matter(fits):
    same(fits[1], pt.fit(field().chunk(time=1, lat=5, lon=4), MODEL, engine=ENGINE))


@pytest.mark.slow
def test_weights_and_errors_in_other_chunks():
    data = field()
    weights = xr.full_like(data, 1.0).where(data.lat > 31, 2.0).where(data.time != 3, 0.0)
    errors = xr.DataArray(np.linspace(0.05, 0.2, 6), {"lon": data.lon}, "lon")
    lazy = {"weights": weights.chunk(time=3, lat=5), "errors": errors.chunk(lon=1)}
    one, other = both(data, weights=weights, errors=errors, lazy=lazy)
    same(one, other)
    xr.testing.assert_allclose(other.impute().compute(), one.impute(), rtol=1e-8)
    given = one.residuals().transpose(*data.dims)
    xr.testing.assert_allclose(other.residuals().compute().sortby("lat"), given.sortby("lat"), rtol=1e-7)
    with pytest.raises(pt.DataError, match="used in training"):
        other.score(data)
    assert np.isfinite(other.score(data.where(data.time == 3))["rmse"])  # weight 0 is not training


@pytest.mark.slow
def test_counts_with_an_exposure():
    data = field()
    counts = data.copy(data=np.where(data.isnull(), np.nan, np.round(np.abs(10 * (data.values - 10)))))
    exposure = xr.DataArray(np.linspace(1, 2, 10), {"time": data.time}, "time")
    one, other = both(counts, likelihood=pt.Poisson(exposure=exposure))
    same(one, other)
    xr.testing.assert_allclose(other.impute().compute(), one.impute(), rtol=1e-7)


def test_filled_lazily_in_the_same_chunks(fits):
    one, other = fits
    where = field().lon > 1
    filled = other.impute(where=where, quantiles=[0.1, 0.9])
    assert all(dict(own.chunksizes) | {"quantile": ()} for own in filled.values())
    assert filled["sst"].chunksizes == field().chunk(CHUNKS).chunksizes
    expected = one.impute(where=where, quantiles=[0.1, 0.9])
    found = filled.compute(scheduler="threads")
    xr.testing.assert_allclose(found, expected, rtol=1e-8)
    xr.testing.assert_identical(found, filled.compute(scheduler="synchronous"))
    for name, own in expected.items():
        assert xr.Variable((), 0, own.attrs).identical(xr.Variable((), 0, filled[name].attrs))
        assert own.dtype == filled[name].dtype and own.dims == filled[name].dims
    np.testing.assert_array_equal(found["sst"].where(field().notnull()), field())


def test_residuals_and_scores_lazily(fits):
    one, other = fits
    xr.testing.assert_allclose(other.residuals().compute().sortby("lat"), one.residuals(), rtol=1e-7)
    with pytest.raises(pt.DataError, match="used in training"):
        other.score(field().isel(time=[2]))
    unseen = field().copy(data=np.where(field().isnull(), 10.0, np.nan))
    assert other.score(unseen) == pytest.approx(one.score(unseen), rel=1e-7)


@pytest.mark.slow
def test_saved_without_its_data(fits, tmp_path_factory):
    one, other = fits
    path = tmp_path_factory.mktemp("store") / "fit.zarr"
    other.save(path)
    loaded = pt.load(path)
    at = {"time": [3.0], "lat": [40.0], "lon": [2.5]}
    xr.testing.assert_identical(loaded.predict(at), other.predict(at))
    assert loaded.summary() == other.summary()
    for refused in (loaded.impute, loaded.residuals, lambda: loaded.score(field())):
        with pytest.raises(pt.ModelError, match="not in memory"):
            refused()
    assert loaded.score(field(), allow_training=True) == pytest.approx(other.score(field(), allow_training=True))
    assert loaded.update(field(1)).impute()["sst"].notnull().all()


@pytest.mark.parametrize(
    ("ask", "text"),
    [
        (lambda post: post.sample(2), "sample: .*at="),
        (lambda post: post.aggregate("time"), "aggregate: .*at="),
        (lambda post: post.impute(samples=2), "samples=2.*sample"),
        (lambda post: post.calibrate(), "calibrate.*held_out="),
    ],
    ids=["sample", "aggregate", "samples", "calibrate"],
)
def test_what_needs_the_data_says_so(fits, ask, text):
    with pytest.raises(ValueError, match=text):
        ask(fits[1])


@pytest.mark.parametrize(
    ("change", "arguments", "text"),
    [
        (lambda d: d.where(d.lon > 1, np.inf), {}, "infinite.*lon=.*first chunk"),
        (lambda d: d * np.nan, {}, "no entry is observed"),
        (lambda d: d, {"weights": -1.0 * xr.ones_like(field()).chunk()}, "negative"),
        (lambda d: d, {"weights": 0.0 * xr.ones_like(field()).chunk()}, "no entry is observed"),
        (
            lambda d: d,
            {"weights": xr.ones_like(field()).chunk().isel(time=slice(3))},
            "7 of the data's 10 labels along 'time'",
        ),
        (lambda d: d, {"likelihood": pt.Poisson()}, "Poisson.*whole"),
        (lambda d: d, {"model": "auto"}, "choice looks at all data"),
        (lambda d: d, {"model": pt.CP("auto")}, "choice looks at all data"),
        (lambda d: d, {"model": pt.CP(1, modes=["depth"])}, "depth"),
        (lambda d: d, {"model": pt.Offset() + pt.Local(pt.Matern(1 / 2))}, "SVI.*Local"),
        (lambda d: d, {"likelihood": pt.Gaussian(noise="lon")}, "noise that differs between levels"),
        (lambda d: d, {"engine": pt.SVI(batch_size=10_000)}, "batch_size=10000"),
    ],
    ids="infinite missing negative nothing short counts auto rank absent local noise batch".split(),
)
def test_bad_input_is_refused(change, arguments, text):
    """The temporary folder is empty afterwards, see above."""
    arguments = {"model": MODEL, "engine": ENGINE} | arguments
    with pytest.raises(ValueError, match=text):
        pt.fit(change(field()).chunk(CHUNKS), arguments.pop("model"), **arguments)


class OfTheGraph(Exception):
    """An error that a user's own function raises."""


@pytest.mark.parametrize("scheduler", ["threads", "synchronous"])
@pytest.mark.parametrize("error", [OfTheGraph, KeyboardInterrupt])
def test_an_error_half_way_comes_through(scheduler, error):
    data = field().chunk(time=1)

    def fails(block, block_info=None):
        if block_info and block_info[0]["chunk-location"][1] == 7:
            raise error("the disk is on fire")
        return block

    broken = data.copy(data=data.data.map_blocks(fails, dtype=float, meta=np.zeros((0, 0, 0))))
    with dask.config.set(scheduler=scheduler), pytest.raises(error, match="on fire"):
        pt.fit(broken, MODEL, engine=ENGINE)


def test_no_folder_for_temporary_files(monkeypatch):
    def none(*_, **__):
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "TemporaryDirectory", none)
    with pytest.raises(pt.DataError, match="No usable temporary.*TMPDIR"):
        pt.fit(field().chunk(), MODEL, engine=ENGINE)


def traced_most(data):
    """Bytes at most that Python and NumPy hold while data are spilled and read in random batches."""
    random, encoded = np.random.default_rng(0), out_of_core.outline(data, None, {})
    tracemalloc.start()
    try:
        with out_of_core.spilled(encoded, pt.Gaussian()) as spill:
            source = spill.sealed(out_of_core.own_domain(encoded, ("a", "b", "c")))
            assert source.count == data.size
            assert sum(len(own[sources.ROWS]) for own in source.shuffled(1000, random)) == data.size
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_data(monkeypatch):
    """Spilling 16 MB in chunks of 256 kB takes less than 6 MB, of which a chunk takes some 2.

    The least of two, because Python's table of interned names grows now and then by megabytes at once.
    """
    monkeypatch.setattr(sources, "PART", 2**16)
    rng = np.random.default_rng(0)

    def block(block_info=None):
        return rng.normal(size=(8, 64, 64))

    lazy = dask_array.map_blocks(block, chunks=((8,) * 64, (64,), (64,)), meta=np.zeros((0, 0, 0)))
    data = xr.DataArray(lazy, dims=["a", "b", "c"])
    with dask.config.set(scheduler="synchronous"):
        assert data.nbytes > 16e6 and min(traced_most(data), traced_most(data)) < 6e6
