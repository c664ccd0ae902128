"""Which modes a decomposition reads and with which priors: how a user says so, and the defaults."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from probtensor.axes import JOIN, Axis, axis_of, join_names
from probtensor.errors import ModelError
from probtensor.kernels.base import AbstractKernel, Start
from probtensor.kernels.matern import Matern
from probtensor.kernels.spectral import is_spectral
from probtensor.priors.base import AbstractModePrior
from probtensor.priors.basis import Basis
from probtensor.priors.categorical import Categorical, Constant
from probtensor.priors.dense import Dense
from probtensor.priors.markov import Markov
from probtensor.priors.sphere import is_small
from probtensor.terms.base import absent, refuse_repeats

#: Pairs of a mode's name (or ``...`` for every other mode) and its declared prior; None: every mode by default.
Declared: TypeAlias = tuple[tuple[Any, Any], ...] | None

#: Functions of a coordinate that closes go around by default up to so many. They cost as twice as many on a line do:
#: 15 of 432 longitudes take 4.5 times as long, and fill gaps no better, since so many tell what is at the edges.
MOST_AROUND = 10
#: The rank that is learned.
AUTO = "auto"


def declare(modes: Mapping[Any, Any] | Sequence[str] | None) -> Declared:
    """A user's dict of priors, list of names or single name as pairs."""
    if modes is None:
        return None
    if isinstance(modes, str):
        return ((modes, None),)
    return by_mode(modes if isinstance(modes, Mapping) else [(name, None) for name in modes])


def by_mode(pairs: Mapping[Any, Any] | Sequence[tuple[Any, Any]]) -> tuple[tuple[Any, Any], ...]:
    """A dict by mode as pairs, where a tuple of names has become the joined mode's name."""
    items = pairs.items() if isinstance(pairs, Mapping) else pairs
    return tuple((_single(name), value) for name, value in items)


def _single(name: Any) -> Any:
    """The name of a joined mode; what is not a tuple of different names is left for `check` to refuse."""
    good = isinstance(name, tuple) and name and all(isinstance(n, str) and JOIN not in n for n in name)
    return join_names(name) if good and len(set(name)) == len(name) else name


def parts_of(name: str, available: Sequence[str]) -> tuple[str, ...]:
    """The modes that a joined mode is made of; any other mode is its own only part."""
    return (name,) if name in available else tuple(name.split(JOIN))


def is_rank(value: Any) -> bool:
    """Whether a value can be a number of functions: a positive integer."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= 1)


def number(term: str, rank: Any) -> Any:
    """The rank, if it is known. Raises ModelError for one that has yet to be learned."""
    if rank == AUTO:
        raise ModelError(f"{term}(rank='auto'): the rank is learned by pt.fit; give a number to bind the term itself")
    return rank


def check(term: str, declared: Declared) -> None:
    """Raises ModelError for what is not a name or not a prior, and for a mode that is named twice."""
    for name, prior in declared or ():
        if isinstance(name, tuple):
            raise ModelError(
                f"{term}: the joined mode {name!r} must be made of different names of modes, without {JOIN!r} in them"
            )
        if not isinstance(name, str | types.EllipsisType):
            raise ModelError(f"{term}: mode {name!r} is not a name, nor a tuple of names that joins modes")
        if not isinstance(prior, AbstractModePrior | AbstractKernel | None):
            raise ModelError(
                f"{term}: the prior of mode {name!r} is {prior!r}; expected a mode prior, a kernel or None"
            )
    named = [name for name, _ in declared or ()]
    refuse_repeats(term, named)
    joined = {name: name.split(JOIN) for name in named if isinstance(name, str) and JOIN in name}
    for name, parts in joined.items():
        for part in parts:
            other = next((n for n in named if n != name and (n == part or part in joined.get(n, ()))), None)
            if other is not None:
                raise ModelError(
                    f"{term}: dimension {part!r} is in mode {name!r} and in mode {other!r}; a term reads each "
                    "dimension once, alone or joined. Leave it out of one of them, or write two terms"
                )


def names(term: str, declared: Declared, available: Sequence[str]) -> tuple[str, ...]:
    """The modes that a term reads: those named, with ``...`` or None standing for all others.

    Raises ModelError for one that the data do not have, unless it derives from one that they have.
    """
    if declared is None:
        return tuple(available)
    named = [name for name, _ in declared if name is not ...]
    parts = [part for name in named for part in parts_of(name, available)]
    for part in parts:
        if part not in available and part.rpartition(".")[0] not in available:
            raise absent(f"{term} names mode", part, available)
    rest = [n for n in available if n not in parts] if any(name is ... for name, _ in declared) else []
    return (*named, *rest)


class Chosen(NamedTuple):
    """What a term found on the axes.

    Attributes:
        active: name -> prior of each mode that varies, in the order of naming; for a joined mode, or one that closes,
            perhaps only a kernel or None, since `bind` chooses by size.
        constant: names of the modes that do not.
        carrier: the active mode that would carry the variance: the largest of those whose variance is open.
    """

    active: dict[str, AbstractModePrior | AbstractKernel | None]
    constant: tuple[str, ...]
    carrier: str


def choose(term: str, declared: Declared, axes: Mapping[str, Axis]) -> Chosen:
    """A prior for each mode. Raises ModelError if none of the modes varies."""
    given = dict(declared or ())
    chosen = names(term, declared, [n for n, axis in axes.items() if not axis.parent and not axis.parts])
    priors = {n: _prior(given[n] if n in given else given.get(...), n in given, axis_of(term, n, axes)) for n in chosen}
    active = {n: prior for n, prior in priors.items() if not isinstance(prior, Constant)}
    if not active:
        raise ModelError(
            f"{term}: none of its modes {list(chosen)} varies (each has one level or a Constant prior); use pt.Offset()"
        )
    carrier = max(sorted(active), key=lambda n: (_variance_is_open(active[n]), axes[n].size))
    return Chosen(active, tuple(n for n in chosen if n not in active), carrier)


def _prior(declared: Any, by_name: bool, axis: Axis) -> AbstractModePrior | AbstractKernel | None:
    """The mode prior for a declaration; the default is a Matern-3/2 process, or exchangeable levels for names.

    For a coordinate that closes `bind` chooses, by the number of functions, whether the process goes around.

    by_name: whether it was declared for this very mode; what is declared for every other mode leaves a single level
    constant.
    """
    if axis.size == 1 and (declared is None or not by_name):
        return Constant()
    if declared is None and axis.kind == "category":
        return Categorical()
    if axis.parts or isinstance(declared, AbstractModePrior):
        return declared
    kernel = Matern(3 / 2) if declared is None else declared
    return kernel if axis.period is not None else Markov(kernel)


def bind(term: str, prior: AbstractModePrior | AbstractKernel | None, axis: Axis, start: Start) -> AbstractModePrior:
    """A chosen prior with numbers; by size a joined mode's process is exact or has a basis, and a circle closes or not.

    Raises ModelError naming the term and the mode for a prior that does not fit the mode.
    """
    try:
        chosen = prior if isinstance(prior, AbstractModePrior) else _by_size(prior, axis, len(start.lengthscales))
        if axis.parts and isinstance(chosen, Markov):
            raise ModelError(
                f"Markov reads one coordinate, and this mode has {len(axis.parts)}; use pt.Dense(kernel), "
                "pt.Nearest(kernel), pt.Basis('hilbert', size, kernel), or the bare kernel"
            )
        return chosen.bind(axis, start)
    except ModelError as error:
        where = f"mode {axis.name!r}: "
        raise ModelError(f"{term}: {where}{str(error).removeprefix(where)}") from error


def _by_size(kernel: AbstractKernel | None, axis: Axis, rank: int) -> AbstractModePrior:
    """The process of a joined mode, or of a coordinate that closes, where a kernel that can goes around."""
    kernel = Matern(3 / 2) if kernel is None else kernel
    if not axis.parts:
        return Markov(kernel, axis.period if rank <= MOST_AROUND and is_spectral(kernel) else None)
    return Dense(kernel) if is_small(axis.size, rank) else Basis("hilbert", kernel=kernel)


def _variance_is_open(prior: AbstractModePrior | AbstractKernel | None) -> bool:
    kernel = getattr(prior, "kernel", prior)
    return getattr(kernel, "variance", None) is None
