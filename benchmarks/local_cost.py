"""Does the cost of a model with `Local` grow linearly, up to a million observations?

Fits an offset, a CP and a local term to grids with hidden boxes, each ten times larger than the last:
OMP_NUM_THREADS=1 python benchmarks/local_cost.py [--sizes 10000 100000]. Writes the section "Cost of Local" of
RESULTS.md. A million take a quarter of an hour.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterable

import numpy as np
import results
import xarray as xr

import probtensor as pt

SIDE, STEP, NOISE, NEIGHBOURS = 100, 0.1, 0.1, 15
#: Edges of a hidden box, and the share of the entries that boxes hide.
BOX, HIDDEN = (5, 10, 10), 0.02


def signal(size: int) -> xr.DataArray:
    """Waves of two kinds, and finer ones that no low rank has, on a grid of that many entries that grows in time."""
    t = xr.DataArray(STEP * np.arange(size // SIDE**2), dims="t")
    x, y = (xr.DataArray(np.linspace(0.0, 10.0, SIDE), dims=name) for name in "xy")
    waves = np.sin(t) * np.cos(x / 2) + 0.5 * np.cos(2 * x + t) * np.sin(1.5 * y)
    fine = 0.5 * np.sin(5 * x) * np.cos(4 * y + 2 * t)
    return (3 + waves + fine).transpose("t", "x", "y").assign_coords(t=t, x=x, y=y).rename("z")


def boxes(shape: tuple[int, ...], generator: np.random.Generator) -> np.ndarray:
    held = np.zeros(shape, dtype=bool)
    for _ in range(max(1, int(HIDDEN * held.size / np.prod(BOX)))):
        corner = [generator.integers(n) for n in shape]
        held[tuple(slice(at, at + edge) for at, edge in zip(corner, BOX, strict=True))] = True
    return held


def line(size: int) -> str:
    generator = np.random.default_rng(0)
    truth = signal(size)
    noisy = truth + NOISE * generator.standard_normal(truth.shape)
    held = boxes(truth.shape, generator)
    space = pt.Matern(3 / 2).on("t") * pt.Matern(3 / 2).on("x", "y")
    model = pt.Offset() + pt.CP(2) + pt.Local(space, neighbours=NEIGHBOURS)
    start = time.perf_counter()
    post = pt.fit(noisy.where(~held), model, engine=pt.MessagePassing(max_sweeps=30, draws=4))
    fitting = time.perf_counter() - start
    start = time.perf_counter()
    at = post.predict({dim: truth[dim] for dim in truth.dims}).transpose(*truth.dims)
    predicting = time.perf_counter() - start
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    error, sd = (at["mean"] - truth).values[held], at["signal_sd"].values[held]
    return (
        f"| {np.count_nonzero(~held):,} | {fitting:.0f} | {predicting:.0f} | {gigabytes:.1f} | "
        f"{np.sqrt(np.mean(error**2)):.4f} | {np.sqrt(np.mean((error / sd) ** 2)):.2f} | {post.noise_sd:.4f} |"
    )


def lines(sizes: list[int]) -> Iterable[str]:
    yield (
        f"Offset, CP of rank 2 and Local (Matern 3/2 in time times Matern 3/2 in the plane, {NEIGHBOURS} neighbours), "
        f"all hyper-parameters learned, on a grid with noise of sd {NOISE}; boxes of {BOX} hidden. Compilation "
        "included; the memory is the largest so far.\n"
    )
    yield "| observations | s to fit | s to predict all | GB | RMSE of the hidden signal | error over sd | noise sd |"
    yield "| --- " * 7 + "|"
    for size in sizes:
        yield line(size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", type=int, default=[10_000, 100_000])
    results.record("Cost of Local", "\n".join(lines(parser.parse_args().sizes)))


if __name__ == "__main__":
    main()
