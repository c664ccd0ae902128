"""The same term with more or fewer functions: what is known of them carried from one size to another, in NumPy.

A block's R functions are numbered by one or several letters: the components of a CP, a function of each mode in the
core of a Tucker, the two bonds beside a mode of a tensor train. `Functions` holds them as arrays with an axis for each
letter, so that growing and dropping are operations on axes, and the same for all decompositions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from probtensor.engines.initialise import Component
from probtensor.hyperparameters import Parameter, is_parameter, parameters
from probtensor.priors.base import AbstractModePrior, Belief, empty_sites
from probtensor.terms.cp import BoundCP
from probtensor.terms.network import AbstractNetwork
from probtensor.terms.switched import Switched
from probtensor.typing import Array, Float

#: A decomposition whose functions are numbered by letters.
Decomposition: TypeAlias = BoundCP | AbstractNetwork
#: How many functions each letter counts.
Sizes: TypeAlias = Mapping[str, int]


class Functions(NamedTuple):
    """What is known of one block's functions.

    Attributes:
        letters: that number them.
        mean: (T, size of each letter).
        cov: (T, size of each letter, size of each letter).
        raws: logarithms of the hyper-parameters: an axis for each letter where every function has its own, else as
            they are.
        own: for each of them whether every function has its own.
    """

    letters: str
    mean: Float[np.ndarray, "T ..."]
    cov: Float[np.ndarray, "T ..."]
    raws: tuple[np.ndarray, ...]
    own: tuple[bool, ...]


def letters_of(term: Decomposition) -> str:
    """All letters of a term, in alphabetical order."""
    return "".join(sorted({c for k in range(len(term.blocks)) for c in term.letters(k)}))


def sizes_of(functions: Sequence[Functions]) -> dict[str, int]:
    """How many functions each letter counts."""
    return {c: n for f in functions for c, n in zip(f.letters, f.mean.shape[1:], strict=True)}


def read(term: Decomposition, beliefs: Sequence[Belief], capacity: Sizes, sizes: Sizes) -> tuple[Functions, ...]:
    """The first functions of each letter, as many as ``sizes`` says, of a term of size ``capacity``."""
    out = []
    for k, (block, belief) in enumerate(zip(term.blocks, beliefs, strict=True)):
        letters = term.letters(k)
        whole, T = tuple(capacity[c] for c in letters), belief.mean.shape[0]
        first = tuple(slice(sizes[c]) for c in letters)
        mean = np.asarray(belief.mean).reshape(T, *whole)[(slice(None), *first)]
        cov = np.asarray(belief.cov).reshape(T, *whole, *whole)[(slice(None), *first, *first)]
        raws = [np.asarray(p.raw) for p in parameters(block.prior)]
        own = tuple(raw.size == np.prod(whole) for raw in raws)
        raws = [raw.reshape(whole)[first] if mine else raw for raw, mine in zip(raws, own, strict=True)]
        out.append(Functions(letters, mean, cov, tuple(raws), own))
    return tuple(out)


def nothing(term: Decomposition, capacity: Sizes) -> tuple[Functions, ...]:
    """No functions of a term of size ``capacity``."""
    out = []
    for k, block in enumerate(term.blocks):
        letters, T = term.letters(k), block.points.shape[0]
        whole, none = tuple(capacity[c] for c in letters), (0,) * len(letters)
        raws = [np.asarray(p.raw) for p in parameters(block.prior)]
        own = tuple(raw.size == np.prod(whole) for raw in raws)
        raws = [np.zeros(none) if mine else raw for raw, mine in zip(raws, own, strict=True)]
        out.append(Functions(letters, np.zeros((T, *none)), np.zeros((T, *none, *none)), tuple(raws), own))
    return tuple(out)


def write(
    term: Decomposition, functions: Sequence[Functions], capacity: Sizes
) -> tuple[Decomposition, tuple[Belief, ...], tuple[Float[Array, "R"], ...]]:
    """A term of size ``capacity`` with the functions in its first places; its beliefs; and which functions they are.

    The other functions have beliefs of zero and the hyper-parameters that the term came with.
    """
    priors, beliefs, active = [], [], []
    for block, f in zip(term.blocks, functions, strict=True):
        whole = tuple(capacity[c] for c in f.letters)
        first, T, R = tuple(slice(n) for n in f.mean.shape[1:]), len(f.mean), int(np.prod(whole))
        mean, cov, on = np.zeros((T, *whole)), np.zeros((T, *whole, *whole)), np.zeros(whole)
        mean[(slice(None), *first)], cov[(slice(None), *first, *first)], on[first] = f.mean, f.cov, 1.0
        zero = jnp.zeros(())
        sites = empty_sites(T, R, zero.dtype)
        beliefs.append(
            Belief(jnp.asarray(mean.reshape(T, R)), jnp.asarray(cov.reshape(T, R, R)), zero, zero, block.points, sites)
        )
        priors.append(_with_raws(block.prior, f, whole, first))
        active.append(jnp.asarray(on.ravel()))
    written = term.with_priors(priors)
    assert isinstance(written, BoundCP | AbstractNetwork)
    return written, tuple(beliefs), tuple(active)


def _with_raws(
    prior: AbstractModePrior, f: Functions, whole: tuple[int, ...], first: tuple[slice, ...]
) -> AbstractModePrior:
    """The prior with the functions' hyper-parameters; as it is where it has other ones."""
    bound = parameters(prior)
    if len(bound) != len(f.raws):
        return prior
    new = []
    for parameter, raw, own in zip(bound, f.raws, f.own, strict=True):
        value = np.array(parameter.raw)
        if own and value.size == np.prod(whole):
            value = value.reshape(whole)
            value[first] = raw
            value = value.ravel()
        elif not own and value.shape == raw.shape:
            value = raw
        new.append(eqx.tree_at(lambda p: p.raw, parameter, jnp.asarray(value)) if parameter.learned else parameter)
    remaining = iter(new)
    return jax.tree.map(lambda node: next(remaining) if is_parameter(node) else node, prior, is_leaf=is_parameter)


def switched(
    term: Decomposition, functions: Sequence[Functions], capacity: Sizes
) -> tuple[Switched, tuple[Belief, ...]]:
    """A term of size ``capacity`` in which only these functions are on, and its beliefs."""
    written, beliefs, active = write(term, functions, capacity)
    return Switched(written, active), beliefs


def dropped(functions: Sequence[Functions], letter: str, number: int) -> tuple[Functions, ...]:
    """Without one of a letter's functions."""
    out = []
    for f in functions:
        for axis in [k for k, c in enumerate(f.letters) if c == letter]:
            ndim = len(f.letters)
            cov = np.delete(np.delete(f.cov, number, 1 + axis), number, 1 + ndim + axis)
            raws = tuple(np.delete(r, number, axis) if own else r for r, own in zip(f.raws, f.own, strict=True))
            f = f._replace(mean=np.delete(f.mean, number, 1 + axis), cov=cov, raws=raws)
        out.append(f)
    return tuple(out)


def appended(
    term: Decomposition, functions: Sequence[Functions], component: Component, grown: str
) -> tuple[Functions, ...]:
    """With one more component: a further function of every letter in ``grown``.

    A letter that does not grow serves the component with the functions that it has: their combination nearest to the
    component's where a block is numbered by this letter alone, else the first of them.
    """
    names = term.names  # type: ignore[union-attr]
    size = float(np.sqrt(np.mean(component.functions[names[0]] ** 2))) or 1.0
    has_core = len(names) < len(functions)
    values = [component.functions[n] / (size if has_core and k == 0 else 1.0) for k, n in enumerate(names)]
    values += [np.full(1, size)] * (len(functions) - len(names))
    sizes, places = sizes_of(functions), {}
    for c, n in sizes.items():
        if c in grown:
            places[c] = np.eye(n + 1)[n]
            continue
        places[c] = np.eye(n)[0]
        for f, value in zip(functions, values, strict=True):
            if f.letters == c:
                places[c] = np.linalg.lstsq(f.mean, value, rcond=None)[0]
    out = []
    for k, (f, value) in enumerate(zip(functions, values, strict=True)):
        if len(f.letters) == 1 and f.letters not in grown:
            out.append(f)
            continue
        more = [(0, int(c in grown)) for c in f.letters]
        mean = np.pad(f.mean, [(0, 0), *more])
        cov = np.pad(f.cov, [(0, 0), *more, *more])
        shape = np.ones(())
        for c in f.letters:
            shape = np.multiply.outer(shape, places[c])
        mean = mean + value.reshape(-1, *(1,) * shape.ndim) * shape
        raws = component.raws[names[k]] if k < len(names) else ()
        variance = _variances(term.blocks[k].prior)
        new = []
        for j, (raw, own) in enumerate(zip(f.raws, f.own, strict=True)):
            if own:
                other = raws[j] if len(raws) == len(f.raws) else (float(raw.mean()) if raw.size else 0.0)
                # The function's own mean square is the natural start of the variance that it is drawn with.
                other = 2 * np.log(size) if k == 0 and variance[j] else other
                raw = np.pad(raw, more, constant_values=other)
            new.append(raw)
        out.append(f._replace(mean=mean, cov=cov, raws=tuple(new)))
    return tuple(out)


def _variances(prior: AbstractModePrior) -> list[bool]:
    """Which of a prior's hyper-parameters are variances."""
    leaves = jax.tree_util.tree_leaves_with_path(prior, is_leaf=is_parameter)
    return [getattr(path[-1], "name", "") == "variance" for path, leaf in leaves if isinstance(leaf, Parameter)]


def weakest_last(term: Decomposition, functions: Sequence[Functions], letter: str) -> tuple[Functions, ...]:
    """The same functions in an order in which a letter's last one matters least.

    The components of a CP are sorted by the product of their mean squares. A letter of a network cuts it in two, and
    its functions are turned so that they are orthonormal on the side without the root and orthogonal on the other,
    which carries the singular values: the higher-order singular value decomposition of a Tucker's mean, the mixed
    canonical form of a tensor train's. The root is the core, or the mode that carries the variance.
    """
    if isinstance(term, BoundCP):
        size = np.prod([np.mean(f.mean**2, axis=0) for f in functions], axis=0)
        order = np.eye(len(size))[np.argsort(-size, kind="stable")]
        return tuple(_turned(f, letter, order) for f in functions)
    has_core = len(term.names) < len(functions)  # type: ignore[attr-defined]
    near = _reached(functions, len(functions) - 1 if has_core else 0, letter)
    far = [k for k in range(len(functions)) if k not in near]
    values, vectors = np.linalg.eigh(_gram([functions[k] for k in far], letter))
    root = vectors * np.sqrt(np.maximum(values, values.max() * 1e3 * np.finfo(float).eps))
    left, _, _ = np.linalg.svd(root.T @ _gram([functions[k] for k in near], letter) @ root)
    # The square root of the near side's Gram matrix has the same left singular vectors.
    out_of = np.linalg.inv(root.T) @ left
    into = left.T @ root.T
    turns = [into if k in near else out_of.T for k in range(len(functions))]
    return tuple(_turned(f, letter, turn) for f, turn in zip(functions, turns, strict=True))


def _reached(functions: Sequence[Functions], root: int, cut: str) -> list[int]:
    """The blocks of a tree that hang together with the root once a letter is cut."""
    reached, letters = [root], set(functions[root].letters) - {cut}
    while new := [k for k, f in enumerate(functions) if k not in reached and letters & set(f.letters)]:
        reached += new
        letters |= {c for k in new for c in functions[k].letters} - {cut}
    return reached


def _gram(functions: Sequence[Functions], letter: str) -> Float[np.ndarray, "R R"]:
    """Mean over the grid of the products of a letter's functions, as the blocks of one side make them."""
    pairs = []
    for f in functions:
        t, twice = "z", f.letters + f.letters.upper()
        pairs.append(np.einsum(f"{t}{f.letters},{t}{f.letters.upper()}->{twice}", f.mean, f.mean) / len(f.mean))
    inputs = ",".join(f.letters + f.letters.upper() for f in functions)
    return np.einsum(f"{inputs}->{letter}{letter.upper()}", *pairs, optimize=True)


def _turned(f: Functions, letter: str, turn: Float[np.ndarray, "R R"]) -> Functions:
    """With each of a letter's functions replaced by a combination of them, a row of ``turn``; nothing if it has none.

    Hyper-parameters become averages with the squares of the combination's weights.
    """
    if letter not in f.letters:
        return f
    axis, ndim = f.letters.index(letter), len(f.letters)
    weights = turn**2 / np.sum(turn**2, axis=1, keepdims=True)
    cov = _along(_along(f.cov, turn, 1 + axis), turn, 1 + ndim + axis)
    raws = tuple(_along(raw, weights, axis) if own else raw for raw, own in zip(f.raws, f.own, strict=True))
    return f._replace(mean=_along(f.mean, turn, 1 + axis), cov=cov, raws=raws)


def _along(array: np.ndarray, matrix: np.ndarray, axis: int) -> np.ndarray:
    return np.moveaxis(np.tensordot(matrix, array, (1, axis)), 0, axis)
