"""Every engine, and a problem whose posterior is dense. A new one, entered in CASES, inherits `test_conformance.py`."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import numpy as np

from probtensor.axes import Axis
from probtensor.engines.gibbs.engine import Gibbs
from probtensor.engines.message_passing import MessagePassing
from probtensor.engines.nuts.engine import NUTS
from probtensor.engines.svi.engine import SVI
from probtensor.hyperparameters import fixed
from probtensor.kernels.matern import Matern
from probtensor.likelihoods.gaussian import Gaussian
from probtensor.model import as_sum, bind
from probtensor.observations.domain import domain, observations
from probtensor.priors.markov import Markov
from probtensor.terms.base import DataScale
from probtensor.terms.cp import CP
from probtensor.terms.local import Local
from tests.helpers import DTYPE
from tests.oracles import gaussian_process as oracle

#: The fourth level has no data, nor has the last one, so far away that nothing is known of it.
X = np.array([0.0, 0.3, 1.0, 1.4, 2.0, 4.0, 4.5, 1000.0])
UNSEEN = (3, 7)
SITES = 3
AXES = {"x": Axis("x", "numeric", X), "site": Axis("site", "category", np.arange(float(SITES)))}
SD, LENGTHSCALE, VARIANCE, RANK = 0.3, 1.5, 0.4, 2
#: Functions of x alone, whose sum is linear in each of them and all of them.
FUNCTIONS = CP(RANK, {"x": Markov(Matern(3 / 2, lengthscale=fixed(LENGTHSCALE), variance=fixed(VARIANCE)))})
LOCAL_LENGTHSCALE, LOCAL_VARIANCE = 0.7, 0.2
BESIDE = Local(Matern(1 / 2, lengthscale=fixed(LOCAL_LENGTHSCALE), variance=fixed(LOCAL_VARIANCE)).on("x"))


class Case(NamedTuple):
    """An engine.

    Attributes:
        engine: with options for a problem this small.
        within: how far means may be from the dense posterior's, in units of its sd.
        spread: the same of variances, relative; None: the engine promises none.
        draws: how many the options ask for; 0: it gives none.
        random: where it goes depends on the seed.
        rising: it promises that the objective never falls.
        shorter: options that end it after 3 steps, as progress tells them; none where these are not steps.
        local: the model has a local term, which this engine fits.
    """

    engine: Any
    within: float = 1e-6
    spread: float | None = 1e-6
    draws: int = 0
    random: bool = False
    rising: bool = False
    shorter: dict = {}
    local: bool = False

    def bind(self):
        return bind(
            as_sum(FUNCTIONS + BESIDE if self.local else FUNCTIONS), AXES, Gaussian(fixed(SD)), DataScale(0.0, 1.0)
        )


PASSING, LONG = {"tol": 0.0, "max_sweeps": 40}, {"tol": 0.0, "max_sweeps": 200}
PASSED = {"rising": True, "shorter": {"max_sweeps": 3}}
MATCHED = {"shorter": {"max_sweeps": 3}}
CASES = {
    "vmp": Case(MessagePassing(**PASSING), **PASSED),
    "vmp, damped": Case(MessagePassing(damping=0.4, **PASSING), **PASSED),
    # Functions that are independent under the posterior climb slowly to their sum.
    "vmp, by component": Case(MessagePassing(coupling="component", **LONG), 1e-4, None, **PASSED),
    "vmp, of two starts": Case(MessagePassing(restarts=2, **PASSING), **PASSED),
    "cep": Case(MessagePassing("cep", **PASSING), **MATCHED),
    "cep, by entry": Case(MessagePassing("cep", sites="entry", **PASSING), **MATCHED),
    "cep, by component": Case(MessagePassing("cep", coupling="component", **LONG), 1e-2, None, **MATCHED),
    "svi": Case(SVI(batch_size=5, steps=300), 0.1, 0.05, random=True, shorter={"steps": 3}),
    "gibbs": Case(
        Gibbs(samples=300, warmup=12, thin=1, start=MessagePassing(max_sweeps=5)), 0.25, 0.3, draws=600, random=True
    ),
    "nuts": Case(NUTS(samples=300, warmup=150), 0.3, 0.4, draws=600, random=True),
    "local": Case(MessagePassing(draws=200), 0.4, 0.4, random=True, local=True),
}


@functools.cache
def data(layout="grid"):
    """Weighted values of some entries; weight zero is nothing."""
    rng = np.random.default_rng(0)
    weights = rng.uniform(0.5, 2.0, (len(X), SITES)) * (rng.random((len(X), SITES)) < 0.8)
    weights[list(UNSEEN)] = 0.0
    values = (np.sin(2 * X)[:, None] + SD * rng.normal(size=weights.shape)).astype(DTYPE)
    weights = weights.astype(DTYPE)
    points = {name: axis.points for name, axis in AXES.items()}
    if layout == "grid":
        return observations(domain(points, {}), values, weights)
    index = np.argwhere(weights > 0)[::-1]
    return observations(domain(points, {}, index), values[tuple(index.T)], weights[tuple(index.T)])


@functools.cache
def exact(local):
    """Mean and covariance of the sum of the functions at every level."""
    where, d = data("points"), oracle.distances(X)
    level = np.asarray(where.domain.layout.index)[:, 0]
    K = RANK * oracle.matern(1.5, LENGTHSCALE, VARIANCE, d)
    noise = np.diag(SD**2 / np.asarray(where.weights, float))
    if local:
        noise = noise + oracle.matern(0.5, LOCAL_LENGTHSCALE, LOCAL_VARIANCE, d)[np.ix_(level, level)]
    gain = np.linalg.solve(K[np.ix_(level, level)] + noise, K[level]).T
    return gain @ np.asarray(where.values, float), K - gain @ K[level]


def run(case, key=0, layout="grid", progress=None, init=None, observations=None, **options):
    """The fit of a case, some of whose options may be others."""
    engine = dataclasses.replace(case.engine, **options)
    where = data(layout) if observations is None else observations
    return engine.run(case.bind(), where, jax.random.key(key), progress, init)


@functools.cache
def fitted(name, key=0, layout="grid"):
    """The fit of a case, and what its progress was told."""
    told = []
    return run(CASES[name], key, layout, lambda *own: told.append(own)), told


def moments(fit):
    """Mean and variance of the sum of the functions at every level."""
    belief = fit.state.beliefs[0][0]
    return np.asarray(belief.mean, float).sum(1), np.asarray(belief.cov, float).sum((1, 2))
