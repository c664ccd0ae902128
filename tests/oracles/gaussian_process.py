"""Gaussian processes as one big Gaussian: every level and component in one vector, in 64 bits, by dense linear algebra.

The vector holds u[t, r] at place t R + r. Sites are exp(sum_t eta_t' u_t - u_t' P_t u_t / 2); their precisions may be
singular and so may be the prior's covariance, hence everything is written with I + K P, which is always invertible.
"""

from typing import NamedTuple

import numpy as np
from scipy.special import gamma, kv


def matern(nu, lengthscale, variance, distance):
    """Rasmussen and Williams 2006, eq. 4.14, for any smoothness, by the modified Bessel function."""
    s = np.sqrt(2 * nu) * np.asarray(distance, dtype=np.float64) / lengthscale
    inside = np.where(s > 0, s, 1.0)
    value = 2 ** (1 - nu) / gamma(nu) * inside**nu * kv(nu, inside)
    return variance * np.where(s > 0, value, 1.0)


def periodic(period, lengthscale, variance, distance):
    """MacKay 1998, eq. 47."""
    return variance * np.exp(-2 * (np.sin(np.pi * np.asarray(distance, dtype=np.float64) / period) / lengthscale) ** 2)


def distances(points, others=None):
    others = points if others is None else others
    return np.abs(np.asarray(points, dtype=np.float64)[:, None] - np.asarray(others, dtype=np.float64)[None, :])


def stack(covariances):
    """Covariance of the whole vector, from one (T, T) covariance for each independent component."""
    R, T = len(covariances), len(covariances[0])
    K = np.zeros((T, R, T, R))
    for r, covariance in enumerate(covariances):
        K[:, r, :, r] = covariance
    return K.reshape(T * R, T * R)


def block_diagonal(precision):
    T, R, _ = precision.shape
    P = np.zeros((T, R, T, R))
    for t in range(T):
        P[t, :, t, :] = precision[t]
    return P.reshape(T * R, T * R)


class Posterior(NamedTuple):
    """mean (T R,), covariance (T R, T R) of the whole vector, and the log of the sites' prior expectation."""

    mean: np.ndarray
    covariance: np.ndarray
    log_normaliser: float

    def marginal_means(self, R):
        return self.mean.reshape(-1, R)

    def marginal_covariances(self, R):
        T = len(self.mean) // R
        return np.array([self.covariance[t * R : (t + 1) * R, t * R : (t + 1) * R] for t in range(T)])


def posterior(prior_mean, K, eta, precision):
    """Conditions N(prior_mean (T R,), K) on sites eta (T, R), precision (T, R, R)."""
    P, h = block_diagonal(precision), eta.ravel()
    A = np.eye(len(K)) + K @ P
    centred = h - P @ prior_mean
    covariance = np.linalg.solve(A, K)
    covariance = 0.5 * (covariance + covariance.T)
    shift = np.linalg.solve(A, K @ centred)
    _, log_det = np.linalg.slogdet(A)
    log_normaliser = h @ prior_mean - 0.5 * prior_mean @ P @ prior_mean + 0.5 * centred @ shift - 0.5 * log_det
    return Posterior(prior_mean + shift, covariance, float(log_normaliser))


def divergence(found, eta, precision):
    """Kullback-Leibler divergence of a posterior from its prior, E[log sites] - log_normaliser; K may be singular."""
    P, h, m = block_diagonal(precision), eta.ravel(), found.mean
    return float(h @ m - 0.5 * np.sum(P * (found.covariance + np.outer(m, m))) - found.log_normaliser)


def predict(prior_mean, K, eta, precision, T):
    """The same where only the first T levels have sites: K and prior_mean cover training and new levels."""
    M = len(K) // eta.shape[1] - T
    eta = np.concatenate([eta, np.zeros((M, eta.shape[1]))])
    precision = np.concatenate([precision, np.zeros((M, *precision.shape[1:]))])
    return posterior(prior_mean, K, eta, precision)


def kl(mean, covariance, prior_mean, prior_covariance):
    """Kullback-Leibler divergence of two Gaussians with invertible covariances."""
    difference = prior_mean - mean
    trace = np.trace(np.linalg.solve(prior_covariance, covariance))
    quadratic = difference @ np.linalg.solve(prior_covariance, difference)
    log_dets = np.linalg.slogdet(prior_covariance)[1] - np.linalg.slogdet(covariance)[1]
    return 0.5 * (trace + quadratic - len(mean) + log_dets)


def log_density(y, mean, covariance):
    """log N(y; mean, covariance)."""
    difference = y - mean
    quadratic = difference @ np.linalg.solve(covariance, difference)
    return -0.5 * (quadratic + np.linalg.slogdet(covariance)[1] + len(y) * np.log(2 * np.pi))


def log_normaliser_gradient(prior_of, raw, eta, precision, step=2e-3):
    """Gradient of the log-normaliser with respect to a vector that prior_of turns into a prior mean (fixed) and K.

    With g = eta - P (posterior mean) = (I + P K)^-1 (eta - P (prior mean)), where nothing cancels, d log_normaliser is
    (g' dK g - trace(P (I + K P)^-1 dK)) / 2, with dK by differences: differences of the log-normaliser itself would
    lose the digits that its size takes.
    """
    prior_mean, K = prior_of(raw)
    P, h = block_diagonal(precision), eta.ravel()
    g = np.linalg.solve(np.eye(len(K)) + P @ K, h - P @ prior_mean)
    W = np.linalg.solve((np.eye(len(K)) + K @ P).T, P).T
    dK = derivative(lambda x: prior_of(x)[1], raw, step)
    return np.array([0.5 * (g @ d @ g - np.sum(W * d.T)) for d in dK])


def derivative(function, x, step=2e-3):
    """Derivative by each entry of x, by central differences of fourth order: error of order step^4."""
    parts = []
    for e in step * np.eye(len(x)):
        near, far = function(x + e) - function(x - e), function(x + 2 * e) - function(x - 2 * e)
        parts.append((8 * near - far) / (12 * step))
    return np.array(parts)
