"""Tables of what was measured: a section of RESULTS.md for each data set, and one over all cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import results

from gapfill import calibration, cells, data, measure, targets
from gapfill.methods import METHODS

SCORES = ("rmse", "mae", "crps", "coverage90", "seconds", "compiling")


def write(seeds: Sequence[int], coverage: bool = False) -> None:
    """Writes every section for which there is a record; coverage: with tables of where our error bars are off."""
    summary = []
    for dataset in data.SOURCES:
        parts = [part for protocol in cells.PROTOCOLS for part in _cell(dataset, protocol, seeds, summary, coverage)]
        if parts:
            results.record(f"Gaps, {dataset}", "\n".join([_heading(dataset, seeds), *parts]))
    if summary:
        results.record("Gaps", "\n".join(_overview(summary)))


def rows(dataset: str, protocol: str, seeds: Sequence[int]) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Medians over seeds of the methods that have records, and the reasons of those that have no scores."""
    found, failed = {}, {}
    for method in METHODS:
        records = [measure.read(dataset, protocol, method, seed) for seed in seeds]
        records = [record for record in records if record is not None]
        scored = [record["scores"] | record for record in records if "scores" in record]
        if scored:
            row = {score: float(np.median([one[score] for one in scored])) for score in SCORES}
            found[method] = row | {
                "draws": len(scored),
                "best": scored[0]["best"],
                "groups": scored[0].get("groups"),
                "cut": any(one["cut"] for one in scored),
            }
        elif records:
            failed[method] = records[0]["error"]
    return found, failed


def _heading(dataset: str, seeds: Sequence[int]) -> str:
    source = data.SOURCES[dataset]
    return (
        f"{dataset} ({' x '.join(map(str, data.load(dataset).shape))}); scores in {source.unit}; seeds "
        f"{', '.join(map(str, seeds))} (medians); seconds of CPU time on one thread, of the variant that is shown, "
        "compilation apart. Where a method has variants, the one that is best on the held-out entries is shown.\n\n"
        f"{_versions(dataset, seeds)}\n"
    )


def _versions(dataset: str, seeds: Sequence[int]) -> str:
    """Every package, machine and date that the records name."""
    records = [
        record
        for protocol in cells.PROTOCOLS
        for method in METHODS
        for seed in seeds
        if (record := measure.read(dataset, protocol, method, seed)) is not None
    ]
    packages: dict[str, set[str]] = {}
    for record in records:
        judged = {"numpy", "scipy", "numba", "probtensor", "jax", "xarray", METHODS[record["method"]].environment}
        for name, version in record["versions"].items():
            if name.lower() in judged:
                packages.setdefault(name, set()).add(version)
    named = ", ".join(f"{name} {'/'.join(sorted(versions))}" for name, versions in sorted(packages.items()))
    dates = sorted({record["date"] for record in records})
    machines = sorted({f"Python {record['python']}, {record['machine']}" for record in records})
    return f"Measured {dates[0]} to {dates[-1]} with {named}; {'; '.join(machines)}."


def _cell(dataset: str, protocol: str, seeds: Sequence[int], summary: list[list[str]], coverage: bool) -> Iterable[str]:
    """The table of one cell; what the overview says of it is added to ``summary``."""
    found, failed = rows(dataset, protocol, seeds[:1] if protocol == "tail" else seeds)
    if not found and not failed:
        return
    ours = {name: row for name, row in found.items() if METHODS[name].group == "probtensor"}
    peers = {name: row for name, row in found.items() if not METHODS[name].ours}
    floors = {name: row for name, row in peers.items() if METHODS[name].group == "floor"}
    yield f"### {dataset}, {protocol} ({_gaps(dataset, protocol)})\n"
    yield "| method | RMSE | MAE | CRPS | 90% coverage | seconds | compiling | variant |"
    yield "| --- " * 8 + "|"
    best = {score: targets.best(peers, score) for score in ("rmse", "crps")}
    for name in METHODS:
        if name not in found and name not in failed and METHODS[name].group != "ablation":
            yield f"| {name} | not measured |||||||"
        if name in failed:
            yield f"| {name} | {failed[name].replace('|', '/')} |||||||"
        if name in found:
            row = found[name]
            marks = {score: "**" if best[score].method == name else "" for score in best}
            variant = ", ".join(f"{key} {value}" for key, value in row["best"].items() if not METHODS[name].ours)
            cut = "; others over the limit" if row["cut"] else ""
            cut += f"; {row['draws']} draw(s)" if row["draws"] < len(seeds) and protocol != "tail" else ""
            yield (
                f"| {name} | {marks['rmse']}{row['rmse']:.4f}{marks['rmse']} | {row['mae']:.4f} | "
                f"{marks['crps']}{row['crps']:.4f}{marks['crps']} | {row['coverage90']:.3f} | {row['seconds']:.1f} | "
                f"{row['compiling']:.1f} | {variant}{cut} |"
            )
    yield ""
    for name, row in ours.items():
        judged = targets.judge(dataset, protocol, row, peers, floors)
        distance = ", ".join(f"{score.upper()} {row[score] / best[score].value - 1:+.0%}" for score in best)
        said = "; ".join(f"{target.what}: {'met' if target.reached else 'missed'}" for target in judged)
        yield f"{name}: {distance} against the best peer. {said}.\n"
    groups = found.get(targets.AUTO, {}).get("groups")
    if coverage and groups:
        yield "Where the error bars of `pt.fit(data)` are off (z: error over predicted sd):\n"
        yield from [*calibration.table(groups), ""]
    summary.append(_line(dataset, protocol, ours, peers, floors))


def _line(dataset: str, protocol: str, ours: dict, peers: dict, floors: dict) -> list[str]:
    """The cell's line in the overview."""
    line = [f"{dataset}, {protocol}"]
    for score in ("rmse", "crps"):
        best = targets.best(peers, score)
        line += [f"{best.value:.4f} ({best.method})"]
        own = ours.get(targets.AUTO)
        line += [f"{own[score]:.4f} ({own[score] / best.value - 1:+.0%})" if own else ""]
    if targets.AUTO not in ours:
        return [*line, "", "not measured", ""]
    own = ours[targets.AUTO]
    judged = targets.judge(dataset, protocol, own, peers, floors)
    missed = [target.what for target in judged if not target.reached]
    near = targets.best(ours, "rmse")
    within = own["rmse"] <= targets.NEAR_BEST * near.value
    return [
        *line,
        f"{own['coverage90']:.3f}",
        f"missed: {'; '.join(missed)}" if missed else "all met",
        "yes" if within else f"no: {near.method} {near.value:.4f}",
    ]


def _overview(summary: list[list[str]]) -> Iterable[str]:
    yield "Of each cell the best peer, floors and plain scripts included, and how far `pt.fit(data)` is from it.\n"
    yield (
        "| cell | best peer's RMSE | ours | best peer's CRPS | ours | 90% coverage | targets | within 5% of our "
        "best row |"
    )
    yield "| --- " * 8 + "|"
    for line in summary:
        yield f"| {' | '.join(line)} |"


def _gaps(dataset: str, protocol: str) -> str:
    if "boxes" in protocol:
        return f"30% in boxes of {' x '.join(map(str, cells.edges(dataset, protocol).values()))}"
    return {"random": "50%", "sites": "30% of the cells", "tail": "the last 20% of the times"}[protocol]
