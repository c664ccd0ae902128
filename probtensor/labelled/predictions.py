"""Predictive distributions in the data's own units, as labelled arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from probtensor import arrays
from probtensor.errors import DataError, ModelError
from probtensor.labelled import arguments
from probtensor.labelled.encoded import Encoded
from probtensor.labelled.places import Places
from probtensor.labelled.tables import PointData
from probtensor.likelihoods.base import AbstractBoundLikelihood, AbstractLikelihood
from probtensor.likelihoods.predictive import AbstractPredictive, Normal

#: Attributes of the coordinate of quantiles.
PROBABILITY = {"long_name": "probability", "units": "1"}


def predictive(
    likelihood: AbstractBoundLikelihood, where: Places, signal: arrays.Prediction, known: Mapping[str, np.ndarray]
) -> AbstractPredictive:
    """The distribution of new observations at some places, from the signal there."""
    mean, variance = (np.asarray(part, dtype=float) for part in signal)
    known = {name: own if own.ndim == 0 else own.reshape(mean.shape) for name, own in known.items()}
    return likelihood.predictive(mean, variance, where.domain, known)


def of_signal(signal: arrays.Prediction) -> AbstractPredictive:
    """The distribution of the signal itself."""
    return Normal(np.asarray(signal.mean), np.asarray(signal.variance), np.zeros(()))


def dataset(
    found: AbstractPredictive, where: Places, quantiles: Sequence[float] | None, units: Mapping[str, str]
) -> xr.Dataset:
    """``mean``, ``sd``, ``signal_sd`` and, if asked for, ``quantiles`` with labels."""
    out = xr.Dataset({k: where.label(getattr(found, k)) for k in ("mean", "sd", "signal_sd")})
    if quantiles is not None:
        levels = arguments.probabilities(quantiles)
        each = np.stack([found.quantile(level) for level in levels])
        out["quantiles"] = where.label(each, ("quantile",)).assign_coords(quantile=("quantile", levels, PROBABILITY))
    for variable in out.data_vars.values():
        variable.attrs.update(units)
    return out


def refuse(
    likelihood: AbstractLikelihood, values: np.ndarray, known: Mapping[str, np.ndarray], describe: Callable[[Any], str]
) -> None:
    """Raises DataError for values that the likelihood cannot have given; NaN is none.

    describe: the labels of an entry, from its place in the array.
    """
    with np.errstate(invalid="ignore"):
        objections = likelihood.objections(values, known)
    for where, text in objections:
        bad = np.argwhere(where & np.isfinite(values))
        if len(bad):
            at = tuple(int(i) for i in bad[0])
            beside = "".join(f", {name} {own[at]:g}" for name, own in known.items())
            raise DataError(
                f"{type(likelihood).__name__}: {text}; {len(bad)} of {np.count_nonzero(np.isfinite(values))} "
                f"observations are not so (first: {values[at]:g}{beside} at {describe(at)})"
            )


def known_or_one(likelihood: AbstractLikelihood, encoded: Encoded) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What comes with the data, 1 where it cannot be; and where that is, which the data only show at gaps."""
    bad = np.zeros(encoded.values.shape, bool)
    own = {name: encoded.known[name] for name in likelihood.known}
    if own:
        with np.errstate(invalid="ignore"):
            for objection in likelihood.objections(np.zeros(bad.shape), own):
                bad |= objection.where
    return {name: np.where(bad, 1.0, given) for name, given in own.items()}, bad


def known_everywhere(likelihood: AbstractLikelihood) -> dict[str, np.ndarray]:
    """What comes with the data as one number for all of them."""
    return {name: np.asarray(own, float) for name, own in likelihood.known.items() if np.ndim(own) == 0}


def known_at(likelihood: AbstractLikelihood, encoded: Encoded, at: PointData) -> dict[str, np.ndarray]:
    """What comes with values at these places: one number for all of them, or what the data's grid has there.

    Raises ModelError where that is not known.
    """
    found = known_everywhere(likelihood)
    varying = [name for name in likelihood.known if name not in found]
    if not varying:
        return found
    if encoded.index is not None:
        raise ModelError(
            f"the {varying[0]} of rows that are not in the training table is not known; give {varying[0]} as one number"
        )
    places = [coordinate.find(at.coords[name]) for name, coordinate in encoded.coordinates.items()]
    levels, same = tuple(level for level, _ in places), np.logical_and.reduce([s for _, s in places])
    for name in varying:
        own = np.where(same, encoded.known[name][levels], np.nan)
        if not np.isfinite(own).all():
            first = int(np.argmax(~np.isfinite(own)))
            where = ", ".join(f"{n}={at.coords[n][first]}" for n in encoded.coordinates)
            raise ModelError(f"the {name} at {where} is not known; give {name} for every entry of the data's grid")
        found[name] = own
    return found


def parameters(likelihood: AbstractBoundLikelihood) -> dict[str, Any]:
    """The likelihood's numbers by name."""
    return {name: float(own.value[0]) for name, own in likelihood.parameters().items()}
