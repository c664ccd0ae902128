"""A local term beside the nearest-neighbour script, on boxes of `hgt_djf`, with 60 neighbours."""

from __future__ import annotations

import time
from collections.abc import Iterator

from gapfill import cells, data, measure
from gapfill.methods import METHODS

import probtensor as pt
from probtensor.evaluation import scores

NEIGHBOURS = 60
#: Of the local term: the last are those of the script, fewer may be as good.
OURS = (10, 15, 30, NEIGHBOURS)


def beside_the_script() -> Iterator[str]:
    """Seconds of fit and prediction, warm for both, with the means of cells given to both."""
    problem = cells.problem("hgt_djf", "boxes", 0)
    truth = problem.truth[problem.held] / problem.unit
    yield "| | s, fit and predict | held-out RMSE |"
    yield "| --- " * 3 + "|"
    variants = [{"neighbours": NEIGHBOURS, "mean": "given"}]
    answers, _ = measure.ask(problem, METHODS["nearest-neighbour GP"], problem.held, variants, 600)
    answer = answers[0]
    if answer is None or "error" in answer:
        yield f"| the script | {'over 600 s' if answer is None else answer['error']} | |"
    else:
        error = scores.rmse(answer["mean"] / problem.unit, truth)
        yield f"| the script | {float(answer['seconds']):.1f} | {error:.4f} |"
    field = data.load("hgt_djf").copy(data=problem.training)
    rest = field - field.mean("time").interpolate_na("longitude", fill_value="extrapolate")
    kernel = pt.Matern(1 / 2).on("time") * pt.Matern(5 / 2).on("latitude", "longitude")
    for number in OURS:
        for again in ("the first time", "warm"):
            begun = time.perf_counter()
            post = pt.fit(rest, pt.Offset() + pt.Local(kernel, neighbours=number))
            at = post.predict({dim: rest[dim] for dim in rest.dims})["mean"].transpose(*rest.dims)
            spent = time.perf_counter() - begun
            found = at + (field - rest).mean("time")
            error = scores.rmse(found.transpose(*field.dims).values[problem.held] / problem.unit, truth)
            yield f"| `Offset() + Local(..., neighbours={number})`, {again} | {spent:.1f} | {error:.4f} |"
