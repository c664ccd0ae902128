"""Levels that share a part: what one that was never seen is told by the others, and what is refused."""

import jax.numpy as jnp
import numpy as np
import pytest

import probtensor as pt
from probtensor.axes import Axis
from probtensor.errors import ModelError
from probtensor.kernels.base import Start
from tests.helpers import assert_close, tolerance
from tests.oracles import gaussian_process as oracle
from tests.priors.cases import CASES, R, draws, random_points, random_sites, raw_of, rounded, run

LEARNED = CASES["categorical-learned"]
AXIS, START = Axis("station", "category", np.arange(3.0)), Start(np.ones(R), np.ones(R), True)


def test_levels_never_seen_are_joint_as_in_the_dense_gaussian():
    """Three that agree with one another: where the data leave the shared part open, their draws are correlated."""
    points, sites, new_points = random_points(7, 1), random_sites(7, "part", 1), rounded([20.0, 21.0, 22.0, 23.0, 20.0])
    prior = LEARNED.bind(1)
    mean, K = LEARNED.gaussian(raw_of(prior), np.concatenate([points, new_points]))
    exact = oracle.predict(mean, K, *sites, 7)
    C = exact.covariance[7 * R :, 7 * R :].reshape(5, R, 5, R)
    values = draws(prior, points, sites, new_points, seed=1).astype(np.float64)
    for r in range(R):
        expected = C[0, r, 1, r] / np.sqrt(C[0, r, 0, r] * C[1, r, 1, r])
        found = np.corrcoef(values[:, 0, r], values[:, 1, r])[0, 1]
        assert expected > 0.05
        assert abs(found - expected) < 5 / np.sqrt(4000)
    result = run(prior, points, sites, new_points)
    assert np.abs(result.new_mean).max() > 0.1
    assert_close(result.new_mean, np.broadcast_to(result.new_mean[0], (5, R)))


@pytest.mark.parametrize("precision", [1e4, 1e8])
def test_known_levels_tell_the_mean_of_normal_levels(precision):
    """In closed form: m given n levels of the same variance v / (1 + c) has precision (1 + c) (1 / c + n) / v."""
    points, known = np.arange(5.0), rounded(np.random.default_rng(2).normal(1.0, 1.0, (5, R)))
    prior = LEARNED.bind(2)
    variance, common = (np.exp(x) for x in raw_of(prior))
    sites = rounded(precision * known), rounded(np.broadcast_to(precision * np.eye(R), (5, R, R)))
    result = run(prior, points, sites, np.arange(10.0, 15.0))
    own = variance / (1 + common)
    posterior = own / (1 / common + 5)
    assert_close(result.new_mean[0], posterior * known.sum(0) / own, factor=1e5 if tolerance() < 1e-6 else 1)
    assert_close(np.diag(result.new_cov[0]), own + posterior, factor=1e5 if tolerance() < 1e-6 else 1)


def test_a_declared_share_is_held_and_the_levels_keep_their_variance():
    """White noise makes functions of the declared variance, of which c / (1 + c) is common."""
    prior = pt.Categorical("learned", variance=pt.fixed(2.0), common=pt.fixed(3.0))
    bound = prior.bind(AXIS, START)
    assert not bound.common.learned
    assert bound.white_shape(3, R) == (3, R)
    colouring = bound.colouring(AXIS.points)
    root = np.stack([np.asarray(colouring(jnp.zeros((3, R)).at[t].set(1.0)))[:, 0] for t in range(3)], axis=1)
    assert_close(root @ root.T, 2.0 * (0.75 + 0.25 * np.eye(3)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"covariance": "exchangeable"}, "expected 'independent', or 'learned'"),
        ({"common": 1.0}, "independent levels share nothing"),
        ({"covariance": "independent", "common": pt.fixed(1.0)}, "independent levels share nothing"),
        ({"covariance": "learned", "mean": np.zeros(1)}, "a common mean already"),
    ],
)
def test_what_does_not_go_together_is_refused(arguments, message):
    with pytest.raises(ModelError, match=message):
        pt.Categorical(**arguments)


@pytest.mark.parametrize("common", [0.0, -1.0, np.inf, "30D", [1.0]])
def test_a_bad_share_is_refused(common):
    with pytest.raises(ModelError, match="common"):
        pt.Categorical("learned", common=common).bind(AXIS, START)
