"""What do plain gap fills reach on sea-surface temperature with cloud-like boxes hidden?

Prints one line a method, averaged over seeds: python benchmarks/baselines.py [--seeds 5] [--data ostia]
"""

from __future__ import annotations

import argparse
import re
from collections import defaultdict

import numpy as np

from probtensor import datasets
from probtensor.datasets.ostia import CLOUDS
from probtensor.evaluation import floors

ITERATIONS = (100, 1000)  # of the masked CP: the default of tensorly, and as many as it gains from
INNER_SEED = 1000  # added to the seed of the boxes for the inner split, which is drawn among the training entries


def floor_rows(data: str, seed: int) -> list[floors.Row]:
    """The floors' scores for the boxes of one seed."""
    field = datasets.load(data)
    truth, sizes = field.values.astype(float), dict(zip(field.dims, field.shape, strict=True))
    held = CLOUDS.mask(sizes, seed, np.isfinite(truth))
    inner = CLOUDS.mask(sizes, seed + INNER_SEED, np.isfinite(truth) & ~held)
    return floors.compare(truth, held, inner, **datasets.grid_coordinates(field), iterations=ITERATIONS)


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="how many draws of the boxes, from seed 0")
    parser.add_argument("--data", default="ostia", choices=["ostia", "synthetic"])
    options = parser.parse_args()
    by_name: dict[str, list[floors.Row]] = defaultdict(list)
    for seed in range(options.seeds):
        for row in floor_rows(options.data, seed):
            by_name[re.sub(r"rank \d+ ", "rank ", row.name)].append(row)  # the best rank differs between seeds
    print("| method | seeds | RMSE (lowest to highest) | MAE | CRPS | cov90 | CPU s |\n" + "| --- " * 7 + "|")
    for name, rows in by_name.items():
        errors = [row.scores["rmse"] for row in rows]
        mean = {key: np.mean([row.scores[key] for row in rows]) for key in ("rmse", "mae", "crps", "coverage90")}
        print(
            f"| {name} | {len(rows)} | {mean['rmse']:.3f} ({min(errors):.3f} to {max(errors):.3f}) | {mean['mae']:.3f} "
            f"| {mean['crps']:.3f} | {mean['coverage90']:.3f} | {np.mean([row.seconds for row in rows]):.1f} |"
        )


if __name__ == "__main__":
    main()
