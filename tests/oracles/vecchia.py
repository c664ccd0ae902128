"""Nearest-neighbour Gaussian processes by slow loops over levels, in 64 bits."""

import numpy as np


def earlier(places, order, number):
    """For each level in this order, the nearest ones before it."""
    found = []
    for n, t in enumerate(order):
        before = np.asarray(order[:n], int)
        apart = np.linalg.norm(places[before] - places[t], axis=1)
        found.append(before[np.argsort(apart, kind="stable")[:number]])
    return found


def covariance(K, order, neighbours):
    """Covariance of all levels, for the exact one K and the neighbours of each level in this order.

    Each level is w'u_N + e with w = K_NN^-1 K_Nt and Var e = K_tt - w'K_Nt; its covariance with earlier levels is
    w' times theirs.
    """
    V = np.zeros_like(K)
    for n, (t, near) in enumerate(zip(order, neighbours, strict=True)):
        before = np.asarray(order[:n], int)
        w = np.linalg.solve(K[np.ix_(near, near)], K[near, t])
        V[t, before] = V[before, t] = w @ V[np.ix_(near, before)]
        V[t, t] = w @ V[np.ix_(near, near)] @ w + K[t, t] - w @ K[near, t]
    return V


def precision(K, order, neighbours):
    """Inverse of that covariance, as a sum over levels."""
    Q = np.zeros_like(K)
    for t, near in zip(order, neighbours, strict=True):
        w = np.linalg.solve(K[np.ix_(near, near)], K[near, t])
        row = np.zeros(len(K))
        row[t], row[near] = 1.0, -w
        Q += np.outer(row, row) / (K[t, t] - w @ K[near, t])
    return Q
