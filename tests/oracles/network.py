"""Terms that are sums over paths, entry by entry: each path takes one function of every block, and multiplies them.

A Tucker term has a path for every entry of its core, a tensor train one for every choice of its bonds' indices. A block
is a pair of mean (T, R) and covariance (T, R, R); blocks are independent of each other.
"""

import itertools

import numpy as np


def tucker_paths(ranks):
    """The core is the last block; its entries are numbered row-major."""
    every = itertools.product(*map(range, ranks))
    return [(*index, position) for position, index in enumerate(every)]


def train_paths(bonds):
    """bonds: sizes r_1 ... r_(D-1); the functions of a block are numbered row-major over (left, right)."""
    sizes, paths = (1, *bonds, 1), []
    for index in itertools.product(*map(range, sizes)):
        paths.append(tuple(index[d] * sizes[d + 1] + index[d + 1] for d in range(len(sizes) - 1)))
    return paths


def _second(block, level, r, s):
    mean, covariance = block
    return covariance[level, r, s] + mean[level, r] * mean[level, s]


def value(values, paths, index):
    """One entry for given function values (T, R) of each block."""
    return sum(np.prod([v[t, r] for v, t, r in zip(values, index, path, strict=True)]) for path in paths)


def mean(blocks, paths, index):
    """E[f] of one entry."""
    return value([m for m, _ in blocks], paths, index)


def variance(blocks, paths, index):
    """Var[f] of one entry, from the sum over pairs of paths of products of second moments."""
    total = 0.0
    for p, q in itertools.product(paths, repeat=2):
        product = 1.0
        for block, t, r, s in zip(blocks, index, p, q, strict=True):
            product *= _second(block, t, r, s)
        total += product
    return total - mean(blocks, paths, index) ** 2
