"""A step of the hyper-parameters on evidence of known shape."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest

from probtensor.axes import Axis
from probtensor.compilation import compiled
from probtensor.engines.learning import start_learning, update
from probtensor.hyperparameters import log_prior
from probtensor.kernels.base import Start
from probtensor.priors.base import empty_sites
from probtensor.priors.categorical import Categorical
from probtensor.terms.base import Block
from tests.helpers import DTYPE, assert_close

POINTS = jnp.arange(4, dtype=DTYPE)
EVIDENCE = {
    "hill": lambda raw: -50 * (raw - 1) ** 2,
    "cliff": lambda raw: jnp.where(raw > 0.05, -1e3, 10 * raw),
    "no number uphill": lambda raw: jnp.where(raw > 1e-9, jnp.nan, 10 * raw),
    "no number at all": lambda raw: jnp.nan * raw,
}


class Known(Categorical):
    """Levels whose evidence is a function of the variance's logarithm, which every mean then says."""

    evidence: str = eqx.field(static=True, default="hill")

    def posterior(self, points, sites):
        belief, raw = super().posterior(points, sites), self.variance.raw
        value = jnp.sum(EVIDENCE[self.evidence](raw))
        return belief._replace(log_normaliser=value, mean=0 * belief.mean + raw)


def started(evidence):
    start = Start(np.ones(1), np.ones(1), True)
    bound = Categorical().bind(Axis("x", "numeric", np.arange(4.0)), start)
    prior = Known(bound.covariance, bound.variance, None, None, evidence)
    return prior, start_learning(prior)


@compiled
def step(prior, state, learn):
    block, belief, state = update(
        Block(prior, POINTS), empty_sites(4, 1, DTYPE), state, learn, jnp.zeros((4, 1), DTYPE)
    )
    return block.prior, belief, state


def test_the_evidence_never_falls_and_its_top_is_found():
    prior, state = started("hill")
    before = -np.inf
    for _ in range(40):
        prior, belief, state = step(prior, state, jnp.asarray(True))
        value = float(belief.log_normaliser + log_prior(prior))
        assert value >= before
        before = value
        assert_close(belief.mean, np.full((4, 1), prior.variance.raw))  # the belief is that of what is kept
    assert prior.variance.raw == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize("evidence", ["cliff", "no number uphill", "no number at all"])
def test_what_does_not_gain_is_not_kept(evidence):
    prior, state = started(evidence)
    after, belief, learned = step(prior, state, jnp.asarray(True))
    assert_close(after.variance.raw, prior.variance.raw)
    assert_close(belief.mean, np.full((4, 1), prior.variance.raw))
    assert np.all(learned.steps.variance.raw < state.steps.variance.raw)


@pytest.mark.parametrize("evidence", EVIDENCE)
def test_without_learning_all_stays(evidence):
    prior, state = started(evidence)
    after, _, learned = step(prior, state, jnp.asarray(False))
    for one, other in ((after, prior), (learned.steps, state.steps), (learned.gradients, state.gradients)):
        np.testing.assert_array_equal(one.variance.raw, other.variance.raw)


def test_steps_are_in_units_of_the_resolution():
    """A hyper-parameter of which a thousandth makes another function is not moved by a fifth at first."""
    prior, state = started("hill")
    fine = eqx.tree_at(lambda p: p.variance.resolution, prior, jnp.asarray(1e-3, DTYPE), is_leaf=lambda x: x is None)
    moved = [float(step(p, state, jnp.asarray(True))[0].variance.raw[0]) for p in (prior, fine)]
    assert moved[0] == pytest.approx(1e3 * moved[1], rel=1e-4)
    assert moved[0] > 0
