"""The story that ``probtensor demo`` tells: hide boxes of a real field, fill them, compare, and show.

`load` gets the field, `compute` does the work and prints nothing, `writers` and `tell` hand it out.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from probtensor import datasets
from probtensor.datasets.ostia import CLOUDS
from probtensor.errors import DataError
from probtensor.evaluation import floors
from probtensor.evaluation.gaps import AbstractProtocol
from probtensor.labelled.fit import fit
from probtensor.selection.automatic import RANKS, Automatic

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

__all__ = ["OUTPUTS", "Result", "compute", "load", "tell", "writers"]

#: What the demo writes: the field with its gaps, the filled field, and the picture.
OUTPUTS = ("gaps.nc", "filled.nc", "picture.png")

#: What `pt.fit(data)` chooses among first; all that it can be takes it some minutes on this field.
FACTORS = Automatic(RANKS)

_DPI = 130
_INNER_SEED = 1000  # added to the seed of the boxes for the floors' inner split


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """What the demo found.

    Attributes:
        truth: the field before anything was hidden.
        gapped: the field with the boxes hidden: all that any method sees.
        filled: what ``impute`` gives, land left missing.
        rows: a line for each method, probtensor last.
        compile_seconds: of probtensor, wall clock; not in its row.
        summary: what the fit says of itself.
    """

    truth: xr.DataArray
    gapped: xr.DataArray
    filled: xr.Dataset
    rows: tuple[floors.Row, ...]
    compile_seconds: float
    summary: str


def load(data: str, console: Console) -> xr.DataArray:
    """The field ``data``; a made one, after saying why, if a package for the real one is missing."""
    try:
        return datasets.load(data)
    except DataError as error:
        if data != "ostia":
            raise
        _say(console, f"{error}\nGoing on with made data.\n")
        return datasets.load("synthetic")


def compute(
    field: xr.DataArray,
    *,
    seed: int = 0,
    protocol: AbstractProtocol = CLOUDS,
    progress: Callable[[int, int, float], None] | None = None,
    ranks: Sequence[int] = floors.TENSORLY_RANKS,
    model: Any = FACTORS,
) -> Result:
    """Hides boxes, fills them in every way, and scores the fills on what was hidden.

    Args:
        field: (time, latitude, longitude) with a datetime64 ``time``; NaN on land.
        seed: of the boxes and of the fit.
        protocol: what is hidden.
        progress: called after every block of sweeps with (sweeps done, sweeps at most, objective).
        ranks: of the masked CP of tensorly, the best of which is reported.
        model: of probtensor.

    Raises:
        DataError: the field has another shape, or nothing is left to hide.
    """
    y, labels = field.values.astype(float), datasets.grid_coordinates(field)
    sizes = {str(dim): size for dim, size in field.sizes.items()}
    held = protocol.mask(sizes, seed, np.isfinite(y))
    inner = protocol.mask(sizes, seed + _INNER_SEED, np.isfinite(y) & ~held)
    gapped = field.where(~held)
    rows = floors.compare(
        y, held, inner, months=labels["months"], times=labels["times"], longitudes=labels["longitudes"], ranks=ranks
    )

    start = time.perf_counter()
    post = fit(gapped, model, seed=seed, progress=progress)
    running = time.perf_counter() - start - post.compile_seconds
    rows.append(floors.Row("probtensor, factors", post.score(field.where(held)), running))
    filled = post.impute(where=gapped.notnull().any("time"))
    return Result(field, gapped, filled, tuple(rows), post.compile_seconds, str(post.summary()))


def writers(result: Result) -> dict[str, Callable[[Path], object]]:
    """For each name in `OUTPUTS`, what writes it to a path. Without matplotlib there is no picture."""
    found: dict[str, Callable[[Path], object]] = {
        "gaps.nc": result.gapped.to_netcdf,
        "filled.nc": result.filled.to_netcdf,
    }
    figure = _picture(result)
    if figure is not None:
        found["picture.png"] = lambda path: figure.savefig(path, dpi=_DPI)
    return found


def tell(result: Result, output_dir: Path, console: Console) -> None:
    """Prints what was hidden, the table, and where the files are."""
    truth = result.truth
    seen, total = int(result.gapped.notnull().sum()), int(truth.notnull().sum())
    name = str(truth.attrs.get("long_name") or truth.name).replace("_", " ")
    shape = " x ".join(f"{size} {dim}" for dim, size in truth.sizes.items())
    _say(
        console,
        f"{name}, {shape}: {total - seen:,} of {total:,} values at sea were hidden in boxes. Each method sees the "
        f"others, and is scored on the hidden ones{_in_units(truth)}:\n",
    )
    console.print(table(result))
    _say(
        console,
        "tensorly: the rank that is best on the hidden values themselves, which no one could know. Seconds: CPU time "
        "of one fill; for probtensor wall clock with the choice of its model, compilation apart.\n",
    )
    # It has lines of its own, which narrower places may fold.
    console.print(result.summary, highlight=False, markup=False, soft_wrap=True)
    names = [name for name in OUTPUTS if (output_dir / name).exists()]
    _say(console, f"\nWritten to {output_dir}: {', '.join(names)}")
    if "picture.png" not in names:
        _say(console, "There is no picture without matplotlib: pip install 'probtensor[plot]'")


def table(result: Result) -> Table:
    """The scores of every method, the best RMSE in bold; fits 80 columns."""
    found = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, header_style="bold")
    found.add_column("method")
    for name in ("RMSE", "MAE", "CRPS", "90%\ncover", "seconds", "compile"):
        found.add_column(name, justify="right")
    best = min(result.rows, key=lambda row: row.scores["rmse"])
    for row in result.rows:
        numbers = (f"{row.scores[key]:.3f}" for key in ("rmse", "mae", "crps", "coverage90"))
        compiling = f"{result.compile_seconds:.1f}" if row is result.rows[-1] else ""
        name = row.name.replace(" 100 iterations,", "").replace(" (best on the test set)", " (best)")
        found.add_row(name, *numbers, f"{row.seconds:.1f}", compiling, style="bold green" if row is best else None)
    return found


def _say(console: Console, text: str) -> None:
    console.print(text, highlight=False, markup=False)


def _in_units(field: xr.DataArray) -> str:
    return f", in {field.attrs['units']}" if "units" in field.attrs else ""


def _picture(result: Result) -> Figure | None:
    """The time with most hidden; None without matplotlib."""
    import importlib.util

    if importlib.util.find_spec("matplotlib") is None:
        return None
    from probtensor import plotting

    hidden = (result.truth.notnull() & result.gapped.isnull()).sum(result.truth.dims[1:])
    name = str(result.truth.name)
    return plotting.demo_picture(
        result.truth, result.gapped, result.filled[name], result.filled[f"{name}_sd"], int(np.argmax(hidden.values))
    )
