"""Which modes a decomposition reads and with which priors: how a user says so, and the defaults."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from probtensor.axes import Axis
from probtensor.errors import ModelError
from probtensor.kernels.base import AbstractKernel
from probtensor.kernels.matern import Matern
from probtensor.priors.base import AbstractModePrior
from probtensor.priors.categorical import Categorical, Constant
from probtensor.priors.markov import Markov
from probtensor.terms.base import axis_of, refuse_repeats

#: Pairs of a mode's name (or ``...`` for every other mode) and its declared prior; None: every mode by default.
Declared: TypeAlias = tuple[tuple[Any, Any], ...] | None


def declare(modes: Mapping[Any, Any] | Sequence[str] | None) -> Declared:
    """A user's dict of priors, list of names or single name as pairs."""
    if modes is None:
        return None
    if isinstance(modes, str):
        return ((modes, None),)
    items = modes.items() if isinstance(modes, Mapping) else [(name, None) for name in modes]
    return tuple(items)


def is_rank(value: Any) -> bool:
    """Whether a value can be a number of functions: a positive integer."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= 1)


def check(term: str, declared: Declared) -> None:
    """Raises ModelError for what is not a name or not a prior, and for a mode that is named twice."""
    for name, prior in declared or ():
        if not isinstance(name, str | types.EllipsisType):
            raise ModelError(f"{term}: mode {name!r} is not a name; joined modes are not available for this term yet")
        if not isinstance(prior, AbstractModePrior | AbstractKernel | None):
            raise ModelError(
                f"{term}: the prior of mode {name!r} is {prior!r}; expected a mode prior, a kernel or None"
            )
    refuse_repeats(term, [name for name, _ in declared or ()])


def names(term: str, declared: Declared, available: Sequence[str]) -> tuple[str, ...]:
    """The modes that a term reads: those named, with ``...`` or None standing for all others.

    Raises ModelError for one that the data do not have, unless it derives from one that they have.
    """
    if declared is None:
        return tuple(available)
    named = [name for name, _ in declared if name is not ...]
    for name in named:
        if name not in available and name.rpartition(".")[0] not in available:
            raise ModelError(
                f"{term} names mode {name!r}, which the data do not have; they have {', '.join(available)}"
            )
    rest = [n for n in available if n not in named] if any(name is ... for name, _ in declared) else []
    return (*named, *rest)


class Chosen(NamedTuple):
    """What a term found on the axes.

    Attributes:
        active: name -> prior of each mode that varies, in the order of naming.
        constant: names of the modes that do not.
        carrier: the active mode that would carry the variance: the largest of those whose variance is open.
    """

    active: dict[str, AbstractModePrior]
    constant: tuple[str, ...]
    carrier: str


def choose(term: str, declared: Declared, axes: Mapping[str, Axis]) -> Chosen:
    """A prior for each mode. Raises ModelError if none of the modes varies."""
    given = dict(declared or ())
    chosen = names(term, declared, [n for n, axis in axes.items() if not axis.parent])
    priors = {n: _prior(given[n] if n in given else given.get(...), n in given, axis_of(term, n, axes)) for n in chosen}
    active = {n: prior for n, prior in priors.items() if not isinstance(prior, Constant)}
    if not active:
        raise ModelError(
            f"{term}: none of its modes {list(chosen)} varies (each has one level or a Constant prior); use pt.Offset()"
        )
    carrier = max(sorted(active), key=lambda n: (_variance_is_open(active[n]), axes[n].size))
    return Chosen(active, tuple(n for n in chosen if n not in active), carrier)


def _prior(declared: Any, by_name: bool, axis: Axis) -> AbstractModePrior:
    """The mode prior for a declaration; the default is a Matern-3/2 process, or exchangeable levels for names.

    by_name: whether it was declared for this very mode; what is declared for every other mode leaves a single level
    constant.
    """
    if axis.size == 1 and (declared is None or not by_name):
        return Constant()
    if isinstance(declared, AbstractKernel):
        return Markov(declared)
    if declared is not None:
        return declared
    return Categorical() if axis.kind == "category" else Markov(Matern(3 / 2))


def _variance_is_open(prior: AbstractModePrior) -> bool:
    kernel = getattr(prior, "kernel", prior)
    return getattr(kernel, "variance", None) is None
