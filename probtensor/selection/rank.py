"""``rank="auto"``: components grown on what the others leave over, kept while objective and held-out gaps agree.

Open terms are grown in turn, in the order in which they were written, the later ones still empty. A CP grows by one
component at a time; a Tucker by one function of every mode, and a tensor train by one index of every bond. Then what
the objective does not miss is dropped, for a network mode by mode or bond by bond. `Local` terms are left out
meanwhile: they would explain everything.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np

from probtensor.axes import Axis
from probtensor.engines import resizing
from probtensor.engines.message_passing import MessagePassing
from probtensor.engines.sweep import State
from probtensor.errors import DataError
from probtensor.likelihoods.gaussian import Gaussian
from probtensor.model import bind
from probtensor.observations.domain import Observations
from probtensor.selection import growing
from probtensor.selection.growing import Problem, Trial, ranked
from probtensor.selection.hold_out import hold_out
from probtensor.selection.roles import times
from probtensor.selection.tried import AbstractChoice
from probtensor.terms.base import DataScale, Sum
from probtensor.terms.cp import CP
from probtensor.terms.local import Local
from probtensor.terms.tucker import Tucker

#: A component is kept if the objective gains more than so many nats, and dropped if it loses fewer. Hyper-parameters
#: have no price in the objective; four of them, at some nats each, are a component's.
_GAIN = 5.0
#: Held-out gaps are filled worse if their score rises by more than this share.
_WORSE = 0.002
#: Starts that are tried before growth stops. A network's sweeps cost more, and in a network the functions that there
#: are take part in what is new.
_TRIES, _TRIES_OF_NETWORK = 2, 1
#: From fewer observations none are held out.
_FEW = 30


@dataclasses.dataclass(frozen=True)
class Step:
    """A rank that was tried: its objective in nats, its scores on the held-out gaps, and what became of it.

    kept: whether growth went on from it; None: not recorded, in stores of version 0.1.
    """

    term: str
    rank: str
    objective: float
    crps: float
    rmse: float
    verdict: str
    compile_seconds: float
    run_seconds: float
    kept: bool | None = None

    def __str__(self) -> str:
        """One line of the evidence."""
        scores = "" if np.isnan(self.crps) else f"CRPS {self.crps:<8.4g} RMSE {self.rmse:<8.4g} "
        return f"{self.term} rank {self.rank:<4} objective {self.objective:<10.6g} {scores}{self.verdict}"


@dataclasses.dataclass(frozen=True)
class Growth(AbstractChoice):
    """The model with its ranks found, the evidence for them, and the state that the final fit goes on from.

    Attributes:
        model: without open ranks.
        steps: what was tried, in that order.
        reasons: for each open term what was found and why it stopped, by the term's position.
        protocol: what was held out.
        start: None beside a local term, or where a term stayed empty.
    """

    model: Sum
    steps: tuple[Step, ...]
    reasons: Mapping[int, str]
    protocol: str
    start: State | None = dataclasses.field(repr=False)

    @property
    def tried(self) -> tuple[Step, ...]:
        """The steps."""
        return self.steps

    def report(self) -> str:
        """What was found and why it stopped, and a line for each rank that was tried."""
        lines = [*self.reasons.values(), f"judged by the objective, and on held-out gaps: {self.protocol}"]
        return "\n".join(lines + [f"  {step}" for step in self.steps])


def is_open(model: Sum) -> bool:
    """Whether a rank has yet to be learned."""
    return any(growing.is_open(term) for term in model.terms)


def choose(
    model: Sum,
    axes: Mapping[str, Axis],
    names: Sequence[str],
    observations: Observations,
    likelihood: Gaussian,
    engine: MessagePassing,
    scale: DataScale,
    seed: int,
    note: Callable[[str], None] = lambda text: None,
) -> Growth:
    """Learns every open rank of a model.

    Args:
        model: a sum with at least one term of rank ``"auto"``.
        axes: every mode that the model reads.
        names: of the data's modes, in the layout's order.
        observations: the training data.
        likelihood: the declared noise.
        engine: its power stays as it is or would be; its sweeps are bounded.
        scale: of the observed values.
        seed: of the held-out gaps and the starts.
        note: is told what was tried, and why it stopped.

    Raises:
        ModelError: a term does not fit the axes even at rank one.
    """
    smallest = Sum(tuple(ranked(t) if growing.is_open(t) else t for t in model.terms))
    engine = engine.resolved_for(bind(smallest, axes, likelihood, scale))
    protocol, held = "none: too few observations to hold any out", np.zeros(observations.values.shape, bool)
    if observations.count >= _FEW:
        with contextlib.suppress(DataError):  # all at one place
            protocol, held, *_ = hold_out(names, observations, seed, times(axes))
    without = Sum(tuple(t for t in model.terms if not isinstance(t, Local)))
    problem = Problem(without, axes, likelihood, scale, engine, observations, held, jax.random.key(seed))
    trial = problem.empty()
    steps = [_step("all terms", "0", trial, "nothing grown yet", True)]
    reasons, found = {}, {}
    for j in problem.open:
        trial, why = _grow(problem, j, trial, steps, note)
        grown, trial = trial.sizes(j), _prune(problem, j, trial, steps, note)
        if grown != trial.sizes(j):
            why = f"grown to {_rank(problem, j, grown)}, what the objective does not miss dropped again; {why}"
        found[j] = {c: max(n, 1) for c, n in trial.sizes(j).items()}
        reasons[j] = f"{_label(problem, j)} rank {_rank(problem, j, found[j])}: {why}"
        note(reasons[j])
    closed = iter(problem.declared(j, found[j]) if j in found else t for j, t in enumerate(without.terms))
    final = Sum(tuple(t if isinstance(t, Local) else next(closed) for t in model.terms))
    if len(final.terms) > len(without.terms):
        protocol += "; chosen without the local term"
    if engine.power != 1:
        protocol += f"; nats at a power of {engine.power:g} of the likelihood"
    start = problem.final(trial) if len(final.terms) == len(without.terms) else None
    return Growth(final, tuple(steps), reasons, protocol, start)


def _grow(problem: Problem, j: int, trial: Trial, steps: list[Step], note: Callable[[str], None]) -> tuple[Trial, str]:
    """One component after another, until one is refused; and why it was."""
    tries = _TRIES if isinstance(problem.model.terms[j], CP) else _TRIES_OF_NETWORK
    least = trial.crps
    while True:
        sizes = trial.sizes(j)
        more = problem.larger(j, sizes)
        if more == sizes:
            return trial, "the term and the number of observations allow no more"
        capacity = trial.capacity
        if any(more[c] > capacity[j][c] for c in more):
            capacity = capacity | {j: problem.room(j, max(more.values()))}
        grown, why = "".join(c for c in more if more[c] > sizes[c]), "nothing is left over to start from"
        starts = problem.starts(j, trial)
        for component in starts if not any(sizes.values()) else starts[:tries]:
            own = resizing.appended(problem.bound(j), trial.functions[j], component, grown)
            functions = trial.functions | {j: own}
            tried = problem.fitted(functions, capacity, trial.state, trial.objective + _GAIN)
            why = _refused(trial, tried, least, max(more.values()))
            verdict = why or f"gained {tried.objective - trial.objective:.1f} nats"
            steps.append(_step(_label(problem, j), _rank(problem, j, more), tried, verdict, not why))
            note(str(steps[-1]))
            if not why:
                trial, least = tried, min(least, tried.crps)
                break
        if why:
            return trial, why


def _refused(trial: Trial, tried: Trial, least: float, number: int) -> str:
    """Why a further component is not kept; empty if it is. least: the best held-out score so far."""
    gain = tried.objective - trial.objective
    if gain <= _GAIN:
        return f"component {number} {'gained only' if gain >= 0 else 'lost'} {abs(gain):.1f} nats"
    if tried.crps > least * (1 + _WORSE):
        return f"component {number} raised held-out CRPS from {least:.4g} to {tried.crps:.4g}"
    return ""


def _prune(problem: Problem, j: int, trial: Trial, steps: list[Step], note: Callable[[str], None]) -> Trial:
    """Drops functions that neither the objective nor the held-out gaps miss."""
    for c in problem.letters(j):
        while (sizes := trial.sizes(j))[c] > 1:
            ordered = resizing.weakest_last(problem.bound(j), trial.functions[j], c)
            functions = trial.functions | {j: resizing.dropped(ordered, c, sizes[c] - 1)}
            tried = problem.fitted(functions, trial.capacity, trial.state, trial.objective - _GAIN)
            change = tried.objective - trial.objective
            keeps = change < -_GAIN or tried.crps > trial.crps * (1 + _WORSE)
            verdict = f"without the weakest: {'gained' if change >= 0 else 'lost'} {abs(change):.1f} nats"
            if keeps:
                verdict += ", put back" if change < -_GAIN else ", put back for the held-out CRPS"
            rank = _rank(problem, j, tried.sizes(j))
            steps.append(_step(_label(problem, j), rank, tried, verdict, not keeps))
            note(str(steps[-1]))
            if keeps:
                break
            trial = tried
    return trial


def _step(term: str, rank: str, trial: Trial, verdict: str, kept: bool) -> Step:
    seconds = trial.compile_seconds, trial.run_seconds
    return Step(term, rank, trial.objective, trial.crps, trial.rmse, verdict, *seconds, kept)


def _label(problem: Problem, j: int) -> str:
    """The term's name; with its position where another term is open."""
    name = type(problem.model.terms[j]).__name__
    return name if len(problem.open) == 1 else f"{name} (term {j})"


def _rank(problem: Problem, j: int, sizes: Mapping[str, int]) -> str:
    """A rank in words: by mode for a Tucker, by bond for a tensor train."""
    values = [str(sizes[c]) for c in sorted(sizes)]
    if isinstance(problem.model.terms[j], Tucker):
        return ", ".join(f"{name} {n}" for name, n in zip(problem.bound(j).names, values, strict=True))
    return ", ".join(values)
