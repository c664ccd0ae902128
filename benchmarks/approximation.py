"""How many evaluations, and how near: `pt.approximate` on smooth functions of 3 to 8 variables, and on rough ones.

Prints a Markdown table: ranks, highest degree, evaluations, seconds, and the estimated beside the true error (largest
deviation at random points that the library has not seen, over the largest value). ``--quick`` runs the first of each
number of variables and ``--tol`` asks for another error; a whole table replaces its section of RESULTS.md.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import results

import probtensor as pt

ONE, UNIT = (-1.0, 1.0), (0.0, 1.0)

Case = tuple[str, Callable[..., Any], Any]


def borehole(rw: Any, r: Any, tu: Any, hu: Any, tl: Any, hl: Any, length: Any, kw: Any) -> Any:
    log = np.log(r / rw)
    return 2 * np.pi * tu * (hu - hl) / (log * (1 + 2 * length * tu / (log * rw**2 * kw) + tu / tl))


BOREHOLE = {
    "rw": (0.05, 0.15),
    "r": (100, 50_000),
    "Tu": (63_070, 115_600),
    "Hu": (990, 1_110),
    "Tl": (63.1, 116),
    "Hl": (700, 820),
    "L": (1_120, 1_680),
    "Kw": (9_855, 12_045),
}


def borehole_of_six(rw: Any, hu: Any, tl: Any, hl: Any, length: Any, kw: Any) -> Any:
    return borehole(rw, 3_000.0, 90_000.0, hu, tl, hl, length, kw)


SMOOTH: list[Case] = [
    ("1/(x+y+z+5)", lambda x, y, z: 1 / (x + y + z + 5), [ONE] * 3),
    ("1/(1+x^2+y^2+z^2)", lambda x, y, z: 1 / (1 + x**2 + y**2 + z**2), [ONE] * 3),
    ("exp(sin(xy)+z)", lambda x, y, z: np.exp(np.sin(x * y) + z), [ONE] * 3),
    ("tanh(3(x+y+z))", lambda x, y, z: np.tanh(3 * (x + y + z)), [ONE] * 3),
    ("bump of width 0.02 in a corner", lambda *x: np.exp(-sum(v**2 for v in x) / 0.0008), [UNIT] * 3),
    ("1 + bump of width 0.02 inside", lambda *x: 1 + np.exp(-sum((v - 0.37) ** 2 for v in x) / 0.0008), [UNIT] * 3),
    ("cos(64(x+y+z))", lambda *x: np.cos(64 * sum(x)), [ONE] * 3),
    ("exp(-sum (x-0.3)^2) cos(sum x)", lambda *x: np.exp(-sum((v - 0.3) ** 2 for v in x)) * np.cos(sum(x)), [ONE] * 4),
    ("1/(1+a+b^2+cd)", lambda a, b, c, d: 1 / (1 + a + b**2 + c * d), [UNIT] * 4),
    ("sqrt(1+sum x^2)", lambda *x: np.sqrt(1 + sum(v**2 for v in x)), [ONE] * 5),
    ("exp(-sum x^2/2)", lambda *x: np.exp(-sum(v**2 for v in x) / 2), [ONE] * 6),
    ("cos(sum i x_i / 6)", lambda *x: np.cos(sum((i + 1) * v for i, v in enumerate(x)) / 6), [ONE] * 6),
    ("borehole, 6 of its variables", borehole_of_six, {n: BOREHOLE[n] for n in ("rw", "Hu", "Tl", "Hl", "L", "Kw")}),
    (
        "exp(ab+cde) sin(a+f)",
        lambda a, b, c, d, e, f: np.exp(a * b + c * d * e) * np.sin(a + f),
        [UNIT] * 6,
    ),
    ("1/(1+sum x)", lambda *x: 1 / (1 + sum(x)), [UNIT] * 6),
    ("1/(1+ab+cd+ef)", lambda a, b, c, d, e, f: 1 / (1 + a * b + c * d + e * f), [UNIT] * 6),
    ("borehole", borehole, BOREHOLE),
]

ROUGH: list[Case] = [
    ("abs(x-0.3)+yz", lambda x, y, z: np.abs(x - 0.3) + y * z, [ONE] * 3),
    ("(x>0.3)+yz", lambda x, y, z: (x > 0.3) + y * z, [ONE] * 3),
    ("abs(x-y)+z", lambda x, y, z: np.abs(x - y) + z, [ONE] * 3),
    ("exp(x+yz) in float32", lambda x, y, z: np.exp(x + y * z).astype(np.float32), [ONE] * 3),
    (
        "a ridge in 5 dimensions",
        lambda *x: np.exp(-sum((x[i] - x[i + 1]) ** 2 for i in range(4)) / 0.02),
        [UNIT] * 5,
    ),
]


def true_error(approximation: pt.FunctionalTucker, function: Callable[..., Any], points: int = 50_000) -> float:
    """Largest deviation at random points, over the largest value: the one there or the one the library knows of."""
    low, high = np.array(list(approximation.bounds.values())).T
    x = (low + (high - low) * np.random.default_rng(20_000).random((points, len(low)))).T
    values = function(*x)
    largest = np.abs(values).max()
    if approximation.error is not None and approximation.error.relative > 0:
        largest = max(largest, approximation.error.absolute / approximation.error.relative)
    return float(np.abs(values - approximation(*x)).max() / largest)


def row(case: Case, tol: float) -> str:
    name, function, bounds = case
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", pt.ProbtensorWarning)
        found = pt.approximate(function, bounds, tol=tol)
    seconds = time.perf_counter() - start
    assert found.error is not None
    ranks = " ".join(str(rank) for rank in found.rank.values())
    cells = (
        name,
        len(found.names),
        ranks,
        max(found.degree.values()),
        f"{found.evaluations:,}",
        f"{seconds:.2f}",
        f"{found.error.relative:.1e}",
        f"{true_error(found, function):.1e}",
        "yes" if found.converged else "no",
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the first function of each number of variables")
    parser.add_argument("--tol", type=float, default=1e-10, help="relative error asked for")
    arguments = parser.parse_args()
    cases = [*SMOOTH, *ROUGH]
    if arguments.quick:
        cases = list({len(case[2]): case for case in reversed(SMOOTH)}.values())[::-1]
    head = (
        "function",
        "variables",
        "ranks",
        "degree",
        "evaluations",
        "seconds",
        "estimated",
        "true error",
        "converged",
    )
    lines = [f"Asked for {arguments.tol:g}.\n", "| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for case in cases:
        lines.append(row(case, arguments.tol))
        print(lines[-1], flush=True)
    if not arguments.quick:
        results.record("Approximation of functions", "\n".join(lines))


if __name__ == "__main__":
    main()
