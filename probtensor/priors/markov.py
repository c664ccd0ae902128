"""Gaussian processes on a line in time linear in the number of levels, through their state-space form."""

from __future__ import annotations

import jax.numpy as jnp

from probtensor.axes import Axis
from probtensor.errors import ModelError
from probtensor.kernels.base import AbstractKernel, Start
from probtensor.priors.base import AbstractModePrior, Belief, Colouring, Marginals, Sites, divergence, with_empty_sites
from probtensor.statespace.chain import Chain, discretise, run
from probtensor.statespace.smoothing import draw, posterior_chain, smooth, smooth_for_derivatives
from probtensor.typing import Array, Float, Int, Key


class Markov(AbstractModePrior):
    """Independent Gaussian processes with a Markovian kernel, one for each component, smoothed jointly.

    Use it for every one-dimensional coordinate. Cost O(T (S R)^3) for T levels, state size S and R components.

    Args:
        kernel: any but `Custom`: `Matern`, `RBF`, `Periodic`, `Cosine`, `RandomWalk`, `IntegratedRandomWalk`, `Linear`,
            `SpectralMixture`, and sums and products of them.

    Raises:
        ModelError: the kernel has no state-space form.

    Source: Hartikainen and Sarkka 2010; the smoother is described in `probtensor.statespace.smoothing`.
    """

    kernel: AbstractKernel

    def bind(self, axis: Axis, start: Start) -> Markov:
        """Binds the kernel."""
        for part in self.kernel.factors():
            if not part.markovian:
                raise ModelError(
                    f"Markov: {type(part).__name__} has no state-space form; use pt.Dense(kernel) for up to some "
                    "thousands of levels, pt.Nearest(kernel) beyond"
                )
        return Markov(self.kernel.bind(axis, start))

    def _sorted(self, points: Float[Array, "T"], sites: Sites) -> tuple[Array, Chain, Sites]:
        order, sites = jnp.argsort(points), sites.about(None)
        return order, discretise(self.kernel, points[order]), Sites(sites.eta[order], sites.precision[order])

    def posterior(self, points: Float[Array, "T"], sites: Sites) -> Belief:
        """One backward and one forward pass."""
        order, chain, ordered = self._sorted(points, sites)
        smoothed, back = smooth(chain, ordered.eta, ordered.precision), jnp.argsort(order)
        cov = smoothed.cov[back]
        kl = divergence(cov, sites.precision, smoothed.energy, smoothed.log_det)
        return Belief(smoothed.mean[back], cov, smoothed.log_normaliser, kl, points, sites)

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
        """An innovation of every state at every level."""
        return levels, rank, self.kernel.state_size

    def colouring(self, points: Float[Array, "T"]) -> Colouring:
        """The chain driven by the noise."""
        order = jnp.argsort(points)
        return Colouring(_driven, discretise(self.kernel, points[order]), jnp.argsort(order))


def _driven(chain: Chain, back: Int[Array, "T"], white: Float[Array, "T R S"]) -> Float[Array, "T R"]:
    return run(chain, white)[back]
