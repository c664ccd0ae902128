"""Speed, as ratios within one run: `python -m speed [--parts tensorly scaling] [--largest 10000000]`.

Writes sections "Speed, ..." of RESULTS.md, one for each part. Everything on one thread in 64 bits; seconds are warm,
medians of three, and without compilation unless a column says so.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import results

from speed import factorizations, neighbours, scaling, starting, sweeps, timing

LARGE, RANK = (256, 256, 160), 32


def rate() -> Iterator[str]:
    """A sweep's share of what the core can do."""
    post = sweeps.fitted(sweeps.field(LARGE), RANK, sweeps=5)
    seconds, most = sweeps.of(post, False, 2), timing.product_rate()
    own = sweeps.operations(LARGE, RANK) / seconds
    yield "| cells | rank | seconds a sweep | operations a second | a large product's | share |"
    yield "| --- " * 6 + "|"
    cells = LARGE[0] * LARGE[1] * LARGE[2]
    yield f"| {cells:,} | {RANK} | {seconds:.2f} | {own:.3g} | {most:.3g} | {own / most:.0%} |"


def main() -> None:
    parser = argparse.ArgumentParser(prog="speed", description=__doc__)
    parser.add_argument("--parts", nargs="+", help="only these", default=None)
    parser.add_argument("--largest", type=int, default=10**8, help="entries of the largest array")
    options = parser.parse_args()
    parts: dict[str, tuple[str, Callable[[], Iterator[str]]]] = {
        "tensorly": ("a sweep beside tensorly's iteration", factorizations.beside_tensorly),
        "training": ("to tensorly's training error", factorizations.to_the_same_training_error),
        "smurff": ("to SMURFF's held-out error", factorizations.beside_smurff),
        "neighbours": ("a local term beside the nearest-neighbour script", neighbours.beside_the_script),
        "rate": ("share of the core's own rate", rate),
        "starting": ("first and second fits", starting.fresh),
        "memory": ("memory", scaling.memory),
        "scaling": ("scaling", lambda: scaling.curves(options.largest)),
    }
    for name in options.parts or parts:
        title, lines = parts[name]
        text = "\n".join(lines())
        if name == "scaling":
            text += f"\n\n![seconds a sweep as sizes grow]({scaling.FIGURE.name})"
        results.record(f"Speed, {title}", text)


if __name__ == "__main__":
    main()
