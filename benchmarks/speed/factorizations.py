"""Beside tensorly's masked CP and SMURFF's Bayesian one, on boxes of `hgt_djf`, at equal ranks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from gapfill import cells, data, measure
from gapfill.methods import METHODS
from tensorly.cp_tensor import cp_to_tensor
from tensorly.decomposition import parafac

import probtensor as pt
from probtensor.evaluation import scores
from speed import sweeps, timing

RANKS = (10, 20, 40)
#: Iterations of tensorly whose training error is to be reached.
ENOUGH = 50
MOST = 40  # blocks of sweeps until an error is reached


def beside_tensorly() -> Iterator[str]:
    """A sweep with posteriors of all functions beside an iteration of alternating least squares."""
    field, values, mask = _standardised()
    yield "| rank | tensorly, ms | coupling | a sweep, numbers held, ms | ratio | a sweep as in a fit, ms | ratio |"
    yield "| --- " * 7 + "|"
    for rank in RANKS:
        short, long = (timing.seconds(lambda n=n, rank=rank: _parafac(values, mask, rank, n)) for n in (5, 45))
        iteration = (long - short) / 40
        for coupling in ("component", "joint"):
            post = sweeps.fitted(field, rank, coupling)
            held, learning = (sweeps.of(post, learn, 20) for learn in (False, True))
            yield (
                f"| {rank} | {1e3 * iteration:.1f} | {coupling} | {1e3 * held:.1f} | {held / iteration:.2f} "
                f"| {1e3 * learning:.1f} | {learning / iteration:.2f} |"
            )


def to_the_same_training_error() -> Iterator[str]:
    """Seconds until the training error is what tensorly has after some iterations."""
    field, values, mask = _standardised()
    seen = mask > 0
    yield f"| rank | error of {ENOUGH} iterations | tensorly, s | component, s | ratio | joint, s | ratio |"
    yield "| --- " * 7 + "|"
    for rank in RANKS:
        begun = time.perf_counter()
        found = cp_to_tensor(_parafac(values, mask, rank, ENOUGH))
        theirs, error = time.perf_counter() - begun, scores.rmse(found[seen], values[seen])
        row = f"| {rank} | {error:.4f} | {theirs:.2f} "
        for coupling in ("component", "joint"):
            ours = _until(field, rank, coupling, lambda mean: scores.rmse(mean[seen], values[seen]), error)
            row += f"| {_or(ours, '.2f')} | {_or(ours and ours / theirs, '.2f')} "
        yield row + "|"


def beside_smurff() -> Iterator[str]:
    """Seconds until the held-out error is SMURFF's."""
    problem = cells.problem("hgt_djf", "boxes", 0)
    field = data.load("hgt_djf").copy(data=problem.training)
    truth = problem.truth[problem.held] / problem.unit
    yield "| rank | SMURFF's held-out RMSE | its s | component, s | times faster | joint, s | times faster |"
    yield "| --- " * 7 + "|"
    for rank in RANKS:
        variant = {"rank": rank, "about": "climatology"}
        answers, _ = measure.ask(problem, METHODS["smurff Bayesian CP"], problem.held, [variant], 600)
        answer = answers[0]
        if answer is None or "error" in answer:
            yield f"| {rank} | {'over 600 s' if answer is None else answer['error']} | | | | | |"
            continue
        error, theirs = scores.rmse(answer["mean"] / problem.unit, truth), float(answer["seconds"])
        row = f"| {rank} | {error:.4f} | {theirs:.1f} "
        for coupling in ("component", "joint"):
            model = pt.Offset() + pt.Offset(over=("latitude", "longitude")) + pt.CP(rank)

            def held_out(mean: np.ndarray) -> float:
                return scores.rmse(mean[problem.held] / problem.unit, truth)

            ours = _until(field, model, coupling, held_out, error)
            row += f"| {_or(ours, '.2f')} | {_or(ours and theirs / ours, '.1f')} "
        yield row + "|"


def _or(value: float | None, how: str) -> str:
    return "not reached" if value is None else format(value, how)


def _standardised() -> tuple[Any, np.ndarray, np.ndarray]:
    """The training entries as a field, as an array with zeros in its gaps, and where they are."""
    problem = cells.problem("hgt_djf", "boxes", 0)
    field = data.load("hgt_djf").copy(data=problem.training)
    field = (field - field.mean()) / field.std()
    seen = np.isfinite(field.values)
    return field, np.where(seen, field.values, 0.0), seen.astype(float)


def _parafac(values: np.ndarray, mask: np.ndarray, rank: int, iterations: int) -> Any:
    options: dict[str, Any] = {"init": "random", "random_state": 0, "tol": 0}
    return parafac(values, rank, n_iter_max=iterations, mask=mask, **options)


def _until(field: Any, model: Any, coupling: str, error: Any, enough: float) -> float | None:
    """Warm seconds of sweeps until an error of the mean is reached; None if it is not. The first walk compiles."""
    model = pt.CP(model) if isinstance(model, int) else model
    engine = pt.MessagePassing(max_sweeps=10, tol=0.0, coupling=coupling)
    found = None
    for _ in range(2):
        post, spent, found = None, 0.0, None
        for _ in range(MOST):
            post = pt.fit(field, model, engine=engine, init=post)
            spent += post.run_seconds + post.compile_seconds
            if (
                error(post.predict({dim: field[dim] for dim in field.dims})["mean"].transpose(*field.dims).values)
                <= enough
            ):
                found = spent
                break
    return found
