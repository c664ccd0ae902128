"""What does an accelerator gain, and how near is a sweep to what the machine can do?

A sweep of message passing on a grid, and the posterior of one Markov mode with very many levels, each on the
accelerator and on one core of its host's processor: python benchmarks/accelerator.py [--levels 256 256 160] [--rank 32]
[--long 1000000]. All in 64 bits, warm, medians of three. Peaks are measured, too: products of two large matrices.
Writes the section "Accelerator" of RESULTS.md; without an accelerator it says so and writes nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np


def peak() -> float:
    """Floating-point operations a second of a large product in 64 bits."""
    import jax
    from speed import timing

    return timing.product_rate(8192 if jax.default_backend() != "cpu" else 2048)


def sweep(levels: list[int], rank: int) -> float:
    """Seconds of a sweep of a CP with joint posteriors, as in a fit."""
    from speed import sweeps

    return sweeps.of(sweeps.fitted(sweeps.field(levels), rank), True)


def long_mode(levels: int, rank: int) -> float:
    """Seconds of the posterior of some functions at so many levels."""
    import jax
    import jax.numpy as jnp
    from speed import timing

    from probtensor.axes import Axis
    from probtensor.compilation import compiled
    from probtensor.kernels.base import Start
    from probtensor.kernels.matern import Matern
    from probtensor.statespace.chain import discretise
    from probtensor.statespace.smoothing import smooth

    points = np.linspace(0.0, 1.0, levels)
    kernel = Matern(3 / 2).bind(Axis("x", "numeric", points), Start(np.full(rank, 0.1), np.ones(rank), True))

    @compiled
    def posterior(points: Any, eta: Any, precision: Any) -> Any:
        return smooth(discretise(kernel, points), eta, precision)

    with jax.enable_x64(True):
        eta = jax.random.normal(jax.random.key(0), (levels, rank), jnp.float64)
        precision = jnp.broadcast_to(jnp.eye(rank) + 0.1, (levels, rank, rank))
        at = jnp.asarray(points)
        return timing.seconds(lambda: posterior(at, eta, precision))


def alone(options: argparse.Namespace, where: str, part: str) -> float | str:
    """What one part gives, in a process of its own that knows one kind of device."""
    command = [sys.executable, __file__, "--part", part, "--rank", str(options.rank), "--long", str(options.long)]
    own = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    if where == "cpu":
        own |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}
    command += ["--levels", *map(str, options.levels)]
    limit = options.limit
    try:
        done = subprocess.run(command, env=os.environ | own, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return f"over {limit} s"
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "Error" in line]
        return (said or ["no reason given"])[-1][:200]
    return float(json.loads(done.stdout.splitlines()[-1]))


PARTS: dict[str, Callable[[argparse.Namespace], float]] = {
    "peak": lambda options: peak(),
    "sweep": lambda options: sweep(options.levels, options.rank),
    "long 1": lambda options: long_mode(options.long, 1),
    "long 4": lambda options: long_mode(options.long, 4),
}


def lines(options: argparse.Namespace, name: str, found: dict[tuple[str, str], float | str]) -> Iterable[str]:
    """The section."""
    from speed.sweeps import operations

    entries = int(np.prod(options.levels))
    yield f"{name}, beside one core of its host ({platform.processor() or platform.machine()}).\n"
    yield "| | accelerator | one core | ratio |"
    yield "| --- " * 4 + "|"
    rows = {
        "sweep": f"seconds of a sweep, CP of rank {options.rank}, joint, {entries:,} cells",
        "long 1": f"seconds of a posterior, {options.long:,} levels, 1 function",
        "long 4": f"seconds of a posterior, {options.long:,} levels, 4 functions",
        "peak": "floating-point operations a second, product of large matrices",
    }
    for part, text in rows.items():
        there, here = found["gpu", part], found["cpu", part]
        known = isinstance(there, float) and isinstance(here, float)
        yield f"| {text} | {_number(there)} | {_number(here)} | {_number(here / there) if known else '-'} |"  # type: ignore[operator]
    shares = []
    for where in ("gpu", "cpu"):
        seconds, most = found[where, "sweep"], found[where, "peak"]
        known = isinstance(seconds, float) and isinstance(most, float)
        shares.append(f"{operations(options.levels, options.rank) / seconds / most:.0%}" if known else "-")  # type: ignore[operator]
    yield f"| a sweep's share of that | {shares[0]} | {shares[1]} | |"


def _number(value: float | str) -> str:
    return f"{value:.3g}" if isinstance(value, float) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--levels", type=int, nargs=3, default=[256, 256, 160])
    parser.add_argument("--rank", type=int, default=32)
    parser.add_argument("--long", type=int, default=1_000_000)
    parser.add_argument("--limit", type=int, default=300, help="seconds for each part")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(PARTS[options.part](options)))
        return
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # each part has a process of its own
    import jax
    import results

    device = jax.devices()[0]
    if device.platform == "cpu":
        print("JAX sees no accelerator here; nothing was measured")
        return
    found: dict[tuple[str, str], float | str] = {}
    for where, part in ((where, part) for where in ("gpu", "cpu") for part in PARTS):
        found[where, part] = alone(options, where, part)
        print(f"{where}, {part}: {_number(found[where, part])}", flush=True)
    results.record("Accelerator", "\n".join(lines(options, str(device.device_kind), found)))


if __name__ == "__main__":
    main()
