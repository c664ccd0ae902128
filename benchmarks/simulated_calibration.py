"""Simulation-based calibration: data drawn from the model itself, fitted at the numbers that they were drawn with.

If a posterior is right, held-out observations lie in its 50, 90 and 95% intervals so often, and among L of its draws
the rank of the truth is uniform (Talts, Betancourt, Simpson, Vehtari and Gelman 2018). Intervals and the ranks that are
shown are pooled over held-out cells. Cells of one data set depend on each other, so chi-square tests take one number
of each data set: the signal at one held-out cell, drawn by lot, and the log likelihood of the data.

Run: python benchmarks/simulated_calibration.py [--sets 200] [--likelihoods ...] [--engines ...] [--dry]

Rows are put among those that RESULTS.md has of the same number of data sets. NUTS, of all six likelihoods: 20 minutes
of one core; the other engines together as long.
"""

from __future__ import annotations

import argparse
import itertools
import time
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import results
from scipy.stats import chisquare

import probtensor as pt
from probtensor import arrays
from probtensor.axes import Axis
from probtensor.engines.base import AbstractEngine, Fit
from probtensor.engines.sweep import State
from probtensor.model import BoundModel, as_sum, bind
from probtensor.observations.domain import Domain, Observations, domain, observations
from probtensor.terms.base import DataScale

SIZES, RANK, SEEN = (14, 10), 2, 0.6
POINTS = {"x": np.linspace(0, 10, SIZES[0]), "y": np.linspace(0, 6, SIZES[1])}
AXES = {name: Axis(name, "numeric", points) for name, points in POINTS.items()}
SCALES, VARIANCES = {"x": 3.0, "y": 2.0}, {"x": 0.5, "y": 1.0}
MODEL = pt.CP(
    RANK,
    modes={
        # What state spaces give, too; so few levels are faster dense.
        name: pt.Dense(pt.Matern(3 / 2, lengthscale=pt.fixed(SCALES[name]), variance=pt.fixed(VARIANCES[name])))
        for name in POINTS
    },
)
LIKELIHOODS = {
    "Gaussian": pt.Gaussian(sd=pt.fixed(0.4)),
    "StudentT": pt.StudentT(df=pt.fixed(4.0), scale=pt.fixed(0.3)),
    "Poisson": pt.Poisson(exposure=5.0),
    "NegativeBinomial": pt.NegativeBinomial(exposure=5.0, dispersion=pt.fixed(0.3)),
    "Bernoulli": pt.Bernoulli(),
    "Binomial": pt.Binomial(8),
}
ENGINES: dict[str, AbstractEngine] = {
    "vmp": pt.MessagePassing(max_sweeps=60, restarts=2),
    "cep": pt.MessagePassing(rule="cep", max_sweeps=60, restarts=2),
    "SVI": pt.SVI(batch_size=28, restarts=2),
    "NUTS": pt.NUTS(samples=250, warmup=250, chains=2),
}
#: A posterior's draws that the truth is ranked among, and the tenths that ranks are counted in. Of a chain every
#: fifth draw is taken: they are nearly independent.
DRAWS, BINS, THIN = 99, 10, 5
LEVELS = (50, 90, 95)
SECTION = "Simulated calibration"
HEAD = (
    "| likelihood | engine | data sets | 50% | 90% | 95% | ranks of the signal in tenths, % | chi-square p: signal | "
    "log likelihood | not converged | s |"
)


class Simulated(NamedTuple):
    """A data set: the model with its numbers, the truth, and what is given to an engine."""

    bound: BoundModel
    known: dict[str, np.ndarray]
    signal: np.ndarray
    values: np.ndarray
    seen: np.ndarray
    data: Observations

    @property
    def where(self) -> Domain:
        """The whole grid."""
        return self.data.domain


class Found(NamedTuple):
    """Of one data set: which held-out values their intervals cover, ranks of the truth from 0 to DRAWS, and the fit."""

    inside: dict[int, np.ndarray]
    ranks: np.ndarray
    one: int
    log_likelihood: int
    converged: bool
    seconds: float


def drawn(rng: np.random.Generator) -> np.ndarray:
    """A signal of the prior."""
    functions = []
    for name, points in POINTS.items():
        s = np.sqrt(3) * np.abs(points[:, None] - points) / SCALES[name]
        root = np.linalg.cholesky(VARIANCES[name] * (1 + s) * np.exp(-s) + 1e-9 * np.eye(len(s)))
        functions.append(root @ rng.normal(size=(len(s), RANK)))
    return np.einsum("ir,jr->ij", *functions)


def simulated(name: str, seed: int) -> Simulated:
    """The same for every engine."""
    likelihood, where = LIKELIHOODS[name], domain(POINTS, {})
    known = {key: np.full(SIZES, float(own)) for key, own in likelihood.known.items()}
    bound = bind(as_sum(MODEL), AXES, likelihood, DataScale(0.0, 0.5))
    rng, nothing = np.random.default_rng(seed), np.zeros(SIZES)
    signal, seen = drawn(rng), rng.random(SIZES) < SEEN
    values = bound.likelihood.predictive(nothing, nothing, where, known).draw(signal[None], rng)[0]
    return Simulated(bound, known, signal, values, seen, observations(where, values, seen.astype(float), known))


def fitted(own: Simulated, rule: str, seed: int) -> Fit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pt.ProbtensorWarning)  # counted as not converged
        return ENGINES[rule].run(own.bound, own.data, jax.random.key(seed))


def thinned(state: State) -> State:
    """A chain's draws thinned; other posteriors as they are."""
    return state._replace(draws=jax.tree.map(lambda draws: draws[THIN - 1 :: THIN], state.draws))


def found(name: str, rule: str, seed: int, log_likelihood: Callable[[Observations, Any], Any]) -> Found:
    own, begun = simulated(name, seed), time.perf_counter()
    fit = fitted(own, rule, seed)
    seconds = time.perf_counter() - begun
    lot, at = np.random.default_rng([seed, 1]), arrays.fitted(fit.state, own.where)
    law = fit.state.model.likelihood.predictive(np.asarray(at.mean), np.asarray(at.variance), own.where, own.known)
    # Between the ends of a jump of a distribution on whole numbers any place will do.
    below, upto = law.distribution(np.nextafter(own.values, -np.inf)), law.distribution(own.values)
    place = below + lot.random(SIZES) * (upto - below)
    inside = {level: (np.abs(2 * place - 1) <= level / 100)[~own.seen] for level in LEVELS}
    signals = np.asarray(arrays.sample(thinned(fit.state), own.where, jax.random.key(seed), DRAWS))
    ranks = np.sum(signals < own.signal, axis=0)[~own.seen]
    each = np.asarray(log_likelihood(own.data, np.concatenate([own.signal[None], signals])))
    return Found(inside, ranks, int(lot.choice(ranks)), int(np.sum(each[1:] < each[0])), fit.converged, seconds)


def chi_square(ranks: list[int]) -> float:
    """The probability of ranks at least so uneven if each is as likely as any other."""
    return float(chisquare(np.histogram(ranks, BINS, (0, DRAWS + 1))[0]).pvalue)


def row(name: str, rule: str, sets: int) -> str:
    likelihood = simulated(name, 0).bound.likelihood
    log_likelihood = jax.jit(
        lambda data, signals: jax.lax.map(lambda signal: likelihood.log_likelihood(data, signal), signals)
    )
    each = [found(name, rule, seed, log_likelihood) for seed in range(sets)]
    covered = [100 * np.mean(np.concatenate([one.inside[level] for one in each])) for level in LEVELS]
    counts = np.histogram(np.concatenate([one.ranks for one in each]), BINS, (0, DRAWS + 1))[0]
    cells = [
        name,
        rule,
        str(sets),
        *(f"{share:.1f}" for share in covered),
        " ".join(f"{100 * c / counts.sum():.0f}" for c in counts),
        f"{chi_square([one.one for one in each]):.2g}",
        f"{chi_square([one.log_likelihood for one in each]):.2g}",
        str(sum(not one.converged for one in each)),
        f"{np.median([one.seconds for one in each]):.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def merged(sets: int, rows: dict[tuple[str, str], str]) -> list[str]:
    """These rows and those of RESULTS.md that have as many data sets."""
    for line in results.read(SECTION).splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.count("|") == HEAD.count("|") and cells[2] == str(sets):
            rows.setdefault((cells[0], cells[1]), line)
    return [rows[pair] for pair in itertools.product(LIKELIHOODS, ENGINES) if pair in rows]


def lines(sets: int, rows: dict[tuple[str, str], str]) -> list[str]:
    return [
        f"CP of rank {RANK} on a grid of {SIZES[0]} x {SIZES[1]}, {SEEN:.0%} seen, data sets drawn from the model and "
        "fitted at the hyper-parameters that they were drawn with: shares of held-out observations in their central "
        f"intervals; ranks of the true signal of held-out cells among {DRAWS} draws of the posterior; chi-square tests "
        "of the ranks of one number of each data set, the signal at one held-out cell and the log likelihood of the "
        "data (a mean-field posterior is not expected to have the latter). NUTS: not converged is an r-hat above 1.05 "
        "or a divergent transition.\n",
        HEAD,
        "| --- " * (HEAD.count("|") - 1) + "|",
        *merged(sets, rows),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", type=int, default=200)
    parser.add_argument("--likelihoods", nargs="+", choices=tuple(LIKELIHOODS), default=list(LIKELIHOODS))
    parser.add_argument("--engines", nargs="+", choices=tuple(ENGINES), default=list(ENGINES))
    parser.add_argument("--dry", action="store_true", help="print, and leave RESULTS.md as it is")
    options = parser.parse_args()
    rows = {}
    with jax.enable_x64(True):
        for rule, name in itertools.product(options.engines, options.likelihoods):
            rows[name, rule] = row(name, rule, options.sets)
            print(rows[name, rule], flush=True)
    if not options.dry:
        results.record(SECTION, "\n".join(lines(options.sets, rows)))


if __name__ == "__main__":
    main()
