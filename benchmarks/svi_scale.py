"""How long does SVI take, how much memory, and is it as good as message passing?

Simulates a CP of rank 8 over three modes at random places, and fits all of it by SVI, and a part that both can do by
SVI and by message passing: python benchmarks/svi_scale.py [--observations 10000000] [--both 100000] [--batch 262144]
[--held]. Memory is the largest of the process so far, the data included. Writes the section "Stochastic inference at
scale" of RESULTS.md.
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

RANK, LEVELS, HELD_OUT, SD = 8, 1000, 20_000, 0.3
MODES = ("x", "y", "z")


def simulated(observations: int) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Places, noisy values and the signal; the first HELD_OUT entries are held out, whatever the number."""
    generator = np.random.default_rng(0)
    place = np.linspace(0, 1, LEVELS)
    total = observations + HELD_OUT
    signal, at = np.zeros(total), {}
    factors = []
    for _ in MODES:
        phases, sizes = generator.uniform(0, 2 * np.pi, (3, RANK, 1)), generator.standard_normal((3, RANK, 1))
        waves = enumerate(zip(sizes, phases, strict=True), start=1)
        factors.append(sum(s * np.cos(2 * np.pi * k * place + p) for k, (s, p) in waves))
    levels = generator.integers(LEVELS, size=(total, len(MODES)), dtype=np.int32)
    for r in range(RANK):
        signal += np.prod([f[r][levels[:, d]] for d, f in enumerate(factors)], axis=0)
    signal /= signal[:HELD_OUT].std()
    for d, name in enumerate(MODES):
        at[name] = place[levels[:, d]]
    return at, signal + SD * generator.standard_normal(total), signal


def kernel(held: bool) -> Any:
    return pt.Matern(3 / 2, lengthscale=pt.fixed(0.3) if held else None)


def row(label: str, data: Any, observations: int, engine: Any, held: bool) -> str:
    at, values, signal = data
    own = slice(HELD_OUT, HELD_OUT + observations)
    model = pt.Offset() + pt.CP(RANK, {name: kernel(held) for name in MODES})
    begun = time.perf_counter()
    post = pt.fit(pt.points({n: x[own] for n, x in at.items()}, values[own]), model, engine=engine)
    wall = time.perf_counter() - begun
    there = pt.points({n: x[:HELD_OUT] for n, x in at.items()}, values[:HELD_OUT])
    error = np.sqrt(np.mean((np.asarray(post.predict(there)["mean"]) - signal[:HELD_OUT]) ** 2))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    reason = post._result.reason.split(":")[0]
    return (
        f"| {label} | {observations:,} | {wall:.0f} | {post.compile_seconds:.0f} | {memory:.1f} | {error:.4f} | "
        f"{post.noise_sd:.4f} | {reason} |"
    )


def lines(observations: int, both: int, batch: int, held: bool) -> Iterable[str]:
    """Message passing last: memory is the largest so far."""
    data = simulated(max(observations, both))
    how = "held" if held else "learned"
    yield f"CP of rank {RANK}, 3 modes of {LEVELS:,} levels (Matern 3/2, {how}), batches of {batch:,}; load average "
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
    parser.add_argument("--both", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=2**18)
    parser.add_argument("--held", action="store_true")
    parser.add_argument("--dry", action="store_true", help="print, and leave RESULTS.md as it is")
    options = parser.parse_args()
    found = []
    for line in lines(options.observations, options.both, options.batch, options.held):
        print(line, flush=True)
        found.append(line)
    if not options.dry:
        results.record("Stochastic inference at scale", "\n".join(found))


if __name__ == "__main__":
    main()
