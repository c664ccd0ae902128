"""Why an approximation did not reach its tolerance, in sentences."""

from __future__ import annotations

import math

from probtensor.approximation.alternating import Fit
from probtensor.approximation.fibres import Fibres
from probtensor.approximation.sampling import Sampler

ALL_ZERO = (
    "All {count} values of the function that were seen are 0, and a tolerance relative to that means nothing: either "
    "it is zero on the whole box, or its support is too small to be found. Choose bounds around the support."
)


def sentences(
    fit: Fit,
    sampler: Sampler,
    tol: float,
    error: float,
    rank: dict[str, int],
    asked: tuple[int | None, ...],
    short: bool,
    worst: dict[str, float],
) -> tuple[str, ...]:
    """What stands in the way of tol, by variable.

    Args:
        fit: the last alternating fit.
        sampler: the function.
        tol: the relative error asked for.
        error: the relative error reached.
        rank: ranks found, by variable.
        asked: highest ranks.
        short: whether evaluations ran out.
        worst: coordinates at which the approximation is worst.
    """
    names = sampler.box.names
    found = [sentence for name, line in zip(names, fit.fibres, strict=True) if (sentence := _unresolved(name, line))]
    noisy = [name for name, line in zip(names, fit.fibres, strict=True) if line.noisy]
    if noisy:
        levels = (line.decay.noise / sampler.relative for line in fit.fibres if line.noisy and line.decay is not None)
        single = " It gives float32, which has no more digits." if sampler.dtype == "float32" else ""
        found.append(
            f"Along {', '.join(noisy)} the Chebyshev coefficients end in a floor: the function has noise of about "
            f"{max(levels):.0e} of its largest value (rounding in it, or chance), and tol={tol:g} asks for less than "
            f"it gives.{single}"
        )
    held = [name for name, most in zip(names, asked, strict=True) if most is not None and rank[name] >= most]
    if held:
        found.append(
            f"The rank asked for, {_ranks(rank, held)}, leaves {error:.0e} of the largest value over; allow a higher "
            "rank, or rank='auto'."
        )
    grown = [name for name, limited in zip(names, fit.limited, strict=True) if limited and name not in held]
    if short or grown:
        highest = grown or [name for name in names if rank[name] == max(rank.values())]
        wanted = math.prod(basis.rank for basis in fit.crosses)
        found.append(
            f"No rank that is low enough was found: it grew to its limit along {_ranks(rank, highest)}, with "
            f"max_evaluations={sampler.most}; the core alone takes {wanted}. The function does not nearly factor into "
            "functions of single variables: allow more evaluations, change the variables (a rotation, differences) or "
            "shrink the box."
        )
    if not found:
        where = ", ".join(f"{name}={x:g}" for name, x in worst.items())
        found.append(
            f"Every variable seems resolved, but the function differs from the approximation near {where}: look there "
            "for a narrow feature, shrink the box or allow more evaluations."
        )
    return tuple(found)


def _ranks(rank: dict[str, int], names: list[str]) -> str:
    return ", ".join(f"{name} ({rank[name]})" for name in names)


def _unresolved(name: str, line: Fibres) -> str:
    decay = line.decay
    if not line.stopped or decay is None:
        return ""
    degree = line.grid.count - 1
    start = f"{name} is not resolved at degree {degree}: "
    limit = "raise max_degree" if line.stopped == "degree" else "max_evaluations allows no finer grid; allow more"
    if decay.resolved:
        return (
            f"{start}between the points the function differs by {line.misfit:.0e} of its largest value, a feature "
            f"narrower than their spacing; {limit}."
        )
    if decay.kind == "geometric":
        return f"{start}its Chebyshev coefficients still fall, like those of a smooth function; {limit}."
    if decay.kind == "flat":
        return (
            f"{start}its Chebyshev coefficients do not fall at all: the function oscillates faster than that along "
            f"{name}, or is noise; {limit} or look at it."
        )
    what = "a jump" if decay.rate < 1.5 else "a kink" if decay.rate < 2.6 else "a jump in a higher derivative"
    return (
        f"{start}its Chebyshev coefficients fall only like k^-{decay.rate:.1f}, as with {what} or a singular end along "
        f"{name}, and {line.misfit:.0e} of the largest value is left; split the box there, or ask for less."
    )
