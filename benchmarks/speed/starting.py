"""How long a first fit takes in a fresh process, and the next one."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator

PROGRAM = """
import json, sys, time
begun = time.perf_counter()
import numpy as np, xarray as xr, probtensor as pt
imported = time.perf_counter() - begun
if sys.argv[1]:
    pt.compilation_cache(sys.argv[1])

def fitted(sizes, seed):
    random = np.random.default_rng(seed)
    axes = {name: np.linspace(0, 1, n) for name, n in zip("xyz", sizes)}
    x, y, z = np.meshgrid(*axes.values(), indexing="ij")
    values = np.sin(3 * x) * np.cos(2 * y) * (1 + z) + 0.1 * random.standard_normal(x.shape)
    values[random.random(x.shape) < 0.3] = np.nan
    begun = time.perf_counter()
    pt.fit(xr.DataArray(values, axes, "x y z".split()), *MODEL)
    return time.perf_counter() - begun

MODEL = [] if sys.argv[2] == "auto" else [pt.Offset() + pt.CP(3)]
several = (20, 12, 15), (20, 12, 15), (21, 12, 15)
print(json.dumps([imported, *(fitted(sizes, seed) for seed, sizes in enumerate(several))]))
"""


def fresh() -> Iterator[str]:
    """Without compiled programs, with those that an earlier process kept on disk, and in the same process."""
    yield "| model | programs on disk | import, s | first fit, s | the same shape again, s | one level more, s |"
    yield "| --- " * 6 + "|"
    for model in ("CP", "auto"):
        with tempfile.TemporaryDirectory() as folder:
            for kept, place in (("none", ""), ("being kept", folder), ("kept", folder)):
                command = [sys.executable, "-c", PROGRAM, place, model]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                row = json.loads(done.stdout.splitlines()[-1])
                yield f"| {model} | {kept} | " + " | ".join(f"{value:.2f}" for value in row) + " |"
