"""Factors and cores with labels, and what the summary and the table of hyper-parameters say of them."""

import numpy as np
import pytest

import probtensor as pt
from tests.helpers import mostly_slow
from tests.labelled.fields import field, fit

MODEL = pt.Offset() + pt.Tucker({"time": 2, ...: 1})


@pytest.fixture(scope="module")
def post():
    return fit(field()[0], MODEL, seed=1)


@pytest.mark.parametrize("gauge", mostly_slow(["canonical", "raw"]))
def test_factors_and_core_multiply_to_the_term(post, gauge):
    data, truth = field()
    f, product = post.factors(1, gauge=gauge), post.core(1, gauge=gauge)["mean"]
    assert product.shape == tuple({"time": 2}.get(d.removesuffix("_component"), 1) for d in product.dims)
    for name in ("time", "lat", "station"):
        assert f[f"{name}_sd"].dims == (f"{name}_component", name)
        assert float(f[f"{name}_sd"].min()) > 0
        np.testing.assert_array_equal(np.sort(f[name].values), np.sort(data[name].values))
        product = product.dot(f[f"{name}_mean"], dim=f"{name}_component")
    term = post.predict(truth, terms=[1])["mean"]
    np.testing.assert_allclose(product.transpose(*term.dims).reindex_like(term), term, atol=1e-6)
    assert (post.core(gauge=gauge)["sd"] > 0).all()


def test_canonical_functions_have_mean_square_one(post):
    f = post.factors()
    np.testing.assert_allclose((f["time_mean"] ** 2).mean("time"), 1.0)
    np.testing.assert_allclose((f["lat_mean"] ** 2).mean("lat"), 1.0)


def test_reports(post):
    assert "Offset() + Tucker(rank time 2, ... 1 over every mode)" in post.summary()
    table = post.hyperparameters()
    core = table[table["mode"] == "core"].iloc[0]
    assert (core["name"], core["unit"], bool(core["learned"])) == ("variance", "(K)^2", True)
    held = table[(table["mode"] == "time") & (table["name"] == "variance")]
    assert held["value"].tolist() == [1.0, 1.0] and not held["learned"].any()
    panels = post.plot.factors().axes
    assert sum(p.axison for p in panels) == 4 and len(panels) == 6


@pytest.mark.slow
def test_ranks_and_modes_are_said():
    assert "Tucker(rank 2 over time, ...)" in fit(field()[0], pt.Tucker(2, {"time": None, ...: None})).summary()


def test_questions(post):
    with pytest.raises(pt.ModelError, match="term 0 is an offset"):
        post.core(0)
    with pytest.raises(pt.ModelError, match="'canonical' or 'raw'"):
        post.core(gauge="best")
    other = fit(field()[0])
    with pytest.raises(pt.ModelError, match="only a Tucker term has a core; there are none in the model"):
        other.core(1)
    with pytest.raises(pt.ModelError, match="no core|only a Tucker"):
        other.core()
    with pytest.raises(pt.ModelError, match="Tucker: rank 4 of mode 'station' is above its 3 levels"):
        fit(field()[0], pt.Tucker(4))
    with pytest.raises(pt.ModelError, match="Tucker names mode 'depth', which the data do not have"):
        fit(field()[0], pt.Tucker(2, modes=["depth", "time"]))


@pytest.mark.slow
def test_a_train_with_labels():
    data, truth = field()
    post = fit(data, pt.Offset() + pt.TensorTrain((2, 1), modes=["lat", "time", "station"]), seed=1)
    assert "TensorTrain(rank 2, 1 over lat, time, station)" in post.summary()
    assert post.hyperparameters()["mode"].isin(["lat", "time", "station", ""]).all()
    term = post.predict(truth, terms=[1])["mean"]
    for gauge in ("canonical", "raw"):
        f = post.factors(gauge=gauge)
        assert f["time_mean"].dims == f["time_sd"].dims == ("bond_1", "bond_2", "time")
        product = f["lat_mean"].dot(f["time_mean"], dim="bond_1").dot(f["station_mean"], dim="bond_2")
        np.testing.assert_allclose(product.transpose(*term.dims).reindex_like(term), term, atol=1e-6)
    canonical = post.factors()
    np.testing.assert_allclose((canonical["lat_mean"] ** 2).mean("lat"), 1.0)
    assert len(post.plot.factors().axes) == 6
    with pytest.raises(pt.ModelError, match="only a Tucker term has a core; there are none"):
        post.core(1)
