"""Several starts in one program end where each ends alone."""

import numpy as np
import pytest

import probtensor as pt
from probtensor.engines import side_by_side
from tests.labelled.test_out_of_core import field

MODELS = {
    "sum": (pt.Offset() + pt.Offset(over="lat") + pt.CP(2), {}),
    "apart": (pt.CP(2), {"coupling": "component"}),
    "core": (pt.Offset(over="lon") + pt.Tucker({"time": 2, "lat": 2}, modes=["time", "lat"]), {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_starts_at_once_are_those_in_turn(name, monkeypatch):
    model, options = MODELS[name]
    engine, told = pt.MessagePassing(restarts=3, max_sweeps=40, **options), []
    one = pt.fit(field(), model, engine=engine, progress=lambda *given: told.append(given))
    monkeypatch.setattr(side_by_side, "MOST", 0)
    other = pt.fit(field(), model, engine=engine)
    np.testing.assert_allclose(one._made.result.restarts, other._made.result.restarts, rtol=1e-6)
    np.testing.assert_allclose(one.objective, other.objective, rtol=1e-6)
    assert len(one.objective) == len(other.objective)
    assert one.noise_sd == pytest.approx(other.noise_sd, rel=1e-5)
    assert [done for done, _, _ in told] == sorted({done for done, _, _ in told}) and told[-1][1] == 40


@pytest.mark.slow
def test_what_can_take_a_sweep_back_is_swept_in_turn(monkeypatch):
    monkeypatch.setattr(side_by_side, "sweeps", None)
    engine = pt.MessagePassing(restarts=2, max_sweeps=5, damping=0.1)
    assert len(pt.fit(field(), pt.CP(1), engine=engine)._made.result.restarts) == 2
