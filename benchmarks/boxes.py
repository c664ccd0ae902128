"""How well does ``pt.fit(data)`` fill cloud-like boxes, against what one would do by hand?

Hides 30% of the sea-surface temperatures in boxes, for several draws of the boxes, and scores every method on them:
OMP_NUM_THREADS=1 python benchmarks/boxes.py [--seeds 5] [--data ostia]. Writes the section "Boxes" of RESULTS.md, or
"Boxes, DATA" for other data; with hgt_djf, what each term adds.
"""

from __future__ import annotations

import argparse
import re
import time
from collections import defaultdict
from collections.abc import Iterable

import heights
import numpy as np
import results
from baselines import floor_rows
from scipy.special import ndtri

import probtensor as pt
from probtensor.datasets.ostia import CLOUDS

#: Seas by longitude, degrees east.
BASINS = {"Indian": (40, 105), "west Pacific": (105, 180), "east Pacific": (180, 285), "Atlantic": (285, 400)}
LEVELS = (0.5, 0.8, 0.9, 0.95)
SCORES = ("rmse", "mae", "crps", "coverage90")


def fit_row(data: str, seed: int) -> tuple[dict[str, float], np.ndarray, np.ndarray, np.ndarray, str]:
    """Scores of probtensor for the boxes of one seed; z-scores, sds, longitudes of the hidden entries; the summary."""
    field = pt.datasets.load(data)
    held = CLOUDS.mask(dict(field.sizes), seed, field.notnull().values)
    gapped = field.where(~held)
    start = time.perf_counter()
    post = pt.fit(gapped)
    wall = time.perf_counter() - start
    found = post.score(field.where(held)) | {"seconds": wall - post.compile_seconds, "compile": post.compile_seconds}
    at = post.predict({dim: field[dim] for dim in field.dims}).transpose(*field.dims)
    z = ((field - at["mean"]) / at["sd"]).values[held]
    longitude = np.broadcast_to(field["longitude"].values, field.shape)[held]
    return found, z, at["sd"].values[held], longitude, str(post.summary())


def score_table(rows: dict[str, list[dict[str, float]]]) -> Iterable[str]:
    yield "| method | RMSE (lowest to highest) | MAE | CRPS | 90% coverage | seconds | compile |"
    yield "| --- " * 7 + "|"
    for name, scores in rows.items():
        errors = [score["rmse"] for score in scores]
        mean = {key: np.mean([score[key] for score in scores]) for key in (*SCORES, "seconds")}
        compiling = f"{np.mean([score['compile'] for score in scores]):.1f}" if "compile" in scores[0] else ""
        yield (
            f"| {name} | {mean['rmse']:.3f} ({min(errors):.3f} to {max(errors):.3f}) | {mean['mae']:.3f} | "
            f"{mean['crps']:.3f} | {mean['coverage90']:.3f} | {mean['seconds']:.1f} | {compiling} |"
        )


def coverage_table(z: np.ndarray, sd: np.ndarray, longitude: np.ndarray) -> Iterable[str]:
    """Where the intervals are off: by basin and by quarter of the predicted sd."""
    groups = {"all": np.ones(z.size, bool)}
    for name, (west, east) in BASINS.items():
        groups[name] = ((longitude - west) % 360.0) < (east - west)
    edges = np.quantile(sd, [0.0, 0.25, 0.5, 0.75, 1.0])
    for k in range(4):
        name = f"sd {edges[k]:.2f} to {edges[k + 1]:.2f}"
        groups[name] = (sd >= edges[k]) & ((sd < edges[k + 1]) | (k == 3))
    yield "| hidden entries | share | " + " | ".join(f"{level:.0%} covers" for level in LEVELS) + " | sd of z |"
    yield "| --- " * (3 + len(LEVELS)) + "|"
    for name, inside in groups.items():
        if inside.any():
            shares = " | ".join(f"{np.mean(np.abs(z[inside]) <= ndtri(0.5 + level / 2)):.3f}" for level in LEVELS)
            yield f"| {name} | {inside.mean():.2f} | {shares} | {np.sqrt(np.mean(z[inside] ** 2)):.2f} |"


def write(data: str, rows: dict[str, list[dict[str, float]]], parts: list[list[np.ndarray]]) -> None:
    """Records the seeds done so far."""
    z, sd, longitude = (np.concatenate(values) for values in zip(*parts, strict=True))
    others = {name: np.mean([s["rmse"] for s in scores]) for name, scores in rows.items() if "probtensor" not in name}
    ours, best = np.mean([s["rmse"] for s in rows["probtensor, pt.fit(data)"]]), min(others, key=lambda n: others[n])
    text = [
        f"{data}, boxes {dict(CLOUDS.size)} over {CLOUDS.fraction:.0%}, seeds 0 to {len(parts) - 1}; scores "
        "are means over seeds, seconds those of one fill (CPU time; for probtensor wall clock, compilation apart).\n",
        *score_table(rows),
        f"\nRMSE of probtensor is {1 - ours / others[best]:.0%} below that of the next row ({best}).\n",
        "Where the error bars are off, all seeds together (z: error over predicted sd):\n",
        *coverage_table(z, sd, longitude),
    ]
    results.record("Boxes" if data == "ostia" else f"Boxes, {data}", "\n".join(text))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="how many draws of the boxes, from seed 0")
    parser.add_argument("--data", default="ostia", choices=["ostia", "synthetic", "hgt_djf"])
    parser.add_argument("--rows", nargs="+", help="hgt_djf: only rows whose names contain one of these words")
    options = parser.parse_args()
    if options.data == "hgt_djf":
        heights.measure(options.seeds, options.rows)
        return
    rows: dict[str, list[dict[str, float]]] = defaultdict(list)
    parts = []
    for seed in range(options.seeds):
        for row in floor_rows(options.data, seed):
            name = re.sub(r"rank \d+ ", "rank ", row.name)  # the best rank differs between seeds
            rows[name].append(row.scores | {"seconds": row.seconds})
        scores, *part, summary = fit_row(options.data, seed)
        rows["probtensor, pt.fit(data)"].append(scores)
        parts.append(part)
        print(f"seed {seed}: {scores}\n{summary}", flush=True)
        write(options.data, rows, parts)


if __name__ == "__main__":
    main()
