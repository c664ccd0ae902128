"""How long does SVI take, how much memory, and is it as good as message passing?

Simulates a CP of rank 8 over three modes at random places, and fits all of it by SVI, and a part that both can do by
SVI and by message passing: python benchmarks/svi_scale.py [--observations 10000000] [--both 100000] [--batch 262144]
[--held]. Memory is the largest of the process so far, the data included. Writes the section "Stochastic inference at
scale" of RESULTS.md.

With --compare: several problems of --both observations, each fitted by both engines from --restarts random starts, of
which each engine keeps the one of its own greatest objective. Writes the section "Stochastic inference beside message
passing".
"""

from __future__ import annotations

import argparse
import os
import resource
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import results

import probtensor as pt

RANK, HELD_OUT, SD = 8, 20_000, 0.3
MODES = ("x", "y", "z")


def simulated(observations: int, levels: int, seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Places, noisy values and the signal; the first HELD_OUT entries are held out, whatever the number."""
    generator = np.random.default_rng(seed)
    place = np.linspace(0, 1, levels)
    total = observations + HELD_OUT
    signal, at = np.zeros(total), {}
    factors = []
    for _ in MODES:
        phases, sizes = generator.uniform(0, 2 * np.pi, (3, RANK, 1)), generator.standard_normal((3, RANK, 1))
        waves = enumerate(zip(sizes, phases, strict=True), start=1)
        factors.append(sum(s * np.cos(2 * np.pi * k * place + p) for k, (s, p) in waves))
    chosen = generator.integers(levels, size=(total, len(MODES)), dtype=np.int32)
    for r in range(RANK):
        signal += np.prod([f[r][chosen[:, d]] for d, f in enumerate(factors)], axis=0)
    signal /= signal[:HELD_OUT].std()
    for d, name in enumerate(MODES):
        at[name] = place[chosen[:, d]]
    return at, signal + SD * generator.standard_normal(total), signal


def kernel(held: bool) -> Any:
    return pt.Matern(3 / 2, lengthscale=pt.fixed(0.3) if held else None)


def root_mean_square(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


def fitted(data: Any, observations: int, engine: Any, held: bool, seed: int = 0) -> tuple[Any, float, float, float]:
    """The posterior, errors of its mean at held-out places, of the signal and of noisy values, and seconds."""
    at, values, signal = data
    own = slice(HELD_OUT, HELD_OUT + observations)
    model = pt.Offset() + pt.CP(RANK, {name: kernel(held) for name in MODES})
    begun = time.perf_counter()
    post = pt.fit(pt.points({n: x[own] for n, x in at.items()}, values[own]), model, engine=engine, seed=seed)
    wall = time.perf_counter() - begun
    mean = np.asarray(post.predict(pt.points({n: x[:HELD_OUT] for n, x in at.items()}, values[:HELD_OUT]))["mean"])
    return post, root_mean_square(mean - signal[:HELD_OUT]), root_mean_square(mean - values[:HELD_OUT]), wall


def row(label: str, data: Any, observations: int, engine: Any, held: bool) -> str:
    post, error, _, wall = fitted(data, observations, engine, held)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    reason = post._result.reason.split(":")[0]
    return (
        f"| {label} | {observations:,} | {wall:.0f} | {post.compile_seconds:.0f} | {memory:.1f} | {error:.4f} | "
        f"{post.noise_sd:.4f} | {reason} |"
    )


def compared(observations: int, levels: int, seeds: list[int], restarts: int, held: bool) -> Iterable[str]:
    """Both engines on the same problems."""
    how = "held" if held else "learned"
    yield (
        f"CP of rank {RANK}, 3 modes of {levels:,} levels (Matern 3/2, {how}), {observations:,} observations, engines "
        f"with their defaults and {restarts} restarts. Errors at {HELD_OUT:,} held-out places, of the noise-free "
        f"signal and of noisy values (noise sd {SD}); objectives are exact, in nats.\n"
    )
    yield "| problem | engine | objectives | error | noisy RMSE | wall s | stopped |"
    yield "| --- " * 7 + "|"
    noisy: dict[str, list[float]] = {}
    clean: dict[str, list[float]] = {}
    for seed in seeds:
        data = simulated(observations, levels, seed)
        for engine in (pt.MessagePassing(restarts=restarts), pt.SVI(restarts=restarts)):
            name = type(engine).__name__
            post, error, rmse, wall = fitted(data, observations, engine, held, seed)
            clean.setdefault(name, []).append(error)
            noisy.setdefault(name, []).append(rmse)
            objectives = ", ".join(f"{o:.0f}" for o in post._result.restarts)
            reason = post._result.reason.split(":")[0]
            yield f"| {seed} | {name} | {objectives} | {error:.4f} | {rmse:.4f} | {wall:.0f} | {reason} |"
    ratios = [np.round(np.divide(found["SVI"], found["MessagePassing"]), 3).tolist() for found in (noisy, clean)]
    yield f"\nSVI over message passing, problem by problem: noisy RMSE {ratios[0]}, error of the signal {ratios[1]}."


def lines(observations: int, levels: int, both: int, batch: int, held: bool) -> Iterable[str]:
    """Message passing last: memory is the largest so far."""
    data = simulated(max(observations, both), levels)
    how = "held" if held else "learned"
    yield f"CP of rank {RANK}, 3 modes of {levels:,} levels (Matern 3/2, {how}), batches of {batch:,}; load average "
    yield f"at the start {os.getloadavg()[0]:.1f}. Error: of the noise-free signal at held-out places; noise sd {SD}.\n"
    yield "| engine | observations | wall s | of it compiling s | GB | error | noise sd | stopped |"
    yield "| --- " * 8 + "|"
    yield row("SVI", data, both, pt.SVI(batch_size=min(batch, both // 10)), held)
    if observations > both:
        yield row("SVI", data, observations, pt.SVI(batch_size=min(batch, observations // 10)), held)
    yield row("MessagePassing", data, both, pt.MessagePassing(), held)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--observations", type=int, default=10_000_000)
    parser.add_argument("--levels", type=int, default=1000, help="of each mode")
    parser.add_argument("--both", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=2**18)
    parser.add_argument("--held", action="store_true")
    parser.add_argument("--dry", action="store_true", help="print, and leave RESULTS.md as it is")
    parser.add_argument("--compare", action="store_true", help="both engines on several problems, and nothing else")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--restarts", type=int, default=3)
    options = parser.parse_args()
    found, section = [], "Stochastic inference at scale"
    made = lines(options.observations, options.levels, options.both, options.batch, options.held)
    if options.compare:
        section = "Stochastic inference beside message passing"
        made = compared(options.both, options.levels, options.seeds, options.restarts, options.held)
    for line in made:
        print(line, flush=True)
        found.append(line)
    if not options.dry:
        results.record(section, "\n".join(found))


if __name__ == "__main__":
    main()
