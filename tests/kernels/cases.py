"""Every kernel, and sums and products of them. A new kernel, entered here, inherits the laws of its states."""

import numpy as np
import pytest

from probtensor.axes import Axis
from probtensor.hyperparameters import parameters
from probtensor.kernels.base import Start
from probtensor.kernels.matern import Matern
from probtensor.kernels.mixture import SpectralMixture
from probtensor.kernels.periodic import Cosine, Periodic
from probtensor.kernels.rbf import RBF
from probtensor.kernels.walks import IntegratedRandomWalk, Linear, RandomWalk
from tests.oracles import gaussian_process as oracle
from tests.oracles import kernels
from tests.priors.cases import R

LEVELS = np.linspace(0.0, 10.0, 11)
AXIS = Axis("x", "numeric", LEVELS)
#: Ten harmonics leave out 1e-11 of the variance at lengthscale 1, two of them 1e-11 at lengthscale 40.
CYCLE = Periodic(2.5, lengthscale=1.0, order=10)
KERNELS = {
    "periodic": CYCLE,
    "periodic * matern": Periodic(2.5, lengthscale=1.3, order=9) * Matern(3 / 2),
    "matern * periodic + matern": Matern(1 / 2) * CYCLE + Matern(5 / 2),
    "(matern + periodic) * matern": (Matern(3 / 2) + CYCLE) * Matern(1 / 2),
    "(periodic + matern) * periodic": (Periodic(4.0, 10.0, order=3) + Matern(1 / 2)) * Periodic(2.5, 40.0, order=2),
    "three materns": Matern(5 / 2) * Matern(1 / 2) * Matern(3 / 2),
    "two cycles": Periodic(2.5, lengthscale=60.0, order=2) * Periodic(1.7, lengthscale=60.0, order=2),
    "cosine": Cosine(2.5),
    "mixture": SpectralMixture(2, Matern(3 / 2)),
    "mixture of rbf": SpectralMixture(2),
    "rbf": RBF(),
    "rbf 3": RBF(order=3),
    "rbf 9": RBF(order=9),
    "rbf + rbf": RBF(order=4) + RBF(order=5),
    "walk": RandomWalk(),
    "integrated walk": IntegratedRandomWalk(),
    "linear": Linear(),
    "linear + matern": Linear() + Matern(3 / 2),
    "walk * cosine": RandomWalk() * Cosine(2.5),
    "integrated walk * matern": IntegratedRandomWalk() * Matern(1 / 2),
    "walk * walk + linear": RandomWalk() * RandomWalk(shared=True) + Linear(),
}
#: What costs most to compile and says what the others say is for the slow run.
_LONG = (
    "periodic",
    "periodic * matern",
    "(matern + periodic) * matern",
    "two cycles",
    "mixture",
    "walk * walk + linear",
    "matern * periodic + matern",
    "(periodic + matern) * periodic",
    "three materns",
    "mixture of rbf",
    "rbf 3",
    "rbf 9",
    "rbf + rbf",
    "linear + matern",
    "integrated walk * matern",
)
every_kernel = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if name in _LONG else ()) for name in KERNELS]
)


def bound(name):
    return KERNELS[name].bind(AXIS, Start(np.array([0.8, 3.0]), np.array([1.5, 0.6]), True, (2.5, 4.0)))


def values_of(kernel):
    return [np.asarray(p.value, np.float64) for p in parameters(kernel)]


def expected(kernel, values, x, y, states=False):
    """(R, T, M) covariances by the textbook formulas."""
    return np.array([kernels.covariance(kernel, iter(values), x, y, r, LEVELS, states) for r in range(R)])


def prior_of(kernel, points, states):
    """Mean and covariance of all levels as a function of the learned hyper-parameters' logarithms, for the oracle."""
    declared = parameters(kernel)

    def gaussian(flat):
        values, at = [], 0
        for p in declared:
            raw = flat[at : at + len(p.raw)] if p.learned else np.asarray(p.raw, np.float64)
            at += len(p.raw) if p.learned else 0
            values.append(np.exp(raw))
        return np.zeros(len(points) * R), oracle.stack(list(expected(kernel, values, points, points, states)))

    learned = [np.asarray(p.raw, np.float64) for p in declared if p.learned]
    return gaussian, np.concatenate(learned)
