"""How close neighbours bring the approximation to a dense Gaussian process on thousands of entries.

Bounds are about a third above what was measured; they say for which number of neighbours each promise holds. On the
plane 30 give the mean to 1% of the predictive sd and the log density to 0.1%; in space-time, where more entries are
equally near, 60 give the mean to 2% and the log density to 0.2%, and 30 to 5% and 0.5%. The sd is good to 1% from 15.
"""

import functools

import numpy as np
import pytest

from probtensor.axes import Axis
from probtensor.engines.collapsed.contrasts import contrasts, weights
from probtensor.hyperparameters import fixed
from probtensor.kernels.field import FieldStart
from probtensor.kernels.matern import Matern
from probtensor.nearest import search
from probtensor.nearest.conditionals import Entries, condition
from tests.oracles import gaussian_process as oracle

N, M, NOISE = 2500, 400, 0.1
PLANE = Matern(3 / 2, lengthscale=fixed(1.0), variance=fixed(1.0)).on("x", "y", metric="euclidean")
KERNELS = {
    "plane": PLANE,
    "space-time": Matern(1 / 2, lengthscale=fixed(3.0), variance=fixed(1.0)).on("t") * PLANE,
}
#: Number of neighbours -> error of the mean (rms) and of the sd (rms) in predictive sds, of the log density in nats an
#: entry.
BOUNDS = {
    "plane": {15: (0.025, 0.0005, 0.0008), 30: (0.006, 0.0002, 0.0006), 60: (0.001, 0.0001, 0.0004)},
    "space-time": {15: (0.12, 0.006, 0.015), 30: (0.06, 0.002, 0.0065), 60: (0.025, 0.0005, 0.003)},
}


def slow(name, a, b):
    space = oracle.matern(1.5, 1.0, 1.0, np.hypot(a[:, None, 1] - b[None, :, 1], a[:, None, 2] - b[None, :, 2]))
    if name == "plane":
        return space
    return space * oracle.matern(0.5, 3.0, 1.0, np.abs(a[:, None, 0] - b[None, :, 0]))


@functools.cache
def dense(name):
    rng = np.random.default_rng(0)
    points, targets = rng.uniform(0, 10, (N, 3)), rng.uniform(0, 10, (M, 3))
    K = slow(name, points, points) + NOISE * np.eye(N)
    values = np.linalg.cholesky(K) @ rng.normal(size=N)
    cross = slow(name, targets, points)
    solved = np.linalg.solve(K, np.concatenate([values[:, None], cross.T], axis=1))
    sd = np.sqrt(1 + NOISE - np.sum(cross.T * solved[:, 1:], axis=0))
    return points, targets, values, cross @ solved[:, 0], sd, oracle.log_density(values, 0.0, K)


@pytest.mark.slow
@pytest.mark.parametrize("neighbours", [15, 30, 60])
@pytest.mark.parametrize("name", KERNELS)
def test_neighbours_are_the_knob(name, neighbours):
    points, targets, values, mean, sd, density = dense(name)
    names = ("t", "x", "y")
    axes = {n: Axis(n, "numeric", np.linspace(0, 10, 11)) for n in names}
    kernel = KERNELS[name].bind(axes, names, FieldStart(0.1, 1.0), True)
    entries = Entries(points, np.ones(N))
    found = contrasts(kernel, NOISE, entries, neighbours)
    index = search.around(kernel, NOISE, entries, targets, 3 * neighbours)
    kriging = condition(kernel, NOISE, Entries(targets, np.zeros(M)), entries, index)
    apart = weights(kriging, N) @ values - mean
    errors = (
        np.sqrt(np.mean((apart / sd) ** 2)),
        np.sqrt(np.mean((np.sqrt(kriging.variance + NOISE) / sd - 1) ** 2)),
        abs(found.log_density(values) - density) / N,
    )
    for error, bound in zip(errors, BOUNDS[name][neighbours], strict=True):
        assert error < bound
