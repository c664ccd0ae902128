"""The contract between data and mode priors: sites in, a Gaussian belief out."""

from __future__ import annotations

import abc
from typing import NamedTuple, Self, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from probtensor.axes import Axis
from probtensor.errors import ModelError
from probtensor.hyperparameters import component
from probtensor.kernels.base import Start
from probtensor.typing import Array, Float, Int, Key


class Sites(NamedTuple):
    """What the data say of one mode: a Gaussian in natural parameters at each level, exp(eta'u - u' precision u / 2).

    Sums over observations; a precision may be singular, and is zero where a level has no data. With an origin, u is
    the distance from it: sums of small residuals keep digits that those of values far from zero lose.
    """

    eta: Float[Array, "T R"]
    precision: Float[Array, "T R R"]
    origin: Float[Array, "R"] | None = None

    def times(self, power: Float[Array, ""]) -> Sites:
        """The sites' power: noise of that precision instead of one."""
        return self._replace(eta=self.eta * power, precision=self.precision * power)

    def about(self, origin: Float[Array, "R"] | None) -> Sites:
        """The same sites, up to a constant factor, about another origin (None: zero)."""
        if origin is None and self.origin is None:
            return self
        zero = jnp.zeros_like(self.eta[0])
        shift = (zero if origin is None else origin) - (zero if self.origin is None else self.origin)
        return Sites(self.eta - jnp.einsum("trs,s->tr", self.precision, shift), self.precision, origin)


class Marginals(NamedTuple):
    """Means and covariances of R function values at each of M coordinates."""

    mean: Float[Array, "M R"]
    cov: Float[Array, "M R R"]

    def second_moment(self) -> Float[Array, "M R R"]:
        """E[u u'] at each coordinate."""
        return self.cov + self.mean[..., :, None] * self.mean[..., None, :]


class Belief(NamedTuple):
    """The posterior of one mode's functions given its sites: prior times sites, normalised.

    ``log_normaliser`` is the log of the prior expectation of the sites' product about their origin, ``kl`` the
    Kullback-Leibler divergence from the prior in nats; the sites and points are kept, since they with the prior are the
    whole posterior process.
    """

    mean: Float[Array, "T R"]
    cov: Float[Array, "T R R"]
    log_normaliser: Float[Array, ""]
    kl: Float[Array, ""]
    points: Float[Array, "T ..."]
    sites: Sites

    @property
    def marginals(self) -> Marginals:
        """The marginals at the training levels."""
        return Marginals(self.mean, self.cov)


def divergence(
    cov: Float[Array, "T R R"], precision: Float[Array, "T R R"], energy: Float[Array, ""], log_det: Float[Array, ""]
) -> Float[Array, ""]:
    """Kullback-Leibler divergence of a Gaussian prior times sites from that prior.

    Not as E[log sites] - log_normaliser: for data far from zero those are large numbers with a small difference.

    Args:
        cov: posterior covariances of the levels; or (T, R) variances, where precisions are diagonal.
        precision: of the sites; likewise.
        energy: m' K^-1 m for the prior covariance K of all levels and the posterior mean m, relative to the prior's.
        log_det: log det(I + K P) for the precision P of all sites.
    """
    return 0.5 * (energy + log_det - jnp.sum(precision * cov))


class Turns(NamedTuple):
    """Posteriors of R functions that are independent of each other, each at its optimum given the others in turn.

    Attributes:
        mean: of each.
        variance: of each.
        eta: of the sites that each sees: less what the others explained in its turn.
        log_normaliser: of each under the sites that it sees, summed; its gradient is at these sites.
        kl: of each from its prior, summed.
    """

    mean: Float[Array, "T R"]
    variance: Float[Array, "T R"]
    eta: Float[Array, "T R"]
    log_normaliser: Float[Array, ""]
    kl: Float[Array, ""]


class Outside(NamedTuple):
    """A point outside the domain of a prior.

    place: among the points that were asked for; column: the coordinate that leaves the domain, 0 unless the mode is
    joined; low, high: ends of the domain in that coordinate, in its unit.
    """

    place: int
    column: int
    low: float
    high: float


#: A function of one array that is itself a tree of arrays, see `AbstractModePrior.colouring`.
Colouring: TypeAlias = jax.tree_util.Partial


class AbstractModePrior(eqx.Module):
    """A prior over R functions of one mode's coordinate.

    Coordinates may be unsorted and repeated: equal coordinates share one function value. Points are (T,), or (T, d)
    for a joined mode of d coordinates.
    """

    @abc.abstractmethod
    def bind(self, axis: Axis, start: Start) -> Self:
        """This prior with every declared hyper-parameter turned into numbers.

        Args:
            axis: the mode, with its levels and their unit.
            start: where learning starts, and whether this mode learns the variance.

        Raises:
            ModelError: a hyper-parameter or the axis does not do.
        """

    @abc.abstractmethod
    def posterior(self, points: Float[Array, "T ..."], sites: Sites) -> Belief:
        """The posterior given one site at each point.

        Its log-normaliser, and that alone, has derivatives with respect to hyper-parameters, in reverse.

        Args:
            points: coordinates of the levels.
            sites: what the data say at each.
        """

    def in_turns(self, points: Float[Array, "T ..."], sites: Sites, mean: Float[Array, "T R"]) -> Turns:
        """Posteriors of the functions as independent ones, from these means.

        Args:
            points: coordinates of the levels.
            sites: what the data say at each, about zero.
            mean: of the functions, where the turns begin.
        """
        R = mean.shape[1]

        def turn(means: Float[Array, "T R"], r: Int[Array, ""]) -> tuple[Array, tuple[Array, ...]]:
            precision = jnp.take(sites.precision, r, axis=1)
            own = jnp.take(precision, r, axis=1)
            explained = jnp.einsum("ts,ts->t", precision, means) - own * jnp.take(means, r, axis=1)
            eta = jax.lax.stop_gradient(jnp.take(sites.eta, r, axis=1) - explained)
            alone = component(self, r, R).posterior(points, Sites(eta[:, None], own[:, None, None]))
            means = means.at[:, r].set(jax.lax.stop_gradient(alone.mean[:, 0]))
            return means, (alone.cov[:, 0, 0], eta, alone.log_normaliser, alone.kl)

        means, (variance, eta, log_normaliser, kl) = jax.lax.scan(turn, mean, jnp.arange(R))
        return Turns(means, variance.T, eta.T, jnp.sum(log_normaliser), jnp.sum(kl))

    @abc.abstractmethod
    def predict(self, belief: Belief, new_points: Float[Array, "M ..."]) -> Marginals:
        """Posterior marginals at any coordinates, inside or outside the range of the data.

        Args:
            belief: what `posterior` gave.
            new_points: the coordinates.
        """

    @abc.abstractmethod
    def sample(self, belief: Belief, new_points: Float[Array, "M ..."], key: Key, n: int) -> Float[Array, "n M R"]:
        """Joint draws at any coordinates.

        Args:
            belief: what `posterior` gave.
            new_points: the coordinates.
            key: of the draws.
            n: how many.
        """

    @abc.abstractmethod
    def white_shape(self, levels: int, rank: int) -> tuple[int, ...]:
        """Shape of the white noise that `colouring` reads.

        Args:
            levels: T, how many.
            rank: R, the number of functions.
        """

    @abc.abstractmethod
    def colouring(self, points: Float[Array, "T ..."]) -> Colouring:
        """The map from standard normal noise of `white_shape` to (T, R) functions that are distributed as the prior.

        Affine; what it needs of the hyper-parameters is computed once.

        Args:
            points: distinct coordinates of the levels.
        """

    def workspace(self, levels: int, rank: int) -> int:
        """How many numbers a posterior with its gradient holds at once, about, beside its sites and beliefs.

        Those of the large matrices alone. Most priors hold none that counts.

        Args:
            levels: T, how many.
            rank: R, the number of functions.
        """
        return 0

    def improve(self, points: Float[Array, "T ..."], sites: Sites) -> Self:
        """Hyper-parameters with a closed-form update, updated: never lowers the log-normaliser plus log prior.

        Most priors have none.

        Args:
            points: coordinates of the levels.
            sites: what the data say at each.
        """
        return self

    def at_levels(self, points: np.ndarray) -> Self:
        """The same hyper-parameters where data can reach other levels, which may be unsorted and repeated.

        Most priors know any coordinate: themselves.

        Args:
            points: coordinates of these levels.
        """
        return self

    def outside(self, points: np.ndarray) -> Outside | None:
        """The first of these points at which this prior (bound) says nothing, which is a question to refuse.

        Most priors know something everywhere: None. On the host; in a program such a point gets the prior's moments.

        Args:
            points: coordinates that are asked for.
        """
        return None


def empty_sites(number: int, rank: int, dtype: jnp.dtype) -> Sites:
    """Sites that say nothing."""
    return Sites(jnp.zeros((number, rank), dtype), jnp.zeros((number, rank, rank), dtype))


def with_empty_sites(belief: Belief, new_points: Float[Array, "M ..."]) -> tuple[Float[Array, "TM ..."], Sites]:
    """Training and new points together, the new ones without data: prediction is smoothing with empty sites."""
    sites = belief.sites
    extra = empty_sites(new_points.shape[0], sites.eta.shape[1], sites.eta.dtype)
    precision = jnp.concatenate([sites.precision, extra.precision])
    joined = Sites(jnp.concatenate([sites.eta, extra.eta]), precision, sites.origin)
    return jnp.concatenate([belief.points, new_points.astype(belief.points.dtype)]), joined


def group_equal(points: Float[Array, "T ..."]) -> Int[Array, "T"]:
    """For each point the number of its group of equal points, counted in ascending (lexicographic) order."""
    columns = points.reshape(points.shape[0], -1)
    order = jnp.lexsort(tuple(columns.T[::-1]))
    ordered = columns[order]
    new = jnp.concatenate([jnp.zeros(1, bool), jnp.any(ordered[1:] != ordered[:-1], axis=1)])
    return jnp.zeros(points.shape[0], int).at[order].set(jnp.cumsum(new))


def pool(points: Float[Array, "T ..."], sites: Sites) -> tuple[Sites, Int[Array, "T"]]:
    """Sites summed over equal points, in the first places of arrays of length T, and the place of each point."""
    group = group_equal(points)
    eta, precision = (jax.ops.segment_sum(s, group, num_segments=points.shape[0]) for s in sites[:2])
    return Sites(eta, precision, sites.origin), group


#: Numbers with one joint posterior, at most.
_LARGEST = 5000
#: How many matrices of the square of that number of numbers a joint posterior holds at once.
_MATRICES = 8


def joint_workspace(number: int) -> int:
    """`AbstractModePrior.workspace` of so many numbers with one joint posterior."""
    return _MATRICES * number**2


def check_size(prior: str, points: int, rank: int, what: str, numbers: str, remedy: str) -> None:
    """Raises ModelError, in a prior's name, for more numbers with one joint posterior than memory has room for."""
    number = points * rank
    if number > _LARGEST:
        gigabytes = 8 * joint_workspace(number) / 1e9
        raise ModelError(
            f"{prior}: {points:,} {what} of {rank} components are {number:,} {numbers} with one joint posterior, which "
            f"takes {gigabytes:,.1f} GB; at most {_LARGEST:,} are possible. {remedy}"
        )
