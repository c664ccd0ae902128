"""What is particular to cycles, products and mixtures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import ive

from probtensor.axes import Axis
from probtensor.compilation import compiled
from probtensor.errors import ModelError
from probtensor.hyperparameters import fixed
from probtensor.kernels.base import Start
from probtensor.kernels.combinations import Sum
from probtensor.kernels.matern import Matern
from probtensor.kernels.mixture import SpectralMixture
from probtensor.kernels.periodic import Cosine, Periodic
from probtensor.kernels.rbf import RBF
from tests.helpers import DTYPE, assert_close, mostly_slow, tolerance
from tests.kernels.cases import AXIS
from tests.oracles import gaussian_process as oracle
from tests.priors.cases import R

START = Start(np.ones(R), np.full(R, 0.7), True)
transition = compiled(lambda kernel, at, step: kernel.transition(at, step))


@pytest.mark.parametrize("step", [1e-3, 0.1])
def test_short_steps_of_a_product_keep_the_digits_of_its_noise(step):
    """Variance of the function's own noise, of order step^3: v1 v2 - (F1 F2 ...) would leave none in 32 bits."""
    kernel = (Matern(3 / 2) * Matern(3 / 2)).bind(AXIS, Start(np.ones(R), np.ones(R), True))
    root_Q = np.asarray(transition(kernel, jnp.zeros((), DTYPE), jnp.asarray(step, DTYPE))[1], np.float64)
    step = float(np.asarray(step, DTYPE))
    rate = np.sqrt(3.0)
    s = rate * step
    F, P = np.exp(-s) * np.array([[1 + s, s], [-s, 1 - s]]), np.eye(2)
    unit = P - F @ P @ F.T
    # 4 integral of u^2 exp(-2u) from 0 to s, by its power series.
    unit[0, 0] = 4 * sum((-2) ** k * s ** (k + 3) / (float(np.prod(np.arange(1, k + 1))) * (k + 3)) for k in range(20))
    moved = (F @ F.T)[0, 0]
    np.testing.assert_allclose((root_Q[0] @ root_Q[0].T)[0, 0], (moved + 1) * unit[0, 0], rtol=max(tolerance(), 1e-7))


def test_a_cycle_repeats_itself():
    """Also a thousand periods away, where an angle in radians would have lost its digits in 32 bits."""
    kernel = Periodic(fixed(0.5)).bind(AXIS, Start(np.ones(R), np.ones(R), True))
    d = jnp.asarray([0.125, 500.125], DTYPE)
    assert_close(kernel.covariance(d)[:, 0], kernel.covariance(d)[:, 1])
    F = [transition(kernel, jnp.zeros_like(x), x)[0] for x in d]
    assert_close(F[1], F[0])


@pytest.mark.parametrize("lengthscale", mostly_slow([0.1, 0.5, 1.0, 3.0, 1e4], 0.1, 1e4))
def test_truncation_is_as_stated(lengthscale):
    """The variance is exact, the covariance off by at most twice the share left out; and no gradient is NaN."""
    kernel = Periodic(1.0, fixed(lengthscale)).bind(AXIS, Start(np.ones(1), np.array([1.7]), True))
    share = ive(0, lengthscale**-2.0) + 2 * sum(ive(j, lengthscale**-2.0) for j in range(1, 7))
    truncated = kernel.truncated()
    assert_close(truncated, [1 - share])
    root = np.asarray(kernel.state_root(jnp.zeros((), DTYPE))[0], np.float64)
    assert_close(kernel.emission() @ root @ root.T @ kernel.emission(), 1.7)
    for d in (0.05, 0.2, 0.5):
        F = np.asarray(transition(kernel, jnp.zeros((), DTYPE), jnp.asarray(d, DTYPE))[0][0], np.float64)
        own = kernel.emission() @ F @ root @ root.T @ kernel.emission()
        exact = oracle.periodic(1.0, lengthscale, 1.7, d)
        assert abs(own - exact) <= 2 * 1.7 * max(1 - share, 0.0) + tolerance()
    gradient = jax.grad(lambda k: jnp.sum(k.state_root(jnp.zeros((), DTYPE))))(kernel)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_who_carries_the_variance_of_a_product():
    """The first part; the others are held at one."""
    kernel = (Periodic(2.0) * Matern(3 / 2) * Matern(1 / 2)).bind(AXIS, Start(np.ones(R), np.full(R, 0.7), True))
    variances = [part.variance for part in kernel.parts]
    assert [v.learned for v in variances] == [True, False, False]
    assert_close(np.array([v.value for v in variances]), [[0.7, 0.7], [1.0, 1.0], [1.0, 1.0]])
    held = (Periodic(2.0) * Matern(3 / 2)).bind(AXIS, Start(np.ones(R), np.ones(R), False))
    assert not any(part.variance.learned for part in held.parts)
    nested = Matern(1 / 2) * Matern(3 / 2) * (Matern(5 / 2) + Matern(1 / 2))
    assert [type(part) for part in nested.parts] == [Matern, Matern, Sum]


@pytest.mark.parametrize(("period", "days"), [("365.25D", 365.25), ("24 h", 1.0), (7, 7.0), (fixed("24 h"), 1.0)])
def test_a_period_has_the_unit_of_its_coordinate(period, days):
    units = {"D": 1.0, "h": 1 / 24}
    axis = Axis("t", "time", np.arange(400.0), "days", parse=lambda text: float(text[:-1]) * units[text[-1]])
    kernel = Periodic(period).bind(axis, Start(np.ones(R), np.ones(R), True))
    np.testing.assert_allclose(kernel.period.value, days, rtol=1e-6)
    shared = Periodic(period, shared=True).bind(axis, Start(np.ones(R), np.ones(R), True))
    assert shared.period.value.shape == shared.lengthscale.value.shape == (1,)
    assert shared.covariance(jnp.zeros(4, DTYPE)).shape == (R, 4)


@pytest.mark.parametrize(
    ("declare", "message"),
    [
        (lambda: Periodic(1.0, order=0), r"Periodic\(order=0\): the number of harmonics must be a positive integer"),
        (lambda: Periodic(1.0, order=2.5), "order=2.5"),
        (lambda: Periodic(0.0).bind(AXIS, Start(np.ones(1), np.ones(1), True)), "period=0.0 must be a finite number"),
        (lambda: Periodic("1D").bind(AXIS, Start(np.ones(1), np.ones(1), True)), "'1D' is not a number"),
        (lambda: Periodic(1.0, "1D").bind(AXIS, Start(np.ones(1), np.ones(1), True)), "lengthscale has no time unit"),
        (
            lambda: Periodic(20.0).bind(AXIS, START),
            r"mode 'x': Periodic\(period=20.0\) repeats itself after 20, and the",
        ),
        (lambda: Cosine(20.0).bind(AXIS, START), r"mode 'x': Cosine\(period=20.0\) repeats itself after 20, and the"),
        (lambda: SpectralMixture(0), r"SpectralMixture\(0\): the number of waves must be a positive integer"),
        (lambda: SpectralMixture(2, 3.0), "envelope=3.0"),
    ],
)
def test_bad_cycles(declare, message):
    with pytest.raises(ModelError, match=message):
        declare()


def test_a_mixture_starts_from_the_data_s_cycles():
    """Each wave from the next strongest, each component from the next again; one that is declared takes none."""
    start = START._replace(periods=(3.0, 0.5, 2.0))
    mixture = SpectralMixture(2).bind(AXIS, start)
    assert_close([wave.parts[0].period.value for wave in mixture.parts], [[3.0, 0.5], [0.5, 2.0]])
    assert_close([wave.parts[0].variance.value for wave in mixture.parts], np.full((2, R), 0.35))
    assert not any(wave.parts[1].variance.learned for wave in mixture.parts)
    mixed = (Matern(1 / 2) + Cosine(5.0) * RBF() + Cosine() + Periodic(None)).bind(AXIS, start)
    assert_close(mixed.parts[1].parts[0].period.value, [5.0] * R)
    assert_close(mixed.parts[2].period.value, [3.0, 0.5])
    assert_close(mixed.parts[3].period.value, [0.5, 2.0])
    assert SpectralMixture(3).open_periods == 3
    shared = Cosine(shared=True).bind(AXIS, start)
    assert_close(shared.period.value, [3.0])


def test_no_two_waves_start_alike():
    """They would stay alike: periods that the data do not show are made up, each shorter than the one before."""
    for periods in ((), (3.0,)):
        mixture = SpectralMixture(3).bind(AXIS, START._replace(periods=periods))
        found = np.array([wave.parts[0].period.value for wave in mixture.parts])
        assert all(len(np.unique(np.round(column, 6))) == 3 for column in found.T)
        assert np.all(found[:, 0] > found[:, 1])


def test_what_multiplies_a_cycle_starts_long():
    """From half the range at least; without a cycle from the lengthscales that are given."""
    product, sum_of_two = Cosine(2.0) * Matern(3 / 2), Matern(1 / 2) * Matern(3 / 2)
    assert_close(product.bind(AXIS, START).parts[1].lengthscale.value, [5.0] * R)
    assert_close(sum_of_two.bind(AXIS, START).parts[1].lengthscale.value, np.ones(R))


def test_the_resolution_of_a_period_is_half_a_turn_in_the_record():
    """Eleven levels a unit apart are a record of eleven."""
    for kernel in (Cosine(2.0), Periodic(2.0)):
        assert_close(kernel.bind(AXIS, START).period.resolution, 0.5 * 2.0 / 11)
