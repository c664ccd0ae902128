"""Hyper-parameters: how a user declares one, and what it is once bound to numbers.

A declaration is ``None`` (learned from a default start), a number (learned from that start), ``fixed(v)`` (held), a
string such as ``"30D"`` on a time axis, or a numpyro distribution (its prior). Bound, it is a `Parameter`.
"""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from probtensor.axes import Axis
from probtensor.errors import ModelError
from probtensor.typing import Array, Float

#: Standard deviation, in log units, of the weak prior around a default start.
WEAK_LOG_SD = 2.0


@dataclasses.dataclass(frozen=True)
class ShareOfRange:
    """A lengthscale as a share of the distance between an axis's first and last level, whatever its unit."""

    share: float


@dataclasses.dataclass(frozen=True)
class Fixed:
    """A hyper-parameter that is held at ``value``."""

    value: float | str | ShareOfRange


def fixed(value: float | str | ShareOfRange) -> Fixed:
    """Holds a hyper-parameter at ``value``: ``Matern(3/2, lengthscale=fixed("30D"))``.

    Args:
        value: in the unit that a start would have, or a duration such as ``"30D"`` for a lengthscale or a period.

    Returns:
        What a kernel, a prior or a likelihood takes in the place of a number.
    """
    return Fixed(value)


#: None, a number, a duration, `Fixed`, a numpyro distribution, or (once bound) a `Parameter`.
Declaration: TypeAlias = Any


class Parameter(eqx.Module):
    """A positive hyper-parameter, one value for each component (R,) or one for all (1,).

    Attributes:
        raw: logarithm of the value, what learning moves.
        centre: logarithm of the centre of the weak prior.
        distribution: a numpyro distribution that replaces the weak prior.
        learned: False holds the value.
        resolution: by how much its logarithm moves until the function is quite another one; None: by 1.
        log_sd: standard deviation of the weak prior.
    """

    raw: Float[Array, "R"]
    centre: Float[Array, "R"]
    distribution: Any = None
    learned: bool = eqx.field(static=True, default=True)
    resolution: Float[Array, ""] | None = None
    log_sd: float = eqx.field(static=True, default=WEAK_LOG_SD)

    @property
    def value(self) -> Float[Array, "R"]:
        """The value itself, in its own unit."""
        return jnp.exp(self.raw)

    def log_prior(self) -> Float[Array, ""]:
        """Log density of the prior on the logarithm, up to a constant; 0 if held."""
        if not self.learned:
            return jnp.zeros((), self.raw.dtype)
        if self.distribution is not None:
            return jnp.sum(self.distribution.log_prob(self.value) + self.raw)
        return -0.5 * jnp.sum(((self.raw - self.centre) / self.log_sd) ** 2)


def within(parameter: Parameter, low: Array | float, high: Array | float) -> Parameter:
    """A learned parameter with its value moved between these limits; one that is held is as it was."""
    if not parameter.learned:
        return parameter
    return eqx.tree_at(lambda p: p.raw, parameter, jnp.clip(parameter.raw, jnp.log(low), jnp.log(high)))


def is_parameter(node: Any) -> bool:
    """Whether a tree node is a `Parameter`; the ``is_leaf`` of every walk over hyper-parameters."""
    return isinstance(node, Parameter)


def parameters(tree: Any) -> list[Parameter]:
    """All bound hyper-parameters in a tree, in a fixed order."""
    return [leaf for leaf in jax.tree.leaves(tree, is_leaf=is_parameter) if is_parameter(leaf)]


def log_prior(tree: Any) -> Array | float:
    """Sum of the log priors of all learned hyper-parameters in a tree."""
    return sum((p.log_prior() for p in parameters(tree) if p.learned), start=0.0)


def learned_mask(tree: Any) -> Any:
    """A tree of bools, True at the raw values that learning may move (for ``eqx.partition``)."""

    def mask(node: Any) -> Any:
        false = jax.tree.map(lambda _: False, node)
        if is_parameter(node):
            return eqx.tree_at(lambda p: p.raw, false, node.learned)
        return false

    return jax.tree.map(mask, tree, is_leaf=is_parameter)


def moved(one: Any, other: Any) -> float:
    """How far the learned raw values of two trees are apart, at most; infinite if they differ in anything else."""
    (learned, held), (others, other_held) = (eqx.partition(tree, learned_mask(tree)) for tree in (one, other))
    if not eqx.tree_equal(held, other_held):
        return float("inf")
    pairs = zip(jax.tree.leaves(learned), jax.tree.leaves(others), strict=True)
    return max((float(np.max(np.abs(np.asarray(a) - np.asarray(b)), initial=0.0)) for a, b in pairs), default=0.0)


def resolutions(tree: Any) -> Any:
    """A tree with the resolution of each `Parameter` in the place of its raw values."""

    def own(node: Any) -> Any:
        if not is_parameter(node):
            return node
        one = jnp.ones_like(node.raw) if node.resolution is None else node.resolution
        return eqx.tree_at(lambda p: p.raw, node, jnp.broadcast_to(one, node.raw.shape).astype(node.raw.dtype))

    return jax.tree.map(own, tree, is_leaf=is_parameter)


def component(tree: Any, k: Array, rank: int) -> Any:
    """The tree with the hyper-parameters of the k-th of R functions in the place of those that every one has."""

    def pick(node: Any) -> Any:
        if not is_parameter(node) or node.raw.shape[0] != rank:
            return node
        own = (jnp.take(node.raw, k)[None], jnp.take(node.centre, k)[None])
        return eqx.tree_at(lambda p: (p.raw, p.centre), node, own)

    return jax.tree.map(pick, tree, is_leaf=is_parameter)


def number_of(declaration: Any, axis: Axis | None, name: str) -> float:
    """A declared number in the axis's unit. Raises ModelError unless it is finite and above zero."""
    if isinstance(declaration, datetime.timedelta | np.timedelta64):
        declaration = _as_text(declaration)
    if isinstance(declaration, str):
        if axis is None:
            raise ModelError(
                f"{name}={declaration!r}: a string is a duration, and {name} has no time unit; give a number"
            )
        value = axis.parse(declaration)
    elif isinstance(declaration, ShareOfRange):
        if axis is None:
            raise ModelError(f"{name}={declaration!r}: {name} does not belong to an axis; give a number")
        value = declaration.share * axis.range
    else:
        try:
            value = float(declaration)
        except (TypeError, ValueError) as error:
            raise ModelError(f"{name}={declaration!r}: expected a number, or a duration such as '30D'") from error
    if not (np.isfinite(value) and value > 0):
        raise ModelError(f"{name}={declaration!r} must be a finite number above zero")
    return value


#: numpy's units whose letter is not that of a duration in words.
_NUMPY_UNITS = {"m": "min", "M": " months"}


def _as_text(duration: datetime.timedelta | np.timedelta64) -> str:
    """A duration in words: a whole number of its own unit, so that a calendar's years and months stay such."""
    duration = np.timedelta64(duration)
    unit, count = np.datetime_data(duration.dtype)
    return f"{duration.astype(int) * count}{_NUMPY_UNITS.get(unit, unit)}"


def middle(distribution: Any) -> float:
    """The median of a numpyro distribution, or its mean where its quantiles are not known."""
    try:
        return float(distribution.icdf(0.5))
    except NotImplementedError:
        return float(distribution.mean)


def bind(
    declaration: Declaration, start: np.ndarray, name: str, axis: Axis | None = None, held: bool = False
) -> Parameter:
    """Turns a declaration into a `Parameter`.

    Args:
        declaration: what the user wrote.
        start: (R,) or (1,) default start, used where the declaration gives none.
        name: for error messages.
        axis: whose unit and durations apply.
        held: hold the default start where the declaration says nothing.

    Raises:
        ModelError: the number is not finite and positive, or is a string without a time axis.
    """
    if isinstance(declaration, Parameter):
        return declaration
    start = np.atleast_1d(np.asarray(start, dtype=float))
    distribution, learned = None, True
    if declaration is None:
        learned = not held
    elif isinstance(declaration, Fixed):
        start, learned = np.full_like(start, number_of(declaration.value, axis, name)), False
    elif isinstance(declaration, str | float | int | np.number | datetime.timedelta):
        start = np.full_like(start, number_of(declaration, axis, name))
    elif hasattr(declaration, "log_prob"):
        distribution, value = declaration, middle(declaration)
        start = np.full_like(start, value) if np.isfinite(value) and value > 0 else start
    else:
        raise ModelError(
            f"{name}={declaration!r}: expected None, a number, pt.fixed(number), a duration such as '30D' or a numpyro "
            "distribution"
        )
    raw = jnp.asarray(np.log(start))
    return Parameter(raw, raw, distribution, learned)


def carried(tree: Any, other: Any) -> Any:
    """A tree with the hyper-parameters that another of the same kind learned; as it is where kinds differ.

    Those that one of the two holds stay.
    """
    own, theirs = parameters(tree), parameters(other)
    if [p.raw.shape for p in own] != [p.raw.shape for p in theirs]:
        return tree
    pairs = zip(own, theirs, strict=True)
    moved = iter(
        [eqx.tree_at(lambda p: p.raw, mine, its.raw) if mine.learned and its.learned else mine for mine, its in pairs]
    )
    return jax.tree.map(lambda node: next(moved) if is_parameter(node) else node, tree, is_leaf=is_parameter)
