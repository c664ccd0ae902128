"""Does ``rank="auto"`` find the rank that the data have, and the lengthscales of their functions?

Functions of three modes with 100, 80 and 60 irregular levels are drawn from Gaussian processes (Matern 3/2,
lengthscales 5 to 30% of the range), combined to a CP with components of equal energy or to a Tucker whose directions
have equal energy, and 5% of the entries are seen under noise:
python benchmarks/rank_recovery.py [--ranks 1,2,4,8] [--tuckers 2x2x2,5x5x5] [--seeds 10] [--snr 10] [--out rows.jsonl].
A row is printed, and appended to ``--out``, for each fit; fits that are already in that file are not made again, and
the table at the end is of all its rows. It replaces the section "Rank recovery" of RESULTS.md, unless ``--no-record``.

A function drawn on a range of few lengthscales tells its lengthscale with an error of its own, whoever reads it. The
table therefore has, beside learned / true, the same for the maximum-likelihood lengthscale of the true functions
themselves, at all levels and without noise, and learned / that.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import results
import scipy.linalg
import scipy.optimize
import xarray as xr

import probtensor as pt

#: Levels of each mode, and the range of its coordinate: units must not matter.
LEVELS, RANGES = {"x": 100, "y": 80, "z": 60}, {"x": 1.0, "y": 2000.0, "z": 30.0}
SHARE_SEEN, SHORTEST, LONGEST = 0.05, 0.05, 0.3
_CAPTION = """\
`pt.fit(data, pt.CP("auto"))` and `pt.fit(data, pt.Tucker("auto"))` on draws of known rank: 100 x 80 x 60 irregular
levels, 5% of the entries seen (24,000), Matern 3/2 functions with lengthscales of 5 to 30% of the range, components (or
a Tucker's directions) of equal energy. Lengthscales are compared where the rank of a CP is right: the median over
components, modes and seeds of the ratio, and in brackets that of the size of its logarithm (25% off is 0.22). Likeliest
is the lengthscale of most likelihood for the true function, known at all levels without noise: how far that is from the
true one is in the draw, not in the fit."""
#: Of the noise-free functions' covariance, relative to its diagonal.
JITTER = 1e-10


class Truth(NamedTuple):
    """Data and what they were made of.

    signal_sd: over the whole grid. functions, lengthscales: mode -> (T, R) and (R,), in the coordinate's unit.
    """

    data: xr.DataArray
    signal_sd: float
    functions: dict[str, np.ndarray]
    lengthscales: dict[str, np.ndarray]


def matern(points: np.ndarray, lengthscale: float) -> np.ndarray:
    """Covariance of a Matern 3/2 process of variance one."""
    s = np.sqrt(3.0) * np.abs(points[:, None] - points) / lengthscale
    return (1 + s) * np.exp(-s) + JITTER * np.eye(len(points))


def drawn(points: np.ndarray, lengthscales: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One function for each lengthscale, of mean square one over the levels."""
    columns = [np.linalg.cholesky(matern(points, scale)) @ rng.standard_normal(len(points)) for scale in lengthscales]
    return np.stack([f / np.sqrt(np.mean(f**2)) for f in columns], axis=1)


def orthogonal_core(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """A random core whose unfolding in every mode has orthogonal rows of one length: all directions weigh the same."""
    core = rng.standard_normal(shape)
    for _ in range(500):
        for d in range(len(shape)):
            rows = np.moveaxis(core, d, 0)
            left, _, right = np.linalg.svd(rows.reshape(shape[d], -1), full_matrices=False)
            core = np.moveaxis((left @ right).reshape(rows.shape), 0, d)
    return core


def make(shape: tuple[int, ...], snr: float, seed: int) -> Truth:
    """A CP, whose shape is its rank alone, or a Tucker."""
    rng = np.random.default_rng([seed, *shape])
    cp = len(shape) == 1
    points, functions, lengthscales = {}, {}, {}
    for (name, levels), rank in zip(LEVELS.items(), shape * 3 if cp else shape, strict=True):
        points[name] = RANGES[name] * np.sort(rng.uniform(size=levels))
        span = np.ptp(points[name])
        lengthscales[name] = span * np.exp(rng.uniform(np.log(SHORTEST), np.log(LONGEST), rank))
        functions[name] = drawn(points[name], lengthscales[name], rng)
        if not cp:  # the nearest orthogonal functions
            functions[name] = scipy.linalg.polar(functions[name])[0] * np.sqrt(levels)
    if cp:
        signal = np.einsum("ar,br,cr->abc", *functions.values())
    else:
        signal = np.einsum("ar,bs,ct,rst->abc", *functions.values(), orthogonal_core(shape, rng), optimize=True)
    values = signal + rng.standard_normal(signal.shape) * signal.std() / snr
    seen = np.zeros(signal.size, bool)
    seen[rng.choice(signal.size, round(SHARE_SEEN * signal.size), replace=False)] = True
    data = xr.DataArray(np.where(seen.reshape(signal.shape), values, np.nan), points, list(points))
    return Truth(data, float(signal.std()), functions, lengthscales)


def likeliest(points: np.ndarray, function: np.ndarray) -> float:
    """The lengthscale under which a function, known at all its levels, is likeliest; its variance is free."""
    span = np.ptp(points)

    def loss(log_scale: float) -> float:
        root = np.linalg.cholesky(matern(points, np.exp(log_scale)))
        square = np.sum(scipy.linalg.solve_triangular(root, function, lower=True) ** 2)
        return float(np.sum(np.log(np.diag(root))) + 0.5 * len(points) * np.log(square))

    bounds = (np.log(span / 300), np.log(30 * span))
    return float(np.exp(scipy.optimize.minimize_scalar(loss, bounds=bounds, method="bounded").x))


def cosines(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Between the columns of two matrices."""
    return (one / np.linalg.norm(one, axis=0)).T @ (other / np.linalg.norm(other, axis=0))


def congruence(functions: dict[str, np.ndarray]) -> float:
    """The largest cosine between two components of a CP; at one they are one."""
    alike = np.prod([cosines(f, f) for f in functions.values()], axis=0)
    return float(np.max(np.abs(alike - np.eye(len(alike)))))


def compared(post: pt.Posterior, truth: Truth) -> dict[str, list[float]]:
    """Learned, true and likeliest lengthscales of all modes, as shares of the range, components matched."""
    factors, table = post.factors(gauge="raw"), post.hyperparameters()
    found = {name: factors[f"{name}_mean"].values.T for name in LEVELS}
    alike = np.prod([np.abs(cosines(truth.functions[name], found[name])) for name in LEVELS], axis=0)
    true, own = scipy.optimize.linear_sum_assignment(-alike)
    out: dict[str, list[float]] = {"true": [], "learned": [], "likeliest": [], "alike": alike[true, own].tolist()}
    for name in LEVELS:
        points = truth.data[name].values
        learned = table[(table["mode"] == name) & (table["name"] == "lengthscale")]["value"].to_numpy()
        out["learned"] += (learned[own] / np.ptp(points)).tolist()
        out["true"] += (truth.lengthscales[name][true] / np.ptp(points)).tolist()
        out["likeliest"] += [likeliest(points, truth.functions[name][:, r]) / np.ptp(points) for r in true]
    return out


def measure(shape: tuple[int, ...], snr: float, seed: int) -> dict[str, Any]:
    """One fit."""
    truth = make(shape, snr, seed)
    term = pt.CP("auto") if len(shape) == 1 else pt.Tucker("auto")
    post = pt.fit(truth.data, term, seed=seed)
    rank = post.model.terms[0].rank
    if len(shape) > 1:
        rank = dict(rank) if isinstance(rank, tuple) else dict.fromkeys(LEVELS, rank)
        rank = [rank[name] for name in LEVELS]
    found = (rank,) if isinstance(rank, int) else tuple(rank)
    row = {
        "shape": label(shape),
        "snr": snr,
        "seed": seed,
        "found": label(found),
        "noise": post.noise_sd * snr / truth.signal_sd,
        "seconds": post.run_seconds + post.compile_seconds,
        "report": post.choice.report(),
    }
    if len(shape) == 1:
        row |= {"congruence": congruence(truth.functions)}
        row |= compared(post, truth) if found == shape else {}
    return row


def label(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def median_ratio(rows: list[dict[str, Any]], above: str, below: str) -> tuple[float, float]:
    """Median of the ratio of two lengthscales, and of the size of its logarithm, over components, modes and seeds."""
    logs = np.log([a / b for row in rows for a, b in zip(row.get(above, []), row.get(below, []), strict=True)])
    return (float(np.exp(np.median(logs))), float(np.median(np.abs(logs)))) if len(logs) else (np.nan, np.nan)


PAIRS = (("learned", "true"), ("likeliest", "true"), ("learned", "likeliest"))


def line(row: dict[str, Any]) -> str:
    """What a fit found, in one line."""
    ratios = (
        ", ".join(f"{a}/{b} {median_ratio([row], a, b)[0]:.2f}" for a, b in PAIRS)
        if "true" in row
        else row["report"].splitlines()[0]
    )
    return (
        f"{row['shape']:6} snr {row['snr']:g} seed {row['seed']}: found {row['found']:6} "
        f"noise {row['noise']:.3f} of true, {row['seconds']:.0f} s; {ratios}"
    )


def table(rows: list[dict[str, Any]]) -> str:
    """A line for each shape and ratio of signal to noise."""
    head = ["rank", "signal / noise", "exact", "found otherwise", "noise sd found / true"]
    head += [*(f"{a} / {b}" for a, b in PAIRS), "seconds a fit"]
    lines = [_CAPTION, "", "| " + " | ".join(head) + " |", "| --- " * len(head) + "|"]
    for shape, snr in sorted(
        {(r["shape"], r["snr"]) for r in rows}, key=lambda c: ("x" in c[0], -c[1], len(c[0]), c[0])
    ):
        own = [r for r in rows if (r["shape"], r["snr"]) == (shape, snr)]
        wrong = sorted(r["found"] for r in own if r["found"] != shape)
        cells = [shape, f"{snr:g}", f"{len(own) - len(wrong)} of {len(own)}", ", ".join(wrong)]
        cells.append(f"{np.median([r['noise'] for r in own]):.3f}")
        ratios = [median_ratio(own, a, b) for a, b in PAIRS]
        cells += ["" if np.isnan(ratio) else f"{ratio:.2f} ({spread:.2f})" for ratio, spread in ratios]
        lines.append("| " + " | ".join([*cells, f"{np.median([r['seconds'] for r in own]):.0f}"]) + " |")
    return "\n".join(lines)


def shapes(text: str) -> list[tuple[int, ...]]:
    return [tuple(map(int, part.split("x"))) for part in text.split(",") if part]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", default="1,2,4,8", help="of CPs")
    parser.add_argument("--tuckers", default="2x2x2,5x5x5")
    parser.add_argument("--snr", default="10", help="sd of the signal over that of the noise; several by commas")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="of the seeds")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--record", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    rows = []
    if options.out and options.out.exists():
        rows = [json.loads(text) for text in options.out.read_text().splitlines()]
    done = {(r["shape"], r["snr"], r["seed"]) for r in rows}
    for seed in range(options.first, options.first + options.seeds):
        for snr in map(float, options.snr.split(",")):
            for shape in shapes(options.ranks) + shapes(options.tuckers):
                if (label(shape), snr, seed) in done:
                    continue
                rows.append(measure(shape, snr, seed))
                print(line(rows[-1]), flush=True)
                if options.out:
                    with options.out.open("a") as file:
                        file.write(json.dumps(rows[-1]) + "\n")
    if options.record:
        results.record("Rank recovery", table(rows))
    else:
        print(table(rows))


if __name__ == "__main__":
    main()
