"""Where error bars are off: by quarter of the predicted sd, and by sea."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy.special import ndtri

#: Seas by longitude, degrees east.
BASINS = {"Indian": (40, 105), "west Pacific": (105, 180), "east Pacific": (180, 285), "Atlantic": (285, 400)}
LEVELS = (0.5, 0.8, 0.9, 0.95)


def groups(z: np.ndarray, sd: np.ndarray, longitude: np.ndarray | None) -> dict[str, list[float]]:
    """For each group of held-out entries its share of them, what intervals of `LEVELS` cover, and the sd of z.

    Args:
        z: error over predicted sd.
        sd: predicted.
        longitude: in degrees, where entries are told apart by sea.
    """
    members = {"all": np.ones(z.size, bool)}
    for name, (west, east) in BASINS.items() if longitude is not None else ():
        members[name] = ((longitude - west) % 360.0) < (east - west)
    edges = np.quantile(sd, [0.0, 0.25, 0.5, 0.75, 1.0])
    for k in range(4):
        inside = (sd >= edges[k]) & ((sd < edges[k + 1]) | (k == 3))
        members[f"sd {edges[k]:.3g} to {edges[k + 1]:.3g}"] = inside
    return {
        name: [
            float(inside.mean()),
            *(float(np.mean(np.abs(z[inside]) <= ndtri(0.5 + level / 2))) for level in LEVELS),
            float(np.sqrt(np.mean(z[inside] ** 2))),
        ]
        for name, inside in members.items()
        if inside.any()
    }


def table(found: dict[str, list[float]]) -> Iterable[str]:
    """The groups as lines of a table."""
    yield "| held-out entries | share | " + " | ".join(f"{level:.0%} covers" for level in LEVELS) + " | sd of z |"
    yield "| --- " * (3 + len(LEVELS)) + "|"
    for name, (share, *covered, spread) in found.items():
        yield f"| {name} | {share:.2f} | {' | '.join(f'{one:.3f}' for one in covered)} | {spread:.2f} |"
