"""Gaussian processes on a line or a circle in time linear in the number of levels, through their state-space form."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax.numpy as jnp

from probtensor import hyperparameters
from probtensor.axes import Axis
from probtensor.errors import ModelError
from probtensor.kernels.base import AbstractKernel, Start
from probtensor.kernels.spectral import check_spectral
from probtensor.priors.base import (
    AbstractModePrior,
    Belief,
    Colouring,
    Marginals,
    Sites,
    Turns,
    divergence,
    with_empty_sites,
)
from probtensor.priors.laying import check_period
from probtensor.statespace import ring
from probtensor.statespace.apart import smooth_apart
from probtensor.statespace.chain import Chain, discretise
from probtensor.statespace.smoothing import by_adjoint, draw, posterior_chain, run, smooth, smooth_for_derivatives
from probtensor.typing import Array, Float, Int, Key

#: Matrices between all states that are kept for each level while a posterior and its gradient are computed.
_MATRICES = 9


class Markov(AbstractModePrior):
    """Independent Gaussian processes with a Markovian kernel, one for each component, smoothed jointly.

    Use it for every one-dimensional coordinate. Cost O(T (S R)^3) for T levels, state size S and R components.

    With a period the line is a circle, as in `Cyclic` and with the same covariance, at twice the states: values and
    slopes at x and x + period are the same. It is the default of up to 10 functions of a longitude that goes around the
    globe, and the cheaper one of the two for many levels and components; `Cyclic` is for levels that repeat often.

    Args:
        kernel: any but `Custom`: `Matern`, `RBF`, `Periodic`, `Cosine`, `RandomWalk`, `IntegratedRandomWalk`, `Linear`,
            `SpectralMixture`, and sums and products of them; on a circle `Matern`, `RBF` and sums of them.
        period: after which the coordinate closes, in its unit (on a time axis days, or a string such as ``"365.25D"``);
            it is not learned. None: it does not.

    Raises:
        ModelError: the kernel has no state-space form, or with a period no form on a circle; a period that is no finite
            number above zero or duration.

    Source: Hartikainen and Sarkka 2010; the smoother is described in ``probtensor.statespace.smoothing``, the circle in
    ``probtensor.statespace.ring``.
    """

    kernel: AbstractKernel
    period: Any = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        """Raises ModelError for what is no period, or for a kernel that cannot go around."""
        if self.period is not None:
            check_period("Markov", self.period)
            check_spectral(self.kernel)

    def bind(self, axis: Axis, start: Start) -> Markov:
        """Binds the kernel."""
        for part in self.kernel.factors():
            if not part.markovian:
                raise ModelError(
                    f"Markov: {type(part).__name__} has no state-space form; use pt.Dense(kernel) for up to some "
                    "thousands of levels, pt.Nearest(kernel) beyond"
                )
        period = None
        if self.period is not None:
            period = hyperparameters.number_of(getattr(self.period, "value", self.period), axis, "Markov: period")
        return Markov(self.kernel.bind(axis, start), period)

    def _chain(self, points: Float[Array, "T"]) -> tuple[Array, Chain]:
        """The order of the points along the line or the circle, and the chain of states along it."""
        if self.period is None:
            order = jnp.argsort(points)
            return order, discretise(self.kernel, points[order])
        turned = points % self.period
        order = jnp.argsort(turned)
        return order, ring.discretise(self.kernel, turned[order], self.period)

    def _sorted(self, points: Float[Array, "T"], sites: Sites) -> tuple[Array, Chain, Sites]:
        (order, chain), sites = self._chain(points), sites.about(None)
        return order, chain, Sites(sites.eta[order], sites.precision[order])

    def posterior(self, points: Float[Array, "T"], sites: Sites) -> Belief:
        """One backward and one forward pass."""
        order, chain, ordered = self._sorted(points, sites)
        smoothed, back = smooth(chain, ordered.eta, ordered.precision), jnp.argsort(order)
        cov = smoothed.cov[back]
        kl = divergence(cov, sites.precision, smoothed.energy, smoothed.log_det)
        return Belief(smoothed.mean[back], cov, smoothed.log_normaliser, kl, points, sites)

    def in_turns(self, points: Float[Array, "T"], sites: Sites, mean: Float[Array, "T R"]) -> Turns:
        """Covariances of all functions side by side, and only means in turn, where that can be done."""
        if not by_adjoint(sites.eta):
            return super().in_turns(points, sites, mean)
        order, chain, ordered = self._sorted(points, sites)
        found, back = smooth_apart(chain, ordered.eta, ordered.precision, mean[order]), jnp.argsort(order)
        own = jnp.diagonal(ordered.precision, axis1=1, axis2=2)
        kl = divergence(found.variance, own, found.energy, found.log_det)
        return Turns(found.mean[back], found.variance[back], found.eta[back], found.log_normaliser, kl)

    def predict(self, belief: Belief, new_points: Float[Array, "M"]) -> Marginals:
        """Smoothing with empty sites at the new points; has derivatives with respect to these, between levels."""
        order, chain, ordered = self._sorted(*with_empty_sites(belief, new_points))
        new = jnp.argsort(order)[belief.points.shape[0] :]
        mean, cov = smooth_for_derivatives(chain, ordered.eta, ordered.precision)
        return Marginals(mean[new], cov[new])

    def sample(self, belief: Belief, new_points: Float[Array, "M"], key: Key, n: int) -> Float[Array, "n M R"]:
        """The posterior chain run forward with noise."""
        order, chain, ordered = self._sorted(*with_empty_sites(belief, new_points))
        values = draw(chain, posterior_chain(chain, ordered.eta, ordered.precision), key, n)
        return values[:, jnp.argsort(order)][:, belief.points.shape[0] :]

    def white_shape(self, levels: int, rank: int) -> tuple[int, ...]:
        """An innovation of every state at every level; on a circle there are twice as many."""
        return levels, rank, self.kernel.state_size * (1 if self.period is None else 2)

    def workspace(self, levels: int, rank: int) -> int:
        """Matrices between all states at each level: of the two passes, and of the gradient after them."""
        _, _, states = self.white_shape(levels, rank)
        return _MATRICES * levels * (rank * states) ** 2

    def colouring(self, points: Float[Array, "T"]) -> Colouring:
        """The chain driven by the noise."""
        order, chain = self._chain(points)
        return Colouring(_driven, chain, jnp.argsort(order))


def _driven(chain: Chain, back: Int[Array, "T"], white: Float[Array, "T R S"]) -> Float[Array, "T R"]:
    return run(chain, white)[back]
