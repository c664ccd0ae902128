"""The rows of probtensor, answered like any other script: `python -m gapfill.ours TASK.npz FOLDER`.

A new row is one entry of `MODELS`: a name, and what is given to `pt.fit` as the model. A list of models is fitted
one after the other, each on what those before it leave over.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import probtensor as pt
from gapfill import data

sys.path.insert(0, str(Path(__file__).parent / "scripts"))

CELL = ("latitude", "longitude")


def offset(monthly: bool) -> Any:
    """A constant, and one for each month where the times have months."""
    return pt.Offset() + pt.Climatology("time.month") if monthly else pt.Offset()


def surface(monthly: bool) -> Any:
    """What all times have in common: a smooth surface, and what each cell adds to it."""
    return offset(monthly) + pt.CP(1, modes=[CELL]) + pt.Offset(over=CELL)


def low_rank(rank: int) -> pt.CP:
    """Functions of time times surfaces."""
    return pt.CP(rank, modes={"time": pt.Matern(1 / 2, shared=True), CELL: None})


def local() -> pt.Local:
    """Times that know each other a little times a smooth field on the sphere."""
    return pt.Local(pt.Matern(1 / 2).on("time") * pt.Matern(5 / 2).on(*CELL))


def adapted() -> pt.Local:
    """The same with a covariance that follows the fields from place to place."""
    return pt.Local(pt.Matern(1 / 2).on("time") * pt.Matern(5 / 2).on(*CELL).adapted())


#: Each takes whether the times have months.
MODELS: dict[str, Callable[[bool], Any]] = {
    "probtensor, pt.fit(data)": lambda monthly: "auto",
    "probtensor, offset + CP of rank 15": lambda monthly: offset(monthly) + pt.CP(rank=15),
    "probtensor, surface + Local": lambda monthly: surface(monthly) + local(),
    "probtensor, surface + adapted Local": lambda monthly: surface(monthly) + adapted(),
    "probtensor, surface + low rank 8 + Local": lambda monthly: surface(monthly) + low_rank(8) + local(),
}

#: What each term adds, measured only where `--ablation` asks for it.
ABLATION: dict[str, Callable[[bool], Any]] = {
    "offset of each cell": lambda monthly: offset(monthly) + pt.Offset(over=CELL),
    "surface": surface,
    "surface + low rank 8": lambda monthly: surface(monthly) + low_rank(8),
    "offset of each cell + Local": lambda monthly: offset(monthly) + pt.Offset(over=CELL) + local(),
    "surface, then Local": lambda monthly: [surface(monthly), pt.Offset() + local()],
    "surface + low rank 8, then Local": lambda monthly: [surface(monthly) + low_rank(8), pt.Offset() + local()],
}


def main() -> None:
    from exchange import Answer, Task, run

    def fill(task: Task, model: str, dataset: str) -> Answer:
        field = data.load(dataset).copy(data=task.y)
        began = time.process_time(), time.perf_counter()
        models = (MODELS | ABLATION)[model](data.SOURCES[dataset].monthly)
        mean, compiling, said = 0.0, 0.0, []
        for one in models if isinstance(models, list) else [models]:
            post = pt.fit(field - mean, one, seed=task.seed)
            at = post.predict({dim: field[dim] for dim in field.dims}).transpose(*field.dims)
            mean, sd = mean + at["mean"], at["sd"]
            compiling += float(post.compile_seconds)
            said.append(str(post.summary()))
        # Compilation is known by the clock; on a busy machine it has had the same share of a processor as all else.
        busy = (time.process_time() - began[0]) / (time.perf_counter() - began[1])
        return Answer(np.asarray(mean), np.asarray(sd), "\n".join(said), min(1.0, busy) * compiling)

    run(fill)


if __name__ == "__main__":
    main()
