"""The local term: a Gaussian process over several modes without low rank, conditioned on nearest neighbours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from probtensor.axes import Axis, axis_of
from probtensor.errors import ModelError
from probtensor.kernels.adapted import adapted_part
from probtensor.kernels.base import AbstractKernel
from probtensor.kernels.field import AbstractFieldKernel, FieldStart
from probtensor.observations.domain import Domain, Observations
from probtensor.priors.base import AbstractModePrior, Belief, Marginals, Sites
from probtensor.terms.base import AbstractBoundTerm, AbstractTerm, Block, DataScale, absent
from probtensor.typing import Array, Float, Key

#: What ``neighbours=None`` means, where there are so many observations.
_NEIGHBOURS = 30
#: Share of the data's variance that the local term starts with.
_SHARE = 0.5
#: Lengthscales that learning starts from, as fractions of every range.
_FRACTIONS = (0.3, 0.1, 0.03, 0.01, 0.003)


class Local(AbstractTerm):
    """A Gaussian process over several modes, in linear time by nearest-neighbour (Vecchia) conditioning.

    Inside it is one with the noise: the residual of the other terms is one correlated Gaussian, so that the local term
    cannot explain away what belongs to them. Several local terms are one with the summed kernel. It needs observations
    themselves: `Posterior.update` keeps them, or with ``lag=`` the newest.

    Args:
        kernel: kernels of chosen coordinates, ``Matern(1/2).on("time") * Matern(3/2).on("lat", "lon")``, their sums and
            products; a plain kernel is one factor for each mode of the data. One factor of a single product may be
            ``adapted()``: its covariance then differs from place to place as the data say.
        neighbours: how many entries each is conditioned on: cost grows with its third power, accuracy with it. None:
            30, or all earlier ones where there are fewer.

    Raises:
        ModelError: the number of neighbours is not a positive integer, the kernel is not one, or it has an adapted part
            in a sum, in several factors, or beside another factor of the same coordinates.

    Source: Vecchia 1988; Datta et al. 2016; Finley et al. 2019.
    """

    kernel: AbstractFieldKernel | AbstractKernel
    neighbours: int | None = eqx.field(static=True, default=None)

    def __check_init__(self) -> None:
        """Raises ModelError for a bad number of neighbours or kernel."""
        number = 1 if self.neighbours is None else self.neighbours
        if isinstance(number, bool) or not isinstance(number, int | np.integer) or number < 1:
            raise ModelError(
                f"Local(neighbours={self.neighbours!r}): expected a positive integer, or None for the default"
            )
        if not isinstance(self.kernel, AbstractFieldKernel | AbstractKernel):
            raise ModelError(
                f"Local({self.kernel!r}): expected a kernel of chosen coordinates, as in Matern(3/2).on('time')"
            )
        if isinstance(self.kernel, AbstractFieldKernel):
            adapted_part(self.kernel)  # refuses what cannot be learned

    def mode_names(self, available: Sequence[str]) -> tuple[str, ...]:
        """The coordinates that the kernel reads; all of the data's for a plain kernel.

        Raises ModelError for one that the data do not have.
        """
        if not isinstance(self.kernel, AbstractFieldKernel):
            return tuple(available)
        for name in self.kernel.dims:
            if name not in available:
                raise absent("Local: its kernel reads the coordinate", name, available)
        return self.kernel.dims

    def check(self, observations: int) -> None:
        """Raises ModelError for a given number of neighbours that is larger than the number of observations.

        Args:
            observations: how many there are.

        Raises:
            ModelError: there are fewer.
        """
        if self.neighbours is not None and self.neighbours > observations:
            raise ModelError(
                f"Local(neighbours={self.neighbours}): there are only {observations} observations; leave neighbours out"
            )

    def bind(self, axes: Mapping[str, Axis], scale: DataScale) -> BoundLocal:
        """Starts at several fractions of every range. Raises ModelError for a mode that it cannot read."""
        available = [n for n, axis in axes.items() if not (axis.parent or axis.parts)]
        names = self.mode_names(available)
        varying = [n for n in names if axis_of("Local", n, axes).size > 1]
        kernel = _on_each(self.kernel, varying or list(names[:1]))
        start = _SHARE * scale.variance
        first, *others = (kernel.bind(axes, available, FieldStart(f, start, scale.periods), True) for f in _FRACTIONS)
        neighbours = _NEIGHBOURS if self.neighbours is None else int(self.neighbours)
        return BoundLocal(first, tuple(available), neighbours, tuple(others))


def _on_each(kernel: AbstractFieldKernel | AbstractKernel, names: Sequence[str]) -> AbstractFieldKernel:
    if isinstance(kernel, AbstractFieldKernel):
        return kernel
    first, *others = (kernel.on(name) for name in names)
    whole: AbstractFieldKernel = first
    for other in others:
        whole = whole * other
    return whole


class BoundLocal(AbstractBoundTerm):
    """A kernel with numbers; it has no blocks, since it is one with the noise.

    Attributes:
        kernel: where learning starts, or what it found.
        names: of all modes of the data, in the order of the columns that the kernel reads.
        neighbours: how many entries each is conditioned on, or fewer.
        starts: the same kernel at other scales, where learning starts as well.
    """

    kernel: AbstractFieldKernel
    names: tuple[str, ...] = eqx.field(static=True)
    neighbours: int = eqx.field(static=True)
    starts: tuple[AbstractFieldKernel, ...] = ()

    @property
    def blocks(self) -> tuple[Block, ...]:
        """None."""
        return ()

    def with_priors(self, priors: Sequence[AbstractModePrior]) -> BoundLocal:
        """Itself."""
        return self

    def mode_of(self, block: int) -> str | None:
        """There is no block to have any."""
        raise IndexError("a local term has no blocks")

    def initial(self, key: Key, domain: Domain) -> tuple[Belief, ...]:
        """Nothing to believe."""
        return ()

    def block_points(self, domain: Domain) -> tuple[Float[Array, "M"], ...]:
        """None."""
        return ()

    def training_marginals(self, beliefs: Sequence[Belief], domain: Domain) -> tuple[Marginals, ...]:
        """None."""
        return ()

    def mean(self, marginals: Sequence[Marginals], domain: Domain) -> Float[Array, "..."]:
        """Zero before the data are seen; what it is after, `engines.collapsed` says."""
        return jnp.zeros(domain.shape)

    def variance(self, marginals: Sequence[Marginals], domain: Domain) -> Float[Array, "..."]:
        """Zero: counted as noise."""
        return jnp.zeros(domain.shape)

    def draw(self, values: Sequence[Float[Array, "M R"]], domain: Domain) -> Float[Array, "..."]:
        """Zero: counted as noise."""
        return jnp.zeros(domain.shape)

    def total_variance(self, beliefs: Sequence[Belief], observations: Observations) -> Float[Array, ""]:
        """Zero: counted as noise."""
        return jnp.zeros((), observations.values.dtype)

    def counts(self, block: int, observations: Observations) -> Float[Array, "T"]:
        """There is no block to have any."""
        raise IndexError("a local term has no blocks")

    def sites(
        self, block: int, beliefs: Sequence[Belief], observations: Observations, residual: Float[Array, "..."]
    ) -> Sites:
        """There is no block to have any."""
        raise IndexError("a local term has no blocks")
