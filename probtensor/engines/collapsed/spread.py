"""By how much the posterior standard deviation of a function grows from place to place."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial import cKDTree

from probtensor.typing import Float


class Spread(NamedTuple):
    """Factors of the posterior standard deviation of a function.

    Attributes:
        columns: of points that tell places apart.
        places: (n, k) these columns.
        factors: (n,) of each place.
    """

    columns: tuple[int, ...]
    places: Float[np.ndarray, "n k"]
    factors: Float[np.ndarray, "n"]

    def at(self, points: Float[np.ndarray, "E D"]) -> Float[np.ndarray, "E"]:
        """Those of the nearest places, each coordinate in units of its range."""
        scale = np.ptp(self.places, axis=0)
        scale = np.where(scale > 0, scale, 1.0)
        tree = cKDTree(self.places / scale)
        return self.factors[tree.query(points[:, list(self.columns)] / scale)[1]]
