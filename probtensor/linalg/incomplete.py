"""Sparse precisions of R coupled fields under a nearest-neighbour prior, by incomplete Cholesky factors.

The prior's precision is Q = B' D^-1 B, where row t of B has 1 at t and minus the weights at earlier rows, its
neighbours; data add a block at each row, A = Q + P. Factored from the last row to the first, L L' = A where L may only
be other than zero where B' is, L is so close to a factor that ten steps of conjugate gradients solve to ten digits, for
weak data and for strong ones (measured: 8 to 19 steps for Matern 1/2 to 5/2, noise from 3% to three times the signal,
one or twenty data a level; 20 to 60 where the factor has to be compensated, which Matern 5/2 often needs); with
B' (D^-1 + P) B for L L' they take hundreds. Without data L is exact.

Rows come in chunks without neighbours among themselves, which are worked on at once.

Source: Schafer, Katzfuss and Owhadi 2021, section 4.2 (incomplete factors in reverse order, for noise); Kundig and
Sigrist 2024 (the other preconditioner).
"""

from __future__ import annotations

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from probtensor.linalg.small import inverse_root
from probtensor.typing import Array, Float, Int

#: A pivot is at least this share of the prior's.
_LEAST_PIVOT = 0.1
#: Shares of what is left out of a factor that are added to its diagonal where without it the factor fails.
_ADDED = (0.03, 0.1, 0.3, 1.0)
#: Joint factors of all R fields take this many numbers at most; beyond it every field has a factor of its own, which
#: takes some more steps.
LARGEST_FACTOR = 2**27


class Pattern(eqx.Module):
    """Neighbours of each row among earlier chunks, see `probtensor.priors.neighbourhoods.Neighbourhoods`."""

    neighbours: Int[Array, "rows m"]
    slots: Int[Array, "rows P"]
    chunk: int = eqx.field(static=True)

    @property
    def safe(self) -> Int[Array, "rows m"]:
        """Neighbours, row 0 where there is none: its weight is zero."""
        return jnp.maximum(self.neighbours, 0)

    def chunks(self, *arrays: Array) -> tuple[Array, ...]:
        """Arrays with rows as arrays with chunks of rows."""
        return tuple(x.reshape(-1, self.chunk, *x.shape[1:]) for x in arrays)


class Field(eqx.Module):
    """The nearest-neighbour prior: each row is weights times its neighbours plus an innovation of some variance."""

    pattern: Pattern
    weights: Float[Array, "rows R m"]
    variance: Float[Array, "rows R"]

    def innovations(self, x: Float[Array, "rows R S"]) -> Float[Array, "rows R S"]:
        """B x."""

        def less(y: Array, one: tuple[Array, Array]) -> tuple[Array, None]:
            index, weight = one
            return y - weight[..., None] * x[index], None

        return jax.lax.scan(less, x, (self.pattern.safe.T, jnp.moveaxis(self.weights, -1, 0)))[0]

    def transposed(self, y: Float[Array, "rows R S"]) -> Float[Array, "rows R S"]:
        """B' y."""

        def less(x: Array, one: tuple[Array, Array]) -> tuple[Array, None]:
            index, weight = one
            return x.at[index].add(-weight[..., None] * y), None

        return jax.lax.scan(less, y, (self.pattern.safe.T, jnp.moveaxis(self.weights, -1, 0)))[0]

    def precision_times(self, x: Float[Array, "rows R S"]) -> Float[Array, "rows R S"]:
        """Q x."""
        return self.transposed(self.innovations(x) / self.variance[..., None])

    def coloured(self, white: Float[Array, "rows R"]) -> Float[Array, "rows R"]:
        """B^-1 D^1/2 times white noise: a draw of the prior."""

        def step(u: Array, one: tuple[Array, ...]) -> tuple[Array, None]:
            at, index, weights, own = one
            own = own + jnp.einsum("crm,cmr->cr", weights, u[index])
            return jax.lax.dynamic_update_slice_in_dim(u, own, at, 0), None

        chunks = self.pattern.chunks(self.pattern.safe, self.weights, jnp.sqrt(self.variance) * white)
        return jax.lax.scan(step, jnp.zeros_like(white), (self._starts(), *chunks))[0]

    def _starts(self) -> Int[Array, "n"]:
        return jnp.arange(0, self.variance.shape[0], self.pattern.chunk)


class Factor(eqx.Module):
    """L with L L' near A: G fields' groups of b, which are coupled, at each row.

    Attributes:
        below: (rows, m, G, b, b) L's blocks at a row's neighbours, in the row's own columns.
        inverse: (rows, G, b, b) inverses of its lower triangular blocks on the diagonal.
    """

    pattern: Pattern
    below: Float[Array, "rows m G b b"]
    inverse: Float[Array, "rows G b b"]

    def log_det(self) -> Float[Array, "rows R"]:
        """Logarithms of L's squared diagonal."""
        diagonal = jnp.diagonal(self.inverse, axis1=-2, axis2=-1)
        return -2 * jnp.log(diagonal).reshape(diagonal.shape[0], -1)

    def solve(self, x: Float[Array, "rows R S"]) -> Float[Array, "rows R S"]:
        """L^-1 x."""

        def step(left: Array, one: tuple[Array, ...]) -> tuple[Array, None]:
            at, index, below, inverse = one
            own = jax.lax.dynamic_slice_in_dim(left, at, self.pattern.chunk, 0)
            own = jnp.einsum("cgij,cgjs->cgis", inverse, own)
            left = left.at[index].add(-jnp.einsum("cmgij,cgjs->cmgis", below, own))
            return jax.lax.dynamic_update_slice_in_dim(left, own, at, 0), None

        return self._scan(step, x, reverse=True)

    def solve_transposed(self, y: Float[Array, "rows R S"]) -> Float[Array, "rows R S"]:
        """L^-T y."""

        def step(x: Array, one: tuple[Array, ...]) -> tuple[Array, None]:
            at, index, below, inverse = one
            own = jax.lax.dynamic_slice_in_dim(x, at, self.pattern.chunk, 0)
            own = own - jnp.einsum("cmgji,cmgjs->cgis", below, x[index])
            own = jnp.einsum("cgji,cgjs->cgis", inverse, own)
            return jax.lax.dynamic_update_slice_in_dim(x, own, at, 0), None

        return self._scan(step, y, reverse=False)

    def conditional_means(self, x: Float[Array, "rows R S"]) -> Float[Array, "rows R S"]:
        """Expectations of each row given its neighbours' values x, if L L' were the precision."""

        def some(one: tuple[Array, ...]) -> Array:
            index, below, inverse = one
            pulled = jnp.einsum("cmgji,cmgjs->cgis", below, grouped[index])
            return -jnp.einsum("cgji,cgjs->cgis", inverse, pulled)

        grouped = self._grouped(x)
        chunks = self.pattern.chunks(self.pattern.safe, self.below, self.inverse)
        return jax.lax.map(some, chunks).reshape(x.shape)

    def conditional_covariances(self) -> Float[Array, "rows R R"]:
        """Covariances of each row given its neighbours, if L L' were the precision."""
        rows, G, b, _ = self.inverse.shape
        blocks = jnp.einsum("tgki,tgkj->tgij", self.inverse, self.inverse)
        return jnp.einsum("tgij,gh->tgihj", blocks, jnp.eye(G, dtype=blocks.dtype)).reshape(rows, G * b, G * b)

    def _grouped(self, x: Float[Array, "rows R S"]) -> Float[Array, "rows G b S"]:
        return x.reshape(*self.inverse.shape[:3], x.shape[-1])

    def _scan(self, step: Callable[..., tuple[Array, None]], x: Float[Array, "rows R S"], reverse: bool) -> Array:
        starts = jnp.arange(0, x.shape[0], self.pattern.chunk)
        chunks = self.pattern.chunks(self.pattern.safe, self.below, self.inverse)
        return jax.lax.scan(step, self._grouped(x), (starts, *chunks), reverse=reverse)[0].reshape(x.shape)


def factor(field: Field, precision: Float[Array, "rows R R"]) -> Factor:
    """An incomplete factor of A = Q + P.

    What is left out of L is left out of A as well, and where strong data meet a smooth prior what remains may not be
    positive definite. Then more and more of it is added to the diagonal instead, until it is.

    Cost O(rows m^2 R^3), memory O(rows m R^2); O(rows m^2 R) and O(rows m R) where fields are taken one by one.
    """
    first, least = _eliminated(field, precision, None)

    def again(carry: tuple[Array, Factor, Array]) -> tuple[Array, Factor, Array]:
        return carry[0] + 1, *_eliminated(field, precision, jnp.asarray(_ADDED, precision.dtype)[carry[0]])

    def compensated() -> Factor:
        start = (jnp.zeros((), int), first, least)
        return jax.lax.while_loop(lambda carry: (carry[0] < len(_ADDED)) & ~_is_sound(carry[2]), again, start)[1]

    return jax.lax.cond(_is_sound(least), lambda: first, compensated)


def _is_sound(least: Float[Array, ""]) -> Array:
    """Whether all pivots are, as they should be, no smaller than the prior's."""
    return jnp.isfinite(least) & (least > 0.5)


def _eliminated(
    field: Field, precision: Float[Array, "rows R R"], added: Float[Array, ""] | None
) -> tuple[Factor, Float[Array, ""]]:
    """An incomplete factor, and its smallest pivot relative to the prior's.

    added: the share of what is left out that is added to the diagonal; with 1 the factor is always sound.

    Source: Ajiz and Jennings 1984 (compensation).
    """
    rows, R, m = field.weights.shape
    G, b = (1, R) if rows * m * R * R <= LARGEST_FACTOR else (R, 1)
    blocks = precision[:, None] if G == 1 else jnp.diagonal(precision, axis1=1, axis2=2)[..., None, None]
    eye = jnp.eye(b, dtype=precision.dtype)
    C = field.pattern.chunk
    first, second = np.triu_indices(m, 1)
    sd = jnp.sqrt(field.variance).reshape(rows, G, b)

    def step(kept: tuple[Array, Array], one: tuple[Array, ...]) -> tuple[tuple[Array, Array], Array]:
        at, index, slots, weights, variance, own = one
        diagonal, below = kept
        prior = eye / variance[..., None]
        own = own + prior + jax.lax.dynamic_slice_in_dim(diagonal, at, C, 0)
        inverse = inverse_root(own, _LEAST_PIVOT / variance)
        weights = jnp.moveaxis(weights, -1, 1)
        column = jax.lax.dynamic_slice_in_dim(below, at, C, 0) - weights[..., None] * prior[:, None]
        column = jnp.einsum("cmgij,cgkj->cmgik", column, inverse)
        # What the row's own density adds to the precision of its neighbours, less what eliminating the row takes away:
        # without data nothing.
        scaled = weights / jnp.sqrt(variance)[:, None]
        squares = eye * (scaled**2)[..., None] - jnp.einsum("cmgik,cmgjk->cmgij", column, column)
        diagonal = diagonal.at[index].add(squares)
        a, c = column[:, first], column[:, second]
        change = eye * (scaled[:, first] * scaled[:, second])[..., None] - jnp.einsum("cpgik,cpgjk->cpgij", c, a)
        place = jnp.where(slots >= 0, index[:, first] * m + slots, rows * m)
        flat = below.reshape(rows * m, G, b, b).at[place].add(change, mode="drop")
        below = jax.lax.dynamic_update_slice_in_dim(flat.reshape(below.shape), column, at, 0)
        if added is not None:
            # Of a block that is left out, between rows i and j, so much on the diagonal of both that they are positive.
            left_out = added * jnp.where((slots < 0)[..., None, None, None], jnp.abs(change), 0.0)
            sd_i, sd_j = sd[index[:, first]], sd[index[:, second]]
            on_i = jnp.einsum("cpgij,cpgi->cpgj", left_out, sd_j) / sd_i
            on_j = jnp.einsum("cpgij,cpgj->cpgi", left_out, sd_i) / sd_j
            diagonal = diagonal.at[index[:, first]].add(eye * on_i[..., None])
            diagonal = diagonal.at[index[:, second]].add(eye * on_j[..., None])
        return (diagonal, below), inverse

    grouped = field.weights.reshape(rows, G, b, m), sd**2
    chunks = field.pattern.chunks(field.pattern.safe, field.pattern.slots.astype(int), *grouped, blocks)
    start = jnp.zeros((rows, G, b, b), precision.dtype), jnp.zeros((rows, m, G, b, b), precision.dtype)
    (_, below), inverse = jax.lax.scan(step, start, (jnp.arange(0, rows, C), *chunks), reverse=True)
    inverse = inverse.reshape(rows, G, b, b)
    pivots = (sd / jnp.diagonal(inverse, axis1=-2, axis2=-1)) ** 2
    least = jnp.where(jnp.all(jnp.isfinite(below)), jnp.min(pivots), jnp.nan)
    return Factor(field.pattern, below, inverse), least
