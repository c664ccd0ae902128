"""A term some of whose functions are switched off: every rank up to a capacity is then one and the same program."""

from __future__ import annotations

from collections.abc import Sequence

from probtensor.observations.domain import Domain, Observations
from probtensor.priors.base import AbstractModePrior, Belief, Marginals, Sites
from probtensor.terms.base import AbstractBoundTerm, Block
from probtensor.typing import Array, Float, Key


class Switched(AbstractBoundTerm):
    """Another term with a switch for each of its functions.

    A function that is off is exactly zero wherever the term is read, and the data say nothing of it: its belief is its
    prior, its divergence and every gradient of its hyper-parameters are zero. So the objective is that of the term
    with fewer functions, while shapes stay the same.

    Attributes:
        term: with functions to spare.
        active: for each block (R,), 1 where a function is on and 0 where it is off; traced, so that switching compiles
            nothing.
    """

    term: AbstractBoundTerm
    active: tuple[Float[Array, "R"], ...]

    def _switched(self, marginals: Sequence[Marginals]) -> tuple[Marginals, ...]:
        pairs = zip(marginals, self.active, strict=True)
        return tuple(Marginals(m.mean * a, m.cov * a[:, None] * a) for m, a in pairs)

    def _on(self, beliefs: Sequence[Belief]) -> list[Belief]:
        switched = self._switched([b.marginals for b in beliefs])
        return [b._replace(mean=m.mean, cov=m.cov) for b, m in zip(beliefs, switched, strict=True)]

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Those of the term."""
        return self.term.blocks

    def with_priors(self, priors: Sequence[AbstractModePrior]) -> Switched:
        """The same term and switches with other priors."""
        return Switched(self.term.with_priors(priors), self.active)

    def mode_of(self, block: int) -> str | None:
        """That of the term."""
        return self.term.mode_of(block)

    def initial(self, key: Key, domain: Domain) -> tuple[Belief, ...]:
        """The term's own start."""
        return self.term.initial(key, domain)

    def block_points(self, domain: Domain) -> tuple[Float[Array, "M ..."], ...]:
        """Those of the term."""
        return self.term.block_points(domain)

    def training_marginals(self, beliefs: Sequence[Belief], domain: Domain) -> tuple[Marginals, ...]:
        """The term's own."""
        return self.term.training_marginals(beliefs, domain)

    def at_entries(self, values: Sequence[Float[Array, "T R"]], domain: Domain) -> tuple[Float[Array, "M R"], ...]:
        """The term's own."""
        return self.term.at_entries(values, domain)

    def mean(self, marginals: Sequence[Marginals], domain: Domain) -> Float[Array, "..."]:
        """Of the functions that are on."""
        return self.term.mean(self._switched(marginals), domain)

    def variance(self, marginals: Sequence[Marginals], domain: Domain) -> Float[Array, "..."]:
        """Of the functions that are on."""
        return self.term.variance(self._switched(marginals), domain)

    def draw(self, values: Sequence[Float[Array, "M R"]], domain: Domain) -> Float[Array, "..."]:
        """Of the functions that are on."""
        return self.term.draw([v * a for v, a in zip(values, self.active, strict=True)], domain)

    def total_variance(self, beliefs: Sequence[Belief], observations: Observations) -> Float[Array, ""]:
        """Of the functions that are on."""
        return self.term.total_variance(self._on(beliefs), observations)

    def counts(self, block: int, observations: Observations) -> Float[Array, "T"]:
        """The term's own."""
        return self.term.counts(block, observations)

    def sites(
        self, block: int, beliefs: Sequence[Belief], observations: Observations, residual: Float[Array, "..."]
    ) -> Sites:
        """The term's, empty for functions that are off."""
        sites, on = self.term.sites(block, self._on(beliefs), observations, residual), self.active[block]
        return sites._replace(eta=sites.eta * on, precision=sites.precision * on[:, None] * on)
