"""How time grows with entries, levels, modes and ranks, in memory and out of core, and how much memory it takes."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import EngFormatter, NullFormatter, NullLocator

import probtensor as pt
from probtensor.labelled import fitting
from speed import sweeps, timing

FIGURE = Path(__file__).parents[1] / "scaling.svg"
RANK = 8
#: Levels of three modes, of one long mode and a short one, and of several modes with as many entries.
ENTRIES = ((46, 46, 46), (100, 100, 100), (215, 215, 215), (464, 464, 464))
LEVELS = ((1_000, 4), (4_000, 4), (16_000, 4), (64_000, 4), (1_000_000, 4))
MODES = ((1024, 1024), (102, 102, 101), (32, 32, 32, 32), (16, 16, 16, 16, 16))
RANKS = (8, 16, 32, 64)
OUT_OF_CORE = (10**6, 10**7, 10**8)
#: Of a fit whose memory or time out of core is looked at: two blocks, of which the first has the compilation.
SWEEPS = 10


def curves(largest: int) -> Iterator[str]:
    """Seconds of a sweep as one thing grows; beyond ``largest`` entries nothing is measured."""
    yield "| grows | sizes | seconds a sweep | slope |"
    yield "| --- " * 4 + "|"
    found: dict[str, tuple[list[int], list[float]]] = {}
    shapes = {
        "entries": [(int(np.prod(s)), s, RANK) for s in ENTRIES if np.prod(s) <= largest],
        "levels of one mode": [(s[0], s, 4) for s in LEVELS if 50 * s[0] <= largest],
        "modes, of a million entries": [(len(s), s, RANK) for s in MODES],
        "rank, of a million entries": [(rank, (100, 100, 100), rank) for rank in RANKS],
    }
    for name, several in shapes.items():
        sizes = [size for size, _, _ in several]
        seconds = [sweeps.of(sweeps.fitted(sweeps.field(shape), rank, sweeps=5), True, 4) for _, shape, rank in several]
        found[name] = sizes, seconds
        yield _row(name, sizes, seconds)
    sizes = [size for size in OUT_OF_CORE if size <= largest]
    if len(sizes) > 1:
        found["entries, out of core"] = sizes, [_apart("out_of_core", size)["seconds"] for size in sizes]
        yield _row("entries, out of core", *found["entries, out of core"])
    _draw(found)


def _row(name: str, sizes: list[int], seconds: list[float]) -> str:
    texts = " / ".join(f"{s:,}" for s in sizes), " / ".join(f"{s:.3g}" for s in seconds)
    return f"| {name} | {texts[0]} | {texts[1]} | {timing.slope(sizes, seconds):.2f} |"


def memory() -> Iterator[str]:
    """The most that a process grows by in a fit to 10^7 entries, and by how much less in the same to few."""
    yield "| 10^7 entries | data, MB | growth, MB | of which for few data | the rest over the data |"
    yield "| --- " * 5 + "|"
    for kind in ("in_memory", "slab_by_slab", "out_of_core"):
        few, own = (_apart(kind, entries) for entries in (10**5, 10**7))
        always, more = (one["peak"] - one["before"] for one in (few, own))
        said = f"{own['data']:.0f} | {more:.0f} | {always:.0f} | {(more - always) / own['data']:.1f}"
        yield f"| {kind.replace('_', ' ')} | {said} |"


def _apart(kind: str, entries: int) -> dict[str, float]:
    """`measured` in a process of its own, so that its peak is its own."""
    done = subprocess.run([sys.executable, "-m", "speed.scaling", kind, str(entries)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def measured(kind: str, entries: int) -> dict[str, float]:
    """Seconds of a sweep, and resident memory in MB."""
    side = round(entries ** (1 / 3))
    fitting._LARGE = entries + 1 if kind == "in_memory" else 1
    # Data that are in memory are made in a process of their own, which leaves this one's peak as it is.
    data = _lazy(side) if kind == "out_of_core" else _from_file(side)
    engine = pt.MessagePassing(max_sweeps=SWEEPS, tol=0.0, out_of_core=kind == "out_of_core")
    before = _resident()
    post = pt.fit(data, pt.CP(RANK), engine=engine)
    return {
        "seconds": post.run_seconds / SWEEPS,
        "before": before,
        "peak": _resident(),
        "data": 8e-6 * side**3,
    }


def _from_file(side: int) -> object:
    """`_lazy`, in memory."""
    import xarray as xr

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "field.npy"
        program = f"import numpy, speed.scaling as s; numpy.save({str(path)!r}, s._lazy({side}).values)"
        subprocess.run([sys.executable, "-c", program], check=True)
        axis = np.linspace(0, 1, side)
        return xr.DataArray(np.load(path), dict.fromkeys(("time", "lat", "lon"), axis), ("time", "lat", "lon"))


def _lazy(side: int) -> object:
    """As `sweeps.field`, but made slice by slice whenever it is read."""
    import dask.array
    import xarray as xr

    axis = np.linspace(0, 1, side)
    step = max(1, 2**22 // side**2)

    def block(block_info: dict | None = None) -> np.ndarray:
        first, last = block_info[None]["array-location"][0]  # type: ignore[index]
        random = np.random.default_rng(first)
        out = sweeps.NOISE * random.standard_normal((last - first, side, side))
        for k in range(1, 6):
            wave = np.cos(k * axis + k)
            out += wave[first:last, None, None] * wave[:, None] * wave
        out[random.random(out.shape) < sweeps.MISSING] = np.nan
        return out

    chunks = (dask.array.core.normalize_chunks(step, (side,))[0], (side,), (side,))
    array = dask.array.map_blocks(block, chunks=chunks, meta=np.zeros((0, 0, 0)))
    return xr.DataArray(array, dict.fromkeys(("time", "lat", "lon"), axis), ("time", "lat", "lon"))


def _resident() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def _draw(found: dict[str, tuple[list[int], list[float]]]) -> None:
    """One panel for each curve, with a line of slope 1 through its first point."""
    figure, panels = plt.subplots(1, len(found), figsize=(3.4 * len(found), 3.2), layout="constrained")
    for panel, (name, (sizes, seconds)) in zip(panels, found.items(), strict=True):
        panel.loglog(sizes, seconds, "o-", color="C0")
        panel.loglog(sizes, seconds[0] * np.array(sizes) / sizes[0], "--", color="0.6", label="slope 1")
        panel.set(title=name)
        panel.set_xticks(sizes, [EngFormatter(places=0, sep="")(size) for size in sizes])
        panel.xaxis.set_minor_locator(NullLocator())
        panel.yaxis.set_minor_formatter(NullFormatter())
    panels[0].set_ylabel("seconds a sweep")
    panels[0].legend()
    figure.savefig(FIGURE)


if __name__ == "__main__":
    print(json.dumps(measured(sys.argv[1], int(sys.argv[2]))))
