"""How filled values may be stored: the user's packing is kept only where they survive it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from probtensor.errors import warn

#: Encodings that describe how numbers are packed into others, or rounded.
_PACKING = (
    *("dtype", "scale_factor", "add_offset", "_FillValue", "missing_value", "_Unsigned"),
    *("least_significant_digit", "significant_digits", "quantize_mode"),
)
#: Encodings that any other array of the same dimensions can have, too.
_LAYOUT = (
    *("zlib", "complevel", "shuffle", "fletcher32", "compression", "contiguous", "chunksizes", "original_shape"),
    *("chunks", "preferred_chunks", "compressors"),
)
#: Half a step of the stored numbers may be at most this share of a filled value's sd.
_SHARE = 0.1


def encoding(name: str, given: Mapping[str, Any], values: np.ndarray, sd: np.ndarray) -> dict[str, Any]:
    """The encoding, without its packing where the values would not survive it; a warning says so and why.

    Args:
        name: of the variable.
        given: the encoding of the user's data.
        values: what is to be stored, as it is in memory, NaN where missing.
        sd: of the filled values, 0 where observed, NaN where missing.
    """
    given, stored = _with_one_mark(given), np.dtype(given.get("dtype", values.dtype))
    if stored.kind not in "iufb":
        return given
    reason = _objection(given, _as_read(stored, given), values, sd)
    if reason is None:
        return given
    if stored.kind == "f" or "scale_factor" in given:
        warn(
            f"{name!r} came {_said(stored, given)}; {reason}, so it will be stored as plain floating-point numbers. To "
            "pack it, set its encoding before writing"
        )
    return {k: v for k, v in given.items() if k not in _PACKING}


def layout(given: Mapping[str, Any]) -> dict[str, Any]:
    """What of an encoding (compression, chunks) suits another array of the same dimensions, whatever it holds."""
    return {k: v for k, v in given.items() if k in _LAYOUT}


def is_packed(given: Mapping[str, Any]) -> bool:
    """Whether an encoding stores other numbers than those in memory."""
    return "scale_factor" in given or "add_offset" in given


def unpacked(given: Mapping[str, Any], numbers: np.ndarray) -> np.ndarray:
    """What stored numbers stand for."""
    return np.asarray(numbers, float) * given.get("scale_factor", 1.0) + given.get("add_offset", 0.0)


def _with_one_mark(given: Mapping[str, Any]) -> dict[str, Any]:
    """Without a ``missing_value`` that differs from the ``_FillValue``: both are read, but xarray writes only one."""
    fill, other = given.get("_FillValue"), given.get("missing_value")
    if fill is None or other is None or np.array_equal(fill, other, equal_nan=True):
        return dict(given)
    return {k: v for k, v in given.items() if k != "missing_value"}


def unknown_values(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The encoding for values that are not computed yet: without packing, which they might not survive."""
    stored = np.dtype(given.get("dtype", float))
    if stored.kind not in "iu":
        return _with_one_mark(given)
    if "scale_factor" in given:
        warn(
            f"{name!r} came packed as {stored}; whether its filled values fit is not known before they are computed, "
            "so it will be stored as plain floating-point numbers. To pack it, set its encoding before writing",
        )
    return {k: v for k, v in given.items() if k not in _PACKING}


def _said(stored: np.dtype, given: Mapping[str, Any]) -> str:
    if is_packed(given):
        return f"packed as {stored} in steps of {float(given.get('scale_factor', 1.0)):.6g}"
    digits = {k: given[k] for k in ("least_significant_digit", "significant_digits") if given.get(k) is not None}
    return f"stored as {stored}" + "".join(f" with {k}={v}" for k, v in digits.items())


def _as_read(stored: np.dtype, given: Mapping[str, Any]) -> np.dtype:
    """The integers that the stored bits stand for: NetCDF-3 has no unsigned ones, and marks them ``_Unsigned``."""
    if stored.kind not in "iu":
        return stored
    sign = {"true": "u", "false": "i"}.get(str(given.get("_Unsigned", "")).lower(), stored.kind)
    return np.dtype(f"{sign}{stored.itemsize}")


def _objection(given: Mapping[str, Any], stored: np.dtype, values: np.ndarray, sd: np.ndarray) -> str | None:
    """Why the packing does not do, or None if it does."""
    if stored.kind in "iub" and "scale_factor" not in given:
        return "whole numbers would round the filled values"
    finite = np.isfinite(values)
    numbers = (values[finite].astype(float) - given.get("add_offset", 0)) / given.get("scale_factor", 1)
    numbers = np.round(numbers) if stored.kind in "iu" else numbers
    limits = np.iinfo(stored) if stored.kind in "iu" else np.finfo(stored)
    if numbers.size and (numbers.min() < limits.min or numbers.max() > limits.max):
        return "some values lie beyond what that can hold"
    marks = [np.asarray(given[k]).astype(stored) for k in ("_FillValue", "missing_value") if given.get(k) is not None]
    if stored.kind in "iu" and not marks and not finite.all():
        return "it has no _FillValue to mark what is still missing"
    if marks and np.isin(numbers.astype(stored), marks).any():
        return "some values would become the _FillValue, that is, missing"
    least = np.min(sd[sd > 0], initial=np.inf)
    step = _step(given, stored, values.dtype, numbers)
    if step / 2 > _SHARE * least:
        return f"that rounds by up to {step / 2:.3g}, much against the least sd of a filled value, {least:.3g}"
    return None


def _step(given: Mapping[str, Any], stored: np.dtype, memory: np.dtype, numbers: np.ndarray) -> float:
    """The largest distance of two neighbouring values that can be stored; 0 where it is that of those in memory."""
    scale, largest = abs(float(given.get("scale_factor", 1.0))), float(np.max(np.abs(numbers), initial=0.0))
    if stored.kind in "iu":
        return scale
    steps = [0.0]
    if stored.itemsize < memory.itemsize:
        steps.append(largest * float(np.finfo(stored).eps))
    if given.get("least_significant_digit") is not None:
        steps.append(10.0 ** -int(given["least_significant_digit"]))
    if given.get("significant_digits") is not None and largest > 0:
        steps.append(10.0 ** (np.floor(np.log10(largest)) + 1 - int(given["significant_digits"])))
    return scale * max(steps)
