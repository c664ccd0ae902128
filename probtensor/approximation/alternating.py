"""The alternating fit: for each variable in turn the functions of it that matter, from fibres through few points."""

from __future__ import annotations

import math

import equinox as eqx
import numpy as np

from probtensor.approximation import chebyshev, contraction
from probtensor.approximation import fibres as lines
from probtensor.approximation.cross import Cross, cross
from probtensor.approximation.fibres import Fibres
from probtensor.approximation.sampling import Sampler
from probtensor.typing import Float

#: Sweeps over the variables, batches of new fibres of a variable in one sweep, fibres of the first batch.
SWEEPS, BATCHES, BATCH = 6, 16, 8

#: Of the tolerance: what the basis of a variable may leave over of the fibres it was made from, for up to 3 variables,
#: and, in multiples of that, of others. Interpolation in each further variable multiplies errors by about AMPLIFIED.
LEFT_OVER, OF_OTHERS, AMPLIFIED = 0.03, 10.0, 2.0

#: Fibres of a variable that is not resolved; more of them would not help it.
UNRESOLVED = 128

#: Functions of a variable beyond a rank that was asked for, among which the best are found.
SPARE = 5


class Asked(eqx.Module):
    """What was asked for: highest ranks (None: as many as it takes) and degree, points of a check."""

    ranks: tuple[int | None, ...] = eqx.field(static=True)
    max_degree: int = eqx.field(static=True)
    check_points: int = eqx.field(static=True)


class Fit(eqx.Module):
    """Fibres and chosen points of every variable, and whether the number of fibres was limited."""

    fibres: tuple[Fibres, ...]
    crosses: tuple[Cross, ...]
    limited: tuple[bool, ...] = eqx.field(static=True)


def left_over(dimensions: int, tolerance: float) -> float:
    """What the basis of a variable may leave over of its fibres, relative to the largest value."""
    return LEFT_OVER * tolerance / AMPLIFIED ** min(max(dimensions - 3, 0), 5)


def threshold(fibres: tuple[Fibres, ...], axis: int, sampler: Sampler, tolerance: float) -> float:
    """What the basis of a variable may leave over of its fibres, in the sampler's units.

    Never below what cannot be told from noise or from the error along the variable that is resolved worst: there
    would be no end of functions.
    """
    root = math.sqrt(fibres[axis].grid.count)
    seen = [(line.decay, line) for line in fibres if line.decay is not None]
    noise = max((decay.noise for decay, _ in seen if decay.kind == "flat"), default=0.0)
    unresolved = max((line.misfit for _, line in seen if line.stopped), default=0.0)
    return max(
        left_over(len(fibres), tolerance) * sampler.relative,
        3 * noise * root,
        unresolved * sampler.relative / 10,
        np.finfo(float).eps * root,
    )


def start(sampler: Sampler, anchors: Float[np.ndarray, "m D"], asked: Asked, rng: np.random.Generator) -> Fit:
    """Coarse fibres of every variable through the anchors."""
    count = chebyshev.first_points(asked.max_degree)
    dimensions = len(sampler.box.names)
    fibres = tuple(
        lines.through(sampler, axis, chebyshev.grid(sampler.box, axis, count), anchors, rng)
        for axis in range(dimensions)
    )
    crosses = tuple(cross(sampler.scaled(line.values), np.inf) for line in fibres)
    return Fit(fibres, crosses, (False,) * dimensions)


def extended(
    fit: Fit, sampler: Sampler, anchors: Float[np.ndarray, "m D"], reserve: int, rng: np.random.Generator
) -> Fit:
    """The fit with fibres of every variable through further anchors, as far as evaluations last."""
    fibres = list(fit.fibres)
    for axis, line in enumerate(fibres):
        here = anchors[: max(0, (sampler.left - reserve) // line.cost)]
        if len(here):
            fibres[axis] = line.joined(lines.through(sampler, axis, line.grid, here, rng))
    return Fit(tuple(fibres), fit.crosses, fit.limited)


def settled(fit: Fit, sampler: Sampler, tolerance: float, asked: Asked, reserve: int, rng: np.random.Generator) -> Fit:
    """The fit when further fibres of no variable show anything new; or when a limit is reached.

    Args:
        fit: where to start.
        sampler: the function.
        tolerance: relative to the largest value seen.
        asked: ranks and degree.
        reserve: evaluations that must be left.
        rng: draws the lines along which is looked.
    """
    for _ in range(SWEEPS):
        quiet = True
        for axis in range(len(fit.fibres)):
            fit, changed = _settled_along(fit, axis, sampler, tolerance, asked, reserve, rng)
            quiet = quiet and not changed
        if quiet:
            break
    return fit


def _settled_along(
    fit: Fit, axis: int, sampler: Sampler, tolerance: float, asked: Asked, reserve: int, rng: np.random.Generator
) -> tuple[Fit, bool]:
    dimensions, rank = len(fit.fibres), asked.ranks[axis]
    before, limited = fit.fibres[axis].anchors.shape[0], False

    def with_fibres(line: Fibres) -> Fit:
        most = max(0, (sampler.left - reserve) // (2 * dimensions))
        line = lines.resolved(line, sampler, OF_OTHERS * left_over(dimensions, tolerance), asked.max_degree, most)
        fibres = (*fit.fibres[:axis], line, *fit.fibres[axis + 1 :])
        basis = cross(
            sampler.scaled(line.values),
            threshold(fibres, axis, sampler, tolerance),
            None if rank is None else rank + SPARE,
        )
        return Fit(fibres, (*fit.crosses[:axis], basis, *fit.crosses[axis + 1 :]), fit.limited)

    fit = with_fibres(fit.fibres[axis])
    for _ in range(BATCHES if dimensions > 1 else 0):
        line, basis = fit.fibres[axis], fit.crosses[axis]
        room = max(2 * BATCH, (sampler.most - reserve) // (4 * dimensions * line.cost))
        room = min(room, UNRESOLVED) if line.stopped else room
        room = room if rank is None else min(room, 3 * (rank + SPARE) + BATCH)
        count = min(max(BATCH, basis.rank), (sampler.left - reserve) // line.cost)
        if count <= 0 or len(line.anchors) + count > room:
            limited = count <= 0 or rank is None
            break
        new = lines.through(sampler, axis, line.grid, further_lines(fit, axis, sampler, count, rng), rng)
        misfit = basis.misfit(sampler.scaled(new.values))
        wrong = misfit > OF_OTHERS * threshold(fit.fibres, axis, sampler, tolerance)
        fit_of_all = with_fibres(line.joined(new))
        if fit_of_all.fibres[axis].grid.count > line.grid.count:
            fit = fit_of_all
        elif wrong.any():
            fit = with_fibres(line.joined(new.chosen(np.flatnonzero(wrong))))
        else:
            break
    else:
        limited = dimensions > 1
    limits = (*fit.limited[:axis], limited, *fit.limited[axis + 1 :])
    return Fit(fit.fibres, fit.crosses, limits), fit.fibres[axis].anchors.shape[0] > before


def further_lines(
    fit: Fit, axis: int, sampler: Sampler, count: int, rng: np.random.Generator
) -> Float[np.ndarray, "m D"]:
    """Points on lines along which to look next, a third of each kind.

    First at combinations of the chosen points of the other variables; then through points of other variables' fibres,
    drawn in proportion to the size of the function, so that lines spread along a ridge at an angle to the axes; then
    anywhere. Of seven functions of 4 to 6 variables five took fewest evaluations so, up to 60% fewer than with one or
    two of the kinds, and none a third more.
    """
    box = sampler.box
    points = np.empty((count, len(box.names)))
    third = count // 3
    for other, (line, basis) in enumerate(zip(fit.fibres, fit.crosses, strict=True)):
        points[:, other] = box.place(other, rng.uniform(-1.0, 1.0, count))
        points[:third, other] = rng.choice(line.grid.x[basis.rows], third)
    for row in range(third, 2 * third):
        other = int(rng.choice([other for other in range(len(fit.fibres)) if other != axis]))
        line = fit.fibres[other]
        size = np.abs(sampler.scaled(line.values)).ravel()
        if size.any():
            along, which = np.unravel_index(rng.choice(size.size, p=size / size.sum()), line.values.shape)
            points[row] = line.anchors[which]
            points[row, other] = line.grid.x[along]
    return points


def shrunk(fit: Fit, sampler: Sampler, entries: int) -> tuple[Fit, bool]:
    """The fit with ranks lowered, where they are highest for the least, until the core has at most so many entries."""
    if math.prod(basis.rank for basis in fit.crosses) <= entries:
        return fit, False
    ranks = [basis.rank for basis in fit.crosses]
    while math.prod(ranks) > entries:
        last = [basis.sizes[rank - 1] if rank > 1 else np.inf for basis, rank in zip(fit.crosses, ranks, strict=True)]
        ranks[int(np.argmin(last))] -= 1
    crosses = tuple(
        basis if basis.rank == rank else cross(sampler.scaled(line.values), 0.0, rank)
        for line, basis, rank in zip(fit.fibres, fit.crosses, ranks, strict=True)
    )
    return Fit(fit.fibres, crosses, fit.limited), True


def interpolation(
    fit: Fit, sampler: Sampler
) -> tuple[Float[np.ndarray, "..."], list[Float[np.ndarray, "n r"]], list[Float[np.ndarray, "r"]]]:
    """Core, in the sampler's units, coefficients and chosen coordinates: what interpolates in every variable.

    Takes prod r_d evaluations.
    """
    chosen = [line.grid.x[basis.rows] for line, basis in zip(fit.fibres, fit.crosses, strict=True)]
    shape = tuple(len(x) for x in chosen)
    core = np.empty(math.prod(shape))
    for first in range(0, core.size, contraction.LARGEST_BLOCK):
        positions = np.unravel_index(np.arange(first, min(first + contraction.LARGEST_BLOCK, core.size)), shape)
        points = np.stack([x[position] for x, position in zip(chosen, positions, strict=True)], axis=1)
        core[first : first + len(points)] = sampler(points)
    series = [line.grid.coefficients(basis.weights) for line, basis in zip(fit.fibres, fit.crosses, strict=True)]
    return sampler.scaled(core.reshape(shape)), series, chosen
