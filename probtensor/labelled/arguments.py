"""Arguments that several calls share, checked before anything is computed."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from probtensor.errors import DataError, ModelError


def whole(name: str, value: Any, least: int) -> int:
    """A whole number. Raises ModelError for a fraction, a truth value, text, or anything below ``least``."""
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise ModelError(f"{name}={value!r}: expected a whole number, {least} or more") from None
    if number < least:
        raise ModelError(f"{name}={number}: expected a whole number, {least} or more")
    return number


def probabilities(quantiles: Any) -> np.ndarray:
    """(q,) levels of quantiles. Raises DataError unless all lie strictly between 0 and 1."""
    try:
        levels = np.atleast_1d(np.asarray(quantiles, dtype=float))
    except (TypeError, ValueError):
        levels = np.array([np.nan])
    if levels.ndim != 1 or not ((levels > 0) & (levels < 1)).all():
        raise DataError(
            f"quantiles={quantiles!r}: expected probabilities strictly between 0 and 1, such as [0.05, 0.95]"
        )
    return levels


def positions(terms: Any, number: int) -> tuple[int, ...]:
    """Positions of terms among ``number``: one of them, several, or None for all.

    Raises ModelError if a position is not a whole number, is not there, or is named twice.
    """
    if terms is None:
        return tuple(range(number))
    if isinstance(terms, str) or not np.iterable(terms):
        terms = [terms]
    chosen = tuple(whole("terms", term, 0) for term in terms)
    if not chosen:
        raise ModelError(f"terms={terms!r} names no term; the model has the terms 0 to {number - 1}")
    for term in chosen:
        if term >= number:
            raise ModelError(f"terms={list(chosen)}: the model has the terms 0 to {number - 1}")
        if chosen.count(term) > 1:
            raise ModelError(f"terms={list(chosen)} names term {term} twice; what a term contributes counts once")
    return chosen
