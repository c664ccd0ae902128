"""Labelled data for a likelihood: what comes with them, and whether they can come from it."""

from __future__ import annotations

from typing import Any

from probtensor.errors import ModelError
from probtensor.labelled import predictions
from probtensor.labelled.encode import encode
from probtensor.labelled.encoded import Encoded
from probtensor.likelihoods.base import AbstractLikelihood
from probtensor.likelihoods.gaussian import Gaussian
from probtensor.likelihoods.standard import ERRORS

#: What a local term is refused for.
LOCAL_IS_NORMAL = (
    "a Local term is one with plain normal noise, and goes with pt.Gaussian(sd=..., scale=...) alone: without noise=, "
    "transform= or errors. Leave it out, or transform the values beforehand"
)


def encode_for(likelihood: AbstractLikelihood, data: Any, weights: Any, errors: Any) -> Encoded:
    """Data as arrays, with what the likelihood reads beside the values.

    Raises:
        DataError: the data cannot be used, or an observed value cannot come from the likelihood.
        ModelError: it is no likelihood, or errors are given for other than plain normal noise.
    """
    encoded = encode(data, weights, known_for(likelihood, errors))
    predictions.refuse(likelihood, encoded.values, encoded.known, encoded.describe)
    return encoded


def known_for(likelihood: AbstractLikelihood, errors: Any) -> dict[str, Any]:
    """What comes with the values for the likelihood, as it was given.

    Raises ModelError if it is no likelihood, or if errors are given for other than plain normal noise.
    """
    if isinstance(likelihood, type) and issubclass(likelihood, AbstractLikelihood):
        raise ModelError(f"likelihood={likelihood.__name__}: a class; call it, as in pt.{likelihood.__name__}(...)")
    if not isinstance(likelihood, AbstractLikelihood):
        raise ModelError(f"likelihood={likelihood!r}: expected a likelihood such as pt.Gaussian() or pt.Poisson()")
    if errors is not None and not isinstance(likelihood, Gaussian):
        raise ModelError(f"errors: known standard errors are of normal noise, and not of {type(likelihood).__name__}")
    if errors is not None and isinstance(likelihood, Gaussian) and likelihood.transform is not None:
        raise ModelError(
            "errors: they are on the scale of the data, and transform= has noise on another; leave one out"
        )
    return likelihood.known | ({} if errors is None else {ERRORS: errors})
