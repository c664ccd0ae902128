"""Likelihoods the slow way: scipy's distributions, integrals over the signal as sums over thousands of values.

A law is a function of (signal, what is known) that gives a frozen scipy distribution of the value; for data on another
scale, of the value as the user sees it.
"""

import numpy as np
from scipy import optimize, special, stats
from scipy.integrate import quad

#: The signal is integrated over so many standard deviations on either side.
REACH = 12.0


def gaussian(f, sd, **known):
    return stats.norm(f, np.sqrt(sd**2 + known.get("errors", 0.0) ** 2))


def log_gaussian(f, sd, **known):
    return stats.lognorm(sd, scale=np.exp(f))


class _SquareRoot:
    """The square of a normal variable."""

    def __init__(self, f, sd):
        self.own, self.sd, self.f = stats.ncx2(1, (f / sd) ** 2), sd, f

    def cdf(self, y):
        root = np.sqrt(np.maximum(y, 0.0))
        return stats.norm.cdf(root, self.f, self.sd) - stats.norm.cdf(-root, self.f, self.sd)

    def logpdf(self, y):
        root = np.sqrt(y)
        both = np.logaddexp(stats.norm.logpdf(root, self.f, self.sd), stats.norm.logpdf(-root, self.f, self.sd))
        return both - np.log(2 * root)

    def mean(self):
        return self.f**2 + self.sd**2

    def var(self):
        return 2 * self.sd**4 + 4 * self.f**2 * self.sd**2

    def rvs(self, random_state):
        return (self.f + self.sd * random_state.standard_normal(np.shape(self.f))) ** 2


def sqrt_gaussian(f, sd, **known):
    return _SquareRoot(f, sd)


def student_t(f, scale, df, **known):
    return stats.t(df, f, scale)


def poisson(f, **known):
    return stats.poisson(known.get("exposure", 1.0) * np.exp(f))


def negative_binomial(f, dispersion, **known):
    rate = known.get("exposure", 1.0) * np.exp(f)
    return stats.nbinom(1 / dispersion, 1 / (1 + dispersion * rate))


def trials(f, **known):
    return stats.binom(known.get("trials", 1.0), special.expit(f))


def expectation(function, mean, variance, points=8001):
    """E[function(f)] for a normal f, by a sum over a grid so fine that it shows every likelihood here."""
    if variance == 0:
        return float(function(np.array([mean]))[0])
    z = np.linspace(-REACH, REACH, points)
    weights = stats.norm.pdf(z)
    return float(function(mean + np.sqrt(variance) * z) @ weights / weights.sum())


def expected_log(law, y, mean, variance):
    """E[log p(y | f)] for laws whose logarithm is a smooth function of f."""
    return expectation(lambda f: log_density_of(law(f), y), mean, variance)


def log_density_of(own, y):
    """Log density or log probability of a frozen distribution."""
    if isinstance(own, _SquareRoot) or isinstance(own.dist, stats.rv_continuous):
        return own.logpdf(y)
    return own.logpmf(y)


def slopes(law, y, mean, variance, h=1e-3):
    """Derivatives of E[log p] with respect to mean and variance, by differences that cancel the fourth order."""

    def difference(function):
        return (8 * (function(h) - function(-h)) - (function(2 * h) - function(-2 * h))) / (12 * h)

    by_mean = difference(lambda d: expected_log(law, y, mean + d, variance))
    by_variance = difference(lambda d: expected_log(law, y, mean, variance * (1 + d))) / variance
    return by_mean, by_variance


def tilted(law, y, mean, variance):
    """Mean and variance of a normal density times the likelihood, on ever finer grids around where the product is."""

    def log(f):
        with np.errstate(all="ignore"):
            own = log_density_of(law(f), y) - 0.5 * (f - mean) ** 2 / variance
        return np.where(np.isnan(own), -np.inf, own)

    low, high = mean - 60 * (1 + np.sqrt(variance)), mean + 60 * (1 + np.sqrt(variance))
    for _ in range(12):
        f = np.linspace(low, high, 4001)
        values = log(f)
        near = np.flatnonzero(values > values.max() - 40)
        low, high = f[max(near[0] - 1, 0)], f[min(near[-1] + 1, len(f) - 1)]
    weights = np.exp(values - values.max())
    weights /= weights.sum()
    centre = weights @ f
    return centre, weights @ (f - centre) ** 2


def predictive_cdf(law, y, mean, variance):
    return expectation(lambda f: law(f).cdf(y), mean, variance)


def predictive_density(law, y, mean, variance):
    return expectation(lambda f: np.exp(log_density_of(law(f), y)), mean, variance)


def predictive_moments(law, mean, variance):
    """Mean, sd and sd of the expected value."""
    first = expectation(lambda f: law(f).mean(), mean, variance)
    within = expectation(lambda f: law(f).var(), mean, variance)
    between = expectation(lambda f: (law(f).mean() - first) ** 2, mean, variance)
    return first, np.sqrt(within + between), np.sqrt(between)


def student_t_bound(y, mean, variance, scale, df):
    """max over q of E_f E_q[log N(y; f, scale^2 / tau) p(tau) / q(tau)]: the log of an integral over the precision."""
    misfit = (y - mean) ** 2 + variance
    law = stats.gamma(0.5 * df, scale=2 / df)

    def each(tau):
        return np.exp(0.5 * np.log(tau / (2 * np.pi * scale**2)) - 0.5 * tau * misfit / scale**2) * law.pdf(tau)

    return np.log(quad(each, 0, np.inf, limit=400)[0])


def noise_of_levels(squares, counts, shrink):
    """Variances of groups and the common one that maximise the normal density and the inverse-gamma prior, by search.

    squares: sums of E[(y - f)^2] of each group.
    """
    squares, counts = np.asarray(squares), np.asarray(counts)

    def lost(logs):
        own, common = np.exp(logs[:-1]), np.exp(logs[-1])
        fit = np.sum(counts * logs[:-1] + squares / own)
        return 0.5 * (fit + shrink * np.sum(common / own - np.log(common / own)))

    start = np.zeros(len(squares) + 1)
    return np.exp(optimize.minimize(lost, start, method="BFGS", options={"gtol": 1e-9}).x)
