"""Gap protocols: which observations to hold out when a model is judged.

A protocol says what the gaps look like. `AbstractProtocol.mask` draws them in a grid, `AbstractProtocol.rows` in a
table, and `probtensor.cross_validate` does either. Held-out entries are always observed ones, and the same places, seed
and observed entries give the same gaps.

========== =========================================== ===========================================
protocol   stands for                                  hard for
========== =========================================== ===========================================
``random`` single readings lost                        hardly anything: a neighbour is always near
``blocks`` clouds, swaths, outages                     local interpolation
``sites``  places never observed                       methods with no prior over places
``tail``   forecasts                                   methods with no prior over time
``like``   what is missing already                     whatever finds the data's own gaps hard
``by``     levels never seen: a new day, a new station methods that learn each level by itself
========== =========================================== ===========================================

Of the folds of a cross-validation those of ``random`` and ``sites`` have no observation in common as long as the
fraction times their number is at most 1 (beyond that each is a draw by itself), those of ``by`` hold out every level
once, those of ``blocks`` and ``like`` are draws by themselves (fold k with the seed plus k), and those of ``tail`` are
rolling origins.

Example:
    >>> import numpy as np
    >>> protocol = blocks(0.25, size={"time": 2, "station": 1})
    >>> held = protocol.mask({"time": 6, "station": 4}, seed=0)
    >>> held.shape, int(held.sum())
    ((6, 4), 6)
    >>> rows = by("day").rows({"day": np.array([1, 1, 2, 3, 3, 3]), "depth": np.array([5, 10, 5, 5, 10, 20])}, seed=0)
    >>> rows.tolist()
    [False, False, False, True, True, True]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from probtensor.evaluation.gaps.base import AbstractProtocol, Fold
from probtensor.evaluation.gaps.boxes import Blocks
from probtensor.evaluation.gaps.shapes import Like, copied
from probtensor.evaluation.gaps.tails import Tail
from probtensor.evaluation.gaps.units import By, Random, Sites

__all__ = [
    "AbstractProtocol",
    "Blocks",
    "By",
    "Fold",
    "Like",
    "Random",
    "Sites",
    "Tail",
    "blocks",
    "by",
    "like",
    "random",
    "sites",
    "tail",
]


def random(fraction: float) -> Random:
    """Single entries lost at random: ``random(0.2)`` holds out a fifth of the observations.

    In a table single rows: where rows repeat the same coordinates, use `sites` with all of them.

    Args:
        fraction: of the observations, strictly between 0 and 1.

    Raises:
        ModelError: ``fraction`` is not strictly between 0 and 1.
    """
    return Random(fraction)


def blocks(fraction: float, size: Mapping[str, int | None]) -> Blocks:
    """Boxes around randomly chosen observations, until ``fraction`` of the observations is held out.

    Boxes may overlap, and are cut off at the edges of the grid.

    Args:
        fraction: of the observations, strictly between 0 and 1.
        size: levels a box spans along each dimension, None for all of them. Along a dimension that is not named it
            spans one. Of a table each coordinate must be named: along what is measured beside the values, such as a
            temperature, boxes mostly span all levels.

    Raises:
        ModelError: a fraction or a size out of range.
    """
    return Blocks(fraction, size)


def sites(fraction: float, dims: str | Sequence[str]) -> Sites:
    """Every observation at a fraction of the sites: ``sites(0.3, ["lat", "lon"])`` empties 30% of the cells.

    Args:
        fraction: of the sites with at least one observation, strictly between 0 and 1.
        dims: the dimensions whose levels together name a site; of a grid at least one other must remain. With all
            coordinates of a table a site is one place, whose rows are held out together.

    Raises:
        ModelError: ``fraction`` is out of range, or ``dims`` is empty or names a dimension twice.
    """
    return Sites(fraction, (dims,) if isinstance(dims, str) else tuple(dims))


def tail(fraction: float, dim: str) -> Tail:
    """The last part of a dimension, in the order of its coordinate: ``tail(0.2, "time")`` is a forecast.

    Of folds the first is that, and the others are forecasts as long from earlier origins, without what comes after
    their window. Origins go back by one window, or by less where else the first one would have less than half as much
    before it as the last: ``tail(0.2, "time")`` with 5 folds and 100 times begins at 80, 70, 60, 50 and 40.

    Args:
        fraction: of the levels (of a table, of the distinct ones), strictly between 0 and 1, rounded, and at least one
            level. Where that part of a grid was never observed, the data end with the last level that was.
        dim: the dimension.

    Raises:
        ModelError: ``fraction`` is out of range.
    """
    return Tail(fraction, dim)


def like(data: Any, fraction: float | None = None) -> Like:
    """Gaps with the shapes that the data's own gaps have, put down on observations.

    A gap is what is missing and connected, neighbours along a dimension. Gaps are taken in random order, each once
    before any is taken again, so that small and large ones are as frequent as in the data, and shifted, whole as far as
    there is room for them. Land and dead stations are no gaps: sites that were never observed along a dimension of
    times, or where there is none, along any dimension.

    Args:
        data: a DataArray, or ``pt.table`` or ``pt.points`` of which some coordinates make a grid (day and station,
            where temperature and pressure are measured beside the values), the finest of which at least half of the
            cells are observed: gaps are cells without a value.
        fraction: of the observations (of a table, of the cells with any) that is held out; None: the share that the
            data themselves miss, at most 0.3.

    Raises:
        DataError: the data have no gaps, or a table lies on no grid.
        ModelError: ``fraction`` is out of range.
    """
    return copied(data, fraction)


def by(dims: str | Sequence[str]) -> By:
    """Whole levels: ``by("date")`` holds out every date once, spread over the folds at random.

    With one fold, or where a single mask is drawn, a fifth of the levels is held out.

    Args:
        dims: the dimension, or several whose combinations of levels are held out.

    Raises:
        ModelError: ``dims`` is empty or names a dimension twice.
    """
    return By((dims,) if isinstance(dims, str) else tuple(dims))
