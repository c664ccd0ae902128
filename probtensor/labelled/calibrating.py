"""Held-out predictions of a posterior's own model, to calibrate it with."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from probtensor import arrays
from probtensor.engines.base import AbstractEngine
from probtensor.engines.sweep import State
from probtensor.errors import DataError
from probtensor.evaluation.calibration import calibration, gap_numbers
from probtensor.labelled import scoring
from probtensor.labelled.encoded import Encoded
from probtensor.labelled.fitted import Fitted
from probtensor.labelled.places import Places
from probtensor.observations.domain import Domain, Observations
from probtensor.precision import double_precision
from probtensor.selection.hold_out import hold_out
from probtensor.selection.judging import without
from probtensor.selection.roles import times

#: So many gaps are wanted, from so many fits at most: with n gaps a margin of 1 / n is added to every coverage.
_ENOUGH, _FITS = 30, 6


class HeldOut(NamedTuple):
    """What was hidden from fits: where, the signal there, values, what is known of them, and their gaps' numbers.

    rows: of the entries among the domain's.
    """

    domain: Domain
    signal: arrays.Prediction
    values: np.ndarray
    known: dict[str, np.ndarray]
    gaps: np.ndarray
    rows: np.ndarray


def calibrated(fitted: Fitted, engine: AbstractEngine, given: Any, seed: int) -> Fitted:
    """A fit with calibrated intervals; given: data that it never saw, or None. See `Posterior.calibrate`."""
    bare = dataclasses.replace(fitted, calibration=None)
    if given is not None:
        truth, at = scoring.truth_and_places(given)
        scoring.refuse_training(fitted.encoded, at, truth)
        made = calibration(bare.law_at(at, truth), truth, np.arange(len(truth)))
    elif (observations := fitted.observations_in_memory) is None:
        raise DataError(
            "calibrate: the fit was out of core, and gaps are made in data in memory; give held_out= data that it "
            "never saw"
        )
    else:
        with double_precision():
            found = _held_out(fitted.state, engine, fitted.encoded, observations, seed)
            law = bare.law(Places(found.domain, ("observation",), {}, (0,)), found.signal, found.known)
        made = calibration(law, found.values, found.gaps)
    return dataclasses.replace(fitted, calibration=made)


def _held_out(state: State, engine: AbstractEngine, encoded: Encoded, observations: Observations, seed: int) -> HeldOut:
    """Gaps shaped like those of the data, hidden from fits that start from the posterior's hyper-parameters.

    Fits are repeated with other gaps until there are enough of them.

    Raises DataError if the posterior does not have all the data that it knows of.
    """
    if encoded.absorbed is not None:
        raise DataError("calibrate: the posterior has only its newest data; give held_out= data that it never saw")
    found: list[HeldOut] = []
    while len(found) < _FITS and sum(len(np.unique(one.gaps)) for one in found) < _ENOUGH:
        found.append(_once(state, engine, encoded, observations, seed + len(found)))
    return _together(observations.domain, found)


def _together(domain: Domain, parts: list[HeldOut]) -> HeldOut:
    rows = np.concatenate([one.rows for one in parts])
    mean, variance = (jnp.concatenate(part) for part in zip(*(one.signal for one in parts), strict=True))
    known = {name: np.concatenate([one.known[name] for one in parts]) for name in parts[0].known}
    gaps = np.concatenate([one.gaps + k * (int(np.prod(domain.shape)) + 1) for k, one in enumerate(parts)])
    return HeldOut(
        domain.at(rows),
        arrays.Prediction(mean, variance),
        np.concatenate([one.values for one in parts]),
        known,
        gaps,
        rows,
    )


def _once(state: State, engine: AbstractEngine, encoded: Encoded, observations: Observations, seed: int) -> HeldOut:
    names = tuple(encoded.coordinates)
    mask = np.asarray(hold_out(names, observations, seed, times(encoded.axes(()))).mask)
    inner = without(observations, mask)
    spread = None if state.local is None else state.local.spread
    state = engine.run(state.model, inner, jax.random.key(seed)).state.with_spread(spread)
    rows = np.flatnonzero(mask)
    domain = observations.domain.at(rows)
    if encoded.index is None:
        gaps = gap_numbers(mask)
    else:
        gaps = np.unique(encoded.index[rows], axis=0, return_inverse=True)[1].ravel()
    known = {name: own.ravel()[rows] for name, own in encoded.known.items()}
    return HeldOut(domain, arrays.fitted(state, domain), encoded.values.ravel()[rows], known, gaps, rows)
