"""How filled values may be stored: the user's packing is kept only where they survive it."""

from __future__ import annotations

from typing import Any

import numpy as np

from probtensor.errors import warn

#: Encodings that describe how numbers are packed into integers.
_PACKING = ("dtype", "scale_factor", "add_offset", "_FillValue", "missing_value", "_Unsigned")
#: Half a step of the stored integers may be at most this share of a filled value's sd.
_SHARE = 0.1


def encoding(name: str, given: dict[str, Any], values: np.ndarray, sd: np.ndarray) -> dict[str, Any]:
    """The encoding, without its packing where the values would not survive it; a warning says so and why.

    Args:
        name: of the variable.
        given: the encoding of the user's data.
        values: what is to be stored, NaN where missing.
        sd: of the filled values, 0 where observed, NaN where missing.
    """
    stored = np.dtype(given.get("dtype", float))
    if stored.kind not in "iu":
        return dict(given)
    reason = _objection(given, _as_read(stored, given), values, sd)
    if reason is None:
        return dict(given)
    if "scale_factor" in given:
        warn(
            f"{name!r} came packed as {stored} in steps of {given['scale_factor']:.6g}; {reason}, so it will be stored "
            "as plain floating-point numbers. To pack it, set its encoding before writing",
        )
    return {k: v for k, v in given.items() if k not in _PACKING}


def unknown_values(name: str, given: dict[str, Any]) -> dict[str, Any]:
    """The encoding for values that are not computed yet: without packing, which they might not survive."""
    stored = np.dtype(given.get("dtype", float))
    if stored.kind not in "iu":
        return dict(given)
    if "scale_factor" in given:
        warn(
            f"{name!r} came packed as {stored}; whether its filled values fit is not known before they are computed, "
            "so it will be stored as plain floating-point numbers. To pack it, set its encoding before writing",
        )
    return {k: v for k, v in given.items() if k not in _PACKING}


def _as_read(stored: np.dtype, given: dict[str, Any]) -> np.dtype:
    """The integers that the stored bits stand for: NetCDF-3 has no unsigned ones, and marks them ``_Unsigned``."""
    sign = {"true": "u", "false": "i"}.get(str(given.get("_Unsigned", "")).lower(), stored.kind)
    return np.dtype(f"{sign}{stored.itemsize}")


def _objection(given: dict[str, Any], integers: np.dtype, values: np.ndarray, sd: np.ndarray) -> str | None:
    """Why the packing does not do, or None if it does."""
    if "scale_factor" not in given:
        return "whole numbers would round the filled values"
    marks = [np.asarray(given[k]).astype(integers) for k in ("_FillValue", "missing_value") if given.get(k) is not None]
    finite = np.isfinite(values)
    step, limits = abs(float(given["scale_factor"])), np.iinfo(integers)
    packed = np.round((values[finite] - given.get("add_offset", 0)) / given["scale_factor"])
    if packed.size and (packed.min() < limits.min or packed.max() > limits.max):
        return "some values lie beyond what that can hold"
    if not marks and not finite.all():
        return "it has no _FillValue to mark what is still missing"
    if np.isin(packed, marks).any():
        return "some values would become the _FillValue, that is, missing"
    least = np.min(sd[sd > 0], initial=np.inf)
    if step / 2 > _SHARE * least:
        return f"that rounds by up to {step / 2:.3g}, much against the least sd of a filled value, {least:.3g}"
    return None
