"""Labelled data for a likelihood: what comes with them, and whether they can come from it."""

from __future__ import annotations

from typing import Any

import numpy as np

from probtensor.errors import DataError, ModelError
from probtensor.labelled.encode import Encoded, encode
from probtensor.likelihoods.base import AbstractLikelihood
from probtensor.likelihoods.gaussian import ERRORS, Gaussian


def encode_for(likelihood: AbstractLikelihood, data: Any, weights: Any, errors: Any) -> Encoded:
    """Data as arrays, with what the likelihood reads beside the values.

    Raises:
        DataError: the data cannot be used, or an observed value cannot come from the likelihood.
        ModelError: errors are given for other than normal noise.
    """
    if errors is not None and not isinstance(likelihood, Gaussian):
        raise ModelError(f"errors: known standard errors are of normal noise, and not of {type(likelihood).__name__}")
    encoded = encode(data, weights, likelihood.known | ({} if errors is None else {ERRORS: errors}))
    _check_values(encoded, likelihood)
    return encoded


def _check_values(encoded: Encoded, likelihood: AbstractLikelihood) -> None:
    """Raises DataError for observed values that the likelihood cannot have given."""
    values = np.where(encoded.seen, encoded.values, np.nan)
    with np.errstate(invalid="ignore"):
        for where, text in likelihood.objections(values, encoded.known):
            bad = np.argwhere(where & encoded.seen)
            if len(bad):
                at = tuple(int(i) for i in bad[0])
                beside = "".join(f", {name} {own[at]:g}" for name, own in encoded.known.items())
                raise DataError(
                    f"{type(likelihood).__name__}: {text}; {len(bad)} of {int(encoded.seen.sum())} observations are "
                    f"not so (first: {encoded.values[at]:g}{beside} at {encoded.describe(at)})"
                )
