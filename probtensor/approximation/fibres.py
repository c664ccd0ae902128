"""Fibres: the function along lines parallel to one axis, sampled as finely as it takes."""

from __future__ import annotations

import equinox as eqx
import numpy as np
from numpy.polynomial.chebyshev import chebval

from probtensor.approximation import chebyshev
from probtensor.approximation.chebyshev import Decay, Grid
from probtensor.approximation.sampling import Sampler
from probtensor.typing import Float

#: Points between those of the grid at which each fibre is looked at, too: a polynomial through too few points of an
#: oscillation can look perfectly smooth.
PROBES = 3

#: Deviations of so many standard deviations are no longer noise.
FAR = 20.0


class Fibres(eqx.Module):
    """The function along m lines parallel to one axis.

    Attributes:
        axis: which.
        grid: n points along it.
        anchors: a point on each line; its own coordinate along the axis is not read.
        values: the function at the grid points of each line.
        probe_t: further places of each line, in [-1, 1].
        probe_values: the function there.
        decay: how the coefficients fall off; None before they were looked at.
        noisy: whether they end in a floor of noise, which no finer grid lowers.
        misfit: largest deviation at the probes from the polynomials through the values.
        stopped: why the grid is no finer although it should be: "", "degree" or "evaluations".
    """

    axis: int = eqx.field(static=True)
    grid: Grid
    anchors: Float[np.ndarray, "m D"]
    values: Float[np.ndarray, "n m"]
    probe_t: Float[np.ndarray, "q m"]
    probe_values: Float[np.ndarray, "q m"]
    decay: Decay | None = None
    noisy: bool = False
    misfit: float = 0.0
    stopped: str = ""

    @property
    def cost(self) -> int:
        """Evaluations of one more fibre."""
        return self.grid.count + PROBES

    def joined(self, other: Fibres) -> Fibres:
        """These and other fibres on the same grid."""
        return Fibres(
            self.axis,
            self.grid,
            np.vstack([self.anchors, other.anchors]),
            np.hstack([self.values, other.values]),
            np.hstack([self.probe_t, other.probe_t]),
            np.hstack([self.probe_values, other.probe_values]),
            self.decay,
            self.noisy,
            self.misfit,
            self.stopped,
        )

    def chosen(self, columns: np.ndarray) -> Fibres:
        """Some of the fibres."""
        return eqx.tree_at(
            lambda fibres: (fibres.anchors, fibres.values, fibres.probe_t, fibres.probe_values),
            self,
            (self.anchors[columns], self.values[:, columns], self.probe_t[:, columns], self.probe_values[:, columns]),
        )


def through(
    sampler: Sampler, axis: int, grid: Grid, anchors: Float[np.ndarray, "m D"], rng: np.random.Generator
) -> Fibres:
    """The fibres along an axis through some points. Takes m (n + 3) evaluations."""
    t = rng.uniform(-1.0, 1.0, (PROBES, len(anchors)))
    x = sampler.box.place(axis, t)
    values = _along(sampler, axis, np.repeat(grid.x[:, None], len(anchors), axis=1), anchors)
    return Fibres(axis, grid, anchors, values, sampler.box.unit(axis, x), _along(sampler, axis, x, anchors))


def _along(
    sampler: Sampler, axis: int, x: Float[np.ndarray, "n m"], anchors: Float[np.ndarray, "m D"]
) -> Float[np.ndarray, "n m"]:
    points = np.repeat(anchors[None], len(x), axis=0)
    points[:, :, axis] = x
    return sampler(points.reshape(-1, points.shape[2])).reshape(x.shape)


def resolved(fibres: Fibres, sampler: Sampler, tolerance: float, max_degree: int, most: int) -> Fibres:
    """The same fibres on a grid fine enough for them: their coefficients fall below the tolerance, the probes agree.

    The number of intervals is doubled until then, or until nothing but noise is left, or a limit is reached.

    Args:
        fibres: on the coarsest grid that may do.
        sampler: the function.
        tolerance: relative to the largest value seen, for the deviation at the probes; a tenth of it for coefficients.
        max_degree: highest degree.
        most: evaluations that this may take.
    """
    before: Decay | None = None
    while True:
        coefficients = fibres.grid.coefficients(sampler.scaled(fibres.values))
        decay = chebyshev.decay(coefficients, 0.1 * tolerance * sampler.relative)
        misfit = _misfit(coefficients, fibres, sampler) / (sampler.relative or 1.0)
        floor = fibres.noisy and decay.kind == "flat" and not decay.resolved
        noisy = (floor or decay.is_noise(before)) and misfit * sampler.relative < FAR * decay.noise
        count = 2 * fibres.grid.count - 1
        wanted = not noisy and not (decay.resolved and misfit <= tolerance)
        cost = (count // 2) * len(fibres.anchors)
        stopped = "" if not wanted else "degree" if count - 1 > max_degree else "evaluations" if cost > most else ""
        if not wanted or stopped:
            return eqx.tree_at(
                lambda old: (old.decay, old.noisy, old.misfit, old.stopped),
                fibres,
                (decay, noisy, misfit, stopped),
                is_leaf=lambda leaf: leaf is None,
            )
        fibres, before, most = _doubled(fibres, sampler), decay, most - cost


def _doubled(fibres: Fibres, sampler: Sampler) -> Fibres:
    grid = chebyshev.grid(sampler.box, fibres.axis, 2 * fibres.grid.count - 1, fibres.grid)
    between = np.repeat(grid.x[1::2, None], len(fibres.anchors), axis=1)
    values = np.empty((grid.count, len(fibres.anchors)))
    values[::2] = fibres.values
    values[1::2] = _along(sampler, fibres.axis, between, fibres.anchors)
    return eqx.tree_at(lambda old: (old.grid, old.values), fibres, (grid, values))


def _misfit(coefficients: Float[np.ndarray, "n m"], fibres: Fibres, sampler: Sampler) -> float:
    polynomials = np.stack([chebval(t, coefficients, tensor=False) for t in fibres.probe_t])
    return float(np.abs(polynomials - sampler.scaled(fibres.probe_values)).max(initial=0.0))
