"""A circle has no seam, its covariance is the wrapped kernel, and whole turns are nothing."""

import jax.numpy as jnp
import numpy as np
import pytest

from probtensor import durations
from probtensor.axes import Axis, join
from probtensor.compilation import compiled
from probtensor.errors import ModelError, ProbtensorWarning
from probtensor.hyperparameters import fixed
from probtensor.kernels.base import Start
from probtensor.kernels.matern import Matern
from probtensor.kernels.periodic import Periodic
from probtensor.priors.base import Sites
from probtensor.priors.basis import Basis
from probtensor.priors.cyclic import Cyclic
from probtensor.priors.markov import Markov
from tests.helpers import DTYPE, assert_close, tolerance
from tests.oracles import gaussian_process as oracle

ONE = Start(np.ones(1), np.ones(1), True)
LONGITUDES = Axis("lon", "numeric", np.arange(0.0, 360.0, 8.0), "degrees_east")


@compiled
def _answers(prior, points, sites, new_points):
    return prior.predict(prior.posterior(points, sites), new_points)


def answers(prior, points, values, new_points, precision=100.0):
    sites = Sites(jnp.asarray(precision * values[:, None], DTYPE), jnp.full((len(values), 1, 1), precision, DTYPE))
    found = _answers(prior, jnp.asarray(points, DTYPE), sites, jnp.asarray(new_points, DTYPE))
    return np.asarray(found.mean[:, 0], np.float64), np.asarray(found.cov[:, 0, 0], np.float64)


def test_there_is_no_seam():
    """Values at x and x + period agree, and so do the slopes on both sides of where the circle was cut."""
    kernel = Matern(3 / 2, lengthscale=fixed(60.0), variance=fixed(1.0))
    prior = Cyclic(360, kernel).bind(LONGITUDES, ONE)
    x = LONGITUDES.points
    values = np.sin(np.deg2rad(2 * x + 40)) + 0.01 * x
    # Two cuts: where the levels end, and where angles are cut, opposite to their middle.
    new = np.concatenate([s + 0.25 * np.arange(-2, 3) for s in (0.0, 360.0, 176.0 + 180.0)])
    mean, variance = answers(prior, x, values, new)
    turned, other = answers(prior, x, values, new + 360)
    assert_close(turned, mean, factor=10)
    assert_close(other, variance, factor=10)
    assert_close(mean[:5], mean[5:10], factor=10)
    for m in (mean[:5], mean[10:]):
        # Second differences are small beside first ones, which they would not be at a kink.
        assert np.abs(np.diff(m, 2)).max() < 0.05 * np.abs(np.diff(m)).max() + tolerance()


def test_covariance_is_the_wrapped_kernel():
    """A dense Gaussian process whose kernel is the sum over turns, scaled to its variance at distance zero."""
    kernel = Matern(5 / 2, lengthscale=fixed(70.0), variance=fixed(2.0))
    prior = Cyclic(np.float64(360), kernel, size=101).bind(LONGITUDES, ONE)
    rng = np.random.default_rng(0)
    points, new = rng.uniform(0, 360, 20), np.linspace(0, 350, 15)
    values = rng.normal(size=20)
    every = np.concatenate([points, new])
    d = every[:, None] - every[None]
    K = sum(oracle.matern(2.5, 70.0, 1.0, np.abs(d + 360 * k)) for k in range(-12, 13))
    K *= 2.0 / K[0, 0]
    A = K[20:, :20] @ np.linalg.inv(K[:20, :20] + np.eye(20) / 100)
    mean, variance = answers(prior, points, values, new)
    # What the harmonics beyond the fiftieth have: 1e-6 of the variance.
    np.testing.assert_allclose(mean, A @ values, atol=3e-5 if DTYPE == np.float64 else 2e-3)
    np.testing.assert_allclose(
        variance, np.diag(K[20:, 20:] - A @ K[:20, 20:]), atol=3e-5 if DTYPE == np.float64 else 2e-3
    )


def test_lengthscales_start_within_the_circle():
    """Ten years of days on a yearly circle: the record's length says nothing of the cycle."""
    days = Axis("time", "time", np.arange(3652.0), "days", durations.in_days)
    bound = Cyclic("365.25D").bind(days, Start(days.lengthscales(3), np.ones(3), True))
    scales = np.asarray(bound.kernel.lengthscale.value)
    assert scales.max() <= 365.25 / 2 and scales.min() > 2.0 and len(np.unique(scales)) == 3
    assert bound.size == 299
    months = Axis("time.month", "category", np.tile([6.0, 9.0, 12.0, 3.0], 5), parent="time")
    bound = Cyclic(12).bind(months, Start(months.lengthscales(2), np.ones(2), True))
    # The level halfway round turns with a cosine; its sine comes with it.
    assert bound.size == 5 and np.isfinite(np.asarray(bound.kernel.lengthscale.raw)).all()


#: name -> levels, period and a pattern on them
PATTERNS = {
    "every half turn": (np.arange(0.0, 24.0, 6.0), 24.0, lambda x: np.cos(np.pi * x / 6)),
    "a season's weeks": (np.arange(152.0, 237.0, 7.0), 365.25, lambda x: np.sin(2 * np.pi * x / 30)),
    "an ocean": (np.linspace(0.0, 20.0, 40), 360.0, lambda x: np.sin(2 * np.pi * x / 10)),
    "across the seam": (np.array([340.0, 345, 350, 355, 0, 5, 10, 15]), 360.0, lambda x: np.cos(np.pi * x / 10)),
}


@pytest.mark.parametrize("case", PATTERNS)
def test_the_default_functions_follow_what_the_levels_show(case):
    """On a part of the circle too, where as many harmonics as levels were a wave longer than what they show."""
    points, period, pattern = PATTERNS[case]
    axis = Axis("x", "numeric", np.sort(points))
    kernel = Matern(3 / 2, lengthscale=fixed(2 * axis.spacing), variance=fixed(1.0))
    bound = Cyclic(period, kernel).bind(axis, ONE)
    values = pattern(axis.points)
    mean, _ = answers(bound, axis.points, values, axis.points, precision=1e3)
    assert np.std(mean - values) < 0.05
    fewest = period / np.diff(axis.points).min()
    assert bound.size % 2 == 1 and min(fewest - 1, 299) <= bound.size <= 300


@pytest.mark.parametrize(("started", "follows"), [(0.4, True), (0.7, False), (90.0, False)])
def test_functions_start_no_longer_than_half_a_turn(started, follows):
    """A record of many turns is long, and a function longer than half of one is nearly constant."""
    days = Axis("time", "time", np.arange(0.0, 10 * 24.0, 3.0), "hours")
    start = Start(np.full(1, started * 24.0), np.ones(1), True)
    (length,) = np.asarray(Cyclic(24.0).bind(days, start).kernel.lengthscale.value)
    assert length <= 12.0
    assert not follows or length == pytest.approx(started * 24.0)


def test_the_default_functions_of_several_circles():
    """As many a level as on the full circles, for a part of a grid and for scattered places."""
    x, y = np.arange(0.0, 24.0, 3.0), np.arange(0.0, 90.0, 30.0)
    grid = np.array([(a, b) for a in x for b in y])
    torus = join([Axis("x", "numeric", x), Axis("y", "numeric", y)], grid)
    assert Basis("fourier", period={"x": 24.0, "y": 360.0}).bind(torus, ONE).size == 9 * 13


def test_a_period_in_another_unit_is_a_warning():
    with pytest.warns(ProbtensorWarning, match="'lon' from 0 to 352, which is more than one period of 6.28") as caught:
        Cyclic(2 * np.pi).bind(LONGITUDES, ONE)
    assert len(caught) == 1 and caught[0].filename == __file__
    Cyclic(352.0).bind(LONGITUDES, ONE)


JOINED = join([LONGITUDES, Axis("x", "numeric", np.arange(2.0))], np.array([[0.0, 0.0], [8.0, 1.0]]))
WRONG = {
    "zero": (lambda: Cyclic(0), LONGITUDES, r"Cyclic\(period=0\): the period must be a finite number above zero"),
    "negative": (lambda: Cyclic(-360.0), LONGITUDES, "above zero"),
    "endless": (lambda: Cyclic(np.inf), LONGITUDES, "above zero"),
    "nothing": (lambda: Cyclic(None), LONGITUDES, "period=None"),
    "yes": (lambda: Cyclic(True), LONGITUDES, "period=True"),
    "size": (lambda: Cyclic(360, size=0), LONGITUDES, r"Cyclic\(size=0\): the number of functions must be"),
    "kernel": (lambda: Cyclic(360, "matern"), LONGITUDES, r"Cyclic\(kernel='matern'\): expected a kernel"),
    "cycle of a cycle": (lambda: Cyclic(360, Periodic(90)), LONGITUDES, "Periodic has no spectral density here"),
    "duration": (lambda: Cyclic("365.25D"), LONGITUDES, "only a time axis has durations"),
    "no duration": (
        lambda: Cyclic("1X"),
        Axis("t", "time", np.arange(9.0), "days", durations.in_days),
        "is not a duration",
    ),
    "names": (lambda: Cyclic(5), Axis("s", "category", np.arange(5.0)), "Cyclic: coordinate 's' holds names"),
    "joined": (lambda: Cyclic(360), JOINED, "Cyclic closes one coordinate, and this mode joins lon, x; use pt.Sphere"),
    "functions": (lambda: Cyclic(360, size=2001), LONGITUDES, "Cyclic: 2,001 functions of 3 components are 6,003"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_circles(case):
    make, axis, words = WRONG[case]
    with pytest.raises(ModelError, match=words):
        make().bind(axis, Start(np.ones(3), np.ones(3), True))


@pytest.mark.slow
def test_the_chain_that_closes_is_the_same_circle():
    """Two roads to one covariance: states with a bridge back to the first level, and as many harmonics as it takes."""
    kernel = Matern(5 / 2, lengthscale=fixed(40.0), variance=fixed(2.0))
    rng = np.random.default_rng(3)
    points, new = rng.uniform(-180, 500, 20), np.array([0.0, 360.0, -359.9, 0.1, 200.0])
    values = rng.normal(size=20)
    chain = answers(Markov(kernel, 360).bind(LONGITUDES, ONE), points, values, new)
    waves = answers(Cyclic(360, kernel, size=151).bind(LONGITUDES, ONE), points, values, new)
    for one, other in zip(chain, waves, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)
    assert_close(chain[0][0], chain[0][1], factor=100)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Markov(Matern(1 / 2), period=-1.0), r"Markov\(period=-1.0\): the period must be a finite number"),
        (lambda: Markov(Periodic(3.0), period=360), "Periodic has no spectral density"),
        (lambda: Markov(Matern(1 / 2), "30D").bind(LONGITUDES, ONE), "only a time axis has durations"),
    ],
)
def test_what_is_no_chain_that_closes(make, words):
    with pytest.raises(ModelError, match=words):
        make()
