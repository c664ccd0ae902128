"""What probtensor is to reach in each cell, and by how much it does or does not."""

from __future__ import annotations

from typing import NamedTuple

from gapfill import data

AUTO = "probtensor, pt.fit(data)"
NEAR_BEST = 1.05  # the automatic model, over the best of probtensor's own rows


class Target(NamedTuple):
    """One thing to reach.

    Attributes:
        what: in words.
        reached: whether it is.
    """

    what: str
    reached: bool


class Best(NamedTuple):
    """The lowest score of some rows, and whose it is."""

    value: float
    method: str


def best(rows: dict[str, dict[str, float]], score: str) -> Best:
    """Of rows by method; infinite where there are none."""
    return min((Best(row[score], name) for name, row in rows.items()), default=Best(float("inf"), "nobody"))


def judge(
    dataset: str,
    protocol: str,
    ours: dict[str, float],
    peers: dict[str, dict[str, float]],
    floors: dict[str, dict[str, float]],
) -> list[Target]:
    """The targets of a cell for one row of probtensor.

    Args:
        dataset: of the cell.
        protocol: of the cell.
        ours: the row's scores.
        peers: those of every other method, floors included.
        floors: those of the floors.
    """
    if protocol in ("boxes", "large boxes"):
        found = [_below(score, ours, peers, 0.85, "15% below the best peer") for score in ("rmse", "crps")]
        return [*found, _covered(ours, 0.87, 0.93)]
    if protocol in ("random", "sites"):
        return [_below("rmse", ours, peers, 1.10, "at most 10% above the best peer"), _covered(ours, 0.87, 0.97)]
    found = [_below(score, ours, floors, 1.02, "at most 1.02 of the best floor") for score in ("rmse", "crps")]
    if data.SOURCES[dataset].monthly:
        found += [_below(score, ours, peers, 0.90, "10% below the best peer") for score in ("rmse", "crps")]
    return [*found, _covered(ours, 0.85, 0.95)]


def _below(score: str, ours: dict[str, float], others: dict[str, dict[str, float]], share: float, what: str) -> Target:
    line = share * best(others, score).value
    return Target(f"{score.upper()} {what} ({line:.4g})", ours[score] <= line)


def _covered(ours: dict[str, float], low: float, high: float) -> Target:
    return Target(f"90% coverage {low:.2f} to {high:.2f}", low <= ours["coverage90"] <= high)
