"""The signal of the terms with blocks as a function of white noise, and its gradients, at the training entries."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse
from scipy.linalg import block_diag
from scipy.optimize import minimize

from probtensor.compilation import compiled, compiled_for, padded, shared_size
from probtensor.engines.drawn import Terms, Values, total
from probtensor.engines.sweep import Beliefs
from probtensor.hyperparameters import learned_mask
from probtensor.observations.domain import Domain
from probtensor.priors.base import Belief
from probtensor.priors.categorical import Categorical
from probtensor.terms.base import AbstractBoundTerm
from probtensor.typing import Array, Bool, Float, Int


def _colourings(terms: Terms) -> Any:
    return tuple(tuple(b.prior.colouring(b.points) for b in t.blocks) for t in terms)


def _coloured(colourings: Any, white: Any) -> Values:
    """Function values of every block at its own points."""
    return tuple(tuple(c(w) for c, w in zip(*pair, strict=True)) for pair in zip(colourings, white, strict=True))


_colourings_of = compiled(_colourings)

#: Of white noise, for each term and each of its blocks.
Shapes = tuple[tuple[tuple[int, ...], ...], ...]


def _slices(shapes: Shapes) -> list[list[slice]]:
    """Where each block's array lies in the vector of all."""
    ends = np.cumsum([0, *(int(np.prod(shape)) for part in shapes for shape in part)]).tolist()
    pairs = itertools.starmap(slice, itertools.pairwise(ends))
    return [[next(pairs) for _ in part] for part in shapes]


def _unpacked(shapes: Shapes, white: Float[Array, "P"]) -> Any:
    """A vector as an array for each block."""
    parts = zip(_slices(shapes), shapes, strict=True)
    return tuple(tuple(white[at].reshape(shape) for at, shape in zip(*part, strict=True)) for part in parts)


class _Places(NamedTuple):
    """Where the signal is asked for.

    rows: places of the entries among the domain's, flattened, padded; levels: whether all function values follow.
    """

    domain: Domain
    rows: Int[Array, "M"]
    levels: bool


def _signal(terms: Terms, colourings: Any, places: _Places, shapes: Shapes, white: Array) -> Array:
    values = _coloured(colourings, _unpacked(shapes, white))
    entries = total(terms, values, places.domain)[places.rows]
    if not places.levels:
        return entries
    return jnp.concatenate([entries, *(one.T.ravel() for own in values for one in own)])


def _pull(terms: Terms, colourings: Any, places: _Places, shapes: Shapes, white: Array, cotangent: Array) -> Array:
    signal = functools.partial(_signal, terms, colourings, places, shapes)
    return jax.vjp(signal, white)[1](cotangent)[0]


def _pull_learned(
    held: Terms, places: _Places, shapes: Shapes, learned: Terms, white: Array, cotangent: Array
) -> Terms:
    def signal(learned: Terms) -> Array:
        terms = eqx.combine(learned, held)
        return _signal(terms, _colourings(terms), places, shapes, white)

    return jax.vjp(signal, learned)[1](cotangent)[0]


def _values(colourings: Any, shapes: Shapes, white: Array) -> Values:
    return _coloured(colourings, _unpacked(shapes, white))


def _alone(term: AbstractBoundTerm, places: _Places, values: tuple[Array, ...]) -> Array:
    return total((term,), (values,), places.domain)[places.rows]


def _read(alone: Callable[..., Array], values: tuple[Array, ...], block: int, function: int) -> sparse.csr_matrix:
    """(N, T) what each entry reads of one function of a block, given the term's value for function values.

    An entry reads one level: what the term gives where the function is the levels' numbers, over what it gives where
    the function is one, tells which.
    """
    T, R = values[block].shape
    unit = np.zeros((T, R))
    unit[:, function] = 1.0
    one, numbered = (
        np.asarray(alone((*values[:block], jnp.asarray(own), *values[block + 1 :])))
        for own in (unit, unit * np.arange(1, T + 1)[:, None])
    )
    rows = np.flatnonzero(one)
    levels = np.round(numbered[rows] / one[rows]).astype(int) - 1
    return sparse.csr_matrix((one[rows], (rows, levels)), shape=(len(one), T))


def _columns(colouring: Any, shape: tuple[int, ...], units: Float[Array, "F F"]) -> Float[Array, "F T R"]:
    """What each unit of a block's white noise adds to its functions."""
    nothing = colouring(jnp.zeros(shape, units.dtype))
    return jax.vmap(lambda unit: colouring(unit.reshape(shape)) - nothing)(units)


def _spread(belief: Belief) -> Array:
    """A typical posterior standard deviation, not below a hundredth of the mean's size."""
    variance = jnp.mean(jnp.diagonal(belief.cov, axis1=1, axis2=2))
    return jnp.sqrt(variance + 1e-4 * jnp.mean(belief.mean**2) + jnp.finfo(variance.dtype).tiny)


def _misfit(colourings: Any, means: Values, spreads: Any, shapes: Shapes, white: Array) -> tuple[Array, Array]:
    def loss(white: Array) -> Array:
        values = _values(colourings, shapes, white)
        apart = jax.tree.map(lambda f, m, s: jnp.sum(((f - m) / s) ** 2), values, means, spreads)
        return 0.5 * (sum(jax.tree.leaves(apart), start=jnp.zeros(())) + jnp.sum(white**2))

    return jax.value_and_grad(loss)(white)


def _common_mean(j: int, k: int, terms: Any) -> Any:
    return terms[j].blocks[k].prior.mean


def movable(terms: Terms) -> Any:
    """A tree of bools: hyper-parameters that learning may move, common means of offsets among them."""
    mask = learned_mask(terms)
    for j, term in enumerate(terms):
        for k, block in enumerate(term.blocks):
            if isinstance(block.prior, Categorical) and block.prior.mean is not None:
                mask = eqx.tree_at(functools.partial(_common_mean, j, k), mask, True)
    return mask


class Signal:
    """The signal at the training entries as a function of a vector of white noise.

    With ``levels`` all blocks' function values stand behind it, block by block and function by function, so that what
    is known of these is one more contrast.

    Attributes:
        terms: with numbers, in the model's order.
        movable: which of their hyper-parameters learning may move.
        size: length of the vector.
    """

    def __init__(
        self,
        terms: Terms,
        ranks: tuple[tuple[int, ...], ...],
        domain: Domain,
        rows: Int[np.ndarray, "N"],
        movable_parts: Any = None,
        levels: bool = False,
    ) -> None:
        """ranks: numbers of functions of each term's blocks; rows: places of the entries among the domain's."""
        self.terms, self._ranks, self._domain, self._rows = terms, ranks, domain, rows
        # Close numbers of entries share their programs.
        self._places = _Places(domain, jnp.asarray(padded(rows, shared_size(len(rows)))), levels)
        self.movable = movable(terms) if movable_parts is None else movable_parts
        self._shapes: Shapes = tuple(
            tuple(b.prior.white_shape(b.points.shape[0], rank) for b, rank in zip(t.blocks, own, strict=True))
            for t, own in zip(terms, ranks, strict=True)
        )
        self.size = sum(int(np.prod(s)) for part in self._shapes for s in part)
        self._colourings = _colourings_of(terms)
        given = (terms, self._colourings, self._places, self._shapes)
        self._signal, self._pull = compiled_for(_signal, *given), compiled_for(_pull, *given)

    def with_terms(self, terms: Terms) -> Signal:
        """The same with other hyper-parameters."""
        return Signal(terms, self._ranks, self._domain, self._rows, self.movable, self._places.levels)

    def blocks(self) -> list[list[slice]]:
        """Where each term's blocks lie in the vector."""
        return _slices(self._shapes)

    def __call__(self, white: Float[np.ndarray, "P"]) -> Float[np.ndarray, "N"]:
        """The signal at the entries."""
        found, entries = np.asarray(self._signal(white)), len(self._rows)
        return np.concatenate([found[:entries], found[len(self._places.rows) :]])

    def _padded(self, cotangent: Float[np.ndarray, "N"]) -> Float[np.ndarray, "M"]:
        entries = len(self._rows)
        nothing = np.zeros(len(self._places.rows) - entries)
        return np.concatenate([cotangent[:entries], nothing, cotangent[entries:]])

    def values(self, white: Float[np.ndarray, "P"]) -> Values:
        """Function values at the blocks' points."""
        return compiled_for(_values, self._colourings, self._shapes)(white)

    def whitened(self, beliefs: Beliefs, iterations: int) -> Float[np.ndarray, "P"]:
        """White noise whose functions are close to the beliefs' means, in units of the beliefs' spread."""
        if self.size == 0:
            return np.zeros(0)
        means = tuple(tuple(b.mean for b in part) for part in beliefs)
        spreads = tuple(tuple(_spread(b) for b in part) for part in beliefs)
        misfit = compiled_for(_misfit, self._colourings, means, spreads, self._shapes)

        def loss(white: np.ndarray) -> tuple[float, np.ndarray]:
            value, gradient = misfit(white)
            return float(value), np.asarray(gradient)

        options = {"maxiter": iterations}
        return minimize(loss, np.zeros(self.size), jac=True, method="L-BFGS-B", options=options).x

    def pull(self, white: Float[np.ndarray, "P"], cotangent: Float[np.ndarray, "N"]) -> Float[np.ndarray, "P"]:
        """Gradient with respect to the vector of the inner product of signal and cotangent."""
        return np.asarray(self._pull(white, self._padded(cotangent)))

    def derivative(
        self, white: Float[np.ndarray, "P"], free: Bool[np.ndarray, "P"]
    ) -> tuple[sparse.csr_matrix, Float[np.ndarray, "V F"]]:
        """With respect to whole blocks that the signal is linear in, as a product.

        Returns:
            (N, V) what entries read of the V function values of the free blocks, and these from their white noise.
        """
        read, colours, itself = [], [], []
        values = self.values(white)
        for j, own in enumerate(self.blocks()):
            for k, at in enumerate(own):
                number = values[j][k].size
                if not free[at].any():
                    itself.append(sparse.csr_matrix((number, 0)))
                    continue
                itself.append(sparse.identity(number, format="csr"))
                read.append(self.reads(values, j, k))
                colour = compiled_for(_columns, self._colourings[j][k], self._shapes[j][k])
                columns = np.asarray(colour(jnp.eye(at.stop - at.start)))
                colours.append(columns.transpose(2, 1, 0).reshape(number, -1))
        entries = sparse.hstack(read, format="csr")
        if self._places.levels:
            entries = sparse.vstack([entries, sparse.block_diag(itself)], format="csr")
        return entries, block_diag(*colours)

    def reads(self, values: Values, term: int, block: int) -> sparse.csr_matrix:
        """(N, V) what each entry reads of a block's V function values, given those of its term's other blocks."""
        alone = compiled_for(_alone, self.terms[term], self._places)
        own = values[term]
        each = [_read(alone, own, block, r)[: len(self._rows)] for r in range(own[block].shape[1])]
        return sparse.hstack(each, format="csr")

    def pull_learned(self, white: Float[np.ndarray, "P"], cotangent: Float[np.ndarray, "N"]) -> Terms:
        """The same with respect to what is `movable`."""
        learned, held = eqx.partition(self.terms, self.movable)
        pull = compiled_for(_pull_learned, held, self._places, self._shapes)
        return pull(learned, white, self._padded(cotangent))
