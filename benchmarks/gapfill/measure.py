"""Measures one method on one draw of a cell, and keeps what it found as a record in `benchmarks/records`."""

from __future__ import annotations

import dataclasses
import datetime
import fcntl
import importlib.metadata
import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gapfill import calibration, cells, data, environments
from gapfill.methods import METHODS, Method
from probtensor.evaluation import scores

RECORDS = environments.ROOT / "benchmarks" / "records"
SCRIPTS = Path(__file__).parent / "scripts"
UNREACHED = "not reached within the limit"
#: Runs a command that is ended after so many seconds of CPU time, at first with a signal that says so.
_LIMITED = 'ulimit -S -t "$0"; ulimit -H -t "$1"; shift; exec "$@"'
WALL = 6.0  # a limit of CPU seconds is a limit of this many times as many seconds on the clock


def read(dataset: str, protocol: str, method: str, seed: int) -> dict[str, Any] | None:
    """The record of a measurement; None where it was not measured with the variants that the method has now."""
    record = _all(_path(dataset, protocol)).get(_name(method, seed))
    same = record is not None and _ordered(record["variants"]) == _ordered(METHODS[method].variants)
    return record if same else None


def _path(dataset: str, protocol: str) -> Path:
    """The file of a cell's records."""
    return RECORDS / f"{dataset} {protocol}.json".replace(" ", "-")


def _name(method: str, seed: int) -> str:
    return f"{method}, seed {seed}"


def _all(file: Path) -> dict[str, dict[str, Any]]:
    return json.loads(file.read_text()) if file.exists() else {}


def _keep(record: dict[str, Any]) -> None:
    """Adds a record to those of its cell, or replaces it; other processes may do so at the same time."""
    file = _path(record["dataset"], record["protocol"])
    file.parent.mkdir(parents=True, exist_ok=True)
    with (file.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        records = _all(file) | {_name(record["method"], record["seed"]): record}
        new = file.with_suffix(".new")
        new.write_text(json.dumps(dict(sorted(records.items())), indent=1) + "\n")
        new.replace(file)


def _ordered(variants: Sequence[dict[str, Any]]) -> list[str]:
    return sorted(json.dumps(variant, sort_keys=True) for variant in variants)


def missing(dataset: str, protocol: str, method: str, seed: int, limit: int) -> bool:
    """Whether there is no record, or one that a tighter limit cut short."""
    record = read(dataset, protocol, method, seed)
    return record is None or (bool(record["cut"]) and record["limit"] < limit)


def measure(dataset: str, protocol: str, method: str, seed: int, limit: int) -> dict[str, Any]:
    """Runs a method within ``limit`` seconds of CPU time, scores it, and keeps the record."""
    problem, row = cells.problem(dataset, protocol, seed), METHODS[method]
    record: dict[str, Any] = {
        "dataset": dataset,
        "protocol": protocol,
        "seed": seed,
        "method": method,
        "variants": list(row.variants),
        "limit": limit,
        "cut": False,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{platform.machine()} with {os.cpu_count()} cores",
        "python": platform.python_version(),
        "versions": _versions(row),
    }
    try:
        record |= _scored(problem, row, limit)
    except environments.Unavailable as error:
        record["error"] = str(error)
    _keep(record)
    return record


def _versions(row: Method) -> dict[str, str]:
    if row.environment:
        return environments.versions(row.environment)
    return {name: importlib.metadata.version(name) for name in ("probtensor", "jax", "numpy", "scipy", "xarray")}


def _scored(problem: cells.Problem, row: Method, limit: int) -> dict[str, Any]:
    """What came of every variant, and the scores of the one with the least error."""
    variants = [dict(variant) for variant in row.variants]
    answers, cut = ask(problem, row, problem.held, variants, limit)
    tried = [_tried(problem, variant, answer) for variant, answer in zip(variants, answers, strict=True)]
    found: dict[str, Any] = {"tried": tried, "cut": cut}
    done = [k for k, one in enumerate(tried) if "rmse" in one]
    if not done:
        reasons = [one["error"] for one in tried if "error" in one and one["error"] != UNREACHED]
        return found | {"error": reasons[0] if reasons else f"over {limit} s"}
    best = min(done, key=lambda k: tried[k]["rmse"])
    answer, truth = answers[best], problem.truth[problem.held]
    sd = answer.get("sd")
    if sd is None:
        inner = _inner_error(problem, row, variants[best], limit)
        if inner is None:
            return found | {
                "error": f"its sd, from an inner hold-out: over {limit} s",
                "rmse_alone": tried[best]["rmse"],
            }
        sd = np.full(truth.size, inner)
    kept = ("seconds", "compiling", "note")
    score = scores.score_gaussian(answer["mean"] / problem.unit, sd / problem.unit, truth / problem.unit)
    if row.ours:
        found["groups"] = _groups(problem, answer["mean"], sd)
    return found | {"best": variants[best], "scores": score} | {name: tried[best][name] for name in kept}


def _tried(problem: cells.Problem, variant: dict[str, Any], answer: dict[str, Any] | None) -> dict[str, Any]:
    if answer is None:
        return {"variant": variant, "error": UNREACHED}
    if "error" in answer:
        return {"variant": variant, "error": str(answer["error"])}
    if (
        not np.isfinite(answer["mean"]).all()
        or not (np.isfinite(answer.get("sd", 1.0)) & (answer.get("sd", 1.0) > 0)).all()
    ):
        return {"variant": variant, "error": "its predictions are not finite, or an sd is not above zero"}
    truth = problem.truth[problem.held] / problem.unit
    found = {"variant": variant, "rmse": scores.rmse(answer["mean"] / problem.unit, truth), "note": str(answer["note"])}
    if "sd" in answer:
        score = scores.score_gaussian(answer["mean"] / problem.unit, answer["sd"] / problem.unit, truth)
        found |= {"crps": score["crps"], "coverage90": score["coverage90"]}
    return found | {"seconds": float(answer["seconds"]), "compiling": float(answer["compiling"])}


def _groups(problem: cells.Problem, mean: np.ndarray, sd: np.ndarray) -> dict[str, list[float]]:
    """Where the error bars are off; by sea for the record that goes around the globe."""
    longitude = np.broadcast_to(data.load(problem.dataset)["longitude"].values, problem.truth.shape)[problem.held]
    around = longitude if problem.dataset == "ostia" else None
    return calibration.groups((problem.truth[problem.held] - mean) / sd, sd / problem.unit, around)


def _inner_error(problem: cells.Problem, row: Method, variant: dict[str, Any], limit: int) -> float | None:
    """Root mean squared error on training entries hidden by the same protocol, for methods without error bars."""
    inner = dataclasses.replace(problem, held=problem.held | problem.inner)
    (answer,), _ = ask(inner, row, problem.inner, [variant], limit)
    if answer is None or "error" in answer:
        return None
    return max(scores.rmse(answer["mean"], problem.truth[problem.inner]), 1e-6 * float(np.nanstd(problem.training)))


def ask(
    problem: cells.Problem, row: Method, ask: np.ndarray, variants: list[dict[str, Any]], limit: int
) -> tuple[list[dict[str, Any] | None], bool]:
    """The script's answers, None where it got none within the limit; whether the limit ended it."""
    interpreter = environments.python(row.environment)
    command = [str(interpreter), *(["-m", "gapfill.ours"] if not row.script else [str(SCRIPTS / f"{row.script}.py")])]
    given = variants if row.script else [variant | {"dataset": problem.dataset} for variant in variants]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        coordinates = data.coordinates(problem.dataset, data.load(problem.dataset))
        np.savez(
            folder / "task.npz",
            y=problem.training,
            inner=problem.inner,
            ask=ask,
            seed=problem.seed,
            variants=json.dumps(given),
            **coordinates,
        )
        with (folder / "log").open("w") as log:
            try:
                done = subprocess.run(
                    ["sh", "-c", _LIMITED, str(limit), str(limit + 5), *command, str(folder / "task.npz"), name],
                    env=_surroundings(),
                    cwd=environments.ROOT / "benchmarks",
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    timeout=WALL * limit,
                ).returncode
            except subprocess.TimeoutExpired:
                done = -1
        answers = [_load(folder / f"{k}.npz") for k in range(len(variants))]
        unreached = any(answer is None for answer in answers)
        if unreached and done > 0:
            last = ((folder / "log").read_text().strip().splitlines() or ["no reason given"])[-1][:300]
            answers = [answer or {"error": last} for answer in answers]
        return answers, unreached and done < 0


def _load(file: Path) -> dict[str, Any] | None:
    if not file.exists():
        return None
    with np.load(file) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _surroundings() -> dict[str, str]:
    """One thread, our own sources first, compiled programs kept."""
    own = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")}
    own["PYTHONPATH"] = os.pathsep.join([str(environments.ROOT / "benchmarks"), str(environments.ROOT)])
    own["JAX_COMPILATION_CACHE_DIR"] = str(environments.ROOT / ".cache" / "jax")
    own["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    return os.environ | own
