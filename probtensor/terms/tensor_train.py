"""The tensor train whose cores are functions: a product of matrices, one for each mode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from probtensor.axes import Axis
from probtensor.errors import ModelError
from probtensor.linalg.packing import fold, pack, unpack
from probtensor.observations.domain import Domain
from probtensor.priors.base import AbstractModePrior, Belief
from probtensor.terms import modes as modes_of_term
from probtensor.terms.base import AbstractTerm, Block, DataScale
from probtensor.terms.network import AbstractNetwork
from probtensor.terms.start import positive_starts
from probtensor.typing import Array, Float, Key

#: Functions of one mode that have a joint posterior, at most.
LARGEST_BLOCK = 64


class TensorTrain(AbstractTerm):
    """A product of matrices G_1(x_1) G_2(x_2) ... G_D(x_D), whose entries are functions of one mode each.

    Neighbours in the train share a bond of r_d indices; mode d has r_(d-1) r_d functions, with one joint posterior.
    Parameters grow linearly with the number of modes, where a Tucker's core grows exponentially. The order of the
    modes matters: put next to each other what depends on each other. Variance is learned in one mode, the others hold
    it at 1. Cost of a sweep over N entries: O(N sum r_(d-1)^2 r_d^2), and for each mode T (S r_(d-1) r_d)^3.

    Args:
        rank: size of every bond, one for each bond between the modes that vary, in the train's order, or ``"auto"`` to
            learn them.
        modes: which modes it reads, in the train's order: a dict of mode priors (``None`` = the default for that
            coordinate; a bare kernel means ``Markov(kernel)``; the key ``...`` stands for every other mode, behind
            those that are named; a tuple of names joins dimensions into one mode), a list of names, or None for all,
            in alphabetical order.

    Raises:
        ModelError: a rank is not a positive integer, there is another number of bonds, a bond is larger than what its
            side of the train can tell apart, a mode would have more than 64 functions, or a prior is not one.

    Source: Oseledets 2011, Tensor-train decomposition; Gorodetsky, Karaman and Marzouk 2019 (functions as cores).
    """

    rank: int | str | tuple[int, ...] = eqx.field(static=True)
    modes: modes_of_term.Declared

    def __init__(self, rank: int | str | Sequence[int], modes: Mapping[Any, Any] | Sequence[str] | None = None) -> None:
        """See the class."""
        self.rank = tuple(rank) if isinstance(rank, list | tuple) else rank  # type: ignore[assignment]
        self.modes = modes_of_term.declare(modes)

    def __check_init__(self) -> None:
        """Raises ModelError for a bad rank or prior."""
        given = self.rank if isinstance(self.rank, tuple) else (self.rank,)
        if self.rank != modes_of_term.AUTO and not all(modes_of_term.is_rank(rank) for rank in given):
            raise ModelError(
                f"TensorTrain(rank={self.rank!r}): the rank must be a positive integer, or one for each bond; 'auto' "
                "learns all"
            )
        modes_of_term.check("TensorTrain", self.modes)

    def mode_names(self, available: Sequence[str]) -> tuple[str, ...]:
        """The named modes, with ``...`` or None standing for all others."""
        return modes_of_term.names("TensorTrain", self.modes, available)

    def bind(self, axes: Mapping[str, Axis], scale: DataScale) -> BoundTensorTrain:
        """Chooses defaults, and puts the variance into one mode."""
        modes_of_term.number("TensorTrain", self.rank)
        chosen = modes_of_term.choose("TensorTrain", self.modes, axes)
        names = list(chosen.active)
        bonds = self._bonds(names, axes)
        paths = int(np.prod(bonds))
        blocks = []
        for d, name in enumerate(names):
            size, carries = bonds[d] * bonds[d + 1], name == chosen.carrier
            variances = np.full(size, scale.variance / paths if carries else 1.0)
            start = scale.start(axes[name], variances, carries)
            prior = modes_of_term.bind("TensorTrain", chosen.active[name], axes[name], start)
            blocks.append(Block(prior, jnp.asarray(axes[name].points)))
        # The first block's start is never read, so the carrier, whose scale is the data's, comes first.
        order = sorted(range(len(names)), key=lambda d: (names[d] != chosen.carrier, d))
        return BoundTensorTrain(
            bonds, tuple(names[d] for d in order), chosen.constant, tuple(order), tuple(blocks[d] for d in order)
        )

    def _bonds(self, names: Sequence[str], axes: Mapping[str, Axis]) -> tuple[int, ...]:
        """Sizes of the bonds r_0 = 1, r_1, ..., r_D = 1."""
        rank: Any = self.rank
        given = rank if isinstance(rank, tuple) else (rank,) * (len(names) - 1)
        if len(given) != len(names) - 1:
            raise ModelError(
                f"TensorTrain(rank={self.rank!r}): {len(given)} bonds for {len(names)} modes that vary "
                f"({', '.join(names)}); give {len(names) - 1}, or one number for all"
            )
        bonds = (1, *(int(r) for r in given), 1)
        levels = [axes[name].distinct for name in names]
        for d in range(len(names) - 1):
            _check_bond(bonds[d + 1], bonds[d] * levels[d], names[d], names[d + 1], levels[d], names[d])
            _check_bond(bonds[d + 1], bonds[d + 2] * levels[d + 1], names[d], names[d + 1], levels[d + 1], names[d + 1])
        for d, name in enumerate(names):
            if bonds[d] * bonds[d + 1] > LARGEST_BLOCK:
                raise ModelError(
                    f"TensorTrain: mode {name!r} would have {bonds[d]} x {bonds[d + 1]} = {bonds[d] * bonds[d + 1]} "
                    f"functions with one joint posterior; at most {LARGEST_BLOCK} are possible. Lower the bonds beside "
                    "it, or put it at an end of the train"
                )
        return bonds


def _check_bond(bond: int, most: int, left: str, right: str, levels: int, mode: str) -> None:
    if bond > most:
        raise ModelError(
            f"TensorTrain: the bond of {bond} between modes {left!r} and {right!r} is above {most}, all that mode "
            f"{mode!r} with its {levels} levels can tell apart; lower it to {most}"
        )


class BoundTensorTrain(AbstractNetwork):
    """A tensor train with numbers: one block for each mode that varies.

    Attributes:
        bonds: r_0 = 1, r_1, ..., r_D = 1.
        names: modes that vary, in the order in which a sweep updates them; constant: those that do not.
        order: for each block its mode's place in the train.
        factors: the blocks; functions are numbered row-major over the left and the right bond.
    """

    bonds: tuple[int, ...] = eqx.field(static=True)
    names: tuple[str, ...] = eqx.field(static=True)
    constant: tuple[str, ...] = eqx.field(static=True)
    order: tuple[int, ...] = eqx.field(static=True)
    factors: tuple[Block, ...]

    @property
    def blocks(self) -> tuple[Block, ...]:
        """One for each mode that varies, in the order of `names`."""
        return self.factors

    def with_priors(self, priors: Sequence[AbstractModePrior]) -> BoundTensorTrain:
        """The same modes with other priors."""
        blocks = tuple(Block(prior, block.points) for prior, block in zip(priors, self.factors, strict=True))
        return BoundTensorTrain(self.bonds, self.names, self.constant, self.order, blocks)

    def sides(self, block: int) -> tuple[int, int]:
        """Sizes of a block's left and right bond."""
        return self.bonds[self.order[block]], self.bonds[self.order[block] + 1]

    def initial(self, key: Key, domain: Domain) -> tuple[Belief, ...]:
        """Random values, zero for the first block: see `BoundCP.initial`."""
        ranks = [int(np.prod(self.sides(k))) for k in range(len(self.factors))]
        return positive_starts(key, self.factors, ranks, [float(k > 0) for k in range(len(self.factors))])

    def mode_of(self, block: int) -> str | None:
        """Its name."""
        return self.names[block]

    def letters(self, block: int) -> str:
        """One for the left and one for the right bond; the train's ends have none."""
        place, last = self.order[block], len(self.names) - 1
        return "abcdefghijklmnopqrstuvwxyz"[max(place - 1, 0) : min(place + 1, last)]

    def _without_ends(self, block: int, array: Float[Array, "T a b"]) -> Float[Array, "T ..."]:
        """Without the axis of the bond that leaves the train, whose size is 1."""
        place, last = self.order[block], len(self.names) - 1
        return array.reshape(-1, *array.shape[1 + (place == 0) : 3 - (place == last)])

    def arranged(self, block: int, values: Float[Array, "T R"]) -> Float[Array, "T ..."]:
        """Matrices; vectors at the ends."""
        return self._without_ends(block, values.reshape(-1, *self.sides(block)))

    def paired(self, block: int, matrices: Float[Array, "T R R"], without: int | None) -> Float[Array, "T ..."]:
        """Pairs of left and of right indices; what is summed grows from the train's ends towards the block left out.

        A message along the train is symmetric in its pair, so it is packed where it leaves a block and folded where it
        enters the next; the last bond of a train with no block left out counts as entering from the left.
        """
        left, right = self.sides(block)
        pairs = matrices.reshape(-1, left, right, left, right).transpose(0, 2, 4, 1, 3)
        rightwards = without is None or self.order[block] < self.order[without]
        pairs = fold(pairs) if rightwards else pack(pairs)
        pairs = jnp.moveaxis(pairs, -1, 1)
        return self._without_ends(block, pack(pairs) if rightwards else fold(pairs))

    def unpaired(self, block: int, pairs: Float[Array, "T ..."]) -> Float[Array, "T R R"]:
        """Both pairs unpacked, first and second indices gathered."""
        left, right = self.sides(block)
        T, C = pairs.shape[0], left * (left + 1) // 2
        by_right = unpack(pairs.reshape(T, C, -1), right).reshape(T, C, right**2)
        full = unpack(jnp.swapaxes(by_right, 1, 2), left).reshape(-1, right, right, left, left).transpose(0, 3, 1, 4, 2)
        return full.reshape(-1, left * right, left * right)
