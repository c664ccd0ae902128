"""A model with numbers in it: what an engine fits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import equinox as eqx

from probtensor.axes import Axis
from probtensor.errors import ModelError
from probtensor.likelihoods.base import AbstractBoundLikelihood, AbstractLikelihood
from probtensor.terms.base import AbstractBoundTerm, AbstractTerm, DataScale, Sum


class BoundModel(eqx.Module):
    """Terms and likelihood with numbers."""

    terms: tuple[AbstractBoundTerm, ...]
    likelihood: AbstractBoundLikelihood


def bind(model: Sum, axes: Mapping[str, Axis], likelihood: AbstractLikelihood, scale: DataScale) -> BoundModel:
    """The model with numbers in it.

    Args:
        model: a sum of terms.
        axes: every mode that the model reads.
        likelihood: as it is declared.
        scale: mean and variance of the observed values, for default starts.

    Raises:
        ModelError: a term does not fit the axes.
    """
    own = scale_for_terms(model, scale)
    return BoundModel(tuple(bind_term(t, axes, own) for t in model.terms), likelihood.bind(axes, scale.variance))


def scale_for_terms(model: Sum, scale: DataScale) -> DataScale:
    """What the terms of a whole model start from: where none starts at the mean of the data, all have to tell it."""
    return scale if any(term.has_mean for term in model.terms) else scale.about_zero


def bind_term(term: AbstractTerm, axes: Mapping[str, Axis], scale: DataScale) -> AbstractBoundTerm:
    """A term with numbers.

    Args:
        term: as it is declared.
        axes: every mode that it reads.
        scale: of `scale_for_terms`.

    Raises:
        ModelError: it does not fit the axes; says which term it is about.
    """
    try:
        return term.bind(axes, scale)
    except ModelError as error:
        name, text = type(term).__name__, str(error)
        raise ModelError(text if text.startswith(name) else f"{name}: {text}") from error


def as_sum(model: Any) -> Sum:
    """A sum of terms from one or from a single term. Raises ModelError for anything else."""
    if isinstance(model, Sum):
        return model
    if isinstance(model, AbstractTerm):
        return Sum((model,))
    raise ModelError(f"model={model!r}: expected 'auto', a term such as pt.CP(rank=8), or a sum of terms")
