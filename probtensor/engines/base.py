"""The contract of engines: a model with numbers and data in, a fitted state out."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from probtensor.engines.sweep import State
from probtensor.errors import ModelError
from probtensor.model import BoundModel
from probtensor.observations.domain import Observations
from probtensor.typing import Key

#: Called now and then with (steps done, steps at most, objective).
Progress = Callable[[int, int, float], None]


class Fit(NamedTuple):
    """What an engine returns.

    state: the final model and beliefs; objective: (steps,) in nats; converged; reason: why it stopped, in words;
    compile_seconds: estimate, the excess of the first block; run_seconds: the rest; restarts: final objective of each.
    """

    state: State
    objective: np.ndarray
    converged: bool
    reason: str
    compile_seconds: float
    run_seconds: float
    restarts: tuple[float, ...] = ()


def best_of(fits: Sequence[Fit]) -> Fit:
    """The restart of the greatest final objective, with the seconds of all."""
    best = max(fits, key=lambda f: f.objective[-1])
    return best._replace(
        restarts=tuple(float(f.objective[-1]) for f in fits),
        compile_seconds=sum(f.compile_seconds for f in fits),
        run_seconds=sum(f.run_seconds for f in fits),
    )


def compiling_of(laps: Sequence[float]) -> float:
    """Seconds of compiling in chains of equal length, the first of which compiles: its excess over the fastest."""
    return laps[0] - min(laps)


def check_options(engine: AbstractEngine, checks: Mapping[str, bool]) -> None:
    """Raises ModelError for the first option that fails its check; each is said in words that begin with its name."""
    for text, good in checks.items():
        if not good:
            name = text.split()[0]
            raise ModelError(f"{type(engine).__name__}({name}={getattr(engine, name)!r}): {text}")


def is_whole(value: Any, least: int) -> bool:
    """Whether an option is a whole number, and no truth value, that is not below another."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= least)


class AbstractEngine(abc.ABC):
    """A way of fitting; its options are a frozen dataclass."""

    @abc.abstractmethod
    def resolved_for(self, model: BoundModel) -> Self:
        """The same engine with numbers that suit the model wherever its own are None.

        Args:
            model: terms and likelihood with numbers.

        Raises:
            ModelError: it cannot fit such a model: a term or a likelihood that it does not support.
        """

    @abc.abstractmethod
    def run(
        self,
        model: BoundModel,
        observations: Observations,
        key: Key,
        progress: Progress | None = None,
        init: State | None = None,
        gaps: np.ndarray | None = None,
    ) -> Fit:
        """Fits the model.

        Args:
            model: terms and likelihood with numbers.
            observations: the data.
            key: of everything random.
            progress: told now and then how far it is.
            init: a state to go on from (same model, perhaps other data or another power).
            gaps: with a local term, entries that could be missing together, shaped like the data.

        Returns:
            The state at the end, and how it came there.

        Raises:
            ModelError: the objective is not finite.
        """
