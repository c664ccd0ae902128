"""What does each mode prior cost, for 100, 10,000 and 1,000,000 levels?

Times the posterior of one component given a site at every level, with the gradient of its log-normaliser by the
hyper-parameters, as one step of a fit needs it: python benchmarks/priors.py [--levels 100 10000 1000000] [--only name].
Writes the section "Cost of each prior" of RESULTS.md. Compilation is shown apart.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import results

import probtensor as pt
from probtensor.axes import Axis, join
from probtensor.compilation import compiled
from probtensor.hyperparameters import learned_mask
from probtensor.kernels.base import Start
from probtensor.priors.base import Sites

REPEATS = 3


class Kind(NamedTuple):
    """A prior, the most levels that it is tried with, and the coordinate that it reads."""

    prior: Any
    most: int
    coordinate: str = "line"


LINEAR, SOME, FEW = 1_000_000, 100_000, 1_000
KINDS = {
    **{f"Markov(Matern({n}/2))": Kind(pt.Markov(pt.Matern(n / 2)), LINEAR) for n in (1, 3, 5, 7)},
    "Markov(RBF())": Kind(pt.Markov(pt.RBF()), LINEAR),
    "Markov(Cosine(7))": Kind(pt.Markov(pt.Cosine(7.0)), LINEAR),
    "Markov(Periodic(7))": Kind(pt.Markov(pt.Periodic(7.0)), SOME),
    "Markov(Matern(1/2) * Periodic(7, order=3))": Kind(pt.Markov(pt.Matern(1 / 2) * pt.Periodic(7.0, order=3)), SOME),
    "Markov(SpectralMixture(2, Matern(3/2)))": Kind(pt.Markov(pt.SpectralMixture(2, pt.Matern(3 / 2))), SOME),
    "Markov(RandomWalk())": Kind(pt.Markov(pt.RandomWalk()), LINEAR),
    "Markov(IntegratedRandomWalk())": Kind(pt.Markov(pt.IntegratedRandomWalk()), LINEAR),
    "Markov(Linear())": Kind(pt.Markov(pt.Linear()), LINEAR),
    "Dense(Matern(3/2))": Kind(pt.Dense(pt.Matern(3 / 2)), FEW),
    "Nearest(Matern(3/2)), a plane": Kind(pt.Nearest(pt.Matern(3 / 2)), SOME, "plane"),
    "Sphere(Matern(3/2))": Kind(pt.Sphere(pt.Matern(3 / 2)), SOME, "globe"),
    "Basis('hilbert')": Kind(pt.Basis("hilbert"), LINEAR),
    "Basis('hilbert'), a plane": Kind(pt.Basis("hilbert"), LINEAR, "plane"),
    "Basis('chebyshev')": Kind(pt.Basis("chebyshev"), LINEAR),
    "Basis('legendre')": Kind(pt.Basis("legendre"), LINEAR),
    "Basis('fourier')": Kind(pt.Basis("fourier"), LINEAR),
    "Cyclic(360, size=100)": Kind(pt.Cyclic(360.0, size=100), LINEAR, "circle"),
    "Categorical()": Kind(pt.Categorical(), LINEAR, "names"),
    "Categorical('learned')": Kind(pt.Categorical("learned"), LINEAR, "names"),
}


def axis(coordinate: str, levels: int) -> Axis:
    generator = np.random.default_rng(0)
    if coordinate == "line":
        return Axis("x", "numeric", np.sort(generator.uniform(0, levels, levels)))
    if coordinate == "names":
        return Axis("x", "category", np.arange(float(levels)))
    if coordinate == "circle":
        return Axis("x", "numeric", np.sort(generator.uniform(0, 360, levels)))
    if coordinate == "plane":
        points = generator.uniform(0, levels**0.5, (levels, 2))
        return join([Axis(n, "numeric", points[:, k], "km") for k, n in enumerate("xy")], points)
    latitude = np.rad2deg(np.arcsin(generator.uniform(-1, 1, levels)))
    points = np.stack([latitude, generator.uniform(0, 360, levels)], axis=1)
    return join([Axis(n, "numeric", points[:, k], "degrees") for k, n in enumerate(("lat", "lon"))], points)


@compiled
def step(prior: Any, points: Any, sites: Sites) -> Any:
    """What a sweep needs of a block."""
    learned, held = eqx.partition(prior, learned_mask(prior))

    def evidence(learned: Any) -> Any:
        belief = eqx.combine(learned, held).posterior(points, sites)
        return belief.log_normaliser, belief

    return jax.value_and_grad(evidence, has_aux=True)(learned)


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    jax.block_until_ready(work())
    return time.perf_counter() - start


def measure(kind: Kind, levels: int) -> tuple[float, float, float]:
    """Seconds to bind, to compile, and to run."""
    own, generator = axis(kind.coordinate, levels), np.random.default_rng(1)
    start = time.perf_counter()
    prior = kind.prior.bind(own, Start(np.full(1, 5.0), np.ones(1), True))
    binding = time.perf_counter() - start
    targets, precision = generator.standard_normal((levels, 1)), np.full((levels, 1, 1), 4.0)
    given = jnp.asarray(own.points), Sites(jnp.asarray(targets * 4.0), jnp.asarray(precision))
    first = seconds(lambda: step(prior, *given))
    run = min(seconds(lambda: step(prior, *given)) for _ in range(REPEATS if first < 60 else 1))
    return binding, first - run, run


def lines(levels: list[int], only: str) -> Iterable[str]:
    yield "One component, irregular levels, a site at each: milliseconds (seconds of compilation, once a size).\n"
    yield "| prior | " + " | ".join(f"{n:,} levels" for n in levels) + " |"
    yield "| --- " * (1 + len(levels)) + "|"
    for name, kind in KINDS.items():
        if only not in name:
            continue
        cells = []
        for n in levels:
            if n > kind.most:
                cells.append("")
                continue
            binding, compiling, run = measure(kind, n)
            bound = f", {binding:.1f} s to bind" if binding > 0.5 else ""
            cells.append(f"{1e3 * run:,.2f} ({compiling:.1f} s{bound})")
            jax.clear_caches()
        row = f"| `{name}` | " + " | ".join(cells) + " |"
        print(row, flush=True)
        yield row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--levels", type=int, nargs="+", default=[100, 10_000, 1_000_000])
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    with jax.enable_x64(True):
        text = "\n".join(lines(options.levels, options.only))
    results.record("Cost of each prior", text) if not options.only else print(text)


if __name__ == "__main__":
    main()
