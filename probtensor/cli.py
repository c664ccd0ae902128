"""The command line: ``probtensor demo``, ``probtensor impute in.nc --var sst -o out.nc``, ``probtensor info fit.zarr``.

Bad input is one paragraph on stderr and exit status 2. Only a terminal gets a progress bar; in a pipe ``impute`` says
nothing. An output appears whole or not at all: it is written beside its place and then moved there.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from probtensor.errors import DataError, FormatError, ModelError

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["app", "main"]

#: Exit status when the input, an option or the output path is at fault.
BAD_INPUT = 2

app = typer.Typer(
    help="Fills the gaps of labelled arrays, with honest error bars.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


class DemoData(StrEnum):
    """What the demo can be told with."""

    ostia = "ostia"
    synthetic = "synthetic"


def main() -> None:
    """What the installed command runs."""
    app()


@app.command()
def demo(
    seed: Annotated[int, typer.Option(help="Of the hidden boxes and of the fit.", min=0)] = 0,
    output_dir: Annotated[Path, typer.Option(help="Folder for the filled field and the picture.")] = Path(
        "probtensor-demo"
    ),
    data: Annotated[DemoData, typer.Option(help="Real sea-surface temperatures, or made ones.")] = DemoData.ostia,
) -> None:
    """Hides 30% of a sea-surface temperature field in boxes, fills them, and compares with what one does by hand."""
    with _bad_input_exits():
        from probtensor import demo as story

        with _told("demo", str(output_dir)):
            output_dir.mkdir(parents=True, exist_ok=True)
        for name in story.OUTPUTS:
            _check_writable(output_dir / name)
        field = story.load(data.value, Console())
        with _progress() as progress:
            result = story.compute(field, seed=seed, progress=progress)
        for name, write in story.writers(result).items():
            _write(output_dir / name, write)
        story.tell(result, output_dir, Console())


@app.command()
def impute(
    source: Annotated[Path, typer.Argument(metavar="IN.NC", help="A NetCDF file.")],
    var: Annotated[str, typer.Option("--var", help="The variable to fill; its NaN are the gaps.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The NetCDF file to write.")],
    rank: Annotated[str, typer.Option(help="Number of components, or 'auto' to have it chosen.")] = "auto",
    where: Annotated[
        str | None, typer.Option(help="MASK.NC:VAR, true or nonzero where to fill; elsewhere gaps stay.")
    ] = None,
    quantiles: Annotated[str | None, typer.Option(help="Quantiles to add, such as 0.05,0.95.")] = None,
    seed: Annotated[int, typer.Option(help="Of the random starts.", min=0)] = 0,
) -> None:
    """Fills the gaps of one variable; writes its mean, its sd, and a flag of what was filled."""
    with _bad_input_exits():
        number = _parse_rank(rank)
        levels = None if quantiles is None else _parse_quantiles(quantiles)
        data = _read(source, var)
        mask = None if where is None else _read_mask(where)
        if output.exists() and output.samefile(source):
            raise DataError(f"-o {output} is the input file; name another one, so that the data stay as they are")
        _check_writable(output)

        from probtensor.labelled.fit import impute as fill
        from probtensor.selection.automatic import Automatic

        model = Automatic(ranks=None if number is None else (number,))
        with _progress() as progress:
            filled = fill(data, model, where=mask, quantiles=levels, seed=seed, progress=progress)
        _write(output, filled.to_netcdf)
        console = Console(stderr=True)
        if console.is_terminal:
            name = data.name if data.name is not None else "value"
            console.print(f"{output}: {int(filled[f'{name}_filled'].sum())} of {data.size} values filled")


@app.command()
def info(store: Annotated[Path, typer.Argument(metavar="FIT.ZARR", help="What post.save wrote.")]) -> None:
    """Says what a saved posterior is: model, data, noise, convergence and time."""
    with _bad_input_exits():
        from probtensor.store.posterior import load

        typer.echo(load(store).summary())


@contextlib.contextmanager
def _bad_input_exits() -> Iterator[None]:
    """One paragraph and exit status 2 for an error a user can mend; warnings in one line each."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: typer.echo(f"Warning: {_paragraph(message)}", err=True)
        try:
            yield
        except (DataError, FormatError, ModelError) as error:
            typer.echo(f"Error: {_paragraph(error)}", err=True)
            raise typer.Exit(BAD_INPUT) from None


def _paragraph(message: object) -> str:
    return re.sub(r"\s+", " ", str(message)).strip()


@contextlib.contextmanager
def _told(what: str, path: str) -> Iterator[None]:
    """Turns an error of the file system into one that says which path it is about."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # netCDF4 reports a full disk as a RuntimeError
        reason = getattr(error, "strerror", None) or _paragraph(error)
        raise DataError(f"{what}: {path} cannot be written: {reason}; choose another path") from None


def _check_writable(path: Path) -> None:
    """Raises DataError unless a file can be written there: before the fit, not after it."""
    if path.is_dir():
        raise DataError(f"output: {path} is a folder; name a file in it, such as {path / 'filled.nc'}")
    if not path.parent.is_dir():
        raise DataError(f"output: {path} cannot be written: there is no folder {path.parent}; make it first")
    if path.exists() and not os.access(path, os.W_OK):
        raise DataError(f"output: {path} exists and is read-only; choose another path")
    part = _part(path)
    with _told("output", str(path)):
        part.touch()
        part.unlink()


def _write(path: Path, write: Callable[[Path], object]) -> None:
    """Has a file written beside its place, then moves it there; on any failure nothing is left behind."""
    part = _part(path)
    try:
        with _told("output", str(path)):
            write(part)
            os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _part(path: Path) -> Path:
    """Where a file is written first: the same folder and suffix, so that moving it is one step."""
    return path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")


def _read(path: Path, name: str) -> xr.DataArray:
    """One variable of a NetCDF file, in memory."""
    import xarray as xr

    if not path.exists():
        raise DataError(f"there is no file {path}; check the path")
    if path.is_dir():
        raise DataError(f"{path} is a folder; name a NetCDF file in it")
    try:
        with xr.open_dataset(path) as dataset:
            if name not in dataset.data_vars:
                raise DataError(
                    f"{path} has no variable {name!r}; it has {sorted(map(str, dataset.data_vars)) or 'none at all'}"
                )
            return dataset[name].load()
    except DataError:
        raise
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        reason = _paragraph(error)
        if "installed IO backends" in reason or "Unknown file format" in reason:
            reason = (
                "it is not a NetCDF file, or of a kind that needs the package netCDF4 (pip install 'probtensor[io]')"
            )
        raise DataError(f"{path} cannot be read as NetCDF: {reason}") from None


def _read_mask(where: str) -> xr.DataArray:
    """The mask that ``--where MASK.NC:VAR`` names."""
    path, colon, name = where.rpartition(":")
    if not (path and colon and name):
        raise ModelError(f"--where {where!r}: expected FILE:VARIABLE, such as --where ocean.nc:mask")
    return _read(Path(path), name)


def _parse_rank(text: str) -> int | None:
    """None for 'auto'."""
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ModelError(f"--rank {text!r}: expected a whole number, 1 or more, or 'auto'")
    return int(text)


def _parse_quantiles(text: str) -> list[float]:
    try:
        levels = [float(part) for part in text.split(",")]
    except ValueError:
        levels = []
    if not levels or not all(0.0 < level < 1.0 for level in levels):
        raise ModelError(f"--quantiles {text!r}: expected numbers between 0 and 1, with commas, such as 0.05,0.95")
    return levels


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[int, int, float], None] | None]:
    """A callback that draws a bar on a terminal, which also shows what the package logs; None elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        task = bars.add_task("compiling", total=None)

        def update(done: int, total: int, objective: float) -> None:
            text = f"sweep {done} of at most {total}, {objective:.6g} nats"
            bars.update(task, completed=done, total=total, description=text)

        with _log_to(lambda text: bars.update(task, description=text)):
            yield update


class _Shown(logging.Handler):
    """Hands each message to a function."""

    def __init__(self, show: Callable[[str], None]) -> None:
        super().__init__()
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        self._show(record.getMessage())


@contextlib.contextmanager
def _log_to(show: Callable[[str], None]) -> Iterator[None]:
    """Shows the package's log messages while it lasts."""
    handler, logger = _Shown(show), logging.getLogger("probtensor")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
