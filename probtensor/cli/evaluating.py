"""What ``probtensor evaluate`` reads from its options, and the table that it shows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from probtensor import files
from probtensor.cli import inputs
from probtensor.errors import DataError, ModelError
from probtensor.evaluation import gaps

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from rich.table import Table

#: Share that is held out where none is named.
FRACTION = 0.2
#: Columns of the table that is shown: of the scores, and what they are called.
_SHOWN = {
    "rmse": "RMSE",
    "crps": "CRPS",
    "energy": "energy",
    "interval_score90": "90%\nscore",
    "coverage90": "90%\ncover",
}


class Protocol(StrEnum):
    """What gaps look like."""

    random = "random"
    blocks = "blocks"
    sites = "sites"
    tail = "tail"
    like = "like"
    by = "by"


def protocol(
    kind: Protocol, data: xr.DataArray, size: str | None, dims: str | None, fraction: float | None
) -> gaps.AbstractProtocol:
    """The gap protocol that the options name.

    Args:
        kind: of the gaps.
        data: to be judged on.
        size: edges of blocks, ``"time=4,lat=8"``; None: those of the data's own gaps.
        dims: dimensions with commas between; None: those of the time axis, or for sites all others.
        fraction: that is held out; None: a fifth, or for ``like`` what the data miss.

    Raises:
        ModelError: an option cannot be read, or is not for this kind of gaps.
        DataError: the data have no gaps to copy.
    """
    if size is not None and kind is not Protocol.blocks:
        raise ModelError(f"--size is for --protocol blocks, and the protocol is {kind.value}; leave it out")
    if dims is not None and kind not in (Protocol.sites, Protocol.tail, Protocol.by):
        raise ModelError(f"--dims is for --protocol sites, tail or by, and the protocol is {kind.value}; leave it out")
    if fraction is not None and kind is Protocol.by:
        raise ModelError("--fraction is not for --protocol by, which holds out every level once; leave it out")
    share, first = FRACTION if fraction is None else fraction, _first(data)
    names = [first] if dims is None else [name.strip() for name in dims.split(",")]
    if kind is Protocol.random:
        return gaps.random(share)
    if kind is Protocol.blocks:
        return gaps.blocks(share, _own_size(data) if size is None else _size(size))
    if kind is Protocol.sites:
        return gaps.sites(share, [str(d) for d in data.dims if d != first] if dims is None else names)
    if kind is Protocol.tail:
        if len(names) > 1:
            raise ModelError(f"--dims {dims!r}: --protocol tail has one dimension, whose last part it holds out")
        return gaps.tail(share, names[0])
    return gaps.like(data, fraction) if kind is Protocol.like else gaps.by(names)


def _first(data: xr.DataArray) -> str:
    """The dimension that series run along: the one of times, else the first."""
    from probtensor.labelled.stacking import read_modes

    times = [name for name, (coordinate, _) in read_modes(data).items() if coordinate.is_time]
    return times[0] if times else str(data.dims[0] if data.dims else "")


def _own_size(data: xr.DataArray) -> dict[str, int]:
    from probtensor.selection.hold_out import gap_extent

    return dict(zip(map(str, data.dims), gap_extent(data.notnull().to_numpy()), strict=True))


def _size(text: str) -> dict[str, int]:
    found = {}
    for part in text.split(","):
        name, equals, edge = part.partition("=")
        if not (name.strip() and equals and edge.strip().isdecimal()):
            raise ModelError(f"--size {text!r}: expected levels for each dimension, with commas, such as time=4,lat=8")
        found[name.strip()] = int(edge)
    return found


def models(given: Sequence[str]) -> dict[str, Any]:
    """Models by their names: ``auto``, ``cp``, ``tucker`` or ``train`` with a rank behind a colon, or ``none``."""
    from probtensor.terms.cp import CP
    from probtensor.terms.offset import Offset
    from probtensor.terms.tensor_train import TensorTrain
    from probtensor.terms.tucker import Tucker

    kinds = {"cp": CP, "tucker": Tucker, "train": TensorTrain}
    found: dict[str, Any] = {}
    for text in given:
        kind, colon, rank = text.partition(":")
        if kind in ("auto", "none") and not colon:
            found |= {"auto": "auto"} if kind == "auto" else {}
        elif kind in kinds and bool(colon) == bool(rank):
            number = inputs.rank(rank or "auto")
            found[text] = Offset() + kinds[kind](rank="auto" if number is None else number)
        else:
            raise ModelError(
                f"--model {text!r}: expected auto, or cp, tucker or train, also with a rank as in cp:8, or none for "
                "the plain fills alone"
            )
    return found


def check(output: Path, source: Path) -> None:
    """Raises an error, before anything is fitted, for a table that could not be written after it."""
    if output.is_dir():
        raise DataError(f"output: {output} is a folder; name a file in it, such as {output / 'scores.csv'}")
    if files.real(output) == files.real(source):
        raise DataError(f"-o {output} is the input file; name another one, so that the data stay as they are")
    files.check_writable(output, "output")


def write(scores: pd.DataFrame, output: Path) -> None:
    """Writes the table, a row a model and fold."""
    with files.whole(output, "output") as part:
        scores.to_csv(part, index=False)


def heading(data: xr.DataArray, how: gaps.AbstractProtocol, scores: pd.DataFrame) -> str:
    """What was held out of what."""
    shape = " x ".join(f"{size} {dim}" for dim, size in data.sizes.items())
    held, folds = scores["n"].groupby(scores["fold"]).first(), scores["fold"].nunique()
    unit = f", in {scores['unit'].iloc[0]}" if scores["unit"].iloc[0] else ""
    return (
        f"{data.name}, {shape}. Held out: {how}. In each of {folds} folds that is {held.mean():,.0f} of "
        f"{int(data.notnull().sum()):,} values. Means over the folds{unit}, best first:"
    )


def all_failed(scores: pd.DataFrame, names: Collection[str]) -> bool:
    """Whether there are models, and none of them has a score."""
    return bool(names) and bool(scores[scores["model"].isin(names)]["crps"].isna().all())


def shown(scores: pd.DataFrame) -> Table:
    """Means over the folds, a row a model, by their CRPS; how much worse than the best, with its standard error."""
    from rich import box
    from rich.table import Table

    names = {key: name for key, name in _SHOWN.items() if key in scores}
    by_model = scores.groupby("model", sort=False)
    means = by_model[[*names, "seconds"]].mean().sort_values("crps", kind="stable")
    failed = by_model["error"].apply(lambda errors: bool((errors != "").any()))
    means = means[~failed[means.index]]
    folds = scores.pivot(index="fold", columns="model", values="crps")
    found = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, header_style="bold")
    found.add_column("model")
    for name in (*names.values(), "CRPS above\nthe best", "seconds"):
        found.add_column(name, justify="right")
    for model, row in means.iterrows():
        apart = folds[model] - folds[means.index[0]]
        error = f" ± {apart.sem():.1g}" if len(apart) > 1 else ""
        above = "" if model == means.index[0] else f"{apart.mean():.2g}{error}"
        numbers = [f"{row[key]:.3f}" if key == "coverage90" else _short(row[key]) for key in names]
        style = "bold green" if model == means.index[0] else None
        found.add_row(str(model), *numbers, above, f"{row['seconds']:.1f}", style=style)
    for model in failed.index[failed]:
        found.add_row(str(model), *["-"] * len(names), "failed", "")
    return found


def _short(number: float) -> str:
    """Three digits that count."""
    return f"{number:#.3g}" if np.isfinite(number) and 1e-3 <= abs(number) < 1e4 else f"{number:.2g}"
