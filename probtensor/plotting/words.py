"""Text of figures: names and units that come from the user's data, as labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from probtensor.labelled.labels import said

#: How units are written.
_UNITS = {"degrees_north": "degrees north", "degrees_east": "degrees east", "1": ""}
#: Names longer than this are cut.
_LONGEST = 24


def plain(text: Any) -> str:
    """Text as it stands: between two dollars, matplotlib would read formulas."""
    return str(text).replace("$", r"\$")


def short(label: Any) -> str:
    """A label that fits an axis: long names are cut."""
    text = said(label)
    return plain(text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "...")


def with_unit(name: Any, attrs: Mapping[str, Any]) -> str:
    """A name with its unit in brackets, if it has one."""
    unit = str(attrs.get("units", ""))
    unit = _UNITS.get(unit, unit)
    return plain(f"{name} [{unit}]" if unit else name)


def called(name: Any, attrs: Mapping[str, Any]) -> str:
    """What values are called: their ``long_name``, or else their name without underscores."""
    return str(attrs.get("long_name") or name or "value").replace("_", " ")
