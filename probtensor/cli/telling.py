"""What the command line says, where, and with which exit status."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator

import typer

from probtensor.errors import DataError, FormatError, ModelError

#: Exit status when the input, an option or the output path is at fault, and after an interrupt.
BAD_INPUT, INTERRUPTED = 2, 130


@contextlib.contextmanager
def exits() -> Iterator[None]:
    """One paragraph and exit status 2 for an error a user can mend, 130 for an interrupt; warnings in one line each."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: typer.echo(f"Warning: {paragraph(message)}", err=True)
        try:
            yield
        except (DataError, FormatError, ModelError) as error:
            typer.echo(f"Error: {paragraph(error)}", err=True)
            raise typer.Exit(BAD_INPUT) from None
        except KeyboardInterrupt:
            typer.echo("Interrupted; no output is left half-written", err=True)
            raise typer.Exit(INTERRUPTED) from None


def paragraph(message: object) -> str:
    """A message in one line."""
    return re.sub(r"\s+", " ", str(message)).strip()
