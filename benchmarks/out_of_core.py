"""Does SVI fit a dask array four times larger than a stated memory limit within that limit?

A product of smooth functions with noise, 70% missing, made chunk by chunk when it is read and never stored as a whole:
python benchmarks/out_of_core.py [--limit 600] [--passes 2]. The limit is in MB, of resident memory beyond what the
process has after its imports; the array has four times as many bytes. Every row is a process of its own, so that its
peak is its own. Writes the section "Out of core" of RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import results
import xarray as xr

import probtensor as pt

LATITUDES, LONGITUDES, CHUNK = 256, 512, 8
MISSING, SD, BATCH = 0.7, 0.3, 2**16
MB = 10**6


def signal(time_: np.ndarray, latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
    """A sum of two products of functions of places from 0 to 1, which broadcast."""
    slow = np.sin(5 * time_) * np.cos(3 * latitude) * (1 + longitude)
    return 2 + slow + 0.5 * np.cos(40 * time_) * np.sin(4 * latitude + 1) * np.cos(6 * longitude)


def axes(times: int) -> dict[str, np.ndarray]:
    return {"time": np.linspace(0, 1, times), "lat": np.linspace(0, 1, LATITUDES), "lon": np.linspace(0, 1, LONGITUDES)}


def made(times: int) -> xr.DataArray:
    """The array: lazily, in chunks of CHUNK times."""
    places = axes(times)

    def block(block_info: Any = None) -> np.ndarray:
        (first, last), *_ = block_info[None]["array-location"]
        random = np.random.default_rng(first)
        out = signal(places["time"][first:last, None, None], places["lat"][:, None], places["lon"])
        out += SD * random.standard_normal(out.shape)
        out[random.random(out.shape) < MISSING] = np.nan
        return out

    chunks = (dask.array.core.normalize_chunks(CHUNK, (times,))[0], (LATITUDES,), (LONGITUDES,))
    return xr.DataArray(dask.array.map_blocks(block, chunks=chunks, meta=np.zeros((0, 0, 0))), places, list(places))


def peak() -> float:
    """Largest resident memory so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MB


def on_disk(stop: threading.Event, found: list[float], folder: str) -> None:
    """The largest size of a folder while something else runs."""
    while not stop.wait(1.0):
        sizes = [entry.stat().st_size for entry in Path(folder).rglob("*.records")]
        found.append(sum(sizes) / MB)


def measured(times: int, passes: int, in_memory: bool) -> dict[str, Any]:
    """One fit in this process."""
    data = made(times)
    batches = -(-int((1 - MISSING) * data.size) // BATCH)
    model = pt.Offset() + pt.CP(2)
    engine = pt.SVI(batch_size=BATCH, steps=passes * batches)
    begun, before = time.perf_counter(), peak()
    with tempfile.TemporaryDirectory() as folder:
        tempfile.tempdir = folder
        stop, sizes = threading.Event(), [0.0]
        watcher = threading.Thread(target=on_disk, args=(stop, sizes, folder))
        watcher.start()
        try:
            post = pt.fit(data.load() if in_memory else data, model, engine=engine)
        finally:
            stop.set()
            watcher.join()
    wall = time.perf_counter() - begun
    random, places = np.random.default_rng(0), axes(times)
    at = {name: random.choice(own, 20_000) for name, own in places.items()}
    error = np.asarray(post.predict(pt.points(at))["mean"]) - signal(at["time"], at["lat"], at["lon"])
    return {
        "array": data.nbytes / MB,
        "observations": post._fitted.observations.count,
        "peak": peak() - before,
        "imports": before,
        "disk": max(sizes),
        "wall": wall,
        "fit": post.run_seconds,
        "compile": post.compile_seconds,
        "error": float(np.sqrt(np.mean(error**2))),
        "sd": post.noise_sd,
        "elbo": float(post.objective[-1]) / post._fitted.observations.count,
    }


def row(label: str, times: int, passes: int, in_memory: bool) -> str:
    """One fit in a process of its own."""
    options = ["--child", str(times), "--passes", str(passes), *(["--in-memory"] if in_memory else [])]
    done = subprocess.run([sys.executable, __file__, *options], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)
    own = json.loads(done.stdout.splitlines()[-1])
    return (
        f"| {label} | {own['array']:,.0f} | {own['observations']:,} | {own['peak']:,.0f} | {own['disk']:,.0f} | "
        f"{own['wall']:.0f} | {own['fit']:.0f} | {own['error']:.4f} | {own['sd']:.4f} | {own['elbo']:.5f} |"
    )


def lines(limit: float, passes: int) -> Iterable[str]:
    large = round(4 * limit * MB / 8 / LATITUDES / LONGITUDES)
    small = max(large // 20, 50)
    yield f"CP of rank 2 and an offset, {MISSING:.0%} missing, batches of {BATCH:,}, {passes} passes with the warm-up;"
    yield f"load average at the start {os.getloadavg()[0]:.1f}. Limit: {limit:,.0f} MB beyond the imports. Disk: the"
    yield f"copy of the observations. Error: of the noise-free signal; noise sd {SD}.\n"
    yield "| data | array MB | observations | peak MB | disk MB | wall s | fit s | error | noise sd | nats each |"
    yield "| --- " * 10 + "|"
    yield row("dask, small", small, passes, False)
    yield row("the same in memory", small, passes, True)
    yield row("dask, four times the limit", large, passes, False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit", type=float, default=600, help="in MB")
    parser.add_argument("--passes", type=int, default=2)
    parser.add_argument("--dry", action="store_true", help="print, and leave RESULTS.md as it is")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--in-memory", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measured(options.child, options.passes, options.in_memory)))
        return
    found = []
    for line in lines(options.limit, options.passes):
        print(line, flush=True)
        found.append(line)
    if not options.dry:
        results.record("Out of core", "\n".join(found))


if __name__ == "__main__":
    main()
