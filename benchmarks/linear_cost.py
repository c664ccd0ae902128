"""Does the cost of a sweep grow linearly with observations and with levels?

Doubles one or both four times and fits a line to the logarithms; a slope of 1 is linear:
python benchmarks/linear_cost.py [--doublings 4] [--series both]. Writes the
section "Linear cost" of RESULTS.md. Compilation is shown apart: the first fit of each size
compiles, the second is timed.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import results

import probtensor as pt

RANK, SWEEPS = 5, 10
OBSERVATIONS, LEVELS = 50_000, 250
#: What a series doubles: the number of observations, of levels of each mode, or both.
SERIES = {"observations": (1, 0), "levels": (0, 1), "both": (1, 1)}


def table(observations: int, levels: int) -> Any:
    """Noisy values of a smooth function at random places of a grid of that many levels a side."""
    generator = np.random.default_rng(0)
    at = {name: generator.integers(levels, size=observations).astype(float) for name in ("x", "y", "z")}
    scaled = [values / levels for values in at.values()]
    values = (
        np.sin(6.0 * scaled[0]) * scaled[1] + np.cos(4.0 * scaled[2]) + 0.1 * generator.standard_normal(observations)
    )
    return pt.points(at, values)


def measure(observations: int, levels: int) -> tuple[float, float]:
    """Seconds of a warm sweep, and of the first fit beyond those of the second (compilation)."""
    data = table(observations, levels)
    engine = pt.MessagePassing(tol=0.0, max_sweeps=SWEEPS)
    walls = []
    for _ in range(2):
        start = time.perf_counter()
        post = pt.fit(data, pt.Offset() + pt.CP(RANK), engine=engine)
        walls.append(time.perf_counter() - start)
    return (post.run_seconds + post.compile_seconds) / post.objective.size, walls[0] - walls[1]


def lines(doublings: int, chosen: list[str]) -> Iterable[str]:
    yield f"CP of rank {RANK} over three modes (Matern 3/2), points, {SWEEPS} sweeps.\n"
    yield "| doubled | observations | levels a mode | ms a sweep | compile s |"
    yield "| --- " * 5 + "|"
    slopes = {}
    for name in chosen:
        more_observations, more_levels = SERIES[name]
        seconds = []
        for k in range(doublings + 1):
            observations, levels = OBSERVATIONS << k * more_observations, LEVELS << k * more_levels
            sweep, compiling = measure(observations, levels)
            seconds.append(sweep)
            yield f"| {name} | {observations:,} | {levels:,} | {1e3 * sweep:.1f} | {compiling:.1f} |"
        slopes[name] = np.polyfit(np.arange(doublings + 1) * np.log(2.0), np.log(seconds), 1)[0]
    found = ", ".join(f"{name} {slope:.2f}" for name, slope in slopes.items())
    yield f"\nSlope of log seconds against log size (1 is linear): {found}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--doublings", type=int, default=4)
    parser.add_argument("--series", nargs="+", choices=list(SERIES), default=list(SERIES))
    options = parser.parse_args()
    results.record("Linear cost", "\n".join(lines(options.doublings, options.series)))


if __name__ == "__main__":
    main()
