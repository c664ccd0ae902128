"""Simulation-based calibration: among draws of the posterior the rank of the truth is uniform.

Source: Talts, Betancourt, Simpson, Vehtari and Gelman 2018, Validating Bayesian inference algorithms with
simulation-based calibration. `benchmarks/simulated_calibration.py` is the same at length, for every likelihood and
engine.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare

import probtensor as pt
from probtensor import arrays
from probtensor.axes import Axis
from probtensor.model import as_sum, bind
from probtensor.observations.domain import domain, observations
from probtensor.terms.base import DataScale

SETS, DRAWS, BINS = 80, 99, 5
POINTS = {"x": np.linspace(0.0, 1.0, 6), "y": np.linspace(0.0, 1.0, 5)}
SHAPE, SD, LENGTHSCALE = (6, 5), 0.3, 0.5
PRIOR = pt.Dense(pt.Matern(3 / 2, lengthscale=pt.fixed(LENGTHSCALE), variance=pt.fixed(1.0)))
MODEL = as_sum(pt.CP(1, modes={"x": PRIOR, "y": PRIOR}))
AXES = {name: Axis(name, "numeric", points) for name, points in POINTS.items()}
LAWS = {
    "gaussian": lambda signal, rng: signal + SD * rng.normal(size=SHAPE),
    "poisson": lambda signal, rng: rng.poisson(np.exp(signal)).astype(float),
}


def truth(rng):
    """A draw of the prior."""
    functions = []
    for points in POINTS.values():
        r = np.sqrt(3) * np.abs(points[:, None] - points) / LENGTHSCALE
        functions.append(
            np.linalg.cholesky((1 + r) * np.exp(-r) + 1e-10 * np.eye(len(points))) @ rng.normal(size=len(r))
        )
    return np.multiply.outer(*functions)


def ranks(name, likelihood):
    """Of the signal at one cell, drawn by lot, and of the log likelihood of the data: a pair for each data set.

    Of a chain every second draw is taken; one cell, since those of one data set depend on each other.
    """
    engine, found = pt.NUTS(samples=2 * (DRAWS + 1), warmup=200, chains=1), []
    with jax.enable_x64(True):
        bound, where = bind(MODEL, AXES, likelihood, DataScale(0.0, 1.0)), domain(POINTS, {})
        weigh = jax.jit(jax.vmap(bound.likelihood.log_likelihood, in_axes=(None, 0)))
        for seed in range(SETS):
            rng = np.random.default_rng(seed)
            signal, seen, cell = truth(rng), rng.random(SHAPE) < 0.7, tuple(rng.integers(SHAPE))
            data = observations(where, LAWS[name](signal, rng), seen.astype(float))
            state = engine.run(bound, data, jax.random.key(seed)).state
            state = state._replace(draws=jax.tree.map(lambda draws: draws[1::2], state.draws))
            draws = arrays.sample(state, where, jax.random.key(0), DRAWS)
            each = np.asarray(weigh(data, jnp.concatenate([jnp.asarray(signal)[None], draws])))
            found.append((np.sum(draws[(..., *cell)] < signal[cell]), np.sum(each[1:] < each[0])))
    return np.array(found).T


def chi_square(own):
    return chisquare(np.histogram(own, BINS, (0, DRAWS + 1))[0]).pvalue


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:NUTS")
@pytest.mark.parametrize(
    ("name", "likelihood"), [("gaussian", pt.Gaussian(sd=pt.fixed(SD))), ("poisson", pt.Poisson())], ids=list(LAWS)
)
def test_nuts_ranks_the_truth_uniformly(name, likelihood):
    """At 1%: with fixed seeds either test fails for a right sampler once in a hundred changes of it."""
    signal, log_likelihood = ranks(name, likelihood)
    assert chi_square(signal) > 0.01
    assert chi_square(log_likelihood) > 0.01


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:NUTS")
def test_a_wrong_posterior_is_found_out():
    """So many data sets show a noise that is taken for half as large as it is."""
    _, log_likelihood = ranks("gaussian", pt.Gaussian(sd=pt.fixed(SD / 2)))
    assert chi_square(log_likelihood) < 1e-4
