"""A fitted posterior as a store, and back."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import warnings
from collections.abc import Mapping

import xarray as xr

from probtensor import arrays, files
from probtensor.errors import DataError, FormatError, ModelError
from probtensor.labelled import predictions
from probtensor.labelled.fitted import Fitted
from probtensor.labelled.made import Made
from probtensor.labelled.posterior import Posterior
from probtensor.precision import double_precision
from probtensor.store import archive, guard
from probtensor.store.classes import LEFT_OUT
from probtensor.store.tree import described, rebuilt


def save(fitted: Fitted, made: Made, path: str | os.PathLike[str], fit: Mapping[str, str] | None = None) -> None:
    """Writes a posterior. See `Posterior.save`; fit: see `archive.write`."""
    # Of a fit out of core the data stay where they are.
    fitted = dataclasses.replace(fitted, encoded=fitted.encoded.without_data())
    stored = described((fitted, made), LEFT_OUT)
    try:
        with double_precision():
            rebuilt(stored)
    except FormatError as error:
        raise ModelError(f"save: there is something in the posterior that could not be read again: {error}") from error
    archive.write(files.real(path), stored, version(), fit)


def version() -> str:
    """Of this package, as stores say who wrote them."""
    return importlib.metadata.version("probtensor")


def load(path: str | os.PathLike[str]) -> Posterior:
    """Reads a posterior that `Posterior.save` wrote.

    It gives the same answers bit for bit, and every method works as before. Of what was tried to choose a model only
    the report is there, and of `probtensor.SVI` no optimizer.

    A store from somewhere else is safe to read: no code of it runs, nothing outside it is read, links in it are not
    followed, and what it asks for is compared with the memory that there is before it gets any. Digests tell damage,
    and not who wrote it: somebody who writes right ones can give any numbers. Parts that do not fit together are
    refused here, but for those of a local term, which are first computed with when it is asked.

    Args:
        path: of the store, a folder.

    Returns:
        The posterior, which answers as the one that was saved.

    Raises:
        FormatError: there is no store there; it is damaged, of something else, written by a newer version, or asks for
            more memory than there is.
    """
    with double_precision():
        found = rebuilt(archive.read(files.real(path)))
    match found:
        case (Fitted() as fitted, Made() as made):
            _check_whole(fitted, path)
            return Posterior(fitted, made)
    raise FormatError(f"load: {path} holds no posterior")


def _check_whole(fitted: Fitted, path: str | os.PathLike[str]) -> None:
    """Raises FormatError unless the parts fit together: the shapes of an answer at one place are worked out.

    Of draws it is the answer, which shapes alone do not give.
    """
    template = fitted.encoded.template
    if fitted.encoded.in_memory and isinstance(template, xr.DataArray) and not any(template.to_numpy().strides):
        guard.Room().take(template.nbytes, f"the data of {path}")  # of one number, as many as it says
    at = {name: own.labels[:1] for name, own in fitted.encoded.coordinates.items()}
    try:
        with warnings.catch_warnings(), double_precision():
            warnings.simplefilter("ignore")
            where = fitted.places(at)
            predictions.known_everywhere(fitted.likelihood)
            asked = fitted.state, where.domain, fitted.terms
            if fitted.state.draws is not None:
                arrays.predict(*asked)
            elif fitted.state.local is None:  # whose answers take numbers, and long
                arrays.predicted_shapes(*asked)
    except (DataError, ModelError):  # a place that cannot be asked for
        return
    except Exception as error:
        said = f"{type(error).__name__} {files.reason(error)}"
        raise FormatError(f"load: the parts of {path} do not fit together; it is damaged: {said:.200}") from error
