"""Pictures of kernels hold the covariance and draws with it."""

import numpy as np
import numpyro.distributions as dist
import pytest

from probtensor.errors import ModelError
from probtensor.hyperparameters import fixed
from probtensor.kernels import Custom, plot
from probtensor.kernels.matern import Matern
from probtensor.kernels.mixture import SpectralMixture
from probtensor.kernels.periodic import Periodic
from probtensor.kernels.rbf import RBF
from probtensor.kernels.walks import IntegratedRandomWalk, RandomWalk
from tests.oracles import gaussian_process as oracle


def lines(panel):
    return [line.get_xydata() for line in panel.lines]


def test_covariance_and_draws_of_a_stationary_kernel():
    left, right = plot(Matern(1 / 2, lengthscale=fixed("2D"), variance=3.0), samples=2000).axes
    ((x, k),) = (line.T for line in lines(left))
    assert x[-1] == pytest.approx(8.0) and left.get_xlabel() == "distance"
    np.testing.assert_allclose(k, oracle.matern(0.5, 2.0, 3.0, x), rtol=1e-3, atol=1e-4)
    drawn = np.array([line[:, 1] for line in lines(right)])
    # The standard error of a variance of 2000 draws is 3%.
    np.testing.assert_allclose(np.mean(drawn[:, 0] * drawn[:, 40]), k[40], atol=5 * 3.0 * 0.04)


def test_a_walk_has_covariances_with_places():
    left, right = plot(RandomWalk(lengthscale=2.0, variance=1.0) + IntegratedRandomWalk(3.0), extent=10).axes
    assert len(lines(left)) == 3 and len(lines(right)) == 4
    assert lines(right)[0][-1, 0] == 10


@pytest.mark.parametrize(
    ("kernel", "extent"),
    [
        (Matern(3 / 2), 1.0),
        (RBF(lengthscale=dist.LogNormal(0.0, 0.1)), 4.0),
        (Periodic(10, lengthscale=50.0), 40.0),
        (Matern(3 / 2, lengthscale=5) * Periodic("30D"), 120.0),
        (SpectralMixture(2), 1.0),
        (Custom(lambda s: np.e ** (-s)), 1.0),
    ],
)
def test_extent_is_that_of_the_longest_declared_scale(kernel, extent):
    assert lines(plot(kernel, samples=1).axes[1])[0][-1, 0] == pytest.approx(extent, rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3.0,), "expected a kernel"),
        ((Matern(3 / 2), (0, 1)), "expected a number"),
        ((Matern(3 / 2), 1.0, -1), "samples=-1"),
        ((Matern(3 / 2), 0.0), "extent=0.0 must be a finite"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ModelError, match=message):
        plot(*arguments)
