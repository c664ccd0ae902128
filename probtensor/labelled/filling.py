"""The filled grid: predictions put into the gaps of the user's own array, with its order and attributes."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from probtensor.errors import DataError, ModelError, warn
from probtensor.labelled import alignment, arguments, chunks, conventions, storage
from probtensor.labelled.encoded import Encoded


def check(encoded: Encoded, where: Any, quantiles: Any, samples: Any) -> tuple[xr.DataArray, xr.DataArray | None]:
    """What an imputation needs and can say no to before anything is fitted.

    Returns:
        The data to fill, and ``where`` on their grid.

    Raises:
        ModelError: the data are a table or points, or ``samples`` is no number of draws.
        DataError: ``where`` or ``quantiles`` cannot be used, or the data have a name that an output needs.
    """
    template = encoded.template
    if not isinstance(template, xr.DataArray):
        raise ModelError("a table has no grid to fill; use post.predict(at=...) with the coordinates you want")
    like = chunks.like if chunks.is_lazy(template) else alignment.like
    aligned = None if where is None else like("where", where, template)
    name = encoded.name
    taken = {name: "the data", f"{name}_sd": "their sd", f"{name}_filled": "the flag of what was filled"}
    if quantiles is not None:
        arguments.probabilities(quantiles)
        taken |= {f"{name}_quantiles": "their quantiles", "quantile": "the dimension of the quantiles"}
    if samples is not None:
        arguments.whole("samples", samples, 1)
        taken |= {f"{name}_samples": "their draws", "sample": "the dimension of the draws"}
    for used in map(str, (*template.dims, *template.coords)):
        if used in taken:
            raise DataError(
                f"{used!r} is a dimension or coordinate of the data, and the result needs this name for {taken[used]}; "
                f"rename it first, data.rename({{{used!r}: {used + '_given'!r}}}), or rename the data, "
                f"data.rename({name + '_data'!r})"
            )
    return template, aligned


def on_template(array: xr.DataArray, encoded: Encoded) -> xr.DataArray:
    """An array on the core's levels brought to the order of the user's dimensions and labels, with its coordinates."""
    template = encoded.template
    assert isinstance(template, xr.DataArray)
    own = ("observation",) if encoded.rows is not None else template.dims
    lead = [d for d in array.dims if d not in own]
    if encoded.rows is not None:
        places = np.argsort(encoded.rows)
        values = array.transpose(*lead, *own).to_numpy()[..., places]
        values = values.reshape(*values.shape[:-1], *template.shape)
    else:
        values = array.transpose(*lead, *own).isel(encoded.positions).to_numpy()
    coords = template.coords.assign({d: array[d] for d in lead if d in array.coords})
    return xr.DataArray(values, coords, (*lead, *template.dims))


def fill_mask(encoded: Encoded, observed: np.ndarray, where: xr.DataArray | None) -> xr.DataArray:
    """True where a gap is to be filled: entries not observed, only where ``where`` (see `check`) says so."""
    template = encoded.template
    assert isinstance(template, xr.DataArray)
    missing = template.copy(data=~observed)
    if where is None:
        warn_of_unseen(encoded, ~missing)
        return missing
    wanted = where.to_numpy()
    return missing & np.where(np.isnan(wanted), False, wanted).astype(bool)


def warn_of_unseen(encoded: Encoded, seen: xr.DataArray) -> None:
    """Warns of sites that were never observed: land, or dead stations.

    They are the combinations of all dimensions but the first one of times, or without times but the longest.
    """
    times = [name for name, c in encoded.coordinates.items() if c.is_time]
    longest = max(seen.dims, key=lambda d: seen.sizes[d])
    times = [str(d) for d in seen.dims if d in times]
    along = times[0] if times else longest
    never = int((~seen.any(str(along))).sum()) if seen.ndim > 1 else 0
    if never:
        warn(
            f"{never} sites were never observed along {along!r} and are filled too; give where= to leave them missing, "
            f"for example where=data.notnull().any({along!r})",
        )


def assemble(
    encoded: Encoded,
    mask: np.ndarray,
    observed: np.ndarray,
    predicted: dict[str, xr.DataArray],
    draws: xr.DataArray | None,
) -> xr.Dataset:
    """The data with their gaps filled, and its companions.

    Args:
        encoded: the data, a grid.
        mask: what is to be filled.
        observed: what was observed.
        predicted: ``mean``, ``sd`` and perhaps ``quantiles``, on the data's own grid.
        draws: joint draws on the data's own grid.
    """
    template = encoded.template
    assert isinstance(template, xr.DataArray)
    given = np.where(observed, chunks.as_floats(template.to_masked_array()), np.nan)
    filled = np.where(mask, predicted["mean"].to_numpy(), given)
    sd = np.where(mask, predicted["sd"].to_numpy(), np.where(observed, 0.0, np.nan))
    quantiles = predicted.get("quantiles")
    if quantiles is not None:
        quantiles = quantiles.copy(data=np.where(mask, quantiles.to_numpy(), given))
    if draws is not None:
        draws = draws.copy(data=np.where(mask, draws.to_numpy(), given))
    return dressed(encoded, filled, sd, mask, quantiles, draws)


def dressed(
    encoded: Encoded, filled: Any, sd: Any, mask: Any, quantiles: xr.DataArray | None, draws: xr.DataArray | None
) -> xr.Dataset:
    """Filled arrays, perhaps dask arrays, on the data's own grid with names and attributes. See `assemble`."""
    template, name = encoded.template, encoded.name
    assert isinstance(template, xr.DataArray)
    out = xr.Dataset({name: _finish(filled, sd, template, name)})

    def beside(kind: str, dims: Sequence[Hashable], values: Any) -> None:
        attrs, encoding = conventions.companion(name, kind, template.attrs, template.encoding)
        out[f"{name}_{kind}"] = xr.Variable(dims, values, attrs, encoding)

    beside("sd", template.dims, sd)
    beside("filled", template.dims, mask)
    if quantiles is not None:
        out = out.assign_coords(quantile=quantiles["quantile"].variable)
        beside("quantiles", quantiles.dims, quantiles.data)
    if draws is not None:
        beside("samples", draws.dims, draws.data)
    return out


def unusable(known: Sequence[str], number: int, first: str) -> str:
    """What is said of gaps without an exposure or trials; first: the labels of one."""
    return (
        f"{' and '.join(known)}: missing or not above zero at {number} gaps (first: {first}), which cannot be filled "
        "without; give them there, or leave these gaps missing with where="
    )


def _finish(filled: Any, sd: Any, template: xr.DataArray, name: str) -> xr.DataArray:
    """Filled values as the user's array: dtype, attributes and encoding kept, integers widened where they must be."""
    dtype = template.dtype if template.dtype.kind == "f" else np.dtype(float)
    out = xr.DataArray(filled.astype(dtype), template.coords, template.dims)
    known = out.to_numpy() if isinstance(filled, np.ndarray) else None
    if known is None:
        kept = storage.unknown_values(name, template.encoding)
    else:
        kept = storage.encoding(name, template.encoding, known, sd)
    out.encoding = kept | conventions.marks(template.attrs, kept)
    out.attrs = conventions.attributes(name, template.attrs, template.encoding, kept, known)
    return out
