"""What ``model="auto"`` chose, and the evidence for it."""

from __future__ import annotations

import dataclasses

from probtensor.engines.message_passing import MessagePassing
from probtensor.engines.sweep import State
from probtensor.kernels.adapted import adapted_part
from probtensor.selection.hold_out import HoldOut
from probtensor.selection.local import Evidence
from probtensor.selection.tried import AbstractChoice
from probtensor.terms.base import Sum
from probtensor.terms.local import Local


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A model with its score on the held-out gaps (CRPS and RMSE in the unit of the observations), and what it cost.

    Attributes:
        name: what it is, in a few words.
        model: its terms.
        rank: of its CP, 0 without one.
        power: of the likelihood.
        has_local: whether a local term is among its terms.
        state: of its fit to the entries that are not held out.
    """

    name: str
    model: Sum = dataclasses.field(repr=False)
    rank: int
    power: float
    has_local: bool
    crps: float
    rmse: float
    sweeps: int
    compile_seconds: float
    run_seconds: float
    state: State = dataclasses.field(repr=False)

    @property
    def has_adapted(self) -> bool:
        """Whether its local term's kernel follows the data."""
        return any(isinstance(t, Local) and adapted_part(t.kernel) is not None for t in self.model.terms)  # type: ignore[arg-type]

    def __str__(self) -> str:
        """One line of the evidence."""
        return (
            f"{self.name} CRPS {self.crps:<8.4g} RMSE {self.rmse:<8.4g} "
            f"{self.sweeps} sweeps in {self.run_seconds:.1f} s + {self.compile_seconds:.1f} s compiling"
        )


@dataclasses.dataclass(frozen=True)
class Choice(AbstractChoice):
    """The chosen model and engine with the evidence for them, and the state that the final fit goes on from.

    Attributes:
        held: what candidates were judged on; None: nothing was held out.
    """

    model: Sum
    engine: MessagePassing
    candidates: tuple[Candidate, ...]
    protocol: str
    best: Candidate | None = None
    forms: tuple[Evidence, ...] = ()
    held: HoldOut | None = None

    @property
    def start(self) -> State | None:
        """The state of the best candidate; with a local term all begins afresh."""
        return None if self.best is None or self.best.has_local else self.best.state

    @property
    def tried(self) -> tuple[Candidate, ...]:
        """The candidates."""
        return self.candidates

    def report(self) -> str:
        """What was held out, and a line for each candidate and kernel in the order in which they were tried."""
        lines = [f"chosen on held-out gaps: {self.protocol}"]
        lines += [f"  {c}{', chosen' if c is self.best else ''}" for c in self.candidates]
        lines += [f"  {form}" for form in self.forms]
        return "\n".join(lines)
