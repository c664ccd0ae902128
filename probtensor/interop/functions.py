"""Draws of the functions of every term as labelled arrays, alike from draw to draw."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from probtensor.engines.drawn import Draws
from probtensor.engines.sweep import State
from probtensor.labelled import reading
from probtensor.labelled.encoded import Encoded
from probtensor.terms.cp import BoundCP
from probtensor.terms.offset import BoundOffset
from probtensor.terms.tensor_train import BoundTensorTrain
from probtensor.terms.tucker import BoundTucker
from probtensor.typing import Float

Blocks = list[Float[np.ndarray, "S T R"]]


def functions(state: State, encoded: Encoded, draws: Draws) -> dict[str, xr.DataArray]:
    """Of aligned draws: for a term at position 1 ``term1_time``, ``term1_core``; of an offset ``term0``.

    The first dimension is ``sample``, the last ones are those of the mode. A CP has the canonical gauge: components
    ordered by what their means explain, and each function but the first mode's of mean square one in every draw.
    """
    out: dict[str, xr.DataArray] = {}
    for j, (term, own) in enumerate(zip(state.model.terms, draws.values, strict=True)):
        blocks, name = [np.asarray(block) for block in own], f"term{j}"
        if isinstance(term, BoundOffset):
            out[name] = _offset(term, encoded, blocks[0])
        elif isinstance(term, BoundCP):
            for mode, values in zip(term.names, _canonical(blocks), strict=True):
                out[f"{name}_{_prefix(encoded, mode)}"] = _labelled(encoded, mode, values, {f"{name}_component": -1})
        elif isinstance(term, BoundTucker):
            dims = [f"{name}_{_prefix(encoded, mode)}_component" for mode in term.names]
            ranks = dict(zip(dims, term.ranks, strict=True))
            for mode, dim, values in zip(term.names, ranks, blocks[:-1], strict=True):
                out[f"{name}_{_prefix(encoded, mode)}"] = _labelled(encoded, mode, values, {dim: -1})
            core = blocks[-1].reshape(len(blocks[-1]), *term.ranks)
            coords = {dim: np.arange(1, rank + 1) for dim, rank in ranks.items()}
            out[f"{name}_core"] = xr.DataArray(core, coords, ("sample", *ranks))
        elif isinstance(term, BoundTensorTrain):
            for d, k in enumerate(np.argsort(term.order)):
                bonds = {f"{name}_bond{b}": term.bonds[b] for b in (d, d + 1) if 0 < b < len(blocks)}
                mode = term.names[k]
                out[f"{name}_{_prefix(encoded, mode)}"] = _labelled(encoded, mode, blocks[k], bonds)
    return out


def _prefix(encoded: Encoded, mode: str) -> str:
    return reading.levels_of(encoded, mode).prefix


def _labelled(encoded: Encoded, mode: str, values: Float[np.ndarray, "S T R"], inner: dict[str, int]) -> xr.DataArray:
    """Functions (S, T, R) of a mode, with the dimensions that number them before those of the mode."""
    levels = reading.levels_of(encoded, mode)
    values = np.moveaxis(values, 2, 1).reshape(len(values), *inner.values(), values.shape[1])
    numbers: dict[str, Any] = {dim: np.arange(1, n + 1) for dim, n in zip(inner, values.shape[1:], strict=False)}
    return xr.DataArray(levels.arranged(values), numbers | levels.coords, ("sample", *inner, *levels.dims))


def _offset(term: BoundOffset, encoded: Encoded, table: Float[np.ndarray, "S G 1"]) -> xr.DataArray:
    labels = {}
    for name in term.over:
        own = reading.labels_of(encoded, name)
        labels[name] = own if encoded.split(name)[0] == name else np.unique(own)
    found = xr.DataArray(table.reshape(len(table), *map(len, labels.values())), labels, ("sample", *labels))
    return found.isel({name: encoded.levels[name].ascending for name in labels if name in encoded.levels})


def _canonical(blocks: Blocks) -> Blocks:
    means = [block.mean(axis=0) for block in blocks]
    order = np.argsort(-np.prod([np.mean(m**2, axis=0) for m in means], axis=0), kind="stable")
    first, *others = (block[:, :, order] for block in blocks)
    scaled = []
    for block, mean in zip(others, means[1:], strict=True):
        peak = np.take_along_axis(mean, np.argmax(np.abs(mean), axis=0)[None], axis=0)[0, order]
        size = np.sqrt(np.mean(block**2, axis=1, keepdims=True))
        scale = np.where(size > 0, size, 1.0) * np.where(peak < 0, -1.0, 1.0)
        scaled.append(block / scale)
        first = first * scale
    return [first, *scaled]
