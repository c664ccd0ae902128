"""Simulation-based calibration: data drawn from the model itself, fitted at the numbers that they were drawn with.

If a posterior is right, held-out observations lie in its 50, 90 and 95% intervals so often, and the ranks of the true
signal among its quantiles are uniform. Both are pooled over data sets and held-out cells.

Run: python benchmarks/simulated_calibration.py [data sets] [likelihood ...]      (200 of all; ten minutes)
"""

import sys

import jax
import numpy as np
import results
from scipy.special import ndtr
from scipy.stats import chisquare

import probtensor as pt
from probtensor import arrays
from probtensor.axes import Axis
from probtensor.engines.message_passing import MessagePassing
from probtensor.model import as_sum, bind
from probtensor.observations.domain import domain, observations
from probtensor.terms.base import DataScale

SIZES, RANK, SEEN = (14, 10), 2, 0.6
POINTS = {"x": np.linspace(0, 10, SIZES[0]), "y": np.linspace(0, 6, SIZES[1])}
AXES = {name: Axis(name, "numeric", points) for name, points in POINTS.items()}
KERNELS = {
    "x": pt.Matern(3 / 2, lengthscale=pt.fixed(3.0), variance=pt.fixed(0.5)),
    "y": pt.Matern(3 / 2, lengthscale=pt.fixed(2.0), variance=pt.fixed(1.0)),
}
MODEL = pt.CP(RANK, modes=KERNELS)
LIKELIHOODS = {
    "Gaussian": pt.Gaussian(sd=pt.fixed(0.4)),
    "StudentT": pt.StudentT(df=pt.fixed(4.0), scale=pt.fixed(0.3)),
    "Poisson": pt.Poisson(exposure=5.0),
    "NegativeBinomial": pt.NegativeBinomial(exposure=5.0, dispersion=pt.fixed(0.3)),
    "Bernoulli": pt.Bernoulli(),
    "Binomial": pt.Binomial(8),
}
ENGINES = {
    "vmp": MessagePassing(max_sweeps=60, restarts=2),
    "cep": MessagePassing(rule="cep", max_sweeps=60, restarts=2),
}
BINS = 10


def drawn(rng):
    """A signal of the prior."""
    functions = []
    for name, variance in (("x", 0.5), ("y", 1.0)):
        scale = {"x": 3.0, "y": 2.0}[name]
        s = np.sqrt(3) * np.abs(POINTS[name][:, None] - POINTS[name]) / scale
        root = np.linalg.cholesky(variance * (1 + s) * np.exp(-s) + 1e-9 * np.eye(len(s)))
        functions.append(root @ rng.normal(size=(len(s), RANK)))
    return np.einsum("ir,jr->ij", *functions)


def measured(name, rule, number):
    """Coverage of held-out observations in percent, and counts of the ranks of the true signal."""
    likelihood, engine = LIKELIHOODS[name], ENGINES[rule]
    known = {key: np.full(SIZES, float(own)) for key, own in likelihood.known.items()}
    where, inside, ranks = domain(POINTS, {}), {50: [], 90: [], 95: []}, []
    bound = bind(as_sum(MODEL), AXES, likelihood, DataScale(0.0, 0.5))
    for seed in range(number):
        rng = np.random.default_rng(seed)
        signal, seen = drawn(rng), rng.random(SIZES) < SEEN
        nothing = np.zeros(SIZES)
        values = bound.likelihood.predictive(nothing, nothing, where, known).draw(signal[None], rng)[0]
        data = observations(where, values, seen.astype(float), known)
        state = engine.run(bound, data, jax.random.key(seed)).state
        found = arrays.fitted(state, where)
        mean, variance = np.asarray(found.mean), np.asarray(found.variance)
        law = state.model.likelihood.predictive(mean, variance, where, known)
        for level, kept in inside.items():
            # Between the ends of a jump of a distribution on whole numbers any place will do.
            below, upto = law.distribution(np.nextafter(values, -np.inf)), law.distribution(values)
            place = below + np.random.default_rng(seed).random(SIZES) * (upto - below)
            kept.append((np.abs(2 * place - 1) <= level / 100)[~seen])
        ranks.append(ndtr((signal - mean) / np.sqrt(variance))[~seen])
    counts = np.histogram(np.concatenate(ranks), BINS, (0, 1))[0]
    # One held-out cell of each data set: cells of one data set are not independent.
    single = np.histogram([r[0] for r in ranks], BINS, (0, 1))[0]
    return (
        {level: 100 * np.mean(np.concatenate(kept)) for level, kept in inside.items()},
        counts,
        chisquare(single).pvalue,
    )


def main():
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    lines = [
        f"CP of rank {RANK} on a grid of {SIZES[0]} x {SIZES[1]}, {SEEN:.0%} seen, {number} data sets drawn from the "
        "model and fitted at the hyper-parameters that they were drawn with: shares of held-out observations in their "
        "central intervals, and the ranks of the true signal in the posterior of held-out cells.\n",
        "| likelihood | engine | 50% | 90% | 95% | ranks of the signal in tenths, % | chi-square p, a cell each |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    with jax.enable_x64(True):
        for name in sys.argv[2:] or LIKELIHOODS:
            for rule in ENGINES:
                coverage, counts, p = measured(name, rule, number)
                shares = " ".join(f"{100 * c / counts.sum():.0f}" for c in counts)
                row = " | ".join(f"{coverage[level]:.1f}" for level in (50, 90, 95))
                lines.append(f"| {name} | {rule} | {row} | {shares} | {p:.2g} |")
                print(lines[-1], flush=True)
    if not sys.argv[2:]:
        results.record("Simulated calibration", "\n".join(lines))


if __name__ == "__main__":
    main()
