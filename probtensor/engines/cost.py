"""What message passing will cost, from shapes alone: the most memory it holds at once, and the arithmetic of a sweep.

A sweep holds arrays with one number for each entry, the beliefs of all blocks, and what the largest of its steps needs
while it lasts: a contraction of the data with the other blocks' second moments, or a block's posterior. Constants are
fitted to measured peaks, on the low side: what is refused would not have fitted.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import numpy as np

from probtensor.compilation import shapes_of
from probtensor.model import BoundModel
from probtensor.observations.domain import Observations
from probtensor.observations.layout import CHUNK_NUMBERS, Points
from probtensor.terms.base import AbstractBoundTerm

#: Arrays of one number for each entry: those of the data as they are encoded and observed, those of a sweep beside
#: them, and for each term.
DATA_ARRAYS, _SWEEP_ARRAYS, _TERM_ARRAYS = 4, 4, 2
#: More of them where the likelihood is not normal, and where steps are damped.
_BY_ENTRY_ARRAYS, _DAMPED_ARRAYS = 4, 2
#: (T, R, R) matrices of a block: belief and sites, before and after, and second moments.
_BELIEF_MATRICES = 6
#: Copies of a contraction's largest array, on a grid and in chunks of a list.
_GRID_COPIES, _CHUNK_COPIES = 2, 3
#: Operations for each entry and block: those beside its products, and for each pair of functions in the matrix products
#: of a grid, in sums over a list, and in a list's products with a core.
_ENTRY_OPERATIONS, _GRID_OPERATIONS, _LIST_OPERATIONS, _CORE_OPERATIONS = 40, 0.5, 8.0, 0.5
#: Operations of a posterior, for each level and function, and for each level and cubed number of functions.
_FUNCTION_OPERATIONS, _JOINT_OPERATIONS = 3e4, 15.0
#: Operations that a processor core makes in a second, to the order of magnitude.
_SPEED = 3e9
#: Bytes that the compiler takes, and the programs that it makes.
_COMPILER = 160 * 2**20

#: What to do about too many entries.
FEWER_ENTRIES = (
    "Fit a dask array from disk with pt.MessagePassing(out_of_core=True) or pt.SVI(), a coarser grid (data.coarsen), "
    "or the observed entries alone as a table, pt.table"
)
_MESH = "or split the entries over devices with memory of their own, mesh="
#: What to do about too many functions.
_SMALLER = "Give the term a smaller rank, or the mode fewer levels (a coarser grid)"
_APART = "or take its functions as independent, pt.MessagePassing(coupling='component')"


class Part(NamedTuple):
    """Something that takes memory: what, in words, how many bytes, and what to do where there are not so many."""

    what: str
    bytes: int
    remedy: str


class Cost(NamedTuple):
    """What a fit needs.

    Attributes:
        data: what is held for the entries; held: how many bytes of it the data and their observations already take.
        beliefs: what is held for each block.
        steps: what each step needs while it lasts; one after the other.
        sweep_seconds: of one sweep, to the order of magnitude.
    """

    data: Part
    held: int
    beliefs: tuple[Part, ...]
    steps: tuple[Part, ...]
    sweep_seconds: float

    @property
    def bytes(self) -> int:
        """The most that arrays take at once."""
        held = self.data.bytes + sum(part.bytes for part in self.beliefs)
        return held + max((part.bytes for part in self.steps), default=0)

    @property
    def peak(self) -> int:
        """The most by which a process grows that has not compiled anything yet."""
        return self.bytes + _COMPILER

    @property
    def largest(self) -> Part:
        """What takes most."""
        return max((self.data, *self.beliefs, *self.steps), key=lambda part: part.bytes)


class _Block(NamedTuple):
    """A block's name, how many levels and functions it has, and whether entries choose among its levels."""

    name: str
    levels: int
    rank: int
    indexed: bool

    @property
    def pairs(self) -> int:
        """How many distinct numbers a matrix between its functions has."""
        return self.rank * (self.rank + 1) // 2


def cost_of(
    model: BoundModel, observations: Observations, by_component: bool, damped: bool, whole: int | None = None
) -> Cost:
    """What message passing of a model will take; nothing is computed, and no array made.

    Args:
        model: with numbers.
        observations: all, or those that are looked at together.
        by_component: whether functions are independent under the posterior.
        damped: whether a sweep can be taken back.
        whole: how many entries a sweep reads; None: those of the observations.
    """
    domain, item = observations.domain, observations.values.dtype.itemsize
    layout, entries = domain.layout, int(np.prod(domain.shape))
    columns = layout.index.shape[1] if isinstance(layout, Points) else 0
    held = DATA_ARRAYS + 2 * len(observations.known) + 2 * columns
    arrays = held + 2 * columns + _SWEEP_ARRAYS + _TERM_ARRAYS * len(model.terms)
    arrays += _BY_ENTRY_ARRAYS * model.likelihood.by_entry(observations) + _DAMPED_ARRAYS * damped
    data = Part(f"the numbers of {entries:,} entries", item * entries * arrays, f"{FEWER_ENTRIES}; {_MESH}")
    remedy = _SMALLER if by_component else f"{_SMALLER}, {_APART}"
    beliefs, steps, operations = [], [], 0.0
    for number, term in enumerate(model.terms):
        blocks = _blocks(number, term, observations)
        for k, (block, own) in enumerate(zip(blocks, term.blocks, strict=True)):
            said = f"{block.name} ({block.levels:,} levels, {block.rank:,} functions)"
            matrices = block.levels * block.rank**2
            beliefs.append(Part(f"beliefs of {said}", item * _BELIEF_MATRICES * matrices, _SMALLER))
            passed = own.prior.workspace(block.levels, 1 if by_component else block.rank)
            steps.append(Part(f"the matrices of the posterior of {said}", item * passed, remedy))
            products = _products(blocks, k, entries, grid=columns == 0)
            steps.append(Part(f"the products of the data with all but {said}", item * products, f"{_SMALLER}, {_MESH}"))
            joint = 0.0 if by_component else float(block.rank) ** 3
            operations += block.levels * (_FUNCTION_OPERATIONS * block.rank + _JOINT_OPERATIONS * joint)
        operations += (entries if whole is None else whole) * len(blocks) * _entry_operations(blocks, grid=columns == 0)
    return Cost(data, item * entries * held, tuple(beliefs), tuple(steps), operations / _SPEED)


def _blocks(number: int, term: AbstractBoundTerm, observations: Observations) -> list[_Block]:
    """The shapes of a term's beliefs, without making them."""
    if not term.blocks:
        return []
    beliefs = shapes_of(term.initial, jax.random.key(0), observations.domain)
    title = f"term {number} ({type(term).__name__.removeprefix('Bound')})"
    found = []
    for k, belief in enumerate(beliefs):
        mode = term.mode_of(k)
        name = title if mode is None else f"{title}, mode {mode!r}"
        levels, rank = belief.mean.shape
        found.append(_Block(name, levels, rank, mode is not None))
    return found


def _entry_operations(blocks: list[_Block], grid: bool) -> float:
    """Operations that an entry takes for each block of a term."""
    widest = max((block.pairs for block in blocks if block.indexed), default=1)
    if grid:
        return _ENTRY_OPERATIONS + _GRID_OPERATIONS * widest
    core = max((block.pairs for block in blocks if not block.indexed), default=0)
    return _ENTRY_OPERATIONS + _LIST_OPERATIONS * widest + _CORE_OPERATIONS * core


def _products(blocks: list[_Block], k: int, entries: int, grid: bool) -> int:
    """Numbers in the largest arrays on the way to a block's sites.

    On a grid the longest other mode is contracted first, which leaves a number for each pair of its functions and each
    combination of the others' levels; a list is contracted in chunks.
    """
    others = [other for j, other in enumerate(blocks) if j != k and other.indexed]
    if not others:
        return 0
    longest = max(others, key=lambda other: other.levels)
    if grid:
        return _GRID_COPIES * -(-entries // longest.levels) * longest.pairs
    return _CHUNK_COPIES * min(entries * longest.pairs, max(CHUNK_NUMBERS, longest.pairs))
