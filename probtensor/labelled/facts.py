"""What a summary says of a fit."""

from __future__ import annotations

import math
from typing import Any

from probtensor.engines.base import Fit
from probtensor.labelled import predictions
from probtensor.labelled.fitted import Fitted
from probtensor.selection.automatic import Choice
from probtensor.selection.rank import Growth
from probtensor.terms.base import Sum


def facts(
    model: Sum, fitted: Fitted, result: Fit, choice: Choice | Growth | None, seconds: tuple[float, float]
) -> dict[str, Any]:
    """By name; seconds: of compiling and of running, the search for a model included."""
    encoded = fitted.encoded
    return {
        "model": model,
        "name": encoded.name,
        "units": fitted.attrs.get("units", ""),
        "modes": {n: (len(c.labels), c.kind, c.labels[0], c.labels[-1]) for n, c in encoded.levels.items()},
        "observed": fitted.observations.count,
        "entries": math.prod(fitted.observations.domain.shape),
        "likelihood": fitted.likelihood,
        "parameters": predictions.parameters(result.state.model.likelihood),
        "objective": result.objective,
        "steps": "sweeps" if result.state.draws is None else "draws",
        "reason": result.reason,
        "converged": result.converged,
        "power": float(result.state.power),
        "restarts": result.restarts,
        "compile_seconds": seconds[0],
        "run_seconds": seconds[1],
        "choice": choice,
    }
