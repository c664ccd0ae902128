"""Message passing over dask arrays that are never held in memory: the same fit as in memory."""

import tempfile

import numpy as np
import pytest
import xarray as xr

import probtensor as pt
from probtensor.engines import by_parts
from probtensor.labelled import fit as fitting
from probtensor.labelled import out_of_core
from probtensor.observations import sources
from probtensor.observations.domain import domain
from probtensor.observations.slabs import OnGrid
from tests.labelled.test_out_of_core import CHUNKS, field

pytest.importorskip("dask.array")

SWEEPS = 12
#: Terms of every kind; and functions that are independent of each other.
MODELS = {
    "sum": (pt.Offset() + pt.Offset(over="lat") + pt.CP(2), {}),
    "apart": (pt.CP(2), {"coupling": "component"}),
    "core": (pt.Offset(over="lon") + pt.Tucker({"time": 2, "lat": 2}, modes=["time", "lat"]), {}),
}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch, tmp_path):
    """Several parts, several batches of each program, and the last one is not full."""
    monkeypatch.setattr(sources, "PART", 100)
    monkeypatch.setattr(by_parts, "_SIZE", 30)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield
    assert not list(tmp_path.iterdir())


def engine(**options):
    return pt.MessagePassing(max_sweeps=SWEEPS, tol=0.0, **options)


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_the_same_fit_as_in_memory(name):
    model, options = MODELS[name]
    data = field()
    one = pt.fit(data, model, engine=engine(**options))
    other = pt.fit(data.chunk(CHUNKS), model, engine=engine(out_of_core=True, **options))
    np.testing.assert_allclose(other.objective, one.objective, rtol=1e-7)
    assert np.all(np.diff(other.objective) > -1e-6)
    assert other.noise_sd == pytest.approx(one.noise_sd, rel=1e-6)
    xr.testing.assert_allclose(other.impute().compute(), one.impute(), rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("name", ["sum", "apart", "core"])
def test_a_large_grid_in_memory_is_read_slab_by_slab(name, weighted, monkeypatch):
    model, options = MODELS[name]
    data = field()
    weights = xr.full_like(data, 1.0).where(data.lat > 31, 2.0).where(data.time != 3, 0.0) if weighted else None
    one = pt.fit(data, model, weights=weights, engine=engine(**options))
    monkeypatch.setattr("probtensor.labelled.fitting._LARGE", 1)
    other = pt.fit(data, model, weights=weights, engine=engine(**options))
    np.testing.assert_allclose(other.objective, one.objective, rtol=1e-7)
    xr.testing.assert_allclose(other.impute(), one.impute(), rtol=1e-6)
    xr.testing.assert_allclose(other.residuals(), one.residuals(), rtol=1e-6)
    xr.testing.assert_allclose(other.sample(2, seed=1), one.sample(2, seed=1), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_what_is_made_of_a_large_grid_afterwards_has_all_its_digits(monkeypatch):
    """Values far from zero, which 32 bits would round to steps of their noise."""
    data = field() + 1e6
    one = pt.fit(data, pt.Offset() + pt.CP(1), engine=engine())
    monkeypatch.setattr("probtensor.labelled.fitting._LARGE", 1)
    other = pt.fit(data, pt.Offset() + pt.CP(1), engine=engine())
    xr.testing.assert_allclose(other.residuals(), one.residuals(), rtol=1e-5, atol=1e-6)
    ours, theirs = (post.calibrate().predict({n: data[n] for n in data.dims})["sd"] for post in (other, one))
    xr.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_a_sparse_grid_is_read_in_as_few_slabs_as_a_full_one():
    values = np.full((40, 30), np.nan)
    values[3, 4] = 1.0
    source = OnGrid.in_memory(domain({"a": np.arange(40.0), "b": np.arange(30.0)}, {}), values, None)
    assert source.count == 1 and len(list(source.in_order(600, 4))) == 1


@pytest.mark.slow
def test_with_weights_and_from_where_another_fit_ended():
    data = field()
    weights = xr.full_like(data, 1.0).where(data.lat > 31, 2.0).where(data.time != 3, 0.0)
    begun = pt.fit(data, pt.CP(1), weights=weights, engine=engine())
    one = pt.fit(data, pt.CP(1), weights=weights, init=begun, engine=engine())
    lazily = {"weights": weights.chunk(time=3), "init": begun, "engine": engine(out_of_core=True)}
    other = pt.fit(data.chunk(CHUNKS), pt.CP(1), **lazily)
    np.testing.assert_allclose(other.objective, one.objective, rtol=1e-7)


@pytest.mark.slow
def test_it_is_what_becomes_of_data_that_memory_has_no_room_for(monkeypatch):
    data = field().chunk(CHUNKS)
    assert "not in memory" not in pt.fit(data, pt.CP(1), engine=engine()).summary()
    monkeypatch.setattr(fitting, "has_room", lambda entries, lazy: False)
    seen = []
    monkeypatch.setattr(by_parts, "_sweep", lambda *given, sweep=by_parts._sweep: seen.append(1) or sweep(*given))
    pt.fit(data, pt.CP(1), engine=engine())
    assert len(seen) == SWEEPS
    monkeypatch.setattr(out_of_core, "has_room", lambda entries, columns: False)
    with pytest.raises(pt.DataError, match="cannot be held|of memory"):
        monkeypatch.setattr("probtensor.labelled.memory.host_memory", lambda: 10)
        pt.fit(data, pt.CP(1), engine=engine())


def test_a_fit_whose_beliefs_memory_cannot_hold_is_refused_before_it_starts(monkeypatch):
    monkeypatch.setattr("probtensor.labelled.memory.device_memory", lambda: 10_000)
    with pytest.raises(pt.ModelError, match="would take about"):
        pt.fit(field().chunk(CHUNKS), pt.CP(20), engine=engine(out_of_core=True))


REFUSED = {
    "in memory": (lambda d: d, {}, "in memory already"),
    "local": (lambda d: d.chunk(), {"model": pt.Offset() + pt.Local(pt.Matern(1 / 2))}, "Local term conditions"),
    "cep": (lambda d: d.chunk(), {"engine": engine(out_of_core=True, rule="cep")}, "rule 'vmp' without damping"),
    "counts": (lambda d: np.abs(d).round().chunk(), {"likelihood": pt.Poisson()}, "normal noise alone"),
    "levels": (lambda d: d.chunk(), {"likelihood": pt.Gaussian(noise="lon")}, "normal noise alone"),
    "errors": (lambda d: d.chunk(), {"errors": 0.1}, "without known errors"),
    "auto": (lambda d: d.chunk(), {"model": "auto"}, "choice looks at all data"),
    "checkpoint": (lambda d: d.chunk(), {"checkpoint": "fit.zarr"}, "has neither"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_it_cannot_do_is_refused_before_anything_is_read(case, monkeypatch):
    monkeypatch.setattr(fitting.out_of_core, "on_grid", None)
    change, arguments, words = REFUSED[case]
    given = {"model": pt.CP(1), "engine": engine(out_of_core=True)} | arguments
    with pytest.raises(pt.ModelError, match=words):
        pt.fit(change(field()), given.pop("model"), **given)
