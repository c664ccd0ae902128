"""``rank="auto"``: components grown on what the others leave over, kept while the objective and held-out gaps agree.

Growing needs no program for each rank: a term is bound with functions to spare, which are switched off (see
`probtensor.terms.switched`), and doubled only when all are in use. Terms to learn are grown in turn, in the order in
which they were written, the later ones still empty. At the end what the objective does not miss is dropped again.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from probtensor import arrays
from probtensor.axes import Axis
from probtensor.engines import initialise, resizing
from probtensor.engines.learning import start_learning
from probtensor.engines.message_passing import MessagePassing
from probtensor.engines.resizing import Decomposition, Functions
from probtensor.engines.sweep import State, start, term_mean
from probtensor.errors import ModelError
from probtensor.evaluation import scores
from probtensor.likelihoods.gaussian import Gaussian
from probtensor.model import BoundModel, bind
from probtensor.observations.domain import Observations
from probtensor.selection.hold_out import hold_out
from probtensor.terms.base import AbstractTerm, DataScale, Sum
from probtensor.terms.cp import CP
from probtensor.terms.local import Local
from probtensor.terms.modes import AUTO
from probtensor.terms.switched import Switched
from probtensor.terms.tensor_train import TensorTrain
from probtensor.terms.tucker import Tucker

#: Functions of each letter that a program has room for; the last number is doubled for a CP that needs more.
_ROOM = (4, 8, 16, 32, 64)
_ROOM_OF_NETWORK = (4, 6, 8)
#: A component is kept if the objective gains more than so many nats, and dropped if it loses fewer.
_GAIN = 5.0
#: Held-out gaps are worse filled if their score rises by more than this share.
_WORSE = 0.002
#: Starts of a component that are fitted side by side, and how many of them are tried before growth stops.
_STARTS, _TRIES = 8, 2
#: Sweeps after a component was added, and how little one must gain, in nats, for them to end earlier.
_SWEEPS, _STILL = 60, 0.5
#: From fewer observations none are held out.
_FEW = 30


@dataclasses.dataclass(frozen=True)
class Step:
    """A rank that was tried: its objective (nats), its score on the held-out gaps, and what became of it."""

    term: str
    rank: str
    objective: float
    crps: float
    rmse: float
    verdict: str

    def __str__(self) -> str:
        """One line of the evidence."""
        return (
            f"{self.term} rank {self.rank:<7} objective {self.objective:<11.6g} CRPS {self.crps:<8.4g} "
            f"RMSE {self.rmse:<8.4g} {self.verdict}"
        )


@dataclasses.dataclass(frozen=True)
class Growth:
    """The model with its ranks found, the evidence for them, and the state that the final fit goes on from."""

    model: Sum
    steps: tuple[Step, ...]
    reasons: tuple[str, ...]
    protocol: str
    compile_seconds: float
    run_seconds: float
    start: State | None = dataclasses.field(repr=False)

    def report(self) -> str:
        """What was found and why it stopped, and a line for each rank in the order in which they were tried."""
        lines = [*self.reasons, f"judged by the objective, and on held-out gaps: {self.protocol}"]
        return "\n".join(lines + [f"  {step}" for step in self.steps])

    def __str__(self) -> str:
        """The report."""
        return self.report()


def is_open(model: Sum) -> bool:
    """Whether a rank has yet to be learned."""
    return any(_is_open(term) for term in model.terms)


def _is_open(term: AbstractTerm) -> bool:
    return isinstance(term, CP | Tucker | TensorTrain) and term.rank == AUTO


def _ranked(term: Any, sizes: Mapping[str, int] | None = None, names: Sequence[str] = ()) -> AbstractTerm:
    """An open term with these ranks; None: one everywhere.

    names: of the modes that a Tucker's ranks belong to.
    """
    modes = None if term.modes is None else dict(term.modes)
    values = [1] if not sizes else [sizes[c] for c in sorted(sizes)]
    same = min(values) == max(values)
    if isinstance(term, CP):
        return CP(values[0], modes)
    if isinstance(term, TensorTrain):
        return TensorTrain(values[0] if same else values, modes)
    return Tucker(values[0] if same else dict(zip(names, values, strict=True)), modes, term.core_variance)


def _smallest(model: Sum, axes: Mapping[str, Axis], likelihood: Gaussian, scale: DataScale) -> BoundModel:
    """The model with every open rank at one."""
    return bind(Sum(tuple(_ranked(t) if _is_open(t) else t for t in model.terms)), axes, likelihood, scale)


class _Point(NamedTuple):
    """A fitted model: the functions of each growing term, the whole state, and how good it is."""

    functions: dict[int, tuple[Functions, ...]]
    state: State
    objective: float
    crps: float
    rmse: float


class _Search:
    """What does not change while ranks are searched, and the clock."""

    def __init__(
        self,
        model: Sum,
        axes: Mapping[str, Axis],
        names: Sequence[str],
        observations: Observations,
        likelihood: Gaussian,
        engine: MessagePassing,
        scale: DataScale,
        seed: int,
        note: Callable[[str], None],
    ) -> None:
        self.model, self.axes, self.likelihood, self.scale, self.note = model, axes, likelihood, scale, note
        self.all, self.key = observations, jax.random.key(seed)
        self.count = int(observations.count)
        self.protocol, self.held = (
            "none: too few observations to hold any out",
            np.zeros(observations.values.shape, bool),
        )
        if self.count >= _FEW:
            self.protocol, self.held = hold_out(names, observations, seed)
        weights = jnp.where(jnp.asarray(self.held), 0.0, observations.weights)
        self.inner = Observations(observations.domain, jnp.where(weights > 0, observations.values, 0.0), weights)
        assert engine.power is not None
        still = _STILL / (engine.power * float(self.inner.count))
        most = _SWEEPS if engine.max_sweeps is None else engine.max_sweeps
        self.engine = dataclasses.replace(engine, tol=still, max_sweeps=most, restarts=1)
        self.compile_seconds = self.run_seconds = 0.0
        self.steps: list[Step] = []
        self.open = [j for j, term in enumerate(model.terms) if _is_open(term)]
        self.names: dict[int, tuple[str, ...]] = {}
        self.names = {j: self.bound(j, None).names for j in self.open}
        self.letters = {j: resizing.letters_of(self.bound(j, None)) for j in self.open}
        self.capacity = {j: self.room(j, 1) for j in self.open}
        self.starts = {j: self.starting_cp(j) for j in self.open}

    def bound(self, j: int, sizes: Mapping[str, int] | None) -> Any:
        return bind(
            Sum((_ranked(self.model.terms[j], sizes, self.names[j] if j in self.names else ()),)),
            self.axes,
            self.likelihood,
            self.scale,
        ).terms[0]

    def fits(self, j: int, sizes: Mapping[str, int]) -> bool:
        """Whether the term can have these ranks, and the data bear them."""
        try:
            bound = self.bound(j, sizes)
        except ModelError:
            return False
        if isinstance(self.model.terms[j], CP):
            levels = [len(b.points) for b in bound.blocks]
            few = min(levels) if len(levels) == 2 else 1 if len(levels) == 1 else np.inf
            return sizes["a"] <= few and (sizes["a"] == 1 or sizes["a"] * sum(levels) < self.count)
        functions = sum(
            b.points.shape[0] * np.prod([sizes[c] for c in bound.letters(k)]) for k, b in enumerate(bound.blocks)
        )
        return max(sizes.values()) == 1 or functions < self.count

    def larger(self, j: int, sizes: Mapping[str, int], most: int = 10**9) -> dict[str, int]:
        """One function more for every letter that can have one."""
        if not any(sizes.values()):
            return dict.fromkeys(sizes, 1)
        now = dict(sizes)
        for c in sizes:
            more = now | {c: now[c] + 1}
            if now[c] < most and self.fits(j, more):
                now = more
        return now

    def room(self, j: int, need: int) -> dict[str, int]:
        """The next capacity that has room for so many functions of a letter."""
        network = not isinstance(self.model.terms[j], CP)
        options = _ROOM_OF_NETWORK if network else _ROOM
        most = next((r for r in options if r >= need), need)
        sizes = dict.fromkeys(self.letters[j], 1)
        if not network:
            return dict.fromkeys(sizes, most)
        while (more := self.larger(j, sizes, most)) != sizes:
            sizes = more
        return sizes

    def starting_cp(self, j: int) -> Any:
        """A CP over the same modes whose components are as many starts."""
        term: Any = self.model.terms[j]
        modes = None if term.modes is None else dict(term.modes)
        scale = self.scale._replace(variance=self.scale.variance * _STARTS)
        return bind(Sum((CP(_STARTS, modes),)), self.axes, self.likelihood, scale).terms[0]

    def base(self) -> State:
        """The model with all open terms empty, as it starts."""
        terms = []
        for j, term in enumerate(self.model.terms):
            bound = self.bound(j, self.capacity[j]) if j in self.open else self._bound_fixed(term)
            if j in self.open:
                off = tuple(jnp.zeros(self._number(bound, k, j)) for k in range(len(bound.blocks)))
                bound = Switched(bound, off)
            terms.append(bound)
        model = BoundModel(tuple(terms), self.likelihood.bind(self.scale.variance))
        power = jnp.asarray(self.engine.power, self.inner.values.dtype)
        return start(model, power, self.inner, self.key)

    def _bound_fixed(self, term: AbstractTerm) -> Any:
        return bind(Sum((term,)), self.axes, self.likelihood, self.scale).terms[0]

    def _number(self, bound: Decomposition, block: int, j: int) -> int:
        return int(np.prod([self.capacity[j][c] for c in bound.letters(block)]))

    def state_of(self, functions: Mapping[int, tuple[Functions, ...]], before: State) -> State:
        """The state with these functions; all else as it was before."""
        terms, beliefs, learning = list(before.model.terms), list(before.beliefs), list(before.learning)
        for j, own in functions.items():
            bound = self.bound(j, self.capacity[j])
            terms[j], beliefs[j] = resizing.switched(bound, own, self.capacity[j])
            learning[j] = tuple(start_learning(b.prior) for b in terms[j].blocks)
        return before._replace(
            model=BoundModel(tuple(terms), before.model.likelihood), beliefs=tuple(beliefs), learning=tuple(learning)
        )

    def fitted(self, functions: Mapping[int, tuple[Functions, ...]], before: State) -> _Point:
        """Sweeps until the objective stands still, and the score on the held-out gaps."""
        fit = self.engine.run(before.model, self.inner, self.key, init=self.state_of(functions, before))
        self.compile_seconds += fit.compile_seconds
        self.run_seconds += fit.run_seconds
        read = {}
        for j, own in functions.items():
            switched = fit.state.model.terms[j]
            assert isinstance(switched, Switched)
            sizes = resizing.sizes_of(own)
            read[j] = resizing.read(switched.term, fit.state.beliefs[j], self.capacity[j], sizes)  # type: ignore[arg-type]
        crps, rmse = self.judged(fit.state)
        return _Point(read, fit.state, float(fit.objective[-1]), crps, rmse)

    def judged(self, state: State) -> tuple[float, float]:
        """CRPS and RMSE on the held-out gaps; NaN without any."""
        if not self.held.any():
            return float("nan"), float("nan")
        signal = arrays.fitted(state, self.inner.domain)
        noise = float(state.model.likelihood.variance) / np.asarray(self.all.weights)[self.held]
        mean, truth = np.asarray(signal.mean)[self.held], np.asarray(self.all.values)[self.held]
        sd = np.sqrt(np.asarray(signal.variance)[self.held] + noise)
        return scores.crps_gaussian(mean, sd, truth), scores.rmse(mean, truth)

    def candidates(self, j: int, point: _Point, number: int) -> list[initialise.Component]:
        """Starts of one more component of a term."""
        state = point.state
        pairs = zip(state.model.terms, state.beliefs, strict=True)
        means = [np.asarray(term_mean(t, b, self.inner)) for t, b in pairs]
        residual = np.where(np.asarray(self.inner.weights) > 0, np.asarray(self.inner.values) - sum(means), 0.0)
        sd = float(np.sqrt(state.model.likelihood.variance))
        key = jax.random.fold_in(self.key, 1000 * j + number)
        return initialise.components(self.starts[j], self.inner, jnp.asarray(residual), sd, key)

    def log(self, j: int, point: _Point, verdict: str, functions: tuple[Functions, ...]) -> None:
        """Adds a line of evidence."""
        name = type(self.model.terms[j]).__name__
        rank = " x ".join(str(n) for _, n in sorted(resizing.sizes_of(functions).items()))
        self.steps.append(Step(name, rank, point.objective, point.crps, point.rmse, verdict))
        self.note(str(self.steps[-1]))

    def grow(self, j: int, point: _Point) -> tuple[_Point, str]:
        """One component after another, until one does not gain; and why it stopped."""
        while True:
            sizes = resizing.sizes_of(point.functions[j])
            more = self.larger(j, sizes)
            if more == sizes:
                return point, "the data bear no more"
            if any(more[c] > self.capacity[j][c] for c in more):
                self.capacity[j] = self.room(j, max(more.values()))
                point = point._replace(state=self.state_of(point.functions, point.state))
            grown = "".join(c for c in more if more[c] > sizes[c])
            why, best = "", None
            for component in self.candidates(j, point, max(more.values()))[:_TRIES]:
                switched = point.state.model.terms[j]
                own = resizing.appended(switched.term, point.functions[j], component, grown)  # type: ignore[attr-defined]
                tried = self.fitted(point.functions | {j: own}, point.state)
                gain = tried.objective - point.objective
                number = max(more.values())
                why = ""
                if not gain > _GAIN:
                    why = f"component {number} gained only {gain:.1f} nats"
                elif tried.crps > point.crps * (1 + _WORSE):
                    why = f"component {number} made held-out CRPS rise from {point.crps:.4g} to {tried.crps:.4g}"
                self.log(j, tried, f"gained {gain:.1f}" if not why else "left: " + why, tried.functions[j])
                if not why:
                    best = tried
                    break
            if best is None:
                return point, why or "there is nothing left to start a component from"
            point = best

    def prune(self, j: int, point: _Point) -> _Point:
        """Drops functions that the objective does not miss."""
        for c in self.letters[j]:
            while (sizes := resizing.sizes_of(point.functions[j]))[c] > 1:
                term = point.state.model.terms[j].term  # type: ignore[attr-defined]
                own = resizing.weakest_last(term, point.functions[j], c)
                tried = self.fitted(point.functions | {j: resizing.dropped(own, c, sizes[c] - 1)}, point.state)
                loss = point.objective - tried.objective
                worse = tried.crps > point.crps * (1 + _WORSE)
                keeps = loss < _GAIN and not worse
                self.log(
                    j,
                    tried,
                    f"dropped one of {sizes[c]}: lost {loss:.1f}" + ("" if keeps else ", left"),
                    tried.functions[j],
                )
                if not keeps:
                    break
                point = tried
        return point


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
        note: is told what was tried.
    """
    whole = model
    model = Sum(tuple(t for t in whole.terms if not isinstance(t, Local)))
    engine = engine.resolved_for(_smallest(whole, axes, likelihood, scale))
    search = _Search(model, axes, names, observations, likelihood, engine, scale, seed, note)
    state = search.base()
    empty = {}
    for j in search.open:
        bound = state.model.terms[j].term  # type: ignore[attr-defined]
        empty[j] = resizing.read(bound, state.beliefs[j], search.capacity[j], dict.fromkeys(search.letters[j], 0))
    point = search.fitted(empty, state)
    reasons = []
    for j in search.open:
        point, why = search.grow(j, point)
        if max(resizing.sizes_of(point.functions[j]).values()) > 1:
            point = search.prune(j, point)
        reasons.append((j, why))
    ranked = list(model.terms)
    texts = []
    for j, why in reasons:
        sizes = {c: max(n, 1) for c, n in resizing.sizes_of(point.functions[j]).items()}
        ranked[j] = _ranked(model.terms[j], sizes, search.names[j])
        text = " x ".join(str(n) for _, n in sorted(sizes.items()))
        texts.append(f"{type(ranked[j]).__name__} found rank {text}: {why}")
    remaining = iter(ranked)
    final = Sum(tuple(t if isinstance(t, Local) else next(remaining) for t in whole.terms))
    start_state = None if len(whole.terms) > len(model.terms) else _final(search, point, final)
    return Growth(
        final,
        tuple(search.steps),
        tuple(texts),
        search.protocol,
        search.compile_seconds,
        search.run_seconds,
        start_state,
    )


def _final(search: _Search, point: _Point, model: Sum) -> State | None:
    """The state of the model as it is bound with the found ranks; None if a term stayed empty."""
    terms, beliefs, learning = list(point.state.model.terms), list(point.state.beliefs), list(point.state.learning)
    for j, own in point.functions.items():
        sizes = resizing.sizes_of(own)
        if min(sizes.values()) < 1:
            return None
        bound = search.bound(j, sizes)
        terms[j], beliefs[j], _ = resizing.write(bound, own, sizes)
        learning[j] = tuple(start_learning(b.prior) for b in terms[j].blocks)
    return point.state._replace(
        model=BoundModel(tuple(terms), point.state.model.likelihood), beliefs=tuple(beliefs), learning=tuple(learning)
    )
