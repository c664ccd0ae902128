"""The log likelihood at a given signal is SciPy's, entries without weight are unseen, and its gradient is finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import probtensor as pt
from probtensor.axes import Axis
from probtensor.likelihoods.base import Moments
from probtensor.observations.domain import domain, observations
from tests.helpers import assert_close

RNG = np.random.default_rng(0)
SIGNAL = RNG.normal(size=(4, 3))
WEIGHTS = np.array([[1.0, 2.0, 0.0], [1.0, 1.0, 0.5], [0.0, 1.0, 3.0], [1.0, 1.0, 1.0]])
COUNTS, TRIALS = RNG.poisson(3.0, (4, 3)).astype(float), RNG.integers(3, 7, (4, 3)).astype(float)
SUCCESSES, VALUES = np.minimum(COUNTS, TRIALS), RNG.normal(size=(4, 3))
P, RATE = 1 / (1 + np.exp(-SIGNAL)), 1.5 * np.exp(SIGNAL)
ERRORS = np.full((4, 3), 0.2)

CASES = {
    "normal": (pt.Gaussian(sd=pt.fixed(0.4)), VALUES, {}, stats.norm(SIGNAL, 0.4 / np.sqrt(WEIGHTS + (WEIGHTS == 0)))),
    "normal with errors": (
        pt.Gaussian(sd=pt.fixed(0.4)),
        VALUES,
        {"errors": ERRORS},
        stats.norm(SIGNAL, np.sqrt(0.4**2 / (WEIGHTS + (WEIGHTS == 0)) + 0.2**2)),
    ),
    "levels of noise": (
        pt.Gaussian(sd=pt.fixed(0.4), noise="a"),
        VALUES,
        {},
        stats.norm(SIGNAL, 0.4 / np.sqrt(WEIGHTS + (WEIGHTS == 0))),
    ),
    "student": (pt.StudentT(df=pt.fixed(4.0), scale=pt.fixed(0.4)), VALUES, {}, stats.t(4.0, SIGNAL, 0.4)),
    "poisson": (pt.Poisson(exposure=1.5), COUNTS, {"exposure": np.full((4, 3), 1.5)}, stats.poisson(RATE)),
    "negative binomial": (
        pt.NegativeBinomial(exposure=1.5, dispersion=pt.fixed(0.3)),
        COUNTS,
        {"exposure": np.full((4, 3), 1.5)},
        stats.nbinom(1 / 0.3, 1 / (1 + 0.3 * RATE)),
    ),
    "bernoulli": (pt.Bernoulli(), (COUNTS > 2).astype(float), {}, stats.bernoulli(P)),
    "binomial": (pt.Binomial(TRIALS), SUCCESSES, {"trials": TRIALS}, stats.binom(TRIALS, P)),
}


@pytest.mark.parametrize("name", CASES)
def test_log_likelihood(name):
    declared, values, known, law = CASES[name]
    points = {"a": np.arange(4.0), "b": np.arange(3.0)}
    axes = {mode: Axis(mode, "numeric", own) for mode, own in points.items()}
    bound = declared.bind(axes, 1.0)
    hidden = np.where(WEIGHTS > 0, values, np.nan)
    given = observations(domain(points, {}), hidden, WEIGHTS, known)
    logs = law.logpdf(values) if hasattr(law.dist, "pdf") else law.logpmf(values)
    # Weights are in the variance of normal noise already.
    counted = (WEIGHTS > 0) if isinstance(declared, pt.Gaussian) else WEIGHTS
    value, slope = jax.value_and_grad(lambda f: bound.log_likelihood(given, f))(jnp.asarray(SIGNAL))
    assert_close(value, np.sum(counted * logs), 10.0)
    assert np.isfinite(slope).all()
    np.testing.assert_array_equal(np.asarray(slope)[WEIGHTS == 0], 0.0)
    if name != "normal":  # which reads the sum of the variances
        certain = bound.expected_log_likelihood(given, _certain(bound, given))
        assert_close(value, certain, 10.0)


def _certain(bound, given):
    zero = jnp.zeros_like(jnp.asarray(SIGNAL))
    return Moments(jnp.asarray(SIGNAL), zero if bound.by_entry(given) else None, jnp.zeros(()))


def test_parameters_come_back_to_their_limits():
    bound = pt.StudentT(df=pt.fixed(4.0)).bind({}, 1.0)
    low = pt.StudentT(df=1000.0, scale=1e-9).bind({}, 1.0).limited()
    assert float(low.scale.value[0]) == pytest.approx(1e-4)
    assert float(low.df.value[0]) == pytest.approx(200.0)
    assert float(bound.limited().df.value[0]) == pytest.approx(4.0)
    assert float(pt.Gaussian(sd=1e-9).bind({}, 1.0).limited().sd.value[0]) == pytest.approx(1e-4)
    assert float(pt.NegativeBinomial(dispersion=1e9).bind({}, 1.0).limited().dispersion.value[0]) == pytest.approx(1e3)


@pytest.mark.parametrize("declared", [pt.Poisson(), pt.NegativeBinomial()], ids=str)
def test_rates_beyond_all_counts_are_never_likelier(declared):
    """Where the exponential itself is limited: a sampler must not run away there."""
    bound = declared.bind({}, 1.0)
    given = observations(domain({"a": np.arange(1.0)}, {}), np.array([1300.0]), np.ones(1), {})
    logs = [float(bound.log_likelihood(given, jnp.asarray([f]))) for f in (20.0, 79.0, 80.5, 200.0, 1e4, 1e8)]
    assert np.isfinite(logs).all()
    assert (np.diff(logs) < 0).all()
