"""Every likelihood with its options: a new one is added to CASES, and inherits the conformance tests."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

import probtensor as pt
from probtensor.axes import Axis
from probtensor.likelihoods.base import Moments
from probtensor.observations.domain import domain, observations
from tests.helpers import DTYPE, partly_slow
from tests.oracles import likelihoods as oracle

N = 6
AXES = {"x": Axis("x", "numeric", np.arange(float(N)))}
VARIANCE = 4.0


class Case(NamedTuple):
    """A likelihood, values that it could have given with what comes with them, and the oracle's law.

    law: of (signal, known of one entry) -> a frozen distribution of the value as the user sees it; on: of the value as
    the engines see it, where that is on another scale.
    """

    declared: Any
    values: np.ndarray
    law: Callable
    known: dict = {}
    on: Callable | None = None
    whole: bool = False
    bound_only: bool = False  # `expected_log_likelihood` is a lower bound

    def bind(self):
        return self.declared.bind(AXES, VARIANCE)

    def observations(self, weights=None, values=None):
        return made(self, self.values if values is None else values, weights)

    def law_at(self, k, engine=False):
        """The law of the k-th entry, as a function of the signal."""
        own = {name: float(np.broadcast_to(v, (N,))[k]) for name, v in self.known.items()}
        law = self.on if engine and self.on is not None else self.law
        return lambda f: law(f, **own)


def made(case, values, weights=None, known=None):
    """Observations on the six levels of a mode."""
    known = case.known if known is None else known
    weights = np.ones(N) if weights is None else np.asarray(weights, float)
    with np.errstate(all="ignore"):
        seen = case.declared.transformed(np.asarray(values, float))
    beside = {k: np.broadcast_to(np.asarray(v, float), (N,)).astype(DTYPE) for k, v in known.items()}
    return observations(
        domain({"x": AXES["x"].points.astype(DTYPE)}, {}), seen.astype(DTYPE), weights.astype(DTYPE), beside
    )


def moments(mean, variance, weights=None):
    """By entry, and summed over entries of these weights."""
    mean, variance = (np.broadcast_to(np.asarray(x, DTYPE), (N,)) for x in (mean, variance))
    weights = np.ones(N, DTYPE) if weights is None else np.asarray(weights, DTYPE)
    return Moments(jnp.asarray(mean), jnp.asarray(variance), jnp.asarray(np.sum(weights * variance)))


REAL = np.array([0.3, -1.0, 2.5, 0.0, 9.0, 1.0])
POSITIVE = np.array([0.3, 1.0, 2.5, 0.1, 9.0, 1.0])
COUNTS = np.array([0.0, 1.0, 3.0, 12.0, 150.0, 2.0])
EXPOSURE = np.array([1.0, 0.2, 3.0, 10.0, 50.0, 1.0])
LABELS = np.array([0.0, 1.0, 1.0, 0.0, 1.0, 0.0])
TRIALS = np.array([4.0, 1.0, 20.0, 7.0, 1000.0, 5.0])
SUCCESSES = np.array([0.0, 1.0, 13.0, 7.0, 100.0, 2.0])
ERRORS = np.array([0.0, 0.1, 0.5, 1.0, 2.0, 0.3])

CASES = {
    "gaussian": Case(pt.Gaussian(0.7), REAL, lambda f, **k: oracle.gaussian(f, 0.7, **k)),
    "gaussian, errors": Case(pt.Gaussian(0.7), REAL, lambda f, **k: oracle.gaussian(f, 0.7, **k), {"errors": ERRORS}),
    "gaussian, levels": Case(pt.Gaussian(0.7, noise="x"), REAL, lambda f, **k: oracle.gaussian(f, 0.7, **k)),
    "gaussian, held": Case(pt.Gaussian(pt.fixed(0.7)), REAL, lambda f, **k: oracle.gaussian(f, 0.7, **k)),
    "log": Case(
        pt.Gaussian(0.7, transform="log"),
        POSITIVE,
        lambda f, **k: oracle.log_gaussian(f, 0.7),
        on=lambda f, **k: oracle.gaussian(f, 0.7),
    ),
    "sqrt": Case(
        pt.Gaussian(0.7, transform="sqrt"),
        POSITIVE,
        lambda f, **k: oracle.sqrt_gaussian(f, 0.7),
        on=lambda f, **k: oracle.gaussian(f, 0.7),
    ),
    "student t": Case(pt.StudentT(4.0, 0.6), REAL, lambda f, **k: oracle.student_t(f, 0.6, 4.0), bound_only=True),
    "poisson": Case(pt.Poisson(), COUNTS, lambda f, **k: oracle.poisson(f, **k), whole=True),
    "poisson, exposure": Case(
        pt.Poisson(EXPOSURE), COUNTS, lambda f, **k: oracle.poisson(f, **k), {"exposure": EXPOSURE}, whole=True
    ),
    "negative binomial": Case(
        pt.NegativeBinomial(dispersion=0.4), COUNTS, lambda f, **k: oracle.negative_binomial(f, 0.4, **k), whole=True
    ),
    "negative binomial, exposure": Case(
        pt.NegativeBinomial(EXPOSURE, pt.fixed(3.0)),
        COUNTS,
        lambda f, **k: oracle.negative_binomial(f, 3.0, **k),
        {"exposure": EXPOSURE},
        whole=True,
    ),
    "bernoulli": Case(pt.Bernoulli(), LABELS, lambda f, **k: oracle.trials(f, **k), whole=True),
    "binomial": Case(
        pt.Binomial(TRIALS), SUCCESSES, lambda f, **k: oracle.trials(f, **k), {"trials": TRIALS}, whole=True
    ),
}

#: What the quick tests leave out: others say the same of exposures, transforms, and what is held.
TOLD_BY_OTHERS = ("gaussian, held", "sqrt", "negative binomial, exposure")


def every(names):
    """Parametrizes by names of likelihoods."""
    return pytest.mark.parametrize("name", partly_slow(names, *TOLD_BY_OTHERS))


#: Beliefs about the signal: uncertain, sharp, wide; one mean for each entry.
BELIEFS = {
    "usual": (np.array([0.2, -0.5, 1.0, 2.0, 3.0, 0.5]), 0.3),
    "sharp": (np.array([0.1, 0.0, 0.5, 1.5, 2.0, -1.0]), 1e-4),
    "wide": (np.array([0.0, -1.0, 1.0, 2.0, 2.5, 0.5]), 4.0),
}
