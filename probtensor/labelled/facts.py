"""What is said of a fit, in a terminal as in a notebook."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from probtensor.engines.base import Fit
from probtensor.engines.collapsed.adapting import FEWEST_FIELDS, MOST_CELLS
from probtensor.evaluation.calibration import Calibration
from probtensor.kernels.adapted import adapted_part
from probtensor.labelled import noise_levels, predictions, reading
from probtensor.labelled.fitted import Fitted
from probtensor.labelled.made import Made
from probtensor.labelled.memory import Memory
from probtensor.likelihoods.base import AbstractLikelihood
from probtensor.model import BoundModel
from probtensor.selection.tried import AbstractChoice
from probtensor.terms.base import Sum
from probtensor.terms.local import BoundLocal


class Mode(NamedTuple):
    """A mode of the data: how many levels, of what kind, the lowest and the highest label, and the labels' unit.

    closes: after which it closes on itself, as a longitude around the globe; None: it does not.
    """

    name: str
    size: int
    kind: str
    first: Any
    last: Any
    unit: str
    closes: float | None = None


class Number(NamedTuple):
    """A hyper-parameter of all components together: its lowest and its highest value, and how many values there are."""

    name: str
    low: float
    high: float
    number: int
    unit: str
    learned: bool


class Functions(NamedTuple):
    """What the functions of a term are like along a mode.

    Attributes:
        term: its position; ``"noise"``: noise levels.
        mode: empty for a constant.
        prior: with the numbers of the fit; None: a local term's kernel, or noise.
        numbers: those that were learned, and those held at other values than 1.
    """

    term: int | str
    mode: str
    prior: Any
    numbers: tuple[Number, ...]


class Facts(NamedTuple):
    """What `Posterior.summary` and a notebook say.

    Attributes:
        model: the terms.
        name, units: of the data.
        modes: of the data.
        observed, entries: how many entries there are, and how many are observed.
        likelihood: as declared; parameters: its numbers by name.
        levels: what is said of the noise and the scale of each level that has its own, by its label; empty for many.
        functions: priors with their hyper-parameters, of the terms and of noise that differs between levels.
        objective: (steps,) in nats; steps: what they are; reason: why they ended; converged.
        power: of the likelihood; restarts: final objective of each.
        compile_seconds, run_seconds: the search for a model included.
        memory: the most that was in use; None: not known.
        choice: what was tried to choose model or rank.
        notes: what a user should know before using the answers.
    """

    model: Sum
    name: str
    units: str
    modes: tuple[Mode, ...]
    observed: int
    entries: int
    likelihood: AbstractLikelihood
    parameters: Mapping[str, float]
    levels: Mapping[str, str]
    functions: tuple[Functions, ...]
    objective: np.ndarray
    steps: str
    reason: str
    converged: bool
    power: float
    restarts: tuple[float, ...]
    compile_seconds: float
    run_seconds: float
    memory: Memory | None
    choice: AbstractChoice | None
    notes: tuple[str, ...]


def facts(fitted: Fitted, made: Made, table: pd.DataFrame, seconds: tuple[float, float]) -> Facts:
    """All of them.

    Args:
        fitted: the fit and its data.
        made: how it was made.
        table: of the hyper-parameters, see `Posterior.hyperparameters`.
        seconds: of compiling and of running, the search for a model included.
    """
    encoded, result = fitted.encoded, made.result
    return Facts(
        model=made.model,
        name=encoded.name,
        units=str(fitted.attrs.get("units", "")),
        modes=tuple(
            Mode(n, len(c.labels), c.kind, *c.extent, c.unit if c.kind == "numeric" else "", c.closes)
            for n, c in encoded.levels.items()
        ),
        observed=fitted.observations.count,
        entries=math.prod(fitted.observations.domain.shape),
        likelihood=fitted.likelihood,
        parameters=predictions.parameters(result.state.model.likelihood),
        levels=noise_levels.few(result.state.model.likelihood, encoded),
        functions=_functions(fitted, table),
        objective=result.objective,
        steps="sweeps" if result.state.draws is None else "draws",
        reason=result.reason,
        converged=result.converged,
        power=float(result.state.power),
        restarts=result.restarts,
        compile_seconds=seconds[0],
        run_seconds=seconds[1],
        memory=made.memory,
        choice=made.choice,
        notes=tuple(_notes(fitted, result)),
    )


def _functions(fitted: Fitted, table: pd.DataFrame) -> tuple[Functions, ...]:
    numbers: dict[tuple[Any, str], list[Number]] = {}
    groups = table.groupby(["term", "mode", "name", "unit"], sort=False) if len(table) else ()
    for (term, mode, name, unit), rows in groups:
        if term == "scale" or (term == "noise" and not mode):
            continue  # of the likelihood, which is said by itself
        values, learned = rows["value"].to_numpy(), bool(rows["learned"].any())
        if learned or not np.all(values == 1.0):
            own = Number(str(name), float(values.min()), float(values.max()), len(values), str(unit), learned)
            numbers.setdefault((term, str(mode)), []).append(own)
    priors = {
        (j, mode): block.prior
        for j, term in enumerate(fitted.state.model.terms)
        if not isinstance(term, BoundLocal)
        for mode, block in zip(reading.block_names(term), term.blocks, strict=False)
    }
    keys = sorted(dict.fromkeys([*priors, *numbers]), key=lambda key: (isinstance(key[0], str), key[0]))
    return tuple(
        Functions(term, mode, priors.get((term, mode)), tuple(numbers.get((term, mode), ()))) for term, mode in keys
    )


def _notes(fitted: Fitted, result: Fit) -> list[str]:
    encoded, notes = fitted.encoded, []
    if not result.converged:
        notes.append("not converged: means and error bars may still move; allow more steps")
    read = {dimension for name in fitted.modes for dimension in encoded.dimensions(name)}
    notes += [
        f"no term reads {name!r}: the model says the same for all its levels"
        for name, c in encoded.coordinates.items()
        if name not in read and len(c.labels) > 1
    ]
    for k, (name, coordinate) in enumerate(encoded.coordinates.items() if encoded.in_memory else ()):
        size, others = len(coordinate.labels), tuple(i for i in range(len(encoded.coordinates)) if i != k)
        if encoded.index is None:
            empty = int((~encoded.seen.any(axis=others)).sum())
        else:
            empty = size - len(np.unique(encoded.index[encoded.seen, k]))
        if empty:
            notes.append(
                f"{empty} of {size} levels of {name!r} have no observation; their answers come from the others"
            )
    notes += _adapted(fitted.state.model)
    if fitted.calibration is not None:
        notes.append(_calibrated(fitted.calibration))
    if encoded.absorbed is not None:
        notes.append("updated: earlier observations were absorbed, and what is said of data is of the newest")
    return notes


def _adapted(model: BoundModel) -> list[str]:
    """Whether an adapted kernel has learned covariances."""
    parts = [adapted_part(term.kernel) for term in model.terms if isinstance(term, BoundLocal)]
    return [
        f"adapted over {' x '.join(part.dims)}: "
        + (
            f"only its size is learned; covariances need {FEWEST_FIELDS} or more fields of 2 to {MOST_CELLS:,} places"
            if part.table is None
            else f"covariances between {part.table.number:,} places, shrunk towards the kernel's, which counts as "
            f"{float(part.table.weight):.2g} for each field that there is"
        )
        for part in parts
        if part is not None
    ]


def _calibrated(calibration: Calibration) -> str:
    return f"intervals are calibrated on {calibration.gaps} held-out gaps: sds are times {calibration.factor:.3g}"
