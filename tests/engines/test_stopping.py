"""When the engine stops: never after more sweeps than allowed, and it says why."""

import jax
import numpy as np
import pytest

from probtensor.engines.message_passing import BLOCK, MessagePassing
from probtensor.likelihoods.gaussian import Gaussian
from probtensor.model import as_sum, bind
from probtensor.terms.base import DataScale
from probtensor.terms.cp import CP
from tests.terms.problems import AXES, data, observed

WHERE = observed("grid", *data())
MODEL = bind(as_sum(CP(2)), AXES, Gaussian(None), DataScale(1.0, 2.0))


def run(**options):
    return MessagePassing(**options).run(MODEL, WHERE, jax.random.key(0))


@pytest.mark.parametrize("most", [1, 3, BLOCK, 2 * BLOCK + 2])
def test_never_more_sweeps_than_allowed(most):
    """And the sweeps that are made do not depend on how many are allowed."""
    seen = []
    fit = MessagePassing(max_sweeps=most, tol=0.0).run(
        MODEL, WHERE, jax.random.key(0), lambda done, total, objective: seen.append((done, total))
    )
    assert len(fit.objective) == most
    assert seen[-1] == (most, most)
    assert not fit.converged
    assert f"max_sweeps={most}" in fit.reason
    np.testing.assert_array_equal(fit.objective, run(max_sweeps=15, tol=0.0).objective[:most])


def test_one_program_serves_every_number(monkeypatch):
    """Once compiled, the sweep is not traced again for another number of sweeps."""
    run(max_sweeps=1)

    def traced(*_):
        raise AssertionError("the sweep was traced again")

    monkeypatch.setattr("probtensor.engines.sweep.sweep", traced)
    assert [len(run(max_sweeps=n).objective) for n in (2, 3, BLOCK)] == [2, 3, BLOCK]


def test_the_reason_for_stopping():
    early = run(max_sweeps=20, tol=0.0)
    assert not early.converged and "max_sweeps=20" in early.reason
    late = run(tol=1e-2)
    assert late.converged and late.reason.startswith("converged")
    assert 15 < len(late.objective) < 100
