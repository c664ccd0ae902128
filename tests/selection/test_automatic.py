"""The automatic model: a choice that says what it tried and leaves alone what the caller decided."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import probtensor as pt
from probtensor.errors import ModelError
from probtensor.selection import automatic
from probtensor.selection.automatic import POWERS, Automatic
from tests.helpers import joined, mostly_slow
from tests.labelled.fields import QUICK, field


@pytest.mark.slow
def test_the_choice_is_reported_and_reproducible():
    data, truth = field()
    one, two = pt.fit(data, engine=QUICK, seed=3), pt.fit(data, engine=QUICK, seed=3)
    np.testing.assert_array_equal(one.impute()["tas"], two.impute()["tas"])
    assert one.choice.candidates
    best = min(one.choice.candidates, key=lambda c: c.crps)
    assert one.engine.power == best.power
    assert one.model.terms[-1].rank == best.rank
    assert best.power in POWERS
    assert f"rank {best.rank:>3}, power {best.power:g}" in one.summary()
    held = truth.where(data.isnull())
    mean = float(np.sqrt(((held - float(data.mean())) ** 2).mean()))
    assert one.score(held)["rmse"] < 0.5 * mean


def test_values_of_gaps_are_never_seen():
    data, _ = field()
    weights = data.notnull().astype(float)
    junk = data.fillna(1e6)
    a = pt.fit(data, engine=QUICK).predict(data)["mean"]
    b = pt.fit(junk, engine=QUICK, weights=weights).predict(data)["mean"]
    np.testing.assert_allclose(a, b, atol=1e-9)


@pytest.mark.slow
def test_a_year_of_months_gets_a_climatology():
    time = pd.date_range("2015-01-01", periods=48, freq="MS")
    season, x = 5 * np.cos(2 * np.pi * time.month.to_numpy() / 12), np.arange(3.0)
    data = xr.DataArray(280 + season[:, None] + x[None], {"time": time, "x": x}, ["time", "x"])
    data[6:12, 1] = np.nan
    post = pt.fit(data, engine=QUICK)
    assert "Climatology(time.month)" in post.summary()


@pytest.mark.parametrize("shape", mostly_slow([(1, 1), (3, 1), (10,)], (1, 1), (3, 1)))
def test_tiny_data_have_an_answer(shape):
    values = np.linspace(1, 2, int(np.prod(shape))).reshape(shape)
    data = xr.DataArray(values, dims=[f"d{k}" for k in range(len(shape))])
    post = pt.fit(data, engine=QUICK)
    found = post.predict(data)
    assert np.isfinite(found["mean"]).all()
    assert (found["sd"] > 0).all()


@pytest.mark.slow
def test_an_explicit_power_is_not_searched():
    data, _ = field()
    engine = pt.MessagePassing(max_sweeps=20, power=0.4)
    post = pt.fit(data, Automatic(ranks=(1,)), engine=engine)
    assert [(c.rank, c.power) for c in post.choice.candidates] == [(1, 0.4)]
    assert post.engine.power == 0.4


def test_the_final_fit_keeps_the_callers_restarts_sweeps_and_tol():
    """The first of three starts is the best candidate's state; a loose tolerance stops all before max_sweeps."""
    data, _ = field()
    engine = pt.MessagePassing(max_sweeps=7, restarts=3, tol=0.0, power=1.0)
    post = pt.fit(data, Automatic(ranks=(1,)), engine=engine)
    assert (post.engine.restarts, post.engine.max_sweeps, post.engine.tol) == (3, 7, 0.0)
    assert len(post.objective) == 7
    objectives = post.summary().split("restarts     objectives ")[1].split(";")[0].split(", ")
    assert len(objectives) == 3
    assert float(post.objective[-1]) == pytest.approx(max(map(float, objectives)), rel=1e-5)
    assert [c.sweeps for c in post.choice.candidates] == [7]
    loose = pt.fit(data, Automatic(ranks=(1,)), engine=pt.MessagePassing(tol=10.0, power=1.0))
    assert len(loose.objective) == 10  # the shortest that a warm start can be judged by
    assert "stopped      converged" in loose.summary()


@pytest.mark.parametrize(("wanted", "most"), [(None, automatic._FINAL_SWEEPS), (31, 31)])
def test_many_observations_bound_the_final_sweeps_unless_the_caller_does(monkeypatch, wanted, most):
    monkeypatch.setattr(automatic, "_FEW", 10)
    data, _ = field()
    engine = pt.MessagePassing(max_sweeps=wanted, tol=0.0, power=1.0)
    post = pt.fit(data, Automatic(ranks=(1,)), engine=engine)
    assert post.engine.max_sweeps == len(post.objective) == most
    assert f"stopped at max_sweeps={most}" in post.summary()


@pytest.mark.slow
def test_a_given_rank_still_has_its_power_and_offset_chosen():
    time = pd.date_range("2015-01-01", periods=48, freq="MS")
    season, x = 5 * np.cos(2 * np.pi * time.month.to_numpy() / 12), np.arange(3.0)
    data = xr.DataArray(280 + season[:, None] + x[None], {"time": time, "x": x}, ["time", "x"])
    data[6:12, 1] = np.nan
    post = pt.fit(data, Automatic(ranks=(3,)), engine=QUICK)
    assert {c.rank for c in post.choice.candidates} == {3}
    assert {c.power for c in post.choice.candidates} == set(POWERS)
    assert "Climatology(time.month) + CP(rank 3" in post.summary()


@pytest.mark.parametrize("ranks", [(), (0,)])
def test_ranks_that_cannot_be_tried_are_refused(ranks):
    with pytest.raises(ModelError, match="expected at least one rank"):
        Automatic(ranks=ranks)


def test_the_report_has_the_evidence_for_every_candidate():
    data, _ = field()
    post = pt.fit(data, Automatic(ranks=(1,)), engine=QUICK)
    choice, summary = post.choice, post.summary()
    assert all(joined(line) in joined(summary) for line in choice.report().splitlines())
    head, *lines = choice.report().splitlines()
    assert choice.protocol in head
    assert len(lines) == len(choice.candidates) == len(POWERS)
    for line, c in zip(lines, choice.candidates, strict=True):
        expected = (f"rank {c.rank:>3}", f"power {c.power:g}", f"CRPS {c.crps:.4g}", f"RMSE {c.rmse:.4g}")
        assert all(text in line for text in expected)
        assert f"{c.sweeps} sweeps in {c.run_seconds:.1f} s" in line
        assert line.endswith(", chosen") == (c is choice.best)


@pytest.mark.slow
def test_a_table_with_repeated_rows_is_not_judged_by_twins():
    """Pure noise, every row twice: with twins in training a model would seem to predict it."""
    generator = np.random.default_rng(0)
    frame = pd.DataFrame({"a": generator.integers(0, 12, 80), "b": generator.integers(0, 12, 80)})
    frame = frame.drop_duplicates().assign(value=lambda f: generator.normal(size=len(f)))
    twice = pt.table(pd.concat([frame, frame]), value="value", coords=["a", "b"])
    choice = pt.fit(twice, Automatic(ranks=(2,)), engine=QUICK).choice
    assert min(c.rmse for c in choice.candidates) > 0.87  # 0.91 of places, 0.78 of rows


@pytest.fixture(scope="module")
def rough():
    """A rough field of two coordinates that changes from day to day, a box of it missing; its choice by default."""
    rng = np.random.default_rng(0)
    day, x = np.arange(18.0), np.linspace(0, 1, 16)
    roots = [np.linalg.cholesky(np.exp(-np.abs(p[:, None] - p) / scale)) for p, scale in ((day, 2.0), (x, 1.0))]
    truth = xr.DataArray(10 + 3 * roots[0] @ rng.normal(size=(18, 16)) @ roots[1].T, {"day": day, "x": x}, ["day", "x"])
    data = truth.copy()
    data[3:6, 2:6] = data[11:14, 9:13] = np.nan
    return data, truth, pt.fit(data, engine=ROUGH)


ROUGH = pt.MessagePassing(max_sweeps=20, draws=4, power=1.0)


@pytest.mark.slow
def test_a_field_without_low_rank_gets_a_local_term(rough):
    data, truth, post = rough
    assert any(isinstance(term, pt.Local) for term in post.model.terms)
    assert post.choice.best.has_local
    assert post.choice.best.crps == min(c.crps for c in post.choice.candidates)
    held = truth.where(data.isnull())
    without = min((c for c in post.choice.candidates if not c.has_local), key=lambda c: c.crps)
    fallback = pt.fit(data, without.model, engine=ROUGH)
    assert post.choice.best.crps < 0.9 * without.crps
    assert post.score(held)["crps"] < fallback.score(held)["crps"]
    for form in post.choice.forms:
        assert str(form) in post.choice.report()
    assert "local" in post.summary().split("chosen")[1]


@pytest.mark.slow
def test_values_of_gaps_are_never_seen_by_local_terms(rough):
    data, _, post = rough
    junk = pt.fit(data.fillna(1e6), engine=ROUGH, weights=data.notnull().astype(float))
    assert [e.score for e in junk.choice.forms] == pytest.approx([e.score for e in post.choice.forms])
    np.testing.assert_allclose(junk.predict(data)["mean"], post.predict(data)["mean"], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("places", [["a", "b"], [0.0, 1.0]])
def test_data_at_two_places_have_an_answer(places):
    """The hold-out leaves one place, from which nothing more can be held out."""
    rng = np.random.default_rng(0)
    which = rng.integers(0, 2, 40)
    frame = pd.DataFrame({"x": np.array(places)[which], "v": which + 0.1 * rng.normal(size=40)})
    post = pt.fit(pt.table(frame, "v", ["x"]), engine=QUICK)
    assert float(post.predict(frame)["mean"].std()) > 0.3


def test_constant_data_are_an_offset():
    data = xr.DataArray(np.full((4, 5), 3.0), dims=["a", "b"])
    data[1, 2] = np.nan
    post = pt.fit(data)
    assert post.choice.protocol == "none: all values are the same"
    np.testing.assert_allclose(post.impute()["value"], 3.0, atol=1e-6)


@pytest.mark.slow
def test_names_alone_are_judged_by_their_main_effects():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 6, 240), rng.integers(0, 5, 240)
    frame = pd.DataFrame(
        {"a": np.array(list("abcdef"))[a], "b": np.array(list("vwxyz"))[b], "v": a + rng.normal(size=240)}
    )
    choice = pt.fit(pt.table(frame, "v", ["a", "b"]), engine=QUICK).choice
    assert choice.candidates[-1].name == "main effects"
    assert not choice.forms
