"""Terms that are linear in each of their blocks: a tensor network of functions.

With the blocks independent of each other under the posterior, every moment that a term must give is a contraction of
the network: the mean with the blocks' means, the variance with their second moments, the sites of a block with that
block left out. A term says how its blocks are wired; the contractions are the layout's.

Second-order networks have the same wiring over pairs of indices. Where a pair is summed, one of its two ends is
symmetric in it, so only the pairs i <= j are kept: that end is packed, the other folded (see `linalg.packing`).
"""

from __future__ import annotations

import abc
from collections.abc import Sequence

import jax.numpy as jnp

from probtensor.observations.domain import Domain, Observations
from probtensor.observations.layout import Factor
from probtensor.priors.base import Belief, Marginals, Sites
from probtensor.terms.base import AbstractBoundTerm
from probtensor.typing import Array, Float


class AbstractNetwork(AbstractBoundTerm):
    """A term whose value is a contraction of its blocks' values."""

    @abc.abstractmethod
    def letters(self, block: int) -> str:
        """Names of a block's axes behind its levels; axes of two blocks with one name are contracted."""

    @abc.abstractmethod
    def arranged(self, block: int, values: Float[Array, "T R"]) -> Float[Array, "T ..."]:
        """A block's R functions along its axes."""

    @abc.abstractmethod
    def paired(self, block: int, matrices: Float[Array, "T R R"], without: int | None) -> Float[Array, "T ..."]:
        """Symmetric matrices between a block's functions, along its axes of pairs.

        without: the block that is left out of the network, towards which nothing is summed.
        """

    @abc.abstractmethod
    def unpaired(self, block: int, pairs: Float[Array, "T ..."]) -> Float[Array, "T R R"]:
        """The matrices over a block's functions whose entries the network without this block gave by pairs."""

    def training_marginals(self, beliefs: Sequence[Belief], domain: Domain) -> tuple[Marginals, ...]:
        """The beliefs' own."""
        return tuple(b.marginals for b in beliefs)

    def block_points(self, domain: Domain) -> tuple[Float[Array, "M ..."], ...]:
        """The coordinates of each mode's levels; a core's single point."""
        names = [self.mode_of(k) for k in range(len(self.blocks))]
        return tuple(b.points if n is None else domain.points[n] for n, b in zip(names, self.blocks, strict=True))

    def _wired(self, arrays: Sequence[Array], domain: Domain, without: int | None = None) -> list[Factor]:
        factors = []
        for k, array in enumerate(arrays):
            mode = self.mode_of(k)
            if k != without:
                place = None if mode is None else domain.place(mode)
                factors.append(Factor(place, array[0] if mode is None else array, self.letters(k)))
        return factors

    def draw(self, values: Sequence[Float[Array, "M R"]], domain: Domain) -> Float[Array, "..."]:
        """The network of the given values."""
        return domain.layout.evaluate_network(self._wired([self.arranged(k, v) for k, v in enumerate(values)], domain))

    def mean(self, marginals: Sequence[Marginals], domain: Domain) -> Float[Array, "..."]:
        """Blocks are independent under the posterior: the network of their means."""
        return self.draw([m.mean for m in marginals], domain)

    def _telescope(self, marginals: Sequence[Marginals], domain: Domain) -> list[list[Factor]]:
        """For each block k a network: second moments before k, covariance at k, squared means after k."""
        second, cov, squared = [], [], []
        for k, m in enumerate(marginals):
            outer = m.mean[:, :, None] * m.mean[:, None, :]
            second.append(self.paired(k, m.cov + outer, None))
            cov.append(self.paired(k, m.cov, None))
            squared.append(self.paired(k, outer, None))
        return [self._wired([*second[:k], cov[k], *squared[k + 1 :]], domain) for k in range(len(marginals))]

    def variance(self, marginals: Sequence[Marginals], domain: Domain) -> Float[Array, "..."]:
        """Telescoped over the blocks, every part positive: never E[f^2] - E[f]^2."""
        parts = [domain.layout.evaluate_network(part) for part in self._telescope(marginals, domain)]
        return jnp.maximum(sum(parts[1:], start=parts[0]), 0.0)

    def total_variance(self, beliefs: Sequence[Belief], observations: Observations) -> Float[Array, ""]:
        """The telescoped variance, contracted with the weights before it is ever formed."""
        domain, weights = observations.domain, observations.weights
        parts = self._telescope(self.training_marginals(beliefs, domain), domain)
        totals = [domain.layout.contract_network(weights, part, "", None) for part in parts]
        return sum(totals[1:], start=totals[0])

    def counts(self, block: int, observations: Observations) -> Float[Array, "T"]:
        """Summed over the other modes; every observation reaches a core."""
        mode, domain = self.mode_of(block), observations.domain
        if mode is None:
            return jnp.sum(observations.weights)[None]
        levels = self.blocks[block].points.shape[0]
        return domain.layout.contract(observations.weights, {}, domain.place(mode), levels)[:, 0]

    def sites(
        self, block: int, beliefs: Sequence[Belief], observations: Observations, residual: Float[Array, "..."]
    ) -> Sites:
        """precision_t = sum of w E[a a'] and eta_t = sum of w r E[a], where f = a'u for the block's functions u."""
        domain, weights = observations.domain, observations.weights
        means = [self.arranged(k, b.mean) for k, b in enumerate(beliefs)]
        pairs = [
            means[k] if k == block else self.paired(k, b.marginals.second_moment(), block)
            for k, b in enumerate(beliefs)
        ]
        eta = self._contract(weights * residual, means, block, domain)
        precision = self.unpaired(block, self._contract(weights, pairs, block, domain))
        return Sites(eta.reshape(beliefs[block].mean.shape), precision)

    def _contract(
        self, values: Float[Array, "..."], arrays: Sequence[Array], block: int, domain: Domain
    ) -> Float[Array, "T ..."]:
        """What the network without a block gives at each of its levels, along its axes."""
        mode, out = self.mode_of(block), self.letters(block)
        factors = self._wired(arrays, domain, without=block)
        if mode is None:
            return domain.layout.contract_network(values, factors, out, None)[None]
        return domain.layout.contract_network(values, factors, out, domain.place(mode), arrays[block].shape[0])
