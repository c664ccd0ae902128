"""What does each term add where boxes of winters' heights are hidden, fitted jointly and one after the other?

500 hPa heights over the North Atlantic, 65 winters x 29 x 49, from the package eofs (hgt_djf.nc); boxes of 3 winters x
10 x 16 cells over 30%. Scores are in units of the sd of the anomalies (value minus the mean of its cell over training
entries). ``boxes.py --data hgt_djf`` does the same. Writes the section "Boxes, hgt_djf" of RESULTS.md.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import results
import xarray as xr

import probtensor as pt
from probtensor.evaluation import scores

BOXES = pt.gaps.blocks(0.3, size={"time": 3, "latitude": 10, "longitude": 16})
CELL = ("latitude", "longitude")

#: Predicted mean and sd on the whole grid.
Fill = tuple[xr.DataArray, xr.DataArray]


def find() -> Path | None:
    """The file in the installed package; None without it."""
    spec = importlib.util.find_spec("eofs")
    for folder in (spec.submodule_search_locations if spec is not None else None) or ():
        path = Path(folder) / "examples" / "example_data" / "hgt_djf.nc"
        if path.is_file():
            return path
    return None


def load(path: Path) -> xr.DataArray:
    with xr.open_dataset(path, decode_times=False) as dataset:
        return dataset["z"].squeeze(drop=True).load().astype(float)


def surface() -> Any:
    """What all winters have in common: a smooth surface, and what each cell adds to it."""
    return pt.Offset() + pt.CP(1, modes=[CELL]) + pt.Offset(over=CELL)


def low_rank(rank: int) -> pt.CP:
    return pt.CP(rank, modes={"time": pt.Matern(1 / 2, shared=True), CELL: None})


def local() -> pt.Local:
    """Winters that hardly know each other times a smooth field on the sphere."""
    return pt.Local(pt.Matern(1 / 2).on("time") * pt.Matern(5 / 2).on(*CELL))


def fill(data: xr.DataArray, model: Any, seed: int) -> Fill:
    post = pt.fit(data, model, seed=seed)
    if model == "auto":
        print(post.summary(), flush=True)
    at = post.predict({dim: data[dim] for dim in data.dims}).transpose(*data.dims)
    return at["mean"], at["sd"]


def one_after_the_other(data: xr.DataArray, model: Any, seed: int) -> Fill:
    """The model without a local term, then a local term for what it leaves over."""
    first, _ = fill(data, model, seed)
    rest, sd = fill(data - first, pt.Offset() + local(), seed)
    return first + rest, sd


ROWS: dict[str, Callable[[xr.DataArray, int], Fill]] = {
    "offset of each cell": lambda data, seed: fill(data, pt.Offset() + pt.Offset(over=CELL), seed),
    "surface and offset of each cell": lambda data, seed: fill(data, surface(), seed),
    "+ low rank 8": lambda data, seed: fill(data, surface() + low_rank(8), seed),
    "+ Local, jointly": lambda data, seed: fill(data, surface() + local(), seed),
    "+ Local, one after the other": lambda data, seed: one_after_the_other(data, surface(), seed),
    "+ low rank 8 + Local, jointly": lambda data, seed: fill(data, surface() + low_rank(8) + local(), seed),
    "+ low rank 8 + Local, one after the other": lambda data, seed: one_after_the_other(
        data, surface() + low_rank(8), seed
    ),
    "offset of each cell + Local, jointly": lambda data, seed: fill(
        data, pt.Offset() + pt.Offset(over=CELL) + local(), seed
    ),
    "pt.fit(data)": lambda data, seed: fill(data, "auto", seed),
}


def score(field: xr.DataArray, held: np.ndarray, found: Fill) -> dict[str, float]:
    hidden = xr.zeros_like(field, dtype=bool).copy(data=held)
    training = field.where(~hidden)
    unit = float((training - training.mean("time")).std())
    mean, sd = (part.transpose(*field.dims).values[held] / unit for part in found)
    return scores.score_gaussian(mean, sd, field.values[held] / unit)


def measure(seeds: int, wanted: list[str] | None) -> None:
    """Runs the rows, and records them; wanted: only rows whose names contain one of these words."""
    path = find()
    if path is None:
        print("the package eofs is not installed: pip install eofs (it holds hgt_djf.nc)")
        return
    field = load(path)
    table: dict[str, list[dict[str, float]]] = {}
    for name, method in ROWS.items():
        if not any(word in name for word in wanted or [""]):
            continue
        for seed in range(seeds):
            held = BOXES.mask(dict(field.sizes), seed, field.notnull().values)
            begun = time.process_time()
            found = method(field.where(xr.zeros_like(field, dtype=bool).copy(data=~held)), seed)
            seconds = time.process_time() - begun
            table.setdefault(name, []).append(score(field, held, found) | {"seconds": seconds})
            print(f"seed {seed}: {name}: {table[name][-1]}", flush=True)
    results.record("Boxes, hgt_djf", "\n".join(lines(table, seeds)))


def lines(table: dict[str, list[dict[str, float]]], seeds: int) -> Iterable[str]:
    yield (
        f"hgt_djf, boxes {dict(BOXES.size)} over {BOXES.fraction:.0%}, {seeds} draw(s) of the boxes; means over draws "
        "in units of the anomalies' sd; seconds of CPU time with compilation.\n"
    )
    yield "| model | RMSE (lowest to highest) | MAE | CRPS | 90% coverage | seconds |"
    yield "| --- " * 6 + "|"
    for name, rows in table.items():
        errors = [row["rmse"] for row in rows]
        mean = {key: np.mean([row[key] for row in rows]) for key in ("mae", "crps", "coverage90", "seconds")}
        yield (
            f"| {name} | {np.mean(errors):.3f} ({min(errors):.3f} to {max(errors):.3f}) | {mean['mae']:.3f} | "
            f"{mean['crps']:.4f} | {mean['coverage90']:.3f} | {mean['seconds']:.0f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="how many draws of the boxes, from seed 0")
    parser.add_argument("--rows", nargs="+", help="only rows whose names contain one of these words")
    options = parser.parse_args()
    measure(options.seeds, options.rows)


if __name__ == "__main__":
    main()
