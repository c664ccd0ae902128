"""Offsets: a constant, one constant for each level of some modes, or for each level of a calendar attribute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from probtensor import hyperparameters
from probtensor.axes import Axis, names_of
from probtensor.hyperparameters import Declaration
from probtensor.observations.domain import Domain, Observations
from probtensor.observations.groups import Groups
from probtensor.priors.base import AbstractModePrior, Belief, Marginals, Sites, empty_sites
from probtensor.priors.categorical import Categorical
from probtensor.terms.base import AbstractBoundTerm, AbstractTerm, Block, DataScale, Places, refuse_repeats
from probtensor.typing import Array, Float, Int, Key


class Offset(AbstractTerm):
    """A constant, or with ``over`` one constant for each level of a mode (each combination, for several).

    The levels are normal around a common mean, both learned, so a level with few data is drawn towards the others and
    a level never seen gets the common mean.

    Args:
        over: a mode's name or several; None for one constant.
        variance: of the levels around their mean, in squared data units; learned by default.

    Raises:
        ModelError: a mode is named twice.
    """

    has_mean: ClassVar[bool] = True

    over: Any = eqx.field(static=True, converter=names_of, default=None)
    variance: Declaration = None

    def __check_init__(self) -> None:
        """Raises ModelError for a mode that is named twice."""
        refuse_repeats("Offset", self.over)

    def mode_names(self, available: Sequence[str]) -> tuple[str, ...]:
        """The modes of ``over``."""
        return self.over

    def bind(self, axes: Mapping[str, Axis], scale: DataScale) -> BoundOffset:
        """Levels are numbered by the distinct coordinates of the training data."""
        groups = Groups.over("Offset", self.over, axes)
        # One level cannot tell the spread of levels, so a lone constant's is held at that of the data.
        variance = hyperparameters.bind(self.variance, np.array([scale.variance]), "variance", held=not self.over)
        mean = jnp.asarray(np.array([scale.mean]))
        prior = Categorical(variance=variance, mean=mean)
        return BoundOffset(groups, Block(prior, jnp.asarray(np.arange(groups.number, dtype=float))))


class Climatology(AbstractTerm):
    """One constant for each level of a calendar attribute, and of further modes.

    Args:
        attribute: ``"time.month"``, ``"time.season"``, ``"time.dayofyear"``, ``"time.hour"``...: a time mode's name, a
            dot and an attribute.
        over: further modes: ``Climatology("time.month", over=("lat", "lon"))`` is the usual monthly climatology.
        variance: of the levels around their mean, in squared data units; learned by default.

    Raises:
        ModelError: a mode is named twice.
    """

    has_mean: ClassVar[bool] = True

    attribute: str = eqx.field(static=True)
    over: Any = eqx.field(static=True, converter=names_of, default=None)
    variance: Declaration = None

    def __check_init__(self) -> None:
        """Raises ModelError for a mode that is named twice."""
        refuse_repeats("Climatology", (self.attribute, *self.over))

    def mode_names(self, available: Sequence[str]) -> tuple[str, ...]:
        """The attribute and the modes of ``over``."""
        return (self.attribute, *self.over)

    def bind(self, axes: Mapping[str, Axis], scale: DataScale) -> BoundOffset:
        """An `Offset` over a derived mode."""
        return Offset((self.attribute, *self.over), self.variance).bind(axes, scale)


class BoundOffset(AbstractBoundTerm):
    """A table of levels: one block whose points are the numbers of the levels' combinations."""

    groups: Groups
    table: Block

    @property
    def over(self) -> tuple[str, ...]:
        """The modes whose levels it has."""
        return self.groups.names

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The table."""
        return (self.table,)

    def with_priors(self, priors: Sequence[AbstractModePrior]) -> BoundOffset:
        """The same table with another prior."""
        return eqx.tree_at(lambda t: t.table.prior, self, priors[0])

    def mode_of(self, block: int) -> str | None:
        """None: a table has numbers of its own for combinations of levels."""
        return None

    def grown(self, axes: Mapping[str, Axis], domain: Domain) -> tuple[BoundOffset, tuple[Places, ...]]:
        """A table of all combinations of old and new levels."""
        groups = Groups.over("Offset", self.over, axes)
        numbers = jnp.arange(groups.number, dtype=self.table.points.dtype)
        larger = eqx.tree_at(lambda t: (t.groups, t.table.points), self, (groups, numbers))
        return larger, (self.groups.among(groups),)

    @property
    def _common_mean(self) -> Float[Array, "1"]:
        prior = self.table.prior
        assert isinstance(prior, Categorical) and prior.mean is not None
        return prior.mean

    def initial(self, key: Key, domain: Domain) -> tuple[Belief, ...]:
        """The prior."""
        sites = empty_sites(self.table.points.shape[0], 1, self.table.points.dtype)
        return (self.table.posterior(sites._replace(origin=self._common_mean)),)

    def block_points(self, domain: Domain) -> tuple[Float[Array, "M"], ...]:
        """Group numbers of the domain's entries; levels never seen, which have the prior, count down from -1."""
        groups = self.groups.of(domain)
        if self.over:
            groups = jnp.where(groups < 0, -1 - self._combinations(domain), groups)
        return (groups.ravel().astype(self.table.points.dtype),)

    def _combinations(self, domain: Domain) -> Int[Array, "..."]:
        """A number for each entry, equal where all coordinates are equal and different elsewhere."""
        number = jnp.zeros((1,) * len(domain.shape), int)
        for name in self.over:
            values = domain.points[name]
            own = domain.layout.combine([domain.base(name)], [_ranks(values)], [values.shape[0]])
            # Ranked again mode by mode, so that the numbers never outgrow the number of entries.
            number = _ranks(number * values.shape[0] + own)
        return number

    def training_marginals(self, beliefs: Sequence[Belief], domain: Domain) -> tuple[Marginals, ...]:
        """The table's rows of the training entries."""
        groups = self.groups.of(domain).ravel()
        return (Marginals(beliefs[0].mean[groups], beliefs[0].cov[groups]),)

    def at_entries(self, values: Sequence[Float[Array, "T R"]], domain: Domain) -> tuple[Float[Array, "M R"], ...]:
        """The table's rows of the training entries."""
        return (values[0][self.groups.of(domain).ravel()],)

    def mean(self, marginals: Sequence[Marginals], domain: Domain) -> Float[Array, "..."]:
        """The table's means, expanded."""
        return self._expand(marginals[0].mean[:, 0], domain)

    def variance(self, marginals: Sequence[Marginals], domain: Domain) -> Float[Array, "..."]:
        """The table's variances, expanded."""
        return self._expand(marginals[0].cov[:, 0, 0], domain)

    def draw(self, values: Sequence[Float[Array, "M R"]], domain: Domain) -> Float[Array, "..."]:
        """The drawn table, expanded."""
        return self._expand(values[0][:, 0], domain)

    def _expand(self, values: Float[Array, "M"], domain: Domain) -> Float[Array, "..."]:
        return jnp.broadcast_to(values.reshape(self.groups.of(domain).shape), domain.shape)

    def total_variance(self, beliefs: Sequence[Belief], observations: Observations) -> Float[Array, ""]:
        """Summed level by level."""
        return jnp.sum(self.counts(0, observations) * beliefs[0].cov[:, 0, 0])

    def counts(self, block: int, observations: Observations) -> Float[Array, "T"]:
        """Summed level by level."""
        return self.groups.sums(observations.weights, observations.domain)

    def sites(
        self, block: int, beliefs: Sequence[Belief], observations: Observations, residual: Float[Array, "..."]
    ) -> Sites:
        """Sums of weights and weighted residuals of each level, about the levels' common mean."""
        weights, domain, origin = observations.weights, observations.domain, self._common_mean
        precision = self.groups.sums(weights, domain)
        eta = self.groups.sums(weights * (residual - origin[0]), domain)
        return Sites(eta[:, None], precision[:, None, None], origin)


def _ranks(values: Array) -> Int[Array, "..."]:
    """For each value its position among the distinct ones."""
    return jnp.unique(values, return_inverse=True, size=values.size)[1].reshape(values.shape)
