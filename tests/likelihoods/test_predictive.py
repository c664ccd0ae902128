"""Distributions of new observations against sums over the signal, and against draws."""

import numpy as np
import pytest
from scipy import stats

import probtensor as pt
from probtensor.evaluation import scores
from probtensor.evaluation.scores import score
from probtensor.likelihoods.predictive import Normal
from tests.likelihoods.cases import AXES, CASES, N, every
from tests.oracles import likelihoods as oracle

EVERY = every(CASES)
MEAN = np.array([0.2, -0.5, 1.0, 2.0, 3.0, 0.5])
VARIANCE = np.array([0.3, 1e-6, 0.5, 1.0, 0.01, 0.0])
LEVELS = (0.001, 0.05, 0.5, 0.9, 0.999)
#: Draws are compared within so many standard errors: 156 numbers, less than one false alarm in 100,000 choices of seed.
_SIGMAS = 5.5
DRAWS = 20_000


def law_of(name, mean=MEAN, variance=VARIANCE):
    """The package's distribution, and the oracle's law of each entry."""
    case = CASES[name]
    mean, variance = (np.broadcast_to(np.asarray(x, float), (N,)) for x in (mean, variance))
    where = case.observations().domain
    known = {k: np.broadcast_to(v, (N,)) for k, v in case.known.items() if k != "errors"}
    own = case.bind().predictive(mean, variance, where, known)
    laws = [case._replace(known=known).law_at(k) for k in range(N)]
    return own, laws


@EVERY
def test_moments_are_sums_over_the_signal(name):
    own, laws = law_of(name)
    exact = np.array([oracle.predictive_moments(law, m, v) for law, m, v in zip(laws, MEAN, VARIANCE, strict=True)])
    np.testing.assert_allclose(own.mean, exact[:, 0], rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(own.sd, exact[:, 1], rtol=1e-6)
    np.testing.assert_allclose(np.broadcast_to(own.signal_sd, (N,)), exact[:, 2], rtol=1e-5, atol=1e-6)


@EVERY
def test_densities_and_distributions_are_sums_over_the_signal(name):
    """Near the middle and in the tails."""
    own, laws = law_of(name)
    whole = CASES[name].whole
    for level in LEVELS:
        y = own.quantile(level)
        density, under = own.log_density(y), own.distribution(y)
        for k, law in enumerate(laws):
            exact = oracle.predictive_cdf(law, y[k], MEAN[k], VARIANCE[k])
            assert under[k] == pytest.approx(exact, abs=2e-6)
            exact = oracle.predictive_density(law, y[k], MEAN[k], VARIANCE[k])
            assert np.exp(density[k]) == pytest.approx(exact, rel=1e-4, abs=1e-12)
            if not whole:
                assert under[k] == pytest.approx(level, abs=1e-6)
                continue
            # The least whole number that is reached with this probability.
            assert y[k] == np.round(y[k]) and y[k] >= 0
            before = oracle.predictive_cdf(law, y[k] - 1, MEAN[k], VARIANCE[k])
            exact = oracle.predictive_cdf(law, y[k], MEAN[k], VARIANCE[k])
            assert exact >= level - 1e-6 and before < level + 1e-6


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.whole])
def test_probabilities_sum_to_one_and_to_the_distribution(name):
    own, _ = law_of(name, np.minimum(MEAN, 1.0), 0.2)
    y = np.arange(3000.0)[:, None] * np.ones(N)
    total = np.cumsum(np.exp(own.log_density(y)), axis=0)
    np.testing.assert_allclose(total[-1], 1.0, atol=1e-3 if "negative" in name else 1e-7)
    np.testing.assert_allclose(own.distribution(y), total, atol=2e-6)
    for odd in (-1.0, 0.5, np.inf, -np.inf):
        assert (own.log_density(np.full(N, odd)) == -np.inf).all()
    np.testing.assert_array_equal(own.distribution(np.full(N, -1.0)), 0.0)
    np.testing.assert_array_equal(own.distribution(np.full(N, np.inf)), 1.0)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if not case.whole])
def test_densities_are_the_derivative_of_the_distribution(name):
    own, _ = law_of(name)
    for level in (0.1, 0.6):
        y = own.quantile(level)
        h = 1e-5 * np.maximum(np.abs(y), 0.1)
        slope = (own.distribution(y + h) - own.distribution(y - h)) / (2 * h)
        np.testing.assert_allclose(np.exp(own.log_density(y)), slope, rtol=1e-4)
    if name in ("log", "sqrt"):
        for y in (0.0, -1.0):
            assert (own.log_density(np.full(N, y)) == -np.inf).all()
            np.testing.assert_array_equal(own.distribution(np.full(N, y)), 0.0)


@EVERY
def test_draws_have_its_distribution(name):
    """Shares below two of its quantiles, and expected values against expectations of the law."""
    own, laws = law_of(name)
    drawn = own.sampled(DRAWS, np.random.default_rng(3))
    assert drawn.shape == (DRAWS, N)
    for level in (0.2, 0.8):
        y = own.quantile(level)
        p = own.distribution(y)
        share = (drawn <= y).mean(axis=0)
        assert (np.abs(share - p) <= _SIGMAS * np.sqrt(p * (1 - p) / DRAWS) + 1e-9).all()
    signal = np.linspace(-1, 2, 5)[:, None] * np.ones(N)
    exact = [[law(f).mean() for law, f in zip(laws, row, strict=True)] for row in signal]
    np.testing.assert_allclose(own.expected(signal), exact, rtol=1e-9)


@EVERY
@pytest.mark.parametrize("mean", [-40.0, 0.0, 40.0])
@pytest.mark.parametrize("variance", [0.0, 25.0])
def test_extremes_are_finite_and_quick(name, mean, variance):
    """No warning, no NaN, no search without an end; quantiles in order."""
    own, _ = law_of(name, mean, variance)
    for part in (own.mean, own.sd, own.signal_sd):
        assert np.isfinite(part).all() and (np.asarray(part) >= 0).all() or part is own.mean
    quantiles = np.array([own.quantile(level) for level in (1e-6, 0.05, 0.5, 0.95, 1 - 1e-6)])
    assert np.isfinite(quantiles).all() and (np.diff(quantiles, axis=0) >= 0).all()
    assert not np.isnan(own.log_density(quantiles)).any()
    assert ((own.distribution(quantiles) >= 0) & (own.distribution(quantiles) <= 1)).all()
    drawn = own.sampled(20, np.random.default_rng(0))
    assert np.isfinite(drawn).all()


def test_large_counts_are_as_spread_as_their_rate():
    """A million counts around an uncertain rate: log-normal but for a thousandth, between the nodes of any rule too."""
    m, s, size = np.log(1e6), 0.7, 1001
    own = pt.Poisson().bind({}, 1.0).predictive(np.full(size, m), np.full(size, s**2), None, {})
    y = np.round(np.exp(m + s * np.linspace(-3, 3, size)))
    exact = stats.lognorm(s, scale=1e6)
    np.testing.assert_allclose(own.distribution(y), exact.cdf(y), atol=1e-5)
    np.testing.assert_allclose(own.log_density(y), exact.logpdf(y), atol=1e-3)
    np.testing.assert_allclose(own.quantile(0.3), exact.ppf(0.3), rtol=1e-5)


def test_many_trials_are_as_spread_as_their_probability():
    s, n, size = 0.8, 1e6, 501
    own = (
        pt.Binomial(n).bind({}, 1.0).predictive(np.zeros(size), np.full(size, s**2), None, {"trials": np.full(size, n)})
    )
    z = np.linspace(-3, 3, size)
    y = np.round(n / (1 + np.exp(-s * z)))
    np.testing.assert_allclose(own.distribution(y), stats.norm.cdf(z), atol=1e-4)


def test_huge_rates_end_in_infinity():
    own = pt.Poisson().bind({}, 1.0).predictive(np.array([800.0]), np.array([1.0]), None, {})
    assert own.quantile(0.5) == np.inf


def test_quantiles_of_many_entries_are_those_of_each():
    """Interpolated over the ratio of variances."""
    bound = pt.StudentT(2.5, 0.6).bind(AXES, 4.0)
    rng = np.random.default_rng(0)
    mean, variance = rng.normal(size=3000), np.exp(rng.normal(0, 3, 3000))
    many = bound.predictive(mean, variance, None, {})
    for level in (0.01, 0.7):
        few = bound.predictive(mean[:50], variance[:50], None, {}).quantile(level)
        np.testing.assert_allclose(many.quantile(level)[:50], few, rtol=1e-6, atol=1e-6)
    same = bound.predictive(np.zeros(3000), np.full(3000, 0.2), None, {}).quantile(0.9)
    one = bound.predictive(np.zeros(1), np.full(1, 0.2), None, {}).quantile(0.9)
    np.testing.assert_allclose(same, np.full(3000, one), rtol=1e-8)


def test_the_mean_of_logarithms_includes_their_variance():
    own, _ = law_of("log")
    assert (own.mean > np.exp(MEAN + 0.2)).all()


@EVERY
def test_scores_of_its_own_draws(name):
    """What a distribution draws is covered as it says; of the scores only those of entries with a spread."""
    own, _ = law_of(name, np.zeros(N), 0.2)
    mean, variance = np.zeros((400, N)), np.full((400, N), 0.2)
    case = CASES[name]
    known = {k: np.broadcast_to(v, (N,)) for k, v in case.known.items() if k != "errors"}
    where = case.observations().domain
    wide = case.bind().predictive(mean, variance, where, known)
    truth = wide.sampled(1, np.random.default_rng(1))[0]
    found = score(wide, truth)
    assert found["n"] == 2400 and all(np.isfinite(v) for v in found.values())
    assert found["crps"] <= found["mae"] * 1.05
    for level in (50, 90, 95):
        share = found[f"coverage{level}"]
        assert share >= level / 100 - 0.05
        if not case.whole:
            assert share == pytest.approx(level / 100, abs=0.05)


def test_scores_by_draws_agree_with_the_closed_form():
    """A normal distribution through the general road; CRPS within five standard errors of 256 draws at 4000 entries."""

    class General(Normal):
        pass

    rng = np.random.default_rng(2)
    mean, variance, noise = rng.normal(size=4000), np.full(4000, 0.3), np.full(4000, 0.5)
    exact = Normal(mean, variance, noise)
    y = exact.sampled(1, rng)[0]
    closed = scores.score(exact, y)
    law = General(mean, variance, noise)
    draws = law.sampled(256, np.random.default_rng(0))
    assert scores._crps_of_draws(draws, y) == pytest.approx(closed["crps"], abs=5e-3)
