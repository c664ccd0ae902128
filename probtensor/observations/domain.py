"""Where values are (a domain) and the values themselves (observations)."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from probtensor.observations.layout import AbstractLayout, Grid, Points
from probtensor.typing import Array, Float, Int


class Domain(eqx.Module):
    """A set of entries and the coordinates of the levels they index.

    Attributes:
        layout: which level of each base mode an entry belongs to.
        points: mode name -> (T,) coordinate of each level. A derived mode such as ``"time.month"`` has one value for
            each level of its parent, so its values repeat.
        position: mode name -> base mode's place in the layout; a derived mode has its parent's.
    """

    layout: AbstractLayout
    points: dict[str, Float[Array, "T"]]
    position: tuple[tuple[str, int], ...] = eqx.field(static=True)

    def place(self, name: str) -> int:
        """The layout's mode that the named mode is, or derives from."""
        return dict(self.position)[name]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an array with one number an entry."""
        return self.layout.shape


class Observations(eqx.Module):
    """Values with weights on a domain; weight 0 = not observed, and its value is never seen.

    Attributes:
        domain: where.
        values: (…) data values, 0 where the weight is 0.
        weights: (…) >= 0.
    """

    domain: Domain
    values: Float[Array, "..."]
    weights: Float[Array, "..."]

    @property
    def count(self) -> Float[Array, ""]:
        """Number of entries with a positive weight."""
        return jnp.sum(self.weights > 0).astype(self.values.dtype)


def domain(
    points: dict[str, np.ndarray], parents: dict[str, str], index: Int[np.ndarray, "N D"] | None = None
) -> Domain:
    """A domain from coordinates.

    Args:
        points: mode name -> level coordinates; base modes in the layout's order first.
        parents: derived mode -> its base mode.
        index: (N, D) level of each entry; None: the full grid.
    """
    base = [name for name in points if name not in parents]
    position = {name: k for k, name in enumerate(base)} | {name: base.index(p) for name, p in parents.items()}
    layout: AbstractLayout = Grid(tuple(len(points[n]) for n in base)) if index is None else Points(jnp.asarray(index))
    return Domain(layout, {n: jnp.asarray(p) for n, p in points.items()}, tuple(position.items()))


def observations(where: Domain, values: np.ndarray, weights: np.ndarray) -> Observations:
    """Observations with the values of unobserved entries blanked."""
    seen = weights > 0
    return Observations(where, jnp.asarray(np.where(seen, values, 0.0)), jnp.asarray(np.where(seen, weights, 0.0)))
