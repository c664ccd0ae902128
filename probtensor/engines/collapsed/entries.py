"""The observed entries as the local term sees them: places, noise and values, in a fixed random order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from probtensor.nearest.conditionals import Entries
from probtensor.observations.domain import Domain, Observations
from probtensor.observations.layout import Points
from probtensor.typing import Float, Int

#: Seed of the order in which entries are conditioned on each other; part of the model's approximation.
_ORDER_SEED = 20


class Training(NamedTuple):
    """Observed entries.

    rows: their positions among the domain's entries, flattened; values: (N,).
    """

    rows: Int[np.ndarray, "N"]
    entries: Entries
    values: Float[np.ndarray, "N"]


def training(observations: Observations, names: Sequence[str]) -> Training:
    """The observed entries in a random order that is always the same; names: the coordinates that are read."""
    weights = np.asarray(observations.weights).ravel()
    seen = np.flatnonzero(weights > 0)
    rows = np.random.default_rng(_ORDER_SEED).permutation(seen)
    places = coordinates(observations.domain, names, rows)
    return Training(rows, Entries(places, 1 / weights[rows]), np.asarray(observations.values).ravel()[rows])


def coordinates(domain: Domain, names: Sequence[str], rows: Int[np.ndarray, "n"]) -> Float[np.ndarray, "n D"]:
    """Coordinates of entries of a domain; zero for a mode that it does not have, which the model then does not read."""
    if isinstance(domain.layout, Points):
        levels = np.asarray(domain.layout.index)[rows].T
    else:
        levels = np.unravel_index(rows, domain.shape)
    known = {n for n, _ in domain.position}
    columns = [
        np.asarray(domain.points[n])[levels[domain.place(n)]] if n in known else np.zeros(len(rows)) for n in names
    ]
    return np.stack(columns, axis=1).astype(float)
