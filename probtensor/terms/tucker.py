"""The Tucker decomposition whose factors are functions: a core times some functions of each mode."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from probtensor.axes import Axis
from probtensor.errors import ModelError
from probtensor.hyperparameters import Declaration
from probtensor.kernels.base import Start
from probtensor.linalg.packing import fold, pack, unpack
from probtensor.observations.domain import Domain
from probtensor.priors.base import AbstractModePrior, Belief
from probtensor.priors.categorical import Categorical
from probtensor.terms import modes as modes_of_term
from probtensor.terms.base import AbstractTerm, Block, DataScale
from probtensor.terms.network import AbstractNetwork
from probtensor.terms.start import positive_starts
from probtensor.typing import Array, Float, Key

#: Entries of the largest core: its posterior has a full covariance, of their number squared.
LARGEST_CORE = 512


class Tucker(AbstractTerm):
    """A core of numbers times R_d functions of each mode d: every function of a mode meets every one of the others.

    The functions have variance 1. The core's entries are independent and normal with one variance, learned, and so
    carry the scale of the term; what the data do not support is drawn to zero. Their posterior has a full covariance.
    Cost of a sweep over N entries: O(N prod R_d^2), on grids less; use CP or TensorTrain for more than a few modes.

    Args:
        rank: number of functions R of every mode, a dict of them by mode (the key ``...`` for every other mode), or
            ``"auto"`` to learn one for each mode.
        modes: which modes it reads: a dict of mode priors (``None`` = the default for that coordinate; a bare kernel
            means ``Markov(kernel)``; the key ``...`` stands for every other mode; a tuple of names joins dimensions
            into one mode), a list of names, or None for all.
        core_variance: prior variance of the core's entries, in squared data units; learned by default.

    Raises:
        ModelError: a rank is not a positive integer, is missing or above the number of its mode's levels; the core has
            more than 512 entries; or a prior is not one.

    Source: Fang et al. 2024 (functional Bayesian Tucker decomposition); Tucker 1966.
    """

    rank: int | str | tuple[tuple[Any, int], ...] = eqx.field(static=True)
    modes: modes_of_term.Declared
    core_variance: Declaration

    def __init__(
        self,
        rank: int | str | Mapping[Any, int],
        modes: Mapping[Any, Any] | Sequence[str] | None = None,
        core_variance: Declaration = None,
    ) -> None:
        """See the class."""
        self.rank = modes_of_term.by_mode(rank) if isinstance(rank, Mapping) else rank
        self.modes = modes_of_term.declare(modes)
        self.core_variance = core_variance

    def __check_init__(self) -> None:
        """Raises ModelError for a bad rank or prior."""
        for name, rank in self.rank if isinstance(self.rank, tuple) else ((None, self.rank),):
            where = f"rank={rank!r}" if name is None else f"rank={{{name!r}: {rank!r}}}"
            if not isinstance(name, str | types.EllipsisType | None):
                raise ModelError(f"Tucker({where}): {name!r} is not a mode's name")
            if not (modes_of_term.is_rank(rank) or (name is None and rank == modes_of_term.AUTO)):
                raise ModelError(
                    f"Tucker({where}): the rank must be a positive integer, or a dict of them by mode; 'auto' alone "
                    "learns all"
                )
        modes_of_term.check("Tucker", self.modes)

    def mode_names(self, available: Sequence[str]) -> tuple[str, ...]:
        """The named modes, with ``...`` or None standing for all others."""
        return modes_of_term.names("Tucker", self.modes, available)

    def bind(self, axes: Mapping[str, Axis], scale: DataScale) -> BoundTucker:
        """Chooses defaults, holds the functions' variances at one, and starts the core's at the data's."""
        modes_of_term.number("Tucker", self.rank)
        chosen = modes_of_term.choose("Tucker", self.modes, axes)
        # The first block's start is never read: the largest mode's functions, which the others' starts shape most.
        active = [chosen.carrier, *(n for n in sorted(chosen.active) if n != chosen.carrier)]
        ranks = self._ranks(active, chosen.constant, axes)
        blocks = []
        for n, rank in zip(active, ranks, strict=True):
            start = scale.start(axes[n], np.ones(rank), False)
            prior = modes_of_term.bind("Tucker", chosen.active[n], axes[n], start)
            blocks.append(Block(prior, jnp.asarray(axes[n].points)))
        size = int(np.prod(ranks))
        start = Start(np.ones(1), np.array([scale.variance / size]), True)
        core = Block(
            Categorical(variance=self.core_variance).bind(Axis("core", "category", np.zeros(1)), start),
            jnp.asarray(np.zeros(1)),
        )
        return BoundTucker(tuple(ranks), tuple(active), chosen.constant, tuple(blocks), core)

    def _ranks(self, active: Sequence[str], constant: Sequence[str], axes: Mapping[str, Axis]) -> list[int]:
        """The rank of each mode that varies."""
        rank: Any = self.rank
        given = dict(rank) if isinstance(rank, tuple) else {...: rank}
        unread = [name for name in given if name is not ... and name not in (*active, *constant)]
        if unread:
            raise ModelError(
                f"Tucker: rank has mode {unread[0]!r}, which the term does not read; it reads {', '.join(active)}"
            )
        ranks = []
        for name in active:
            rank = given.get(name, given.get(...))
            if rank is None:
                raise ModelError(
                    f"Tucker: no rank for mode {name!r}; name it in rank, or leave it out with modes={list(given)}"
                )
            levels = axes[name].distinct
            if rank > levels:
                raise ModelError(
                    f"Tucker: rank {rank} of mode {name!r} is above its {levels} levels; "
                    f"use rank={{{name!r}: {levels}, ...}} or less"
                )
            ranks.append(int(rank))
        size = int(np.prod(ranks))
        if size > LARGEST_CORE:
            shape = " x ".join(f"{name} {rank}" for name, rank in zip(active, ranks, strict=True))
            raise ModelError(
                f"Tucker: a core of {shape} has {size:,} entries, and its posterior covariance {size**2:,} "
                f"({8 * size**2 / 2**20:,.0f} MiB); at most {LARGEST_CORE} entries are possible. Lower the ranks, read "
                "fewer modes, or use pt.CP or pt.TensorTrain"
            )
        return ranks


class BoundTucker(AbstractNetwork):
    """A Tucker term with numbers: one block for each mode that varies, then the core.

    Attributes:
        ranks: R_d of each mode, in the order of `names`.
        names: modes that vary; constant: those that do not.
        core: one level whose functions are the core's entries, the last mode's index running fastest.
    """

    ranks: tuple[int, ...] = eqx.field(static=True)
    names: tuple[str, ...] = eqx.field(static=True)
    constant: tuple[str, ...] = eqx.field(static=True)
    factors: tuple[Block, ...]
    core: Block

    @property
    def blocks(self) -> tuple[Block, ...]:
        """The modes' in the order of `names`, then the core."""
        return (*self.factors, self.core)

    def with_priors(self, priors: Sequence[AbstractModePrior]) -> BoundTucker:
        """The same modes with other priors."""
        *factors, core = (Block(prior, block.points) for prior, block in zip(priors, self.blocks, strict=True))
        return BoundTucker(self.ranks, self.names, self.constant, tuple(factors), core)

    def initial(self, key: Key, domain: Domain) -> tuple[Belief, ...]:
        """Random values, zero for the first block: see `BoundCP.initial`."""
        sd = jnp.sqrt(jnp.mean(self.core.prior.variance.value))  # type: ignore[attr-defined]
        scales: list[float | Array] = [float(k > 0) for k in range(len(self.factors))]
        return positive_starts(key, self.blocks, [*self.ranks, int(np.prod(self.ranks))], [*scales, sd])

    def mode_of(self, block: int) -> str | None:
        """Its name; None for the core."""
        return self.names[block] if block < len(self.names) else None

    def letters(self, block: int) -> str:
        """One for each mode's index of functions; the core has them all."""
        every = "abcdefghijklmnopqrstuvwxyz"[: len(self.names)]
        return every[block] if block < len(self.names) else every

    def arranged(self, block: int, values: Float[Array, "T R"]) -> Float[Array, "T ..."]:
        """The core as a tensor."""
        return values if block < len(self.names) else values.reshape(-1, *self.ranks)

    def paired(self, block: int, matrices: Float[Array, "T R R"], without: int | None) -> Float[Array, "T ..."]:
        """Functions packed; the core folded in every mode but the one that is left out, which stays packed."""
        D = len(self.names)
        if block < D:
            return pack(matrices)
        pairs = matrices.reshape(-1, *self.ranks, *self.ranks)
        for d in range(D):
            # The modes done so far are single axes in the back, so the next mode's two indices are 1 and 1 + D - d.
            pair = jnp.moveaxis(pairs, (1, 1 + D - d), (-2, -1))
            pairs = pack(pair) if d == without else fold(pair)
        return pairs

    def unpaired(self, block: int, pairs: Float[Array, "T ..."]) -> Float[Array, "T R R"]:
        """The core's pairs of every mode, gathered to first and second indices."""
        D = len(self.names)
        if block < D:
            return unpack(pairs, self.ranks[block])
        for rank in self.ranks:
            pairs = unpack(jnp.moveaxis(pairs, 1, -1), rank)
        size = int(np.prod(self.ranks))
        first, second = range(1, 2 * D, 2), range(2, 2 * D + 1, 2)
        return pairs.transpose(0, *first, *second).reshape(-1, size, size)
