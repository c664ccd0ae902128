"""A fitted posterior as a store, and back."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
from collections.abc import Mapping

import jax

from probtensor import files
from probtensor.errors import FormatError, ModelError
from probtensor.labelled.fitted import Fitted
from probtensor.labelled.made import Made
from probtensor.labelled.posterior import Posterior
from probtensor.store import archive
from probtensor.store.tree import described, rebuilt

#: What is only of use while fitting: states of candidates, and optimisers, which are functions.
LEFT_OUT = {
    "selection.choice:Candidate": ("state",),
    "selection.rank:Growth": ("start",),
    "engines.svi.engine:SVI": ("optimizer",),
}


def save(fitted: Fitted, made: Made, path: str | os.PathLike[str], fit: Mapping[str, str] | None = None) -> None:
    """Writes a posterior. See `Posterior.save`; fit: see `archive.write`."""
    # Of a fit out of core the data stay where they are.
    fitted = dataclasses.replace(fitted, encoded=fitted.encoded.without_data())
    stored = described((fitted, made), LEFT_OUT)
    try:
        with jax.enable_x64(True):
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

    Args:
        path: of the store, a folder.

    Returns:
        The posterior, which answers as the one that was saved.

    Raises:
        FormatError: there is no store there; it is damaged, of something else, or written by a newer version.
    """
    with jax.enable_x64(True):
        found = rebuilt(archive.read(files.real(path)))
    match found:
        case (Fitted() as fitted, Made() as made):
            return Posterior(fitted, made)
    raise FormatError(f"load: {path} holds no posterior")
