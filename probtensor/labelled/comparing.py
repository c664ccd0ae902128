"""The fit against the data: at some of the grid's sites, or at every row of a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from probtensor import arrays
from probtensor.errors import DataError
from probtensor.evaluation.calibration import central_coverage, place_in
from probtensor.labelled import coordinates, predictions, scoring
from probtensor.labelled.fitted import Fitted
from probtensor.labelled.places import Places
from probtensor.precision import double_precision

#: Sites are not taken from closer than these shares of the axes, the first that does, so that they are not all in one
#: gap.
_APART = (0.3, 0.1, 0.0)
#: Of a site's entries at least this share is observed, if there are such sites.
_ENOUGH = 0.2


def compared(fitted: Fitted, positions: Mapping[str, np.ndarray], quantiles: Sequence[float]) -> xr.Dataset:
    """Data and predictions on a part of the data's grid, without computing the rest.

    Args:
        fitted: of a grid.
        positions: for each mode which of its levels, in ascending order.
        quantiles: levels of predictive quantiles.

    Returns:
        ``observed`` (NaN where missing), ``mean``, ``sd``, ``quantiles`` (quantile, ...), of new observations with
        weight 1; NaN where the exposure or the trials of an entry are not known.
    """
    encoded = fitted.encoded
    names = list(encoded.coordinates)
    shape = tuple(len(c.labels) for c in encoded.coordinates.values())
    box = np.ix_(*(np.asarray(positions[name]) for name in names))
    rows = np.ravel_multi_index(box, shape)
    labels = {name: encoded.coordinates[name].labels[positions[name]] for name in names}
    out = _compared(fitted, rows.ravel(), quantiles)
    coords = {name: ((name,), labels[name], encoded.attrs_of(name)) for name in names}
    return xr.Dataset(
        {
            str(k): ((*v.dims[:-1], *names), v.to_numpy().reshape(*v.shape[:-1], *rows.shape), v.attrs)
            for k, v in out.data_vars.items()
        },
        coords | {"quantile": list(quantiles)},
    )


def compared_rows(fitted: Fitted, quantiles: Sequence[float], most: int) -> xr.Dataset:
    """The same for the rows of a table or entries of a grid that were observed, along ``observation``.

    most: rows; of more a random sample, always the same.
    """
    rows = np.flatnonzero(fitted.encoded.seen)
    if len(rows) > most:
        rows = np.sort(np.random.default_rng(0).choice(rows, most, replace=False))
    return _compared(fitted, rows, quantiles).assign_coords(quantile=list(quantiles))


def _compared(fitted: Fitted, rows: np.ndarray, quantiles: Sequence[float]) -> xr.Dataset:
    encoded = fitted.encoded
    with double_precision():
        domain = fitted.observations.domain.at(rows)
        known, bad = predictions.known_or_one(fitted.likelihood, encoded)
        own = {name: beside.ravel()[rows] for name, beside in known.items()}
        where = Places(domain, ("observation",), {}, (0,))
        law = fitted.law(where, arrays.fitted(fitted.state, domain), own)
    found = {"mean": law.mean, "sd": law.sd, "quantiles": np.stack([law.quantile(q) for q in quantiles])}
    found = {name: np.where(bad.ravel()[rows], np.nan, values) for name, values in found.items()}
    found["observed"] = np.where(encoded.seen.ravel()[rows], encoded.values.ravel()[rows], np.nan)
    dims = {"quantiles": ("quantile", "observation")}
    return xr.Dataset({k: (dims.get(k, ("observation",)), v, fitted.units) for k, v in found.items()})


def selected(fitted: Fitted, at: Mapping[str, Any] | None) -> dict[str, np.ndarray]:
    """Positions of the levels that labels name; of numbers and times those of the nearest levels.

    Raises DataError if there is no such dimension or name, or a number is beyond the data's range.
    """
    if at is None:
        return {}
    if not isinstance(at, Mapping):
        raise DataError(f"at={at!r}: expected a dict of labels, such as {{'station': ['a', 'b']}}")
    found = {}
    for name, wanted in at.items():
        if name not in fitted.encoded.coordinates:
            raise DataError(
                f"at={dict(at)!r}: the data have no dimension {name!r}; they have "
                f"{', '.join(map(repr, fitted.encoded.coordinates))}"
            )
        coordinate = fitted.encoded.coordinates[name]
        labels = wanted.to_numpy() if isinstance(wanted, xr.DataArray) else np.asarray(wanted)
        labels = np.atleast_1d(labels)
        if labels.ndim != 1 or not labels.size:
            raise DataError(f"at={dict(at)!r}: give one label of {name!r} or a list of some")
        if coordinate.calendar == "cftime" and labels.dtype.kind == "U":
            labels = np.array([_dated(coordinate, text) for text in labels.tolist()], dtype=object)
        nearest, same = coordinate.find(labels)
        strange = ~same & (
            np.full(labels.shape, True) if coordinate.kind == "category" else _beyond(coordinate, labels)
        )
        if strange.any():
            known = ", ".join(map(str, coordinate.labels[:6].tolist())) + (
                ", ..." if len(coordinate.labels) > 6 else ""
            )
            raise DataError(f"at={dict(at)!r}: the data have no {name}={labels[np.argmax(strange)]}; they have {known}")
        found[str(name)] = np.unique(nearest)
    return found


def _beyond(coordinate: coordinates.Coordinate, labels: np.ndarray) -> np.ndarray:
    """Whether labels are outside the range of the levels by more than a step between two of them."""
    own, wanted = coordinate.numbers(coordinate.labels), coordinate.numbers(labels)
    step = float(np.diff(np.sort(own)).max(initial=0.0))
    return (wanted < own.min() - step) | (wanted > own.max() + step)


def _dated(coordinate: coordinates.Coordinate, text: str) -> Any:
    """A cftime date of the coordinate's calendar from ``2001-03-16``, parts from the right may be missing."""
    try:
        year, month, day = (*map(int, text.split("-")), 1, 1)[:3]
        return coordinate.labels[0].replace(year=year, month=month, day=day, hour=0, minute=0, second=0)
    except ValueError as error:
        raise DataError(f"at: {coordinate.name}={text!r} is no date such as '2001-03-16': {error}") from error


def sites(fitted: Fitted, along: str, chosen: Mapping[str, np.ndarray], number: int) -> list[dict[str, np.ndarray]]:
    """Sites of a grid, one level of every mode but one, with the longest gaps along that one.

    Args:
        fitted: of a grid.
        along: the mode that a site has all levels of.
        chosen: levels of some modes that sites must have: then there is one site for each combination.
        number: of sites where nothing was chosen.
    """
    names = list(fitted.encoded.coordinates)
    others = [name for name in names if name != along]
    seen = np.moveaxis(fitted.encoded.seen, names.index(along), -1)
    gaps, share = longest_gap(seen), seen.mean(axis=-1)
    # A site that was hardly ever observed says little of the fit; one that never was, nothing.
    rank = np.where(share >= min(_ENOUGH, share.max()), gaps, np.where(share > 0, gaps / 1e6, 0.0))
    named = [name for name in others if name in chosen]
    found: list[tuple[int, ...]] = []
    for levels in np.ndindex(*(len(chosen[name]) for name in named)):
        allowed = np.full(rank.shape, not named)
        if named:
            only: list[Any] = [slice(None)] * len(others)
            for name, k in zip(named, levels, strict=True):
                only[others.index(name)] = chosen[name][k]
            allowed[tuple(only)] = True
        found += _spread(np.where(allowed, rank, -np.inf), 1 if named else number)
    every = np.arange(seen.shape[-1])
    return [{name: np.array([k]) for name, k in zip(others, site, strict=True)} | {along: every} for site in found]


def longest_gap(seen: np.ndarray) -> np.ndarray:
    """(...) length of the longest run of entries without observation along the last axis."""
    run = longest = np.zeros(seen.shape[:-1], dtype=int)
    for t in range(seen.shape[-1]):
        run = np.where(seen[..., t], 0, run + 1)
        longest = np.maximum(longest, run)
    return longest


def _spread(rank: np.ndarray, number: int) -> list[tuple[int, ...]]:
    """Places of the highest rank in its order, away from each other where there are such; not of a rank below 0."""
    flat = rank.ravel()
    order = np.argsort(-flat, kind="stable")
    order = order[flat[order] >= 0]
    shape = (*rank.shape, 1)  # with a dimension even where there is none
    places = np.stack(np.unravel_index(order, shape), axis=1)
    shares = places / np.maximum(np.array(shape) - 1, 1)
    found: list[int] = []
    distance = np.full(len(order), np.inf)  # from the nearest that was found, -1 of these themselves
    for apart in _APART:
        while len(found) < number and (far := distance >= apart).any():
            k = int(np.argmax(far))
            found.append(k)
            distance = np.minimum(distance, np.sqrt(((shares - shares[k]) ** 2).sum(axis=1)))
            distance[k] = -1.0
    return [tuple(int(i) for i in places[k, :-1]) for k in found]


def judged(fitted: Fitted, held_out: Any, allow_training: bool) -> xr.Dataset:
    """Where held-out values lie in their predictive distributions.

    Returns:
        Along ``observation``: ``place``, the probability of at most the value (of counts drawn between the ends of its
        jump); ``coverage``, of the central interval at whose end it lies; ``gap``, the number of its gap: connected
        entries of a grid, equal coordinates of a table.

    Raises:
        DataError: as `Posterior.score`.
    """
    truth, at = scoring.truth_and_places(held_out)
    if not allow_training:
        scoring.refuse_training(fitted.encoded, at, truth)
    place = place_in(fitted.law_at(at, truth), truth)
    gaps = scoring.gaps_of(held_out, at)
    found = {"place": place, "coverage": central_coverage(place), "gap": gaps}
    return xr.Dataset({name: ("observation", values) for name, values in found.items()})
