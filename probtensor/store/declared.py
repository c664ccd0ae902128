"""Whether what a store holds is of the kinds that the classes declare, so that nothing fails in the depths later.

Kinds alone, and how many axes at least: arrays may have more in front, of records that are kept side by side.
"""

from __future__ import annotations

import builtins
import collections.abc
import functools
import importlib
import inspect
import types
import typing
from collections.abc import Collection, Mapping
from typing import Any

import jax
import numpy as np
from jaxtyping import AbstractArray

from probtensor.errors import FormatError

#: Kinds of numbers that stand for others.
_NUMBERS = {float: "fiu", int: "iub", bool: "biu", complex: "fiuc"}
_KINDS = {bool: "b", int: "i", float: "f", complex: "c"}
#: What stands for each other, as a user may give one or the other.
_IN_ORDER, _ANY_ORDER = (list, tuple), (set, frozenset)
_ARRAYS = (jax.Array, np.ndarray, np.generic)


def check(kind: type, given: Mapping[str, Any], left_out: Collection[str] = ()) -> None:
    """Raises FormatError for a field that holds something else than its class declares.

    None may stand for an array, of a record whose numbers are elsewhere, and for what is left out of stores.
    """
    declared = _declared(kind)
    for name, value in given.items():
        told = declared.get(name, Any)
        if value is None and (name in left_out or _of_arrays(told)):
            continue
        if not _fits(value, told):
            raise FormatError(
                f"{kind.__name__} has a {type(value).__name__} for its {name}; the store is damaged, or was written by "
                "another version"
            )


class _Names(dict[str, Any]):
    """Names of a module; for one that only a type checker imports, a class that is known by its name."""

    def __init__(self, module: str) -> None:
        super().__init__(vars(builtins) | vars(importlib.import_module(module)))

    def __missing__(self, name: str) -> Any:
        return type(name, (), {"by_name": True})


@functools.cache
def _declared(kind: type) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for own in reversed(kind.__mro__):
        if own.__module__.partition(".")[0] == __package__.partition(".")[0]:
            names = _Names(own.__module__)
            for name, told in inspect.get_annotations(own).items():
                text = getattr(told, "__forward_arg__", told)  # named tuples wrap them
                found[name] = _meant(text, names) if isinstance(text, str) else told
    return found


def _meant(told: str, names: _Names) -> Any:
    """What an annotation of this package stands for; anything where it is of a library that is not imported."""
    try:
        return typing.get_type_hints(types.SimpleNamespace(__annotations__={"own": told}), {}, names)["own"]
    except Exception:
        return Any


def _of_arrays(told: Any) -> bool:
    if typing.get_origin(told) in (typing.Union, types.UnionType):
        return any(map(_of_arrays, typing.get_args(told)))
    return isinstance(told, type) and told is not Any and issubclass(told, (AbstractArray, *_ARRAYS))


def _fits(value: Any, told: Any) -> bool:
    origin, inner = typing.get_origin(told), typing.get_args(told)
    if told is None or told is types.NoneType:
        return value is None
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is typing.Literal:
        return value in inner
    if origin is tuple:
        return isinstance(value, tuple | list) and _each(value, inner)
    if isinstance(origin, type) and issubclass(origin, collections.abc.Mapping):
        return isinstance(value, origin) and all(
            _fits(k, inner[0]) and _fits(own, inner[1]) for k, own in value.items()
        )
    if isinstance(origin, type) and issubclass(origin, collections.abc.Collection):
        return isinstance(value, _ANY_ORDER if issubclass(origin, collections.abc.Set) else _IN_ORDER) and all(
            _fits(own, inner[0]) for own in value
        )
    if told is Any or not isinstance(told, type):
        return True
    return _is(value, told)


def _each(value: tuple[Any, ...] | list[Any], inner: tuple[Any, ...]) -> bool:
    if len(inner) == 2 and inner[1] is ...:
        return all(_fits(own, inner[0]) for own in value)
    return len(value) == len(inner) and all(map(_fits, value, inner))


def _is(value: Any, told: type) -> bool:
    if issubclass(told, AbstractArray):
        return np.ndim(value) >= _axes(told) and _number_of(value, "".join({np.dtype(n).kind for n in told.dtypes}))
    if told is np.ndarray:
        return isinstance(value, _ARRAYS)
    if told is jax.Array:
        return _number_of(value, "biufc")
    if told in _NUMBERS:
        return _number_of(value, _NUMBERS[told])
    if hasattr(told, "by_name"):
        return any(own.__name__ == told.__name__ for own in type(value).__mro__)
    if getattr(told, "_is_protocol", False):
        return True
    return isinstance(value, told)


def _axes(told: Any) -> int:
    """How many axes an array of JAX has at least; those on the host may be smaller than they say."""
    if told.array_type is not jax.Array:
        return 0
    return len(told.dims) - (told.index_variadic is not None)


def _number_of(value: Any, kinds: str) -> bool:
    """Whether it is an array or a number of one of these kinds."""
    if isinstance(value, _ARRAYS):
        return value.dtype.kind in kinds
    return _KINDS.get(type(value), " ") in kinds
