"""The contract between data and mode priors: sites in, a Gaussian belief out."""

from __future__ import annotations

import abc
from typing import NamedTuple, Self

import equinox as eqx
import jax.numpy as jnp

from probtensor.axes import Axis
from probtensor.kernels.base import Start
from probtensor.typing import Array, Float, Key


class Sites(NamedTuple):
    """What the data say of one mode: a Gaussian in natural parameters at each level, exp(eta'u - u' precision u / 2).

    Sums over observations; a precision may be singular, and is zero where a level has no data.
    """

    eta: Float[Array, "T R"]
    precision: Float[Array, "T R R"]


class Marginals(NamedTuple):
    """Means and covariances of R function values at each of M coordinates."""

    mean: Float[Array, "M R"]
    cov: Float[Array, "M R R"]

    def second_moment(self) -> Float[Array, "M R R"]:
        """E[u u'] at each coordinate."""
        return self.cov + self.mean[..., :, None] * self.mean[..., None, :]


class Belief(NamedTuple):
    """The posterior of one mode's functions given its sites: prior times sites, normalised.

    ``log_normaliser`` is the log of the prior expectation of the sites' product, ``kl`` the Kullback-Leibler divergence
    from the prior in nats; the sites and points are kept, since they with the prior are the whole posterior process.
    """

    mean: Float[Array, "T R"]
    cov: Float[Array, "T R R"]
    log_normaliser: Float[Array, ""]
    kl: Float[Array, ""]
    points: Float[Array, "T"]
    sites: Sites

    @property
    def marginals(self) -> Marginals:
        """The marginals at the training levels."""
        return Marginals(self.mean, self.cov)


def believe(
    mean: Float[Array, "T R"],
    cov: Float[Array, "T R R"],
    log_normaliser: Float[Array, ""],
    points: Float[Array, "T"],
    sites: Sites,
) -> Belief:
    """A belief with its divergence from the prior: E[log sites] minus the log-normaliser."""
    second = Marginals(mean, cov).second_moment()
    expected = jnp.sum(sites.eta * mean) - 0.5 * jnp.sum(sites.precision * second)
    return Belief(mean, cov, log_normaliser, expected - log_normaliser, points, sites)


class AbstractModePrior(eqx.Module):
    """A prior over R functions of one mode's coordinate.

    Coordinates may be unsorted and repeated: equal coordinates share one function value.
    """

    @abc.abstractmethod
    def bind(self, axis: Axis, start: Start) -> Self:
        """This prior with every declared hyper-parameter turned into numbers. Raises ModelError on a bad one."""

    @abc.abstractmethod
    def posterior(self, points: Float[Array, "T"], sites: Sites) -> Belief:
        """The posterior given one site at each point."""

    @abc.abstractmethod
    def log_normaliser(self, points: Float[Array, "T"], sites: Sites) -> Float[Array, ""]:
        """The posterior's log-normaliser alone, cheaper: what hyper-parameters are learned from."""

    @abc.abstractmethod
    def predict(self, belief: Belief, new_points: Float[Array, "M"]) -> Marginals:
        """Posterior marginals at any coordinates, inside or outside the range of the data."""

    @abc.abstractmethod
    def sample(self, belief: Belief, new_points: Float[Array, "M"], key: Key, n: int) -> Float[Array, "n M R"]:
        """Joint draws at any coordinates."""

    @abc.abstractmethod
    def improve(self, points: Float[Array, "T"], sites: Sites) -> Self:
        """Hyper-parameters with a closed-form update, updated: never lowers the log-normaliser plus log prior."""


def empty_sites(number: int, rank: int, dtype: jnp.dtype) -> Sites:
    """Sites that say nothing."""
    return Sites(jnp.zeros((number, rank), dtype), jnp.zeros((number, rank, rank), dtype))


def with_empty_sites(belief: Belief, new_points: Float[Array, "M"]) -> tuple[Float[Array, "TM"], Sites]:
    """Training and new points together, the new ones without data: prediction is smoothing with empty sites."""
    sites = belief.sites
    extra = empty_sites(new_points.shape[0], sites.eta.shape[1], sites.eta.dtype)
    joined = Sites(jnp.concatenate([sites.eta, extra.eta]), jnp.concatenate([sites.precision, extra.precision]))
    return jnp.concatenate([belief.points, new_points.astype(belief.points.dtype)]), joined
