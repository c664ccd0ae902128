"""The CP decomposition whose factors are functions: a sum of R products of one function for each mode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from probtensor.axes import Axis
from probtensor.errors import ModelError
from probtensor.linalg.packing import multiplicity, outer, pack, unpack
from probtensor.observations.domain import Domain, Observations
from probtensor.observations.layout import Place
from probtensor.priors.base import AbstractModePrior, Belief, Marginals, Sites
from probtensor.terms import modes as modes_of_term
from probtensor.terms.base import AbstractBoundTerm, AbstractTerm, Block, DataScale
from probtensor.terms.start import positive_starts
from probtensor.typing import Array, Float, Key


class CP(AbstractTerm):
    """A sum of ``rank`` components, each the product of one function of each mode.

    Args:
        rank: number of components R, a positive integer, or ``"auto"`` to learn it.
        modes: which modes it reads: a dict of mode priors (``None`` = the default for that coordinate; a bare kernel
            means ``Markov(kernel)``; the key ``...`` stands for every other mode), a list of names, or None for all. A
            tuple of names joins dimensions into one mode, as in ``{("lat", "lon"): None, ...: None}``: its functions
            are surfaces over all combinations of their levels.

    Raises:
        ModelError: the rank is neither a positive integer nor ``"auto"``, a mode is named twice (alone and joined, for
            example), or a prior is not one.
    """

    rank: int | str = eqx.field(static=True)
    modes: modes_of_term.Declared

    def __init__(self, rank: int | str, modes: Mapping[Any, Any] | Sequence[str] | None = None) -> None:
        """See the class."""
        self.rank = rank
        self.modes = modes_of_term.declare(modes)

    def __check_init__(self) -> None:
        """Raises ModelError for a bad rank, mode or prior."""
        if self.rank != modes_of_term.AUTO and not modes_of_term.is_rank(self.rank):
            raise ModelError(f"CP(rank={self.rank!r}): the rank must be a positive integer, or 'auto' to learn it")
        modes_of_term.check("CP", self.modes)

    def mode_names(self, available: Sequence[str]) -> tuple[str, ...]:
        """The named modes, with ``...`` or None standing for all others."""
        return modes_of_term.names("CP", self.modes, available)

    def bind(self, axes: Mapping[str, Axis], scale: DataScale) -> BoundCP:
        """Chooses defaults, starts lengthscales at several scales, and puts the variance into one mode."""
        rank = modes_of_term.number("CP", self.rank)
        chosen = modes_of_term.choose("CP", self.modes, axes)
        carrier, priors = chosen.carrier, chosen.active
        # The first block's start is never read, so the carrier, whose scale is the data's, comes first.
        active = [carrier, *(n for n in sorted(priors) if n != carrier)]
        blocks = []
        for n in active:
            variances = np.full(rank, scale.variance / rank if n == carrier else 1.0)
            start = scale.start(axes[n], variances, n == carrier)
            blocks.append(Block(modes_of_term.bind("CP", priors[n], axes[n], start), jnp.asarray(axes[n].points)))
        return BoundCP(rank, tuple(active), chosen.constant, tuple(blocks))


class BoundCP(AbstractBoundTerm):
    """A CP with numbers: one block for each mode that varies."""

    rank: int = eqx.field(static=True)
    names: tuple[str, ...] = eqx.field(static=True)
    constant: tuple[str, ...] = eqx.field(static=True)
    factors: tuple[Block, ...]

    @property
    def blocks(self) -> tuple[Block, ...]:
        """One for each mode that varies, in the order of `names`."""
        return self.factors

    def with_priors(self, priors: Sequence[AbstractModePrior]) -> BoundCP:
        """The same modes with other priors."""
        blocks = tuple(Block(prior, block.points) for prior, block in zip(priors, self.factors, strict=True))
        return BoundCP(self.rank, self.names, self.constant, blocks)

    def mode_of(self, block: int) -> str:
        """The mode whose functions a block holds."""
        return self.names[block]

    def letters(self, block: int) -> str:
        """One for the components, which all blocks share."""
        return "a"

    def initial(self, key: Key, domain: Domain) -> tuple[Belief, ...]:
        """Random values, which the first sweep smooths; zero for the first block.

        A sweep updates the first block from the others without reading it; at zero the whole term starts at zero, so
        that terms updated before it see the data as they are.
        """
        scales = [float(k > 0) for k in range(len(self.factors))]
        return positive_starts(key, self.factors, [self.rank] * len(self.factors), scales)

    def block_points(self, domain: Domain) -> tuple[Float[Array, "M ..."], ...]:
        """The coordinates of each mode's levels."""
        return tuple(domain.points[name] for name in self.names)

    def training_marginals(self, beliefs: Sequence[Belief], domain: Domain) -> tuple[Marginals, ...]:
        """The beliefs' own."""
        return tuple(b.marginals for b in beliefs)

    def _at(
        self, columns: Sequence[Float[Array, "T C"]], domain: Domain, skip: int | None = None
    ) -> dict[Place, Array]:
        """Columns by place; two functions of one place multiply."""
        placed: dict[Place, Array] = {}
        for k, (name, column) in enumerate(zip(self.names, columns, strict=True)):
            if k != skip:
                place = domain.place(name)
                placed[place] = placed[place] * column if place in placed else column
        return placed

    def draw(self, values: Sequence[Float[Array, "M R"]], domain: Domain) -> Float[Array, "..."]:
        """Sum over components of the product of the functions."""
        return domain.layout.evaluate(self._at(values, domain))

    def mean(self, marginals: Sequence[Marginals], domain: Domain) -> Float[Array, "..."]:
        """Functions of different modes are independent under the posterior: the product of their means."""
        return self.draw([m.mean for m in marginals], domain)

    def _telescope(self, marginals: Sequence[Marginals]) -> list[list[Float[Array, "T C"]]]:
        """For each mode d the packed columns: second moments before d, covariance at d, squared means after d."""
        double = jnp.asarray(multiplicity(self.rank), dtype=marginals[0].mean.dtype)[None]
        second = [pack(m.second_moment()) for m in marginals]
        squared = [outer(m.mean) for m in marginals]
        cov = [pack(m.cov) for m in marginals]
        parts = []
        for d in range(len(marginals)):
            parts.append([*second[:d], cov[d] * double, *squared[d + 1 :]])
        return parts

    def variance(self, marginals: Sequence[Marginals], domain: Domain) -> Float[Array, "..."]:
        """Telescoped over the modes, every part positive: never E[f^2] - E[f]^2."""
        parts = [domain.layout.evaluate(self._at(part, domain)) for part in self._telescope(marginals)]
        return jnp.maximum(sum(parts[1:], start=parts[0]), 0.0)

    def total_variance(self, beliefs: Sequence[Belief], observations: Observations) -> Float[Array, ""]:
        """The telescoped variance, contracted with the weights before it is ever formed."""
        domain = observations.domain
        total = jnp.zeros((), observations.values.dtype)
        for d, part in enumerate(self._telescope([b.marginals for b in beliefs])):
            place = domain.place(self.names[d])
            others = self._at(part, domain, skip=d)
            own = others.pop(place, jnp.ones((), part[d].dtype)) * part[d]
            levels = own.shape[0]
            total = total + jnp.sum(domain.layout.contract(observations.weights, others, place, levels) * own)
        return total

    def counts(self, block: int, observations: Observations) -> Float[Array, "T"]:
        """Summed over the other modes."""
        domain, levels = observations.domain, self.factors[block].points.shape[0]
        return domain.layout.contract(observations.weights, {}, domain.place(self.names[block]), levels)[:, 0]

    def sites(
        self, block: int, beliefs: Sequence[Belief], observations: Observations, residual: Float[Array, "..."]
    ) -> Sites:
        """precision_t = sum of w E[a a'] and eta_t = sum of w r E[a], a the product of the other modes' functions."""
        domain, weights = observations.domain, observations.weights
        place, levels = domain.place(self.names[block]), beliefs[block].mean.shape[0]
        eta = self._contract([b.mean for b in beliefs], block, domain, weights * residual, place, levels)
        second = [pack(b.marginals.second_moment()) for b in beliefs]
        packed = self._contract(second, block, domain, weights, place, levels)
        return Sites(eta, unpack(packed, self.rank))

    def _contract(
        self, columns: Sequence[Array], block: int, domain: Domain, values: Array, place: Place, levels: int
    ) -> Float[Array, "T C"]:
        others = self._at(columns, domain, skip=block)
        own = others.pop(place, None)
        contracted = domain.layout.contract(values, others, place, levels)
        contracted = jnp.broadcast_to(contracted, (levels, columns[0].shape[1]))
        return contracted if own is None else contracted * own
