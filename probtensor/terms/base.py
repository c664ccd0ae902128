"""The contract of terms and engines: what a term adds to the signal, and what the data say of each of its blocks."""

from __future__ import annotations

import abc
import types
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import ClassVar, NamedTuple, Self, TypeAlias

import equinox as eqx
import jax
import numpy as np

from probtensor.axes import Axis
from probtensor.errors import ModelError
from probtensor.kernels.base import AbstractKernel, Start
from probtensor.observations.domain import Domain, Observations
from probtensor.observations.levels import find
from probtensor.priors.base import AbstractModePrior, Belief, Marginals, Sites
from probtensor.typing import Array, Float, Int, Key

#: Of some levels among others.
Places: TypeAlias = Int[np.ndarray, "T"]


class DataScale(NamedTuple):
    """What default starts may know of the data.

    Attributes:
        mean: of the observed values.
        variance: of the observed values.
        lengthscales: mode name -> the scale on which its marginal means vary, in the axis's unit, where they show one.
        periods: mode name -> periods of the data's strongest cycles along it, in the axis's unit; empty where no kernel
            starts from them.
    """

    mean: float
    variance: float
    lengthscales: Mapping[str, float] = types.MappingProxyType({})
    periods: Mapping[str, tuple[float, ...]] = types.MappingProxyType({})

    @property
    def about_zero(self) -> DataScale:
        """The same for functions that have to tell the mean, too: the mean square in place of the variance."""
        return self._replace(variance=self.variance + self.mean**2)

    def start(self, axis: Axis, variances: np.ndarray, carries_variance: bool) -> Start:
        """Where as many functions of a mode start as there are variances, lengthscales from long to short."""
        scales = axis.lengthscales(len(variances), self.lengthscales.get(axis.name))
        return Start(scales, variances, carries_variance, self.periods.get(axis.name, ()))


def absent(reader: str, name: str, available: Iterable[str]) -> ModelError:
    """The refusal of a mode that the data do not have. reader: who reads it, such as ``"CP names mode"``."""
    return ModelError(f"{reader} {name!r}, which the data do not have; they have {', '.join(available)}")


def refuse_repeats(term: str, modes: Sequence[Hashable]) -> None:
    """Raises ModelError if a mode is named more than once."""
    for mode, times in Counter(modes).items():
        if times > 1:
            raise ModelError(f"{term}: mode {mode!r} is named {times} times in {list(modes)}; name each mode once")


class AbstractTerm(eqx.Module):
    """A term as the user writes it."""

    #: Whether it starts at the mean of the data, so that other terms of a sum vary about zero.
    has_mean: ClassVar[bool] = False

    @abc.abstractmethod
    def mode_names(self, available: Sequence[str]) -> tuple[str, ...]:
        """The modes it reads, derived ones such as ``"time.month"`` included.

        Args:
            available: the data's own modes.

        Raises:
            ModelError: it names a mode that the data do not have.
        """

    @abc.abstractmethod
    def bind(self, axes: Mapping[str, Axis], scale: DataScale) -> AbstractBoundTerm:
        """The term with numbers in it.

        Args:
            axes: of the modes that it reads, by name.
            scale: what default starts may know of the data.

        Raises:
            ModelError: it does not fit the axes.
        """

    def __add__(self, other: AbstractTerm | Sum) -> Sum:
        """The sum of terms, which is a model."""
        return Sum((self,)) + other


class Sum(eqx.Module):
    """A model: the sum of terms, in the order in which they were written."""

    terms: tuple[AbstractTerm, ...]

    def __add__(self, other: AbstractTerm | Sum) -> Sum:
        """The terms of both."""
        return Sum(self.terms + (other.terms if isinstance(other, Sum) else (other,)))

    def mode_names(self, available: Sequence[str]) -> tuple[str, ...]:
        """Every mode that any term reads, each once, derived ones included."""
        return tuple(dict.fromkeys(name for term in self.terms for name in term.mode_names(available)))

    @property
    def open_periods(self) -> int:
        """How many periods its kernels have that start from the data."""
        nodes = jax.tree.leaves(self.terms, is_leaf=lambda node: isinstance(node, AbstractKernel))
        return sum(node.open_periods for node in nodes if isinstance(node, AbstractKernel))


class Block(eqx.Module):
    """One set of functions of one mode with their prior, and the coordinates at which data can reach them."""

    prior: AbstractModePrior
    points: Float[Array, "T ..."]

    def posterior(self, sites: Sites) -> Belief:
        """The posterior given sites at the block's points."""
        return self.prior.posterior(self.points, sites)


class AbstractBoundTerm(eqx.Module):
    """A term with numbers: blocks with Gaussian beliefs, combined to a part of the signal."""

    @property
    @abc.abstractmethod
    def blocks(self) -> tuple[Block, ...]:
        """Its blocks, in the order in which a sweep updates them."""

    @abc.abstractmethod
    def with_priors(self, priors: Sequence[AbstractModePrior]) -> AbstractBoundTerm:
        """The same term with other (learned) priors.

        Args:
            priors: one for each block.
        """

    @abc.abstractmethod
    def mode_of(self, block: int) -> str | None:
        """The mode at whose levels a block has its functions; None: it has numbers of its own (a core, an offset).

        Args:
            block: its place among the blocks.
        """

    def with_points(self, points: Sequence[Float[Array, "T ..."]]) -> Self:
        """The same term with its blocks at other coordinates.

        Args:
            points: of each block.
        """
        return eqx.tree_at(lambda t: [b.points for b in t.blocks], self, list(points))

    def grown(self, axes: Mapping[str, Axis], domain: Domain) -> tuple[AbstractBoundTerm, tuple[Places, ...]]:
        """The term over more levels, with the same hyper-parameters.

        Args:
            axes: of all modes, with old and new levels.
            domain: the same for the core; its levels may repeat.

        Returns:
            The term, and for each block the place of each of its levels among those of the larger one.
        """
        points = self.block_points(domain)
        pairs = list(zip(self.blocks, points, strict=True))
        priors = [block.prior.at_levels(np.asarray(own)) for block, own in pairs]
        places = tuple(find(np.asarray(own), np.asarray(block.points)).levels for block, own in pairs)
        return self.with_points(points).with_priors(priors), places

    @abc.abstractmethod
    def initial(self, key: Key, domain: Domain) -> tuple[Belief, ...]:
        """A start for the beliefs of all blocks.

        Args:
            key: of what is random in it.
            domain: where the observations are.
        """

    @abc.abstractmethod
    def block_points(self, domain: Domain) -> tuple[Float[Array, "M ..."], ...]:
        """For each block the coordinates at which its functions are needed on a domain.

        Args:
            domain: where the entries are.
        """

    @abc.abstractmethod
    def training_marginals(self, beliefs: Sequence[Belief], domain: Domain) -> tuple[Marginals, ...]:
        """The blocks' marginals at `block_points` of the training domain, read off the beliefs.

        Args:
            beliefs: of the blocks, in their order.
            domain: the training domain.
        """

    def at_entries(self, values: Sequence[Float[Array, "T R"]], domain: Domain) -> tuple[Float[Array, "M R"], ...]:
        """Function values at the blocks' own points brought to `block_points` of the training domain.

        Args:
            values: of each block, at its own points.
            domain: the training domain.
        """
        return tuple(values)

    @abc.abstractmethod
    def mean(self, marginals: Sequence[Marginals], domain: Domain) -> Float[Array, "..."]:
        """Mean of the term at every entry, given its blocks' marginals at `block_points`.

        Args:
            marginals: of the blocks, in their order.
            domain: where the entries are.
        """

    @abc.abstractmethod
    def variance(self, marginals: Sequence[Marginals], domain: Domain) -> Float[Array, "..."]:
        """Variance of the term at every entry, as a sum of parts none of which is negative.

        Args:
            marginals: of the blocks, in their order.
            domain: where the entries are.
        """

    @abc.abstractmethod
    def draw(self, values: Sequence[Float[Array, "M R"]], domain: Domain) -> Float[Array, "..."]:
        """The term's value at every entry for given function values.

        Args:
            values: of each block, at its `block_points`.
            domain: where the entries are.
        """

    @abc.abstractmethod
    def total_variance(self, beliefs: Sequence[Belief], observations: Observations) -> Float[Array, ""]:
        """Sum over observations of weight times variance.

        Args:
            beliefs: of the blocks, in their order.
            observations: the data.
        """

    @abc.abstractmethod
    def counts(self, block: int, observations: Observations) -> Float[Array, "T"]:
        """The sum of the weights of the observations that reach each level of a block.

        Args:
            block: its place among the blocks.
            observations: the data.
        """

    @abc.abstractmethod
    def sites(
        self, block: int, beliefs: Sequence[Belief], observations: Observations, residual: Float[Array, "..."]
    ) -> Sites:
        """What the data say of one block at unit noise precision.

        Args:
            block: its place among the blocks.
            beliefs: of the blocks, in their order.
            observations: the data.
            residual: the values minus the other terms' mean.
        """
