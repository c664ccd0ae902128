"""The CP decomposition entry by entry: every moment by a loop over components, modes and observations.

A factor is a pair of mean (T, R) and covariance (T, R, R), one for each mode; factors are independent of each other.
An observation is a triple (index of the level in each mode, value, weight); weight 0 is not observed.
"""

import itertools
import math

from tests.oracles.gaussian_process import kl


def _second(factor, level, r, s):
    mean, covariance = factor
    return covariance[level, r, s] + mean[level, r] * mean[level, s]


def mean(factors, index):
    """E[f] of one entry."""
    R, total = factors[0][0].shape[1], 0.0
    for r in range(R):
        product = 1.0
        for (m, _), level in zip(factors, index, strict=True):
            product *= m[level, r]
        total += product
    return total


def second_moment(factors, index):
    """E[f^2] of one entry: the sum over pairs of components of products of second moments."""
    R, total = factors[0][0].shape[1], 0.0
    for r, s in itertools.product(range(R), repeat=2):
        product = 1.0
        for factor, level in zip(factors, index, strict=True):
            product *= _second(factor, level, r, s)
        total += product
    return total


def variance(factors, index):
    """Var[f] of one entry."""
    return second_moment(factors, index) - mean(factors, index) ** 2


def expected_log_likelihood(moments, observations, noise_variance):
    """Sum of E[log N(y; f, noise_variance / weight)], from the mean and variance of f at each observation."""
    total = 0.0
    for (m, v), (_, value, weight) in zip(moments, observations, strict=True):
        if weight > 0:
            total -= 0.5 * math.log(2 * math.pi * noise_variance / weight)
            total -= 0.5 * weight * ((value - m) ** 2 + v) / noise_variance
    return total


def elbo(moments, observations, noise_variance, blocks):
    """Evidence lower bound; blocks: (mean, covariance, prior mean, prior covariance) of each block's whole vector."""
    return expected_log_likelihood(moments, observations, noise_variance) - sum(kl(*block) for block in blocks)
