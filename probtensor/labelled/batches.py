"""Predictions in batches: a lazy answer whose chunks are computed one by one, with one program for all of them.

A batch of a grid is a smaller grid, its labels repeated up to the size of the others; a batch of rows has its last row
repeated, and the labels that it indexes repeated up to a size that batches share.
"""

from __future__ import annotations

import functools
import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

import equinox as eqx
import numpy as np
import pandas as pd
import xarray as xr

from probtensor.compilation import on_device, padded, shared_size
from probtensor.labelled import arguments, chunks
from probtensor.labelled.domains import refuse_outside
from probtensor.labelled.fitted import Fitted
from probtensor.labelled.places import Outer, Places, Rows, asked
from probtensor.labelled.predictions import PROBABILITY
from probtensor.observations.domain import Domain
from probtensor.observations.layout import Points
from probtensor.precision import double_precision
from probtensor.typing import Float

#: What is given of each entry, before quantiles.
_PARTS = ("mean", "sd", "signal_sd")


class Question(NamedTuple):
    """What is asked of some places: of which terms, on which scale, and which quantiles."""

    terms: tuple[int, ...]
    scale: str
    quantiles: Sequence[float] | None


def has_chunks(at: Any) -> bool:
    """Whether coordinates come with dask arrays."""
    return isinstance(at, xr.DataArray | xr.Dataset) and bool(at.chunksizes)


def predicted(fitted: Fitted, at: Any, what: Question, size: int | None) -> xr.Dataset:
    """See `Posterior.predict`; size: of a batch; None: the chunks of ``at``."""
    da = chunks.array_module(f"batch_size={size}" if size is not None else "at")
    where = asked(fitted.encoded, fitted.modes, at)
    _check(fitted, where, what.terms)
    levels = np.zeros(0) if what.quantiles is None else arguments.probabilities(what.quantiles)
    if size is None:
        parts = tuple(at.chunksizes.get(dim, (n,)) for dim, n in zip(where.dims, where.sizes, strict=True))
    else:
        parts = da.core.normalize_chunks(_shape(where.sizes, size), where.sizes) if where.sizes else ()
    number, ndim = len(_PARTS) + len(levels), len(where.sizes)
    largest = tuple(max(own) for own in parts)
    block = functools.partial(_block, fitted, where, what, levels, largest)
    found = da.map_blocks(
        block,
        chunks=((number,), *parts),
        dtype=float,
        meta=np.zeros((0,) * (ndim + 1)),
        name=f"probtensor-predict-{uuid.uuid4().hex}",
    )
    out = xr.Dataset({name: (where.dims, found[k]) for k, name in enumerate(_PARTS)}, where.coords)
    if what.quantiles is not None:
        out["quantiles"] = (("quantile", *where.dims), found[len(_PARTS) :])
        out = out.assign_coords(quantile=("quantile", levels, PROBABILITY))
    for variable in out.data_vars.values():
        variable.attrs.update({} if what.scale == "latent" else fitted.units)
    return out


def _shape(sizes: Sequence[int], most: int) -> tuple[int, ...]:
    """Of a block of at most so many entries: whole dimensions from the last on, so that blocks are contiguous."""
    out = []
    for n in reversed(sizes):
        out.append(max(min(n, most), 1))
        most //= out[-1]
    return tuple(reversed(out))


def _check(fitted: Fitted, where: Outer | Rows, terms: tuple[int, ...]) -> None:
    """Raises now what a batch would raise when it is computed: every label is asked for once, some together."""
    distinct = [np.asarray(pd.unique(own.ravel()), dtype=own.dtype) for own in where.labels.values()]
    number = np.arange(max(map(len, distinct)))
    rows = Rows({name: own[number % len(own)] for name, own in zip(where.labels, distinct, strict=True)}, {})
    with double_precision():
        refuse_outside(fitted.state.model, fitted.encoded, rows.places(fitted.encoded, fitted.modes).domain, terms)


def _block(
    fitted: Fitted,
    where: Outer | Rows,
    what: Question,
    levels: np.ndarray,
    largest: tuple[int, ...],
    block_info: Any = None,
) -> Float[np.ndarray, "V ..."]:
    """Of one batch: mean, sd, that of the signal and quantiles. Threads have scopes of 64 bits of their own."""
    place = [slice(*bounds) for bounds in block_info[None]["array-location"][1:]]
    if any(part.start == part.stop for part in place):
        return np.zeros((len(_PARTS) + len(levels), *(part.stop - part.start for part in place)))
    with double_precision():
        own = where.block(place, largest).places(fitted.encoded, fitted.modes)
        own = Places(_padded_levels(own.domain), own.dims, {}, own.order, own.shape)
        law = fitted.law_of(own, what.terms, what.scale)
        parts = [getattr(law, name) for name in _PARTS] + [law.quantile(level) for level in levels]
    stack = np.stack([np.broadcast_to(part, law.mean.shape) for part in parts])
    found = own.label(stack, ("part",)).to_numpy()
    return found[(slice(None), *(slice(0, part.stop - part.start) for part in place))]


def _padded_levels(domain: Domain) -> Domain:
    """The same list of entries with levels that no entry has, up to a size that batches share; a grid as it is."""
    if not isinstance(domain.layout, Points):
        return domain
    points = {name: np.asarray(own) for name, own in domain.points.items()}
    more = {name: on_device(padded(own, shared_size(len(own)))) for name, own in points.items()}
    return eqx.tree_at(lambda d: d.points, domain, more)
