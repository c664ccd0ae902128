"""Terms to try beside a local term: main effects of names and places, and factors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from probtensor.axes import Axis
from probtensor.kernels.matern import Matern
from probtensor.priors.categorical import Categorical
from probtensor.selection import roles
from probtensor.selection.family import Unit
from probtensor.terms.base import AbstractTerm, Sum
from probtensor.terms.cp import CP
from probtensor.terms.offset import Offset

#: Ranks of a CP beside a local term.
_RANKS = (4, 12)


def _joined(axes: Mapping[str, Axis]) -> list[str]:
    return [name for name, axis in axes.items() if axis.parts]


def _parts(axis: Axis) -> tuple[str, ...]:
    return tuple(part.name for part in axis.parts)


def _names(axes: Mapping[str, Axis]) -> list[str]:
    """Modes whose levels are names."""
    return [n for n, a in roles.varying(axes).items() if a.kind == "category"]


def main_effects(axes: Mapping[str, Axis], of_places: bool = True) -> Sum | None:
    """A surface and a constant for each of its places; a constant for each name. None if there are neither.

    of_places: with the former. Of places that were never observed nothing would be known of it, where a local term can
    take its part.
    """
    terms: list[AbstractTerm] = [CP(1, modes=[name]) for name in _joined(axes)]
    terms += [Offset(over=_parts(axes[name])) for name in _joined(axes) if of_places]
    terms += [Offset(over=(name,)) for name in _names(axes)]
    return Sum(tuple(terms)) if terms else None


def factors_beside(
    axes: Mapping[str, Axis], varying: Sequence[str], orders: Mapping[Unit, float]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """CPs to try beside a local term: of names along the longest coordinate, of surfaces, or of all modes.

    orders: smoothness along the local term's coordinates.
    """
    names, joined = _names(axes), _joined(axes)
    modes: dict[str, Any]
    lines = [n for n in varying if n not in names]
    if names and lines:
        longest = max(lines, key=lambda n: axes[n].size)
        levels = max(axes[n].size for n in names)
        along = Matern(orders.get((longest,), 1 / 2), shared=True)
        modes = {longest: along, **dict.fromkeys(names, Categorical("learned"))}
        ranks = sorted({min(rank, levels) for rank in _RANKS})
    elif joined:
        parts = [part for name in joined for part in _parts(axes[name])]
        modes = dict.fromkeys([*(n for n in varying if n not in parts), *joined])
        ranks = [8] if len(modes) > len(joined) else []
    else:
        modes, ranks = dict.fromkeys(varying), list(_RANKS[:1]) if len(varying) > 1 else []
    yield from ((rank, modes) for rank in ranks)
