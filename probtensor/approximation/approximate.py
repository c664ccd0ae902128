"""A black-box function of several variables as a functional Tucker decomposition, from as few samples as it takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import equinox as eqx
import numpy as np

from probtensor.approximation import alternating, contraction, reasons, search
from probtensor.approximation.alternating import Asked, Fit
from probtensor.approximation.box import Box
from probtensor.approximation.sampling import Sampler, spread
from probtensor.approximation.search import Check
from probtensor.approximation.tucker import ErrorEstimate, FunctionalTucker
from probtensor.errors import ModelError, warn
from probtensor.typing import Float

#: Rounds of fit, check and refinement; each tightens the tolerance of the next fit by TIGHTER.
ROUNDS, TIGHTER = 6, 0.1

#: A round that was limited must lower the error to this share, or it was the last.
GAIN = 0.5

#: Quasi-random anchors of the first fibres, beside the points where the function is largest.
ANCHORS = 5

#: Share of tol that the canonical form may drop.
DROPPED = 0.1

#: Points at which what is dropped from the canonical form is looked at, fewer for large cores.
POINTS, PRODUCTS = 1_024, 2**28

#: The highest degree that may be allowed, the smallest tolerance, and evaluations for a variable at least.
HIGHEST_DEGREE, SMALLEST_TOL, FEWEST = 4_096, 1e-15, 1_000


def approximate(
    function: Callable[..., Any],
    bounds: Mapping[str, Any] | Sequence[Any],
    rank: int | str | Mapping[str, int] | Sequence[int] = "auto",
    tol: float = 1e-6,
    *,
    vectorized: bool = True,
    max_evaluations: int = 5_000_000,
    max_degree: int = 1_024,
    check_points: int = 4_096,
    seed: int = 0,
) -> FunctionalTucker:
    """A function of several variables as a core times Chebyshev series of each, with an estimate of its error.

    For smooth functions of about 2 to 6 variables (more where ranks are 1 or 2) of low multilinear rank: sums of few
    products, functions of sums, and what is analytic well beyond its bounds. It never samples a full grid. Functions of
    one variable are sampled along lines parallel to its axis (fibres), on twice as many Chebyshev points until their
    coefficients have decayed; a basis of them and as many points that determine it are chosen, variable by variable,
    with lines through the points chosen for the others, until new lines show nothing new; the core is the function at
    all combinations of the chosen points. Then it is compared with the function at fresh points, and refined where it
    is worst. What does not matter to tol is dropped at the end.

    What it cannot do, it says: a function with a kink or a jump, with noise above tol or without a low rank gives a
    ``ProbtensorWarning`` that names the variables, and a result with an honest error. A feature that no sample touches
    remains unseen; see ``ErrorEstimate``.

    Args:
        function: takes one array of shape (N,) for each variable, in the order of the bounds, and gives one of shape
            (N,); with ``vectorized=False`` takes and gives single numbers.
        bounds: a dict of ``(low, high)`` by variable, or a sequence of them, whose variables are x0, x1, ...
        rank: number of functions of each variable, at most: ``"auto"`` for as many as tol takes, a number, a dict by
            variable (the others are found) or a sequence. What was asked for is filled with the best functions found,
            those of the largest singular values.
        tol: largest error allowed, relative to the largest absolute value of the function that is seen.
        vectorized: whether the function takes arrays.
        max_evaluations: how often the function may be evaluated. The core alone takes the product of the ranks.
        max_degree: highest degree of a factor function; the largest power of two below it counts.
        check_points: fresh quasi-random points at which the error is estimated, at most an eighth of max_evaluations.
            More of them find narrower features: one that changes the function in a share p of the box is met by a check
            of M points with probability of about 1 - exp(-p M).
        seed: chooses lines and points. The same seed gives the same result.

    Raises:
        ModelError: bounds, rank, tol or a limit are not what they must be.
        DataError: the function gives something else than one finite real number for each point; says where.

    Memory: the core, and 8 bytes a sample. Cost beside the function's: O(n m^2) for n points of m fibres, O(prod rank)
    times some thousands for each check.

    Sources: Hashemi and Trefethen 2017 (Chebfun3); Dolgov, Kressner and Strossner 2021 (functional Tucker approximation
    by Chebyshev interpolation, from fibres); Bigoni, Engsig-Karup and Marzouk 2016.
    """
    box = Box.from_bounds(bounds)
    _check_numbers(box, tol, max_evaluations, max_degree, check_points, seed)
    asked = Asked(_ranks(rank, box), int(max_degree), int(check_points))
    sampler = Sampler(function, box, bool(vectorized), int(max_evaluations))
    result = _refined(sampler, asked, float(tol), int(seed))
    if not result.converged:
        reached = f"reached {result.error.relative:.1e}, not tol={tol:g}. " if result.error and sampler.largest else ""
        warn(f"approximate: {reached}{' '.join(result.messages)}")
    return result


class _Round(eqx.Module):
    """What one round made, and with what."""

    core: Float[np.ndarray, "..."]
    series: tuple[Float[np.ndarray, "n r"], ...]
    fit: Fit


def _refined(sampler: Sampler, asked: Asked, tol: float, seed: int) -> FunctionalTucker:
    """Rounds of fit and check, until a check finds less than tol or a limit stands in the way."""
    box, rng = sampler.box, np.random.default_rng(seed)
    reserve = search.check_cost(sampler, asked.check_points) + 1  # a core has one entry at least
    anchors = np.vstack([search.look(sampler, seed), spread(box, ANCHORS, seed + 2)])
    fit = alternating.start(sampler, anchors, asked, rng)
    if sampler.largest == 0.0:
        return _zero(sampler, tol)
    best, least, checks, tolerance, short = None, math.inf, [], tol, False
    for number in range(ROUNDS):
        fit = alternating.settled(fit, sampler, tolerance, asked, reserve, rng)
        smaller, shrunk = alternating.shrunk(fit, sampler, max(1, sampler.left - reserve))
        short = short or shrunk
        if shrunk and best is not None:
            break
        made = _made(smaller, sampler, tol, asked)
        found, worst = search.check(sampler, _assembled(made, sampler).at, asked.check_points, seed + 10 * (number + 1))
        checks.append(found)
        error = _largest(_deviations(made, checks, sampler)) / sampler.relative
        gained = error < GAIN * least
        if error < least:
            best, least = made, error
        if error <= tol or not (gained or (number < 2 and not _limited(made, asked))):
            break
        short = short or sampler.left < 2 * reserve + made.fit.fibres[0].cost * len(worst)
        if short:
            break
        fit = alternating.extended(fit, sampler, worst, reserve, rng)
        tolerance = max(TIGHTER * tolerance, SMALLEST_TOL)
    assert best is not None
    return _judged(best, checks, sampler, asked, tol, short)


def _made(fit: Fit, sampler: Sampler, tol: float, asked: Asked) -> _Round:
    """The canonical form of what interpolates at the chosen points."""
    core, series, chosen = alternating.interpolation(fit, sampler)
    rng = np.random.default_rng(core.size)
    count = int(np.clip(PRODUCTS // core.size, 128, POINTS))
    points = spread(sampler.box, count, 1, edges=0.25)
    # Chosen points are where the function has its features, however narrow.
    for axis, x in enumerate(chosen):
        points[: count // 2, axis] = rng.choice(x, count // 2)
    points = np.vstack([points, *(line.anchors for line in fit.fibres)])
    t = np.stack([sampler.box.unit(axis, points[:, axis]) for axis in range(points.shape[1])], axis=1)
    core, series = contraction.canonical(core, series, t, DROPPED * tol * sampler.relative, asked.ranks)
    return _Round(contraction.unscaled(core, sampler.exponent), tuple(series), fit)


def _assembled(made: _Round, sampler: Sampler) -> FunctionalTucker:
    return FunctionalTucker(sampler.box, made.core, made.series)


def _limited(made: _Round, asked: Asked) -> bool:
    """Whether something was met that no further round is likely to change."""
    at_rank = any(most is not None and rank >= most for most, rank in zip(asked.ranks, made.core.shape, strict=True))
    return at_rank or any(made.fit.limited) or any(line.noisy or line.stopped for line in made.fit.fibres)


def _deviations(
    made: _Round, checks: Sequence[Check], sampler: Sampler
) -> list[tuple[Float[np.ndarray, "M D"], Float[np.ndarray, "M"]]]:
    """Points that nothing was made from, and by how much the approximation is wrong there, in the sampler's units."""
    approximation = _assembled(made, sampler)
    points = [found.points for found in checks]
    values = [found.values for found in checks]
    for axis, line in enumerate(made.fit.fibres):
        there = np.repeat(line.anchors[None], len(line.probe_t), axis=0)
        there[:, :, axis] = sampler.box.place(axis, line.probe_t)
        points.append(there.reshape(-1, there.shape[2]))
        values.append(line.probe_values.reshape(-1))
    return [
        (at, np.abs(sampler.scaled(seen) - sampler.scaled(approximation.at(at))))
        for at, seen in zip(points, values, strict=True)
    ]


def _largest(deviations: Sequence[tuple[np.ndarray, np.ndarray]]) -> float:
    return max(float(deviation.max(initial=0.0)) for _, deviation in deviations)


def _judged(
    best: _Round, checks: Sequence[Check], sampler: Sampler, asked: Asked, tol: float, short: bool
) -> FunctionalTucker:
    """The result of the best round, with its error at the points of all checks."""
    approximation = _assembled(best, sampler)
    deviations = _deviations(best, checks, sampler)
    largest = _largest(deviations)
    squares = np.concatenate(
        [deviation[: found.spread] ** 2 for (_, deviation), found in zip(deviations, checks, strict=False)]
    )
    error = ErrorEstimate(
        absolute=float(contraction.unscaled(largest, sampler.exponent)),
        relative=largest / sampler.relative,
        root_mean_square=float(contraction.unscaled(math.sqrt(squares.mean()), sampler.exponent)),
        points=sum(len(at) for at, _ in deviations),
    )
    converged = error.relative <= tol
    at, deviation = max(deviations, key=lambda pair: float(pair[1].max(initial=0.0)))
    worst = dict(zip(sampler.box.names, at[int(np.argmax(deviation))].tolist(), strict=True))
    messages = (
        ()
        if converged
        else reasons.sentences(best.fit, sampler, tol, error.relative, approximation.rank, asked.ranks, short, worst)
    )
    return FunctionalTucker(sampler.box, best.core, best.series, error, tol, sampler.evaluations, converged, messages)


def _zero(sampler: Sampler, tol: float) -> FunctionalTucker:
    """The zero function, where nothing else was seen: not converged, for its relative error has no meaning."""
    dimensions = len(sampler.box.names)
    return FunctionalTucker(
        sampler.box,
        np.zeros((1,) * dimensions),
        (np.ones((1, 1)),) * dimensions,
        ErrorEstimate(0.0, math.nan, 0.0, sampler.evaluations),
        tol,
        sampler.evaluations,
        False,
        (reasons.ALL_ZERO.format(count=sampler.evaluations),),
    )


def _check_numbers(box: Box, tol: Any, max_evaluations: Any, max_degree: Any, check_points: Any, seed: Any) -> None:
    if isinstance(tol, bool) or not isinstance(tol, int | float | np.number) or not SMALLEST_TOL <= tol < 1:
        raise ModelError(f"tol={tol!r}: the relative error must be a number from {SMALLEST_TOL:g} to below 1")
    fewest = FEWEST * len(box.names)
    limits: tuple[tuple[str, Any, int, int | None], ...] = (
        ("max_evaluations", max_evaluations, fewest, None),
        ("max_degree", max_degree, 8, HIGHEST_DEGREE),
        ("check_points", check_points, 64, None),
        ("seed", seed, 0, None),
    )
    for name, value, low, high in limits:
        if not _is_integer(value) or value < low or (high is not None and value > high):
            span = f"at least {low}" if high is None else f"from {low} to {high}"
            raise ModelError(f"{name}={value!r}: expected an integer {span}")


def _ranks(rank: Any, box: Box) -> tuple[int | None, ...]:
    names = box.names
    if isinstance(rank, str) and rank == "auto":
        return (None,) * len(names)
    if isinstance(rank, Mapping):
        for name in rank:
            box.position(name)
        ranks: dict[str, Any] = {name: rank.get(name) for name in names}
    elif isinstance(rank, Sequence | np.ndarray) and not isinstance(rank, str):
        if len(rank) != len(names):
            raise ModelError(f"rank={rank!r}: {len(rank)} ranks for the {len(names)} variables {', '.join(names)}")
        ranks = dict(zip(names, rank, strict=True))
    else:
        ranks = dict.fromkeys(names, rank)
    for name, value in ranks.items():
        given = not isinstance(rank, Mapping) or name in rank
        if given and not (_is_integer(value) and value >= 1):
            raise ModelError(f"rank of {name!r}: {value!r} is not a positive integer; or say rank='auto'")
    return tuple(None if value is None else int(value) for value in ranks.values())


def _is_integer(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
