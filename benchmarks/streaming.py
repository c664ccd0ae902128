"""Does an update cost more, the more was absorbed before it, and is a stream as good as one fit of everything?

Streams 100 batches with `post.update`, at held hyper-parameters, onto a fit of a first part: over a fixed grid of
levels, and with ten new days in every batch. OMP_NUM_THREADS=1 python benchmarks/streaming.py [--batches 100]. Each
stream runs twice, and times are those of the second, which finds its programs compiled. With --local: a shorter stream
with a local term that keeps all its observations, or those of its newest days. Writes the section "Streaming" of
RESULTS.md, or "Streaming with Local".
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator

import numpy as np
import results

import probtensor as pt

RANK, SD, SIDE, STATIONS, DAYS = 3, 0.3, 40, 25, 10
#: Observations of a batch, batches in the first fit, and observations that are held out.
ROWS, FIRST, HELD_OUT = 400, 10, 20_000
#: A first fit has to find its functions: what it says of its observations is not revisited.
ENGINE = pt.MessagePassing(restarts=5)
#: Of the local field.
VARIANCE = 0.25
MODES = {"day": 25.0, "x": 12.0, "y": 8.0}


def data(batches: int, growing: bool) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Places, noisy values and the batch of each observation; the last batch is held out.

    growing: whether a batch is of days of its own; otherwise of any days of a fixed grid.
    """
    rng = np.random.default_rng(0)
    levels = {"day": DAYS * batches if growing else 100, "x": SIDE, "y": STATIONS}
    batch = np.repeat(np.arange(batches + 1), [ROWS] * batches + [HELD_OUT])
    index = {name: rng.integers(0, number, len(batch)) for name, number in levels.items()}
    if growing:
        old = batch < batches
        index["day"][old] = DAYS * batch[old] + index["day"][old] % DAYS
    signal = np.ones(len(batch))
    functions = {}
    for name, number in levels.items():
        phase, pace = rng.uniform(0, 2 * np.pi, RANK), rng.uniform(0.5, 1.5, RANK) / MODES[name]
        functions[name] = np.sqrt(2) * np.sin(np.arange(number)[:, None] * pace + phase)
    signal = np.sum(np.prod([functions[name][index[name]] for name in levels], axis=0), axis=1)
    at = {name: level.astype(float) for name, level in index.items()}
    return at, signal + SD * rng.standard_normal(len(batch)), batch


def model() -> pt.CP:
    """All numbers held."""
    return pt.CP(
        RANK,
        {name: pt.Matern(3 / 2, lengthscale=pt.fixed(scale), variance=pt.fixed(1.0)) for name, scale in MODES.items()},
    )


def some(everything: tuple[dict[str, np.ndarray], np.ndarray, np.ndarray], chosen: np.ndarray) -> pt.points:
    at, values, _ = everything
    return pt.points({name: place[chosen] for name, place in at.items()}, values[chosen])


def stream(everything: tuple, first: int, batches: int) -> tuple[pt.Posterior, np.ndarray, np.ndarray, np.ndarray]:
    """The posterior after all batches; wall and CPU seconds and sweeps of each update."""
    number = everything[2]
    post = fitted(some(everything, number < first))
    wall, cpu, sweeps = [], [], []
    for k in range(first, batches):
        new = some(everything, number == k)
        begun = time.perf_counter(), time.process_time()
        post = post.update(new)
        wall.append(time.perf_counter() - begun[0])
        cpu.append(time.process_time() - begun[1])
        sweeps.append(post.objective.size)
    return post, np.array(wall), np.array(cpu), np.array(sweeps)


def fitted(observations: pt.points) -> pt.Posterior:
    return pt.fit(observations, model(), likelihood=pt.Gaussian(sd=pt.fixed(SD)), engine=ENGINE)


def spread(seconds: np.ndarray) -> str:
    return f"{1e3 * np.median(seconds):.0f} ({1e3 * seconds.min():.0f} to {1e3 * seconds.max():.0f})"


def row(name: str, growing: bool, first: int, updates: int) -> str:
    everything = data(first + updates, growing)
    batches = first + updates
    _, compiling, *_ = stream(everything, first, batches)
    post, wall, cpu, sweeps = stream(everything, first, batches)
    held = some(everything, everything[2] == batches)
    batch = fitted(some(everything, everything[2] < batches))
    errors = [one.score(held, allow_training=True)["rmse"] for one in (post, batch)]
    early, late = slice(7, 12), slice(updates - 5, updates)
    days = [len(np.unique(everything[0]["day"][everything[2] < first + k])) for k in (10, updates)]
    return (
        f"| {name} | {first} | {days[0]:,} / {days[1]:,} | {spread(wall[early])} | {spread(wall[late])} | "
        f"{spread(cpu[early])} | {spread(cpu[late])} | "
        f"{np.median(sweeps[early]):.0f} / {np.median(sweeps[late]):.0f} | {compiling.sum() - wall.sum():.0f} | "
        f"{errors[0]:.4f} | {errors[1]:.4f} | {100 * (errors[0] / errors[1] - 1):+.1f}% |"
    )


def lines(updates: int) -> Iterator[str]:
    yield (
        f"CP of rank {RANK} over days, x and y (Matern 3/2, all numbers held), {ROWS} scattered observations a batch "
        f"with noise of sd {SD}, {updates} updates after a fit of the first batches. Milliseconds an update: median "
        f"(least to most) of updates 8 to 12 and of the last five, without compiling; load average at the start "
        f"{os.getloadavg()[0]:.1f}. RMSE of {HELD_OUT:,} noisy held-out values.\n"
    )
    yield (
        "| days | batches in the first fit | days at 10 / at the end | ms, 8 to 12 | ms, last five | CPU ms, 8 to 12 | "
        "CPU ms, last five | sweeps, then and then | s compiling, all | RMSE | of one fit | difference |"
    )
    yield "| --- " * 12 + "|"
    yield row("a fixed grid", False, FIRST, updates)
    yield row("a fixed grid", False, 1, updates)
    yield row("ten new ones a batch", True, FIRST, updates)
    yield row("ten new ones a batch", True, 4 * FIRST, updates)


def field(everything: tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]) -> tuple:
    """The same data with a local field."""
    at, values, batch = everything
    rng = np.random.default_rng(1)
    days = np.abs(at["day"][:, None] - at["day"])
    apart = np.sqrt(3) * np.hypot(at["x"][:, None] - at["x"], at["y"][:, None] - at["y"]) / 4
    covariance = VARIANCE * np.exp(-days / 3) * (1 + apart) * np.exp(-apart)
    root = np.linalg.cholesky(covariance + 1e-9 * np.eye(len(values)))
    return at, values + root @ rng.standard_normal(len(values)), batch


def local() -> pt.Local:
    """The kernel of `field`, held."""
    time_kernel = pt.Matern(1 / 2, lengthscale=pt.fixed(3.0), variance=pt.fixed(VARIANCE))
    space = pt.Matern(3 / 2, lengthscale=pt.fixed(4.0), variance=pt.fixed(1.0))
    return pt.Local(time_kernel.on("day") * space.on("x", "y", metric="euclidean"), neighbours=20)


def local_lines() -> Iterator[str]:
    first, updates, held_out = 5, 10, 2000
    batches = first + updates
    everything = data(batches, True)
    everything = field(tuple_of(everything, slice(0, batches * ROWS + held_out)))
    new = everything[0]["day"] >= DAYS * (batches - 2)
    held = everything[2] == batches
    yield (
        f"The stream with ten new days a batch and a local field of sd {VARIANCE**0.5:.1f} (Matern 1/2 over 3 days "
        f"times Matern 3/2 in the plane), with a Local term of {local().neighbours} neighbours: {updates} updates "
        f"after a fit of {first} batches, {batches * ROWS:,} observations in all. Seconds include compiling. RMSE of "
        "noisy held-out values in the newest 20 days; and what the CP alone differs by from the one fit, in all days.\n"
    )
    yield "| Local keeps | observations at the end | s, second update | s, last | RMSE, newest days | CP, all days |"
    yield "| --- " * 6 + "|"

    def fit(chosen: np.ndarray) -> pt.Posterior:
        likelihood = pt.Gaussian(sd=pt.fixed(SD))
        return pt.fit(some(everything, chosen), model() + local(), likelihood=likelihood, engine=ENGINE)

    begun = time.perf_counter()
    whole = fit(everything[2] < batches)
    took = time.perf_counter() - begun
    places = some(everything, held)
    shape = whole.predict(places, terms=[0])["mean"]
    rows = {"one fit of everything": (whole, [took], batches * ROWS)}
    for name, lag in (("all", None), ("20 days", {"day": 20.0})):
        post, seconds = fit(everything[2] < first), []
        for k in range(first, batches):
            begun = time.perf_counter()
            post = post.update(some(everything, everything[2] == k), lag=lag)
            seconds.append(time.perf_counter() - begun)
        kept = np.count_nonzero(everything[0]["day"][~held] >= DAYS * batches - 1 - 20) if lag else batches * ROWS
        rows[name] = post, seconds[1:], kept
    for name, (post, seconds, kept) in rows.items():
        error = post.score(some(everything, held & new), allow_training=True)["rmse"]
        apart = np.sqrt(np.mean((post.predict(places, terms=[0])["mean"] - shape) ** 2))
        yield f"| {name} | {kept:,} | {seconds[0]:.1f} | {seconds[-1]:.1f} | {error:.4f} | {float(apart):.4f} |"


def tuple_of(everything: tuple[dict[str, np.ndarray], np.ndarray, np.ndarray], part: slice) -> tuple:
    at, values, batch = everything
    return {name: place[part] for name, place in at.items()}, values[part], batch[part]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=int, default=100)
    parser.add_argument("--dry", action="store_true", help="print, and leave RESULTS.md as it is")
    parser.add_argument("--local", action="store_true")
    options = parser.parse_args()
    found = []
    for line in local_lines() if options.local else lines(options.batches):
        print(line, flush=True)
        found.append(line)
    if not options.dry:
        results.record("Streaming with Local" if options.local else "Streaming", "\n".join(found))


if __name__ == "__main__":
    main()
