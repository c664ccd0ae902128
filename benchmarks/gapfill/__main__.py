"""`python -m gapfill`: measures what has no record yet, and writes the tables. `--help` lists the options."""

from __future__ import annotations

import argparse
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Any

from gapfill import cells, environments, measure, report, targets
from gapfill.methods import METHODS

OWN = 5  # probtensor chooses its model, and has so many times the limit of the others


def main() -> None:
    options = _options()
    if not options.report:
        work = _work(options)
        _install({METHODS[one[2]].environment for one in work})
        print(f"{len(work)} to measure", flush=True)
        _measure(work, options.jobs, time.monotonic() + 60.0 * options.minutes)
    report.write(options.seeds, coverage=options.coverage)


def _work(options: argparse.Namespace) -> list[tuple[str, str, str, int, int]]:
    """Data set, protocol, method, seed and limit of what has to be measured.

    One cell after the other: boxes in all data sets first, so that a limited time gives whole tables.
    """
    methods = [name for name in sorted(METHODS, key=_rank) if _named(name, options.methods)]
    work = []
    for seed in options.seeds:
        for dataset, protocol in sorted(cells.CELLS, key=lambda cell: cells.PROTOCOLS.index(cell[1])):
            if not _named(f"{dataset}:{protocol}", options.cells) or (protocol == "tail" and seed != options.seeds[0]):
                continue
            for method in methods:
                limit = options.limit * (OWN if METHODS[method].ours else 1)
                if METHODS[method].group == "ablation" and not options.ablation:
                    continue
                if options.fresh or measure.missing(dataset, protocol, method, seed, limit):
                    work.append((dataset, protocol, method, seed, limit))
    return work


def _rank(method: str) -> int:
    """Floors and the model that is chosen first, then other programs, then other models of ours."""
    if method == targets.AUTO:
        return 1
    return {"floor": 0, "script": 2, "package": 3, "probtensor": 4, "ablation": 5}[METHODS[method].group]


def _install(names: set[str]) -> None:
    for name in sorted(names):
        try:
            environments.python(name)
        except environments.Unavailable as error:
            print(f"{name}: {error}")  # each of its rows will say so


def _measure(work: list[tuple[str, str, str, int, int]], jobs: int, until: float) -> None:
    """Some side by side; none is begun after ``until``."""
    running: dict[Future[dict[str, Any]], tuple[str, str, str, int, int]] = {}
    with ProcessPoolExecutor(jobs) as pool:
        while work or running:
            while work and len(running) < jobs and time.monotonic() < until:
                one, *work = work
                running[pool.submit(measure.measure, *one)] = one
            if not running:
                print(f"{len(work)} are left for the next call: the time is up", flush=True)
                return
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                dataset, protocol, method, seed, _ = running.pop(done)
                print(f"{dataset}, {protocol}, seed {seed}: {method}: {_said(done.result())}", flush=True)


def _said(record: dict[str, Any]) -> str:
    if "scores" not in record:
        return str(record["error"])
    return " ".join(f"{name} {record['scores'][name]:.4f}" for name in ("rmse", "crps", "coverage90"))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="gapfill", description=__doc__)
    parser.add_argument("--cells", nargs="+", help="only cells DATASET:PROTOCOL that contain one of these words")
    parser.add_argument("--methods", nargs="+", help="only methods whose names contain one of these words")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="draws of the gaps; the tables show medians")
    parser.add_argument(
        "--limit", type=int, default=60, help=f"CPU seconds of a method in a cell; ours have {OWN} times as many"
    )
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="begin nothing after so long; a later call goes on"
    )
    parser.add_argument("--jobs", type=int, default=2, help="how many are measured side by side")
    parser.add_argument("--ablation", action="store_true", help="also what each term adds to the sum")
    parser.add_argument(
        "--coverage", action="store_true", help="also tables of where the error bars of pt.fit(data) are off"
    )
    parser.add_argument("--fresh", action="store_true", help="measure again what has a record")
    parser.add_argument("--report", action="store_true", help="measure nothing, only write the tables")
    return parser.parse_args()


def _named(name: str, words: list[str] | None) -> bool:
    return words is None or any(word in name for word in words)


if __name__ == "__main__":
    main()
