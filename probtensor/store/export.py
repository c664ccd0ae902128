"""A posterior as NetCDF for programs that know nothing of this package: what it found, not what it is made of."""

from __future__ import annotations

import importlib.metadata
import os

import numpy as np
import pandas as pd
import xarray as xr

from probtensor import arrays, files
from probtensor.errors import FormatError
from probtensor.labelled import conventions, filling, predictions, reading
from probtensor.labelled.encoded import Encoded
from probtensor.labelled.fitted import Fitted
from probtensor.labelled.posterior import Posterior
from probtensor.precision import double_precision
from probtensor.store.sheet import Sheet, text
from probtensor.terms.local import BoundLocal
from probtensor.terms.offset import BoundOffset
from probtensor.terms.tucker import BoundTucker

#: The version of what is in such a file.
VERSION = 1
_SAID = {
    "mean": "predictive mean of {}",
    "sd": "standard deviation of a new observation of {}",
    "signal_sd": "standard deviation of the expected value of {}",
    "observed": "{} as it was given, without what has no weight",
}


def export(fitted: Fitted, post: Posterior, path: str | os.PathLike[str]) -> None:
    """Writes a posterior as NetCDF. See `Posterior.export`."""
    path = files.given(path)
    if path.is_dir():
        raise FormatError(f"export: {path} is a folder; name a file in it, such as {path / 'fit.nc'}")
    files.check_writable(path, "export")
    found = contents(fitted, post)
    try:
        with files.whole(path, "export") as part:
            found.to_netcdf(part)
    except (TypeError, ValueError, NotImplementedError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(f"export: {path} cannot be written: {files.reason(error)}") from error


def contents(fitted: Fitted, post: Posterior) -> xr.Dataset:
    """What `Posterior.export` writes."""
    fitted.encoded.require_memory("export", "save the posterior, or write post.predict(at, batch_size=...) to zarr")
    sheet = Sheet(fitted.encoded)
    _put_predictions(sheet, fitted)
    for k in range(len(post.model.terms)):
        _put_term(sheet, fitted, post, k)
    _put_hyperparameters(sheet, post.hyperparameters())
    objective = post.objective
    sweeps = {"objective": objective.to_numpy(), "sweep": objective["sweep"].to_numpy()}
    sheet.put_along("sweep", "objective", sweeps, objective.attrs)
    return sheet.dataset.assign_attrs(
        Conventions=conventions.CONVENTIONS,
        title=f"probtensor posterior of {fitted.encoded.name}",
        source=f"probtensor {importlib.metadata.version('probtensor')}",
        history=conventions.history("written by Posterior.export"),
        comment=post.summary(),
        probtensor_export_version=VERSION,
    )


def _put_predictions(sheet: Sheet, fitted: Fitted) -> None:
    """At the data's own coordinates."""
    encoded, places = fitted.encoded, fitted.own_places()
    with double_precision():
        signal = arrays.fitted(fitted.state, fitted.observations.domain)
        known, bad = predictions.known_or_one(fitted.likelihood, encoded)
        found = predictions.dataset(fitted.law(places, signal, known), places, None, {})
    found = found.where(~places.label(bad))
    found["observed"] = places.label(encoded.values)
    units, standard = fitted.units, str(fitted.attrs.get("standard_name", ""))
    for name, said in _SAID.items():
        attrs = {"long_name": said.format(encoded.name), **units}
        if len(standard.split()) == 1 and name in ("observed", "sd"):
            attrs["standard_name"] = standard + (" standard_error" if name == "sd" else "")
        if name == "mean":
            attrs["ancillary_variables"] = f"{sheet.name('sd')} {sheet.name('signal_sd')}"
        sheet.put(name, _in_order(encoded, found[name]), attrs)


def _in_order(encoded: Encoded, array: xr.DataArray) -> xr.DataArray:
    """As the data have it; rows of a table stay in the order of their coordinates."""
    return filling.on_template(array, encoded) if isinstance(encoded.template, xr.DataArray) else array


def _put_term(sheet: Sheet, fitted: Fitted, post: Posterior, k: int) -> None:
    """The functions of a term, and the core of a Tucker; tables of an offset; what a local term adds at the data."""
    bound, kind = fitted.state.model.terms[k], type(post.model.terms[k]).__name__
    prefix, said = f"term{k}_{kind.lower()}", f"{kind} (term {k})"
    if isinstance(bound, BoundLocal):
        places = fitted.own_places()
        with double_precision():
            signal = arrays.predict(fitted.state, places.domain, (k,))
        for name, values in (("mean", signal.mean), ("sd", np.sqrt(np.asarray(signal.variance)))):
            attrs = {"long_name": f"{name} of what {said} adds to the signal"}
            sheet.put(f"{prefix}_{name}", _in_order(fitted.encoded, places.label(np.asarray(values))), attrs)
        return
    if isinstance(bound, BoundOffset):
        found = _table(fitted, bound, k)
    else:
        found = reading.factors(fitted.state, fitted.encoded, k, "canonical")
    for key, array in found.data_vars.items():
        attrs = array.attrs or {"long_name": f"{str(key).replace('_', ' ')} of {said}"}
        sheet.put_levels(f"{prefix}_{key}", array, prefix, attrs)
    if isinstance(bound, BoundTucker):
        for key, array in reading.core(fitted.state, k, "canonical").data_vars.items():
            sheet.put_levels(f"{prefix}_core_{key}", array, prefix, {"long_name": f"core {key} of {said}"})


def _table(fitted: Fitted, bound: BoundOffset, k: int) -> xr.Dataset:
    """The numbers of an offset or a climatology, one for each combination of the levels that it has."""
    encoded, belief, groups = fitted.encoded, fitted.state.beliefs[k][0], bound.groups
    labels, places = {}, []
    for name, vocabulary in zip(groups.names, groups.vocabulary, strict=True):
        parent, attribute = encoded.split(name)
        coordinate = encoded.levels[parent]
        labels[name] = coordinate.derive(attribute, coordinate.labels) if attribute else coordinate.labels
        numbers = labels[name] if attribute else coordinate.numbers(coordinate.labels)
        places.append(np.searchsorted(np.asarray(vocabulary), numbers))
    shape = tuple(len(vocabulary) for vocabulary in groups.vocabulary)
    mean, sd = np.asarray(belief.mean)[:, 0], np.sqrt(np.asarray(belief.cov)[:, 0, 0])
    out = xr.Dataset(coords=labels)
    for kind, values in (("mean", mean), ("sd", sd)):
        out[kind] = (groups.names, values.reshape(shape)[np.ix_(*places)] if shape else values[0])
    return out


def _put_hyperparameters(sheet: Sheet, found: pd.DataFrame) -> None:
    """One entry a value, with what it is of as text."""
    columns = {c: text(found[c]) for c in ("term", "mode", "level", "name", "unit")}
    columns |= {c: found[c].to_numpy() for c in ("component", "value")} | {
        "learned": found["learned"].to_numpy(np.int8)
    }
    own = {f"hyperparameter_{name}": values for name, values in columns.items()}
    attrs = {"long_name": "value of the hyper-parameter, in its own unit"}
    sheet.put_along("hyperparameter", "hyperparameter_value", own, attrs)
