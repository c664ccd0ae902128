"""What the CF conventions have a filled variable and its companions say, so that other tools understand them."""

from __future__ import annotations

import datetime
import importlib.metadata
from collections.abc import Mapping
from typing import Any

import numpy as np

from probtensor.errors import warn
from probtensor.labelled import storage

#: What a file says of its conventions that said nothing before: the version that has all that is said here.
CONVENTIONS = "CF-1.11"
#: Attributes that are a companion's, too, because it has the same grid.
_GRID = ("grid_mapping", "cell_measures")
#: Units of temperatures whose differences are on another scale, or may be taken for one (CF 1.11, section 3.1.2).
_TEMPERATURES = ("k", "kelvin", "degk", "degree_kelvin", "degc", "celsius", "degree_celsius", "degrees_celsius") + (
    *("degree_c", "degrees_c", "°c", "degf", "fahrenheit", "degree_fahrenheit", "degrees_fahrenheit", "°f"),
)
#: What marks missing values belongs to an encoding in xarray, which refuses to write it as an attribute.
_MARKS = ("_FillValue", "missing_value")
#: What readers take for missing beyond.
_LIMITS = ("valid_min", "valid_max", "valid_range")
#: What the flag's values mean, in their order: False and True.
MEANINGS = ("as_given", "filled")


def history(said: str) -> str:
    """A line for the ``history`` of a file: when, what was done, and by which version of this package."""
    now = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"
    return f"{now}: {said} (probtensor {importlib.metadata.version('probtensor')})"


def attributes(
    name: str, attrs: Mapping[str, Any], given: Mapping[str, Any], kept: Mapping[str, Any], values: np.ndarray | None
) -> dict[str, Any]:
    """Attributes of the filled variable: the user's, brought up to date with its values.

    ``ancillary_variables`` gets the companions (not where a name has blanks, which separate names there),
    ``actual_range`` the new one, and limits that filled values lie beyond are left out with a warning: readers take
    what lies beyond them for missing.

    Args:
        name: of the variable.
        attrs: of the user's data.
        given: their encoding.
        kept: the encoding of the filled values.
        values: these, in their own dtype; None: not computed yet, and nothing is said that depends on them.
    """
    out = {k: v for k, v in attrs.items() if k not in _MARKS}
    if name.split() == [name]:
        ancillary = str(attrs.get("ancillary_variables", "")).split()
        ancillary += [n for n in (f"{name}_sd", f"{name}_filled") if n not in ancillary]
        out["ancillary_variables"] = " ".join(ancillary)
    if values is None:
        return {k: v for k, v in out.items() if k not in ("actual_range", *_LIMITS)}
    finite = values[np.isfinite(values)]
    if "actual_range" in out and finite.size:
        out["actual_range"] = np.array([finite.min(), finite.max()], values.dtype)
    return _with_limits(name, out, given, kept, finite)


def marks(attrs: Mapping[str, Any], kept: Mapping[str, Any]) -> dict[str, Any]:
    """What attributes say of missing values, as an encoding, where that says nothing of its own."""
    said = next((attrs[k] for k in _MARKS if k in attrs), None)
    return {} if said is None or any(k in kept for k in _MARKS) else {"_FillValue": said}


def companion(
    name: str, kind: str, attrs: Mapping[str, Any], given: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Attributes and encoding of a companion of the filled variable.

    Args:
        name: of the filled variable.
        kind: ``"sd"``, ``"filled"``, ``"quantiles"`` or ``"samples"``. How cells were made (``cell_methods``) is told
            of values alone, not of their sd. None has the variable's own ``standard_name``, which stays unique.
        attrs: of the user's data.
        given: their encoding.
    """
    out: dict[str, Any] = {"long_name": _LONG_NAMES[kind].format(name)}
    copied = {
        "sd": ("units",),
        "filled": (),
        "quantiles": ("units", "cell_methods"),
        "samples": ("units", "cell_methods"),
    }
    out |= {k: attrs[k] for k in (*copied[kind], *_GRID) if k in attrs}
    standard = str(attrs.get("standard_name", ""))
    if kind == "sd" and len(standard.split()) == 1:
        out["standard_name"] = f"{standard} standard_error"
    if kind == "sd" and str(attrs.get("units", "")).lower() in _TEMPERATURES:
        out["units_metadata"] = "temperature: difference"
    if kind == "filled":
        values = np.arange(len(MEANINGS), dtype=np.int8)
        out |= {"standard_name": "status_flag", "flag_values": values, "flag_meanings": " ".join(MEANINGS)}
    encoding = {k: given[k] for k in _GRID if k in given}
    return out, encoding | (storage.layout(given) if kind in ("sd", "filled") else {})


_LONG_NAMES = {
    "sd": "standard error of {}",
    "filled": "whether {} was filled in",
    "quantiles": "predictive quantiles of {}",
    "samples": "{} with its gaps drawn jointly",
}


def _with_limits(
    name: str, attrs: dict[str, Any], given: Mapping[str, Any], kept: Mapping[str, Any], finite: np.ndarray
) -> dict[str, Any]:
    """Attributes without the limits that values lie beyond, and with others in the type of what is stored.

    Limits of packed data are of the stored numbers, unless they are floating-point numbers (NetCDF user's guide).
    """
    found = {k: np.atleast_1d(attrs[k]) for k in _LIMITS if k in attrs}
    if not found or any(v.dtype.kind not in "iuf" for v in found.values()):
        return attrs
    whole = all(v.dtype.kind in "iu" for v in found.values())
    real = {k: storage.unpacked(given, v) if whole else v.astype(float) for k, v in found.items()}
    low = max((v.min() for k, v in real.items() if k != "valid_max"), default=-np.inf)
    high = min((v.max() for k, v in real.items() if k != "valid_min"), default=np.inf)
    beyond = int(((finite < low) | (finite > high)).sum())
    if beyond:
        said = " and ".join(f"{k}={attrs[k]}" for k in found)
        warn(
            f"{name!r} has {said}, and {beyond} of its {finite.size} values lie beyond, which many programs would read "
            f"as missing; {'it is' if len(found) == 1 else 'they are'} left out. A likelihood that knows the limit "
            'keeps values inside, such as pt.Gaussian(transform="log")'
        )
        return {k: v for k, v in attrs.items() if k not in found}
    if storage.is_packed(kept) or not whole:
        return attrs
    return attrs | {
        k: v.astype(finite.dtype) if np.ndim(attrs[k]) else finite.dtype.type(v[0]) for k, v in real.items()
    }
