"""Which classes a store may hold, and under which names.

A name is the module without the package's, and the class: ``engines.sweep:State``. Only plain records of this package
are ever made from a file, by setting their fields, so that reading one runs no code of the file's choosing.
"""

from __future__ import annotations

import dataclasses
import importlib
import re
from typing import Any

from probtensor.errors import FormatError, ModelError
from probtensor.store import declared

_PACKAGE = __package__.partition(".")[0]
_NAME = re.compile(r"[a-z_]+(\.[a-z_]+)*:[A-Za-z_]+")
#: Where records live; nothing else is imported for a store.
_ROOMS = (
    *(
        "axes",
        "durations",
        "engines",
        "evaluation",
        "gridded",
        "hyperparameters",
        "kernels",
        "labelled",
        "likelihoods",
        "linalg",
    ),
    *("model", "nearest", "observations", "priors", "selection", "statespace", "terms"),
)
#: Fields that are only of use while fitting, and are stored as None: states of candidates, and optimisers, which are
#: functions.
LEFT_OUT = {
    "selection.choice:Candidate": ("state",),
    "selection.rank:Growth": ("start",),
    "engines.svi.engine:SVI": ("optimizer",),
}
#: Names of earlier versions: where a class of that name is now.
_MOVED: dict[str, str] = {"labelled.encode:Encoded": "labelled.encoded:Encoded"}


def name_of(kind: type) -> str:
    """The name of a class. Raises ModelError for one that is not a record of this package."""
    package, _, module = kind.__module__.partition(".")
    if package != _PACKAGE or not is_record(kind):
        raise ModelError(
            f"save: a {kind.__module__}.{kind.__qualname__} is in the posterior and cannot be stored; if it is an "
            "attribute or a label of the data, leave it out or write it as text there before the fit"
        )
    return f"{module}:{kind.__qualname__}"


def class_of(name: str) -> type:
    """The class of a name. Raises FormatError if there is none."""
    now = _MOVED.get(name, name)
    if not _NAME.fullmatch(now):
        raise FormatError(f"{name!r} is no name of a class; the store is damaged, or not one of {_PACKAGE}'s")
    module, _, own = now.partition(":")
    if module.partition(".")[0] not in _ROOMS:
        raise FormatError(f"{name!r} is no class that a store may hold; it is damaged, or not one of {_PACKAGE}'s")
    try:
        found = getattr(importlib.import_module(f"{_PACKAGE}.{module}"), own)
    except (ImportError, AttributeError):
        found = None
    if not (isinstance(found, type) and found.__module__ == f"{_PACKAGE}.{module}" and is_record(found)):
        raise FormatError(f"this version of {_PACKAGE} knows no {name!r}; the store was written by another version")
    return found


def is_record(kind: type) -> bool:
    """Whether a class is told by its fields: a dataclass, which every module is, or a named tuple."""
    return dataclasses.is_dataclass(kind) or (issubclass(kind, tuple) and hasattr(kind, "_fields"))


def fields(kind: type) -> tuple[str, ...]:
    """The names of a record's fields."""
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind))
    return kind._fields  # type: ignore[attr-defined]


def made(kind: type, given: dict[str, Any]) -> Any:
    """A record with these values of its fields, those that are missing at their defaults.

    Checks of the constructor are not made again: what is stored has passed them, and arrays may have other kinds.
    Raises FormatError for fields that do not belong there, or hold something else than the class declares.
    """
    strange = set(given) - set(fields(kind))
    if strange:
        raise FormatError(
            f"{kind.__name__} has no {', '.join(sorted(strange))}; the store was written by another version"
        )
    declared.check(kind, given, LEFT_OUT.get(name_of(kind), ()))
    if not dataclasses.is_dataclass(kind):
        return kind(**given)
    record = object.__new__(kind)
    for field in dataclasses.fields(kind):
        if field.name in given:
            value = given[field.name]
        elif field.default is not dataclasses.MISSING:
            # As the constructor makes of it: what a module keeps of a default may be another object.
            value = field.metadata.get("converter", lambda given: given)(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            value = field.default_factory()
        else:
            raise FormatError(f"{kind.__name__} needs {field.name}; the store was written by another version")
        object.__setattr__(record, field.name, value)
    return record
