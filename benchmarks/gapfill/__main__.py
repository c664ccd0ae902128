"""`python -m gapfill`: measures what has no record yet, and writes the tables. `--help` lists the options."""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor, as_completed

from gapfill import cells, environments, measure, report
from gapfill.methods import METHODS


def main() -> None:
    options = _options()
    wanted = [cell for cell in cells.CELLS if _named(f"{cell[0]}:{cell[1]}", options.cells)]
    methods = [method for method in METHODS if _named(method, options.methods)]
    work = [
        (dataset, protocol, method, seed, options.limit)
        for dataset, protocol in wanted
        for method in methods
        for seed in (options.seeds if protocol != "tail" else options.seeds[:1])
        if options.fresh or measure.missing(dataset, protocol, method, seed, options.limit)
    ]
    for name in sorted({METHODS[method].environment for _, _, method, *_ in work}):
        try:
            environments.python(name)
        except environments.Unavailable as error:
            print(f"{name}: {error}")  # each of its rows will say so
    print(f"{len(work)} to measure, at most {options.limit} s of CPU time for each", flush=True)
    with ProcessPoolExecutor(options.jobs) as pool:
        running = {pool.submit(measure.measure, *one): one for one in ([] if options.report else work)}
        for done in as_completed(running):
            dataset, protocol, method, seed, _ = running[done]
            record = done.result()
            score = record.get("scores")
            said = record.get("error") or " ".join(
                f"{name} {score[name]:.4f}" for name in ("rmse", "crps", "coverage90")
            )
            print(f"{dataset}, {protocol}, seed {seed}: {method}: {said}", flush=True)
    report.write(options.seeds)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="gapfill", description=__doc__)
    parser.add_argument("--cells", nargs="+", help="only cells DATASET:PROTOCOL that contain one of these words")
    parser.add_argument("--methods", nargs="+", help="only methods whose names contain one of these words")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="draws of the gaps; the tables show medians")
    parser.add_argument("--limit", type=int, default=150, help="seconds of CPU time that a method has in a cell")
    parser.add_argument("--jobs", type=int, default=2, help="how many are measured side by side")
    parser.add_argument("--fresh", action="store_true", help="measure again what has a record")
    parser.add_argument("--report", action="store_true", help="measure nothing, only write the tables")
    return parser.parse_args()


def _named(name: str, words: list[str] | None) -> bool:
    return words is None or any(word in name for word in words)


if __name__ == "__main__":
    main()
