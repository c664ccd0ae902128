"""Points among those that are known already."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from probtensor.typing import Float, Int


class Found(NamedTuple):
    """Where asked points are: levels: among the known ones, or behind them among the others; others: each once."""

    levels: Int[np.ndarray, "M"]
    others: Float[np.ndarray, "U ..."]


def find(known: Float[np.ndarray, "T ..."], asked: Float[np.ndarray, "M ..."]) -> Found:
    """Each asked point among the known ones."""
    rows = np.concatenate([known, asked])
    _, first, inverse = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    source = first[inverse.ravel()[len(known) :]]
    new = np.unique(source[source >= len(known)])
    levels = np.where(source < len(known), source, len(known) + np.searchsorted(new, source))
    return Found(levels, rows[new])
