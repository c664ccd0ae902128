"""The observed entries as the local term sees them: values in the data's order, places in a fixed random one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from probtensor.nearest.repeats import Pooled, pool
from probtensor.observations.domain import Domain, Observations
from probtensor.observations.layout import Points
from probtensor.typing import Bool, Float, Int

#: Seed of the order in which entries are conditioned on each other; part of the model's approximation.
_ORDER_SEED = 20


class Training(NamedTuple):
    """Observed entries.

    rows: their positions among the domain's entries, flattened, ascending; pooled: places that differ in what is read;
    values: (N,).
    """

    rows: Int[np.ndarray, "N"]
    pooled: Pooled
    values: Float[np.ndarray, "N"]

    @property
    def places(self) -> Float[np.ndarray, "N D"]:
        """Of each entry, as far as a kernel reads them."""
        return self.pooled.entries.points[self.pooled.place]

    def wholly(self, chosen: Bool[np.ndarray, "..."]) -> Bool[np.ndarray, "M"]:
        """Places all of whose entries are among the chosen ones, which are told in the shape of the domain."""
        left = np.bincount(self.pooled.place, ~chosen.ravel()[self.rows], minlength=len(self.pooled.entries.points))
        return left == 0


def training(
    observations: Observations,
    names: Sequence[str],
    read: Sequence[str],
    last: Bool[np.ndarray, "N"] | None = None,
) -> Training:
    """The observed entries, their places in a random order that is always the same.

    names: of the columns of their coordinates; read: those that kernels read; last: which of the observed entries come
    behind all others, None: no such.
    """
    weights = np.asarray(observations.weights).ravel()
    rows = np.flatnonzero(weights > 0)
    turn = np.random.default_rng(_ORDER_SEED).permutation(len(rows))
    if last is not None:
        turn = np.argsort(np.lexsort((turn, last)))
    pooled = pool(coordinates(observations.domain, names, rows, read), 1 / weights[rows], turn)
    return Training(rows, pooled, np.asarray(observations.values).ravel()[rows])


def coordinates(
    domain: Domain, names: Sequence[str], rows: Int[np.ndarray, "n"], read: Sequence[str]
) -> Float[np.ndarray, "n D"]:
    """Coordinates of entries of a domain; zero for those that are not read, so that they do not tell places apart."""
    if isinstance(domain.layout, Points):
        levels = np.asarray(domain.layout.index)[rows].T
    else:
        levels = np.unravel_index(rows, domain.shape)
    columns = [
        np.asarray(domain.points[n])[levels[domain.place(n)]] if n in read else np.zeros(len(rows)) for n in names
    ]
    return np.stack(columns, axis=1).astype(float)
