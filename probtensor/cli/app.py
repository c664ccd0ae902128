"""The commands. An output appears whole or not at all: it is written beside its place and then moved there."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from probtensor import files
from probtensor.cli import evaluating, inputs, outputs, telling
from probtensor.errors import DataError

if TYPE_CHECKING:
    from probtensor.likelihoods.base import AbstractLikelihood

_HELP = """Fills the gaps of labelled arrays, with honest error bars.

First look at what there is, then fill one variable of it:

    probtensor info in.nc

    probtensor impute in.nc --var sst -o out.nc --quantiles 0.05,0.95

and see how well that is done where the truth is known:

    probtensor evaluate in.nc --var sst --protocol blocks

Bad input is one line on the standard error. An output appears whole or not at all, and no input is changed.

Exit status: 0 done, 2 bad input or an output that cannot be written, 130 interrupted (Ctrl-C), 1 anything else.
"""

app = typer.Typer(
    help=_HELP,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


class DemoData(StrEnum):
    """What the demo can be told with."""

    ostia = "ostia"
    synthetic = "synthetic"


class Likelihood(StrEnum):
    """Those that need nothing beside the data."""

    gaussian = "gaussian"
    log_gaussian = "log-gaussian"
    student_t = "student-t"
    poisson = "poisson"
    negative_binomial = "negative-binomial"
    bernoulli = "bernoulli"


def main() -> None:
    """What the installed command runs."""
    try:
        app()
    except SystemExit as done:
        if done.code == telling.INTERRUPTED:
            # All outputs are tidied up by now. Taking down the interpreter after an interrupt of a compiled program
            # can crash in jaxlib, and the exit status would be that of the crash.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(telling.INTERRUPTED)
        raise


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"probtensor {importlib.metadata.version('probtensor')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Say which version this is.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Options of the program itself; its help is the application's."""


@app.command()
def demo(
    seed: Annotated[int, typer.Option(help="Of the hidden boxes and of the fit.", min=0)] = 0,
    output_dir: Annotated[Path, typer.Option(help="Folder for the filled field and the picture.")] = Path(
        "probtensor-demo"
    ),
    data: Annotated[DemoData, typer.Option(help="Real sea-surface temperatures, or made ones.")] = DemoData.ostia,
) -> None:
    """Hides 30% of a sea-surface temperature field in boxes, fills them, and compares with what one does by hand.

    Takes a minute or two, and writes the field with its gaps, the filled one and a picture. For example

        probtensor demo --output-dir demo
    """
    with telling.exits():
        from probtensor import demo as story

        with files.told(output_dir, "demo"):
            output_dir.mkdir(parents=True, exist_ok=True)
        for name in story.OUTPUTS:
            outputs.check(output_dir / name, ())
        field = story.load(data.value, Console())
        with _progress() as progress:
            result = story.compute(field, seed=seed, progress=progress)
        for name, write in story.writers(result).items():
            with files.whole(output_dir / name, "demo") as part:
                write(part)
        story.tell(result, output_dir, Console())


@app.command()
def impute(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A NetCDF file, or the folder of a zarr store.")],
    var: Annotated[str, typer.Option("--var", help="The variable to fill; its missing values are the gaps.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="What to write: zarr if it ends so, else NetCDF.")],
    rank: Annotated[str, typer.Option(help="Number of components, or 'auto' to have it chosen.")] = "auto",
    where: Annotated[
        str | None, typer.Option(metavar="MASK.NC:VAR", help="True or nonzero where to fill; elsewhere gaps stay.")
    ] = None,
    quantiles: Annotated[str | None, typer.Option(help="Quantiles to add, such as 0.05,0.95.")] = None,
    likelihood: Annotated[
        Likelihood,
        typer.Option(
            help="What values are like: normal; positive (log-gaussian); with outliers (student-t); whole counts "
            "(poisson, negative-binomial); 0 and 1 (bernoulli)."
        ),
    ] = Likelihood.gaussian,
    save: Annotated[Path | None, typer.Option(metavar="FIT.ZARR", help="Keep the fit, for pt.load and info.")] = None,
    seed: Annotated[int, typer.Option(help="Of the random starts.", min=0)] = 0,
) -> None:
    """Fills the gaps of one variable.

    Writes VAR with its gaps filled (what was observed is untouched), VAR_sd (standard error, 0 where observed),
    VAR_filled (1 where filled), and VAR_quantiles if asked for. Attributes, coordinates, bounds, grid mappings and the
    order of everything stay; the call goes before the file's history. For example

        probtensor impute in.nc --var sst -o out.nc --where ocean.nc:mask

        probtensor impute rain.zarr --var pr -o filled.zarr --likelihood log-gaussian --save fit.zarr
    """
    with telling.exits():
        number = inputs.rank(rank)
        levels = None if quantiles is None else inputs.quantiles(quantiles)
        data, beside = inputs.variable_and_beside(source, var)
        mask = None if where is None else inputs.mask(where)
        outputs.check(output, [source, *([] if where is None else [Path(where.rpartition(":")[0])])])
        if save is not None:
            _check_save(save, source, output)

        from probtensor.labelled.fit import imputed
        from probtensor.selection.automatic import Automatic

        fitting: dict[str, Any] = {"likelihood": _likelihood(likelihood), "seed": seed}
        model = Automatic(ranks=None if number is None else (number,))
        with _progress() as progress:
            post, filled = imputed(data, model, where=mask, quantiles=levels, progress=progress, **fitting)
        outputs.write(outputs.with_beside(filled, beside), output, inputs.zarr_format(source))
        if save is not None:
            post.save(save)
        console = Console(stderr=True)
        if console.is_terminal:
            name = data.name if data.name is not None else "value"
            console.print(f"{output}: {int(filled[f'{name}_filled'].sum())} of {data.size} values filled")


def _check_save(save: Path, source: Path, output: Path) -> None:
    """Raises an error, before the fit, for a place where the fit could not be saved after it."""
    from probtensor.store import archive

    place = files.real(save)
    if place in (files.real(output), files.real(source)):
        raise DataError(f"--save {save} is the input or the output; name another folder, such as fit.zarr")
    archive.check_replaceable(place)
    files.check_writable(save, "save")


def _likelihood(likelihood: Likelihood) -> AbstractLikelihood:
    from probtensor.likelihoods.counts import NegativeBinomial, Poisson
    from probtensor.likelihoods.gaussian import Gaussian
    from probtensor.likelihoods.student_t import StudentT
    from probtensor.likelihoods.trials import Bernoulli

    known: dict[Likelihood, Callable[[], AbstractLikelihood]] = {
        Likelihood.gaussian: Gaussian,
        Likelihood.log_gaussian: lambda: Gaussian(transform="log"),
        Likelihood.student_t: StudentT,
        Likelihood.poisson: Poisson,
        Likelihood.negative_binomial: NegativeBinomial,
        Likelihood.bernoulli: Bernoulli,
    }
    return known[likelihood]()


@app.command()
def evaluate(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A NetCDF file, or the folder of a zarr store.")],
    var: Annotated[str, typer.Option("--var", help="The variable; gaps are made in what it has.")],
    protocol: Annotated[
        evaluating.Protocol,
        typer.Option(
            help="What gaps look like: single values (random), boxes (blocks), all of some places (sites), the end of "
            "the time axis (tail), the shapes of the data's own (like), every level of a dimension once (by)."
        ),
    ] = evaluating.Protocol.random,
    size: Annotated[
        str | None, typer.Option(help="Levels that blocks span, such as time=4,lat=8; as the data's own gaps.")
    ] = None,
    dims: Annotated[str | None, typer.Option(help="Dimensions of sites, tail or by, such as lat,lon.")] = None,
    fraction: Annotated[
        float | None, typer.Option(help="Share of the values that is held out; a fifth, or what like finds missing.")
    ] = None,
    folds: Annotated[int, typer.Option(help="How many times.", min=1)] = 3,
    model: Annotated[
        list[str] | None,
        typer.Option(help="auto; cp, tucker or train, also with a rank as in cp:8; or none. May be given repeatedly."),
    ] = None,
    likelihood: Annotated[Likelihood, typer.Option(help="What values are like, see impute.")] = Likelihood.gaussian,
    joint: Annotated[int | None, typer.Option(help="Joint draws, such as 100, to add the energy score.", min=2)] = None,
    jobs: Annotated[int, typer.Option(help="Fits at once, each in a process of its own.", min=1)] = 1,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="SCORES.CSV", help="Keep all scores, a row a fold.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the gaps and of the fits.", min=0)] = 0,
) -> None:
    """Judges models on gaps that are made in one variable, beside what one does by hand.

    Prints means over the folds: errors, CRPS (the error of a whole distribution), the score and the coverage of 90%
    intervals. Plain fills (means, the nearest value, interpolation) are always among the rows. A model that fails is
    one, too, and a warning says why; if all do, the exit status is 2. For example

        probtensor evaluate in.nc --var sst --protocol blocks --size time=4,lat=8,lon=8

        probtensor evaluate in.nc --var sst --protocol tail --model auto --model cp:8 --jobs 2 -o scores.csv
    """
    with telling.exits():
        chosen = evaluating.models(["auto"] if model is None else model)
        data = inputs.variable(source, var)
        if output is not None:
            evaluating.check(output, source)
        how = evaluating.protocol(protocol, data, size, dims, fraction)

        from probtensor.labelled.cross_validation import cross_validate

        with _progress():
            fitting: dict[str, Any] = {"likelihood": _likelihood(likelihood)} if chosen else {}
            scores = cross_validate(data, chosen, how, folds, seed, joint=joint, jobs=jobs, **fitting)
        if output is not None:
            evaluating.write(scores, output)
        console = Console()
        console.print(evaluating.heading(data, how, scores), highlight=False, markup=False)
        console.print(evaluating.shown(scores))
        if evaluating.all_failed(scores, chosen):  # warnings have said why
            raise typer.Exit(telling.BAD_INPUT)


@app.command()
def info(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A fit that was saved, a NetCDF file or a zarr store.")],
) -> None:
    """Says what a saved fit is (model, data, noise, convergence, time), or which variables a file has to fill.

    For example

        probtensor info fit.zarr

        probtensor info in.nc
    """
    with telling.exits():
        from probtensor.cli import contents

        typer.echo(contents.of(path))


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[int, int, float], None] | None]:
    """A callback that draws a bar on a terminal, which also shows what the package logs; None elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    from probtensor.progress import bar

    with bar(console, logs=True) as report:
        yield report
