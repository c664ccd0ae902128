"""The gap-filling suite of `benchmarks/`: its gaps, its records, and how a script is asked and answers."""

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module", autouse=True)
def suite():
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def records(tmp_path, monkeypatch):
    from gapfill import measure

    monkeypatch.setattr(measure, "RECORDS", tmp_path / "records")
    return measure


def record(method, seed=0, **more):
    from gapfill.methods import METHODS

    found = {"dataset": "sst_ndjfm_anom", "protocol": "large boxes", "seed": seed, "method": method}
    return found | {"variants": list(METHODS[method].variants), "cut": False, "limit": 60} | more


@pytest.mark.parametrize("protocol", ["boxes", "large boxes", "random", "sites", "tail"])
def test_gaps_are_as_the_protocol_says(protocol):
    from gapfill import cells

    problem = cells.problem("sst_ndjfm_anom", protocol, 1)
    valid = np.isfinite(problem.truth)
    assert not (problem.held & ~valid).any()
    assert not (problem.inner & (problem.held | ~valid)).any()
    assert np.isnan(problem.training[problem.held]).all()
    share = problem.held.sum() / valid.sum()
    assert share == pytest.approx({"random": 0.5, "tail": 0.2}.get(protocol, 0.3), abs=0.03)
    if protocol == "tail":
        assert problem.held[-10:][valid[-10:]].all() and not problem.held[:-10].any()
    if protocol == "sites":
        assert (problem.held.any(axis=0) == (problem.held | ~valid).all(axis=0) & valid.any(axis=0)).all()
    other = cells.problem("sst_ndjfm_anom", protocol, 2)
    assert np.array_equal(problem.held, other.held) == (protocol == "tail")


def test_records_are_kept_beside_each_other(records):
    cell = ("sst_ndjfm_anom", "large boxes")
    assert records.read(*cell, "climatology", 0) is None
    assert records.missing(*cell, "climatology", 0, 60)
    for one in (record("climatology"), record("climatology", seed=1), record("EOF fill", note="first")):
        records._keep(one)
    records._keep(record("EOF fill", note="second"))
    assert records.read(*cell, "climatology", 1)["seed"] == 1
    assert records.read(*cell, "EOF fill", 0)["note"] == "second"
    assert not records.missing(*cell, "climatology", 0, 60)
    assert [file.name for file in records.RECORDS.glob("*.json")] == ["sst_ndjfm_anom-large-boxes.json"]


def test_what_was_cut_short_or_has_other_variants_is_measured_again(records):
    cell = ("sst_ndjfm_anom", "large boxes")
    records._keep(record("EOF fill", cut=True))
    assert not records.missing(*cell, "EOF fill", 0, 60)
    assert records.missing(*cell, "EOF fill", 0, 200)
    records._keep(record("EOF fill") | {"variants": [{"other": 1}]})
    assert records.read(*cell, "EOF fill", 0) is None


@pytest.mark.slow
def test_a_script_is_asked_and_scored(records):
    found = records.measure("sst_ndjfm_anom", "tail", "climatology", 0, 60)
    assert found == records.read("sst_ndjfm_anom", "tail", "climatology", 0)
    from gapfill import cells

    problem = cells.problem("sst_ndjfm_anom", "tail", 0)
    sums, counts = np.nansum(problem.training, axis=0), np.isfinite(problem.training).sum(axis=0)
    mean = np.broadcast_to(sums / np.maximum(counts, 1), problem.truth.shape)[problem.held]
    expected = float(np.sqrt(np.mean((problem.truth[problem.held] - mean) ** 2)))
    assert found["scores"]["rmse"] == pytest.approx(expected, rel=1e-6)


def test_a_script_is_ended_at_its_limit(records):
    busy = ["sh", "-c", records._LIMITED, "1", "6", sys.executable, "-c", "while True: pass"]
    assert subprocess.run(busy, timeout=300).returncode == -signal.SIGXCPU


def test_targets_are_those_of_the_row():
    from gapfill import targets

    ours, peer = {"rmse": 0.84, "crps": 0.86, "coverage90": 0.9}, {"a": {"rmse": 1.0, "crps": 1.0}}
    judged = targets.judge("ostia", "boxes", ours, peer, peer)
    assert [one.reached for one in judged] == [True, False, True]
    judged = targets.judge("ostia", "tail", ours | {"coverage90": 0.97}, peer, peer)
    assert [one.reached for one in judged] == [True, True, True, True, False]
