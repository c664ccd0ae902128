"""The message-passing engine: sweeps until the objective stands still, from several starts."""

from __future__ import annotations

import dataclasses
import numbers
import time
from collections.abc import Callable, Collection, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from probtensor.compilation import on_device, one_blas_thread
from probtensor.engines import by_parts, side_by_side
from probtensor.engines.base import AbstractEngine, Fit, Progress, best_of, check_options
from probtensor.engines.checkpoint import Abreast, Journal, Loop
from probtensor.engines.collapsed import fit as collapsed
from probtensor.engines.cost import cost_of
from probtensor.engines.sweep import Rule, State, again, start, sweeps
from probtensor.errors import ModelError
from probtensor.model import BoundModel
from probtensor.observations.domain import Observations
from probtensor.observations.sources import AbstractSource
from probtensor.typing import Array, Bool, Key

#: Sweeps in one compiled block; progress and the stopping rule are looked at between blocks.
BLOCK = 5
#: Hyper-parameters stand still in the first sweeps (the factors of a random start say nothing of them), then step in
#: every second one.
_QUIET, _EVERY = 6, 2
#: Sweeps that are always made: a start can stand still before its components find their shapes.
_ALWAYS = 15
#: Damping of conditional expectation propagation, that of the published functions.
_DAMPING = 0.5
#: Damped sites that gain only when they move by less than this share have got as far as they can.
_SMALLEST = 1e-3
#: What `MessagePassing.resolved` puts in the place of None.
_MAX_SWEEPS, _POWER = 100, 1.0
#: Options that count.
_WHOLE = ("max_sweeps", "restarts", "draws")
#: The same for the start of a model with a local term.
_START_SWEEPS, _START_POWER = 40, 0.1


@dataclasses.dataclass(frozen=True)
class MessagePassing(AbstractEngine):
    """Variational message passing: each block's belief in turn goes to its optimum given the others.

    Args:
        rule: ``"vmp"``, variational message passing: every step raises the evidence lower bound. ``"cep"``, conditional
            expectation propagation: messages match the moments of each observation's likelihood against what is
            believed without it. The same for normal noise but for the damping; with other likelihoods it is better at
            error bars, and its objective is only good for choosing among restarts.
        coupling: ``"joint"``: the R functions of a mode have one joint posterior, at a cost of R^3 a level.
            ``"component"``: they are independent under the posterior, for large ranks; a core stays joint.
        damping: share of the old message in the new one, from 0 to below 1. None: 0, or 0.5 under ``"cep"``. Under
            ``"vmp"`` with a likelihood that is not conjugate a sweep that loses is taken back and damped further.
        sites: under ``"cep"``, ``"level"``: an entry's cavity is without the average message to its level, which takes
            no memory; ``"entry"``: without its own.
        tol: stop when a sweep gains less than this many nats per observation (times the power).
        max_sweeps: never make more than this many. None: 100; fewer in the final fit of ``model="auto"`` to many
            observations, which goes on from its best candidate.
        restarts: number of starts; the one with the best objective wins. They are random, but that the final fit of
            ``model="auto"`` has the state of its best candidate in place of the first.
        power: exponent on the likelihood, in (0, 1]. 1 is Bayes' rule for independent noise. What a low-rank model
            leaves over is correlated between neighbours, so N residuals are worth fewer than N; a power below 1 counts
            them so and widens the posterior of the factors (Grunwald and van Ommen 2017, generalised posterior).
            None: chosen on gap-shaped folds under ``model="auto"``, 1 otherwise. With a `Local` term, which knows
            those correlations, it only shapes the start (None: 0.1).
        draws: with a `Local` term, how many draws represent the posterior of the other terms.
        out_of_core: a dask array is not held in memory: it is copied once to a temporary folder (TMPDIR), 8 bytes an
            entry, gaps included, and read from there for each block of each sweep. The answer is the same, but
            for rounding. For ``"vmp"`` under normal noise that is the same everywhere, without a `Local` term. None:
            where memory has no room for the data and the folder has.

    Raises:
        ModelError: an option has no such value.
    """

    rule: str = "vmp"
    coupling: str = "joint"
    damping: float | None = None
    sites: str = "level"
    tol: float = 3e-4
    max_sweeps: int | None = None
    restarts: int = 1
    power: float | None = None
    draws: int = 16
    out_of_core: bool | None = None

    def __post_init__(self) -> None:
        """Raises ModelError for a value that an option does not have."""
        for kind, names in ((numbers.Real, ("damping", "tol", "power")), (numbers.Integral, _WHOLE)):
            for name in names:
                if not isinstance(own := getattr(self, name), kind | None) or isinstance(own, bool):
                    text = "whole number" if name in _WHOLE else "number"
                    raise ModelError(f"MessagePassing({name}={own!r}): {name} must be a {text}")
        checks = {
            "rule must be 'vmp' or 'cep'": self.rule in ("vmp", "cep"),
            "coupling must be 'joint' or 'component'": self.coupling in ("joint", "component"),
            "damping must be at least 0 and below 1": self.damping is None or 0 <= self.damping < 1,
            "sites must be 'level' or 'entry'": self.sites in ("level", "entry"),
            "tol must be at least zero": self.tol >= 0,
            "max_sweeps must be at least 1": self.max_sweeps is None or self.max_sweeps >= 1,
            "restarts must be at least 1": self.restarts >= 1,
            "draws must be at least 2": self.draws >= 2,
            "power must be above 0 and at most 1": self.power is None or 0 < self.power <= 1,
            "out_of_core must be True, False or None": self.out_of_core in (True, False, None),
        }
        check_options(self, checks)

    def resolved_for(self, model: BoundModel) -> MessagePassing:
        """The same engine with numbers that suit the model wherever its own are None."""
        return self.resolved(_START_POWER, _START_SWEEPS) if collapsed.positions(model) else self.resolved()

    def resolved(self, power: float = _POWER, max_sweeps: int = _MAX_SWEEPS) -> MessagePassing:
        """The same engine with these numbers wherever its own are None.

        Args:
            power: exponent on the likelihood.
            max_sweeps: sweeps at most.
        """
        return dataclasses.replace(
            self,
            power=power if self.power is None else self.power,
            max_sweeps=max_sweeps if self.max_sweeps is None else self.max_sweeps,
        )

    def run(
        self,
        model: BoundModel,
        observations: Observations | AbstractSource,
        key: Key,
        progress: Progress | None = None,
        init: State | None = None,
        gaps: np.ndarray | None = None,
        journal: Journal | None = None,
    ) -> Fit:
        """Fits the model, keeping the best of the restarts.

        Args:
            model: terms and likelihood with numbers.
            observations: the data, or a source, which need not hold them in memory.
            key: of everything random.
            progress: told now and then how far it is.
            init: a state to go on from, in the place of the first start.
            gaps: with a local term, entries that could be missing together, shaped like the data.
            journal: what is known of this fit already, and is told how far it is.
        """
        engine, everything, number = self.resolved_for(model), observations, None
        if isinstance(observations, AbstractSource):
            engine.check_by_parts(model, observations.nothing().known)
            if init is not None and init.base is not None:
                raise ModelError("MessagePassing: a state that has absorbed other observations needs these in memory")
        else:
            if collapsed.positions(model):
                # Learning beside a local term makes much of a rounding error: a grid and a table begin with the same.
                observations = observations.listed()[0]
            number, observations = len(observations.values), observations.filled()
        keys, fits = jax.random.split(key, self.restarts), list[Fit]()
        journal = Journal() if journal is None else journal
        with one_blas_thread():
            if init is None and engine._side_by_side(model, observations):
                assert isinstance(observations, Observations)
                fits = engine._from_starts(model, observations, keys, progress, journal)
            else:
                for one in keys:
                    first = init if not fits else None
                    fits.append(engine._from_start(model, observations, one, first, progress, journal))
        best = best_of(fits)
        best = best._replace(state=_without_filling(best.state, number))
        if isinstance(everything, AbstractSource) or not collapsed.positions(model):
            return best
        return self._with_local(best, everything, key, gaps, progress)

    def check_by_parts(self, model: BoundModel, known: Collection[str]) -> None:
        """Raises ModelError for what needs all observations at once; known: as `by_parts.check`.

        Args:
            model: terms and likelihood with numbers.
            known: names of what comes with the data, as the likelihood has it.

        Raises:
            ModelError: the rule, the model or what comes with the data needs all of them.
        """
        if self.rule != "vmp" or self.damping:
            raise ModelError(
                f"MessagePassing(rule={self.rule!r}, damping={self.damping!r}): observations that are not held in "
                "memory are fitted by the rule 'vmp' without damping. Load the data first, data.load(), if they fit"
            )
        by_parts.check(model, known)

    def _from_start(
        self,
        model: BoundModel,
        observations: Observations | AbstractSource,
        key: Key,
        init: State | None,
        progress: Progress | None,
        journal: Journal,
    ) -> Fit:
        """One of the restarts, from a state or at random."""
        shown = observations.nothing() if isinstance(observations, AbstractSource) else observations
        dtype = shown.values.dtype
        power, most = jnp.asarray(self.power, dtype), self._most(model, dtype)
        rule = Rule(self.rule == "cep", self.sites == "entry", self.coupling == "component")

        def ended(begin: Callable[[], Loop], fresh: bool) -> Fit:
            return journal.ended(begin, lambda loop: self._go_on(loop, observations, progress, journal.note, fresh))

        if init is not None:
            state = init._replace(power=power, rule=dataclasses.replace(rule, held=init.rule.held))
            return ended(lambda: Loop(again(state, shown, most)), fresh=False)
        # Moments matched against a random start can prune a component that the bound would have kept.
        first = dataclasses.replace(rule, matching=rule.matching and model.likelihood.conjugate)

        def begin() -> Loop:
            begun = time.perf_counter()
            state = jax.block_until_ready(start(model, power, shown, key, first, most))
            return Loop(state, time.perf_counter() - begun)

        fit = ended(begin, fresh=True)
        if first == rule:
            return fit
        second = ended(lambda: Loop(again(fit.state._replace(rule=rule), shown, most)), fresh=False)
        return second._replace(
            compile_seconds=fit.compile_seconds + second.compile_seconds,
            run_seconds=fit.run_seconds + second.run_seconds,
        )

    def _side_by_side(self, model: BoundModel, observations: Observations | AbstractSource) -> bool:
        """Whether all starts are swept by one program: those that never take a sweep back, on small data."""
        if self.restarts == 1 or isinstance(observations, AbstractSource):
            return False
        if self.rule != "vmp" or self._most(model, observations.values.dtype) is not None:
            return False
        if self.restarts * observations.values.size > side_by_side.MOST:
            return False
        cost = cost_of(model, observations, self.coupling == "component", damped=False)
        return self.restarts * cost.bytes <= side_by_side.MOST_BYTES

    def _from_starts(
        self, model: BoundModel, observations: Observations, keys: Key, progress: Progress | None, journal: Journal
    ) -> list[Fit]:
        """All restarts at once, each as `_go_on` would leave it; the seconds are shared among them."""
        assert self.power is not None and self.max_sweeps is not None
        power = jnp.asarray(self.power, observations.values.dtype)
        enough, rule = self.tol * self.power * observations.count, Rule(by_component=self.coupling == "component")

        def begin() -> Abreast:
            begun = time.perf_counter()
            states = jax.block_until_ready(side_by_side.start(model, power, observations, keys, rule))
            seconds = (time.perf_counter() - begun) / self.restarts
            return Abreast(states, seconds, ((),) * self.restarts, fits=(None,) * self.restarts)

        all_of = journal.begun(begin)
        while not all(all_of.fits):
            begun, done = time.perf_counter(), sum(all_of.counts)
            count = min(BLOCK, self.max_sweeps - done)
            learn = jnp.asarray(learning_sweeps(done, BLOCK))
            states, info = side_by_side.sweeps(all_of.states, observations, learn, jnp.asarray(count))
            objective = np.asarray(info.elbo, dtype=float)[:, :count].tolist()
            lap = (time.perf_counter() - begun) / self.restarts
            fits = list(all_of.fits)
            for number in (k for k, fit in enumerate(fits) if fit is None):
                loop = all_of.loop(number).after(states, objective[number], lap)
                if (reason := self._ended(loop, _ALWAYS, enough)) is not None:
                    fits[number] = _finished(loop._replace(state=side_by_side.one_of(states, number)), reason)
            all_of = Abreast(
                states,
                all_of.begun,
                tuple((*before, *now) for before, now in zip(all_of.objectives, objective, strict=True)),
                (*all_of.laps, lap),
                (*all_of.counts, count),
                tuple(fits),
            )
            journal.note(all_of)
            if progress is not None:
                progress(done + count, self.max_sweeps, max(own[-1] for own in objective))
        return [fit for fit in all_of.fits if fit is not None]

    def _most(self, model: BoundModel, dtype: np.dtype) -> Array | None:
        """How far sites move at most; None where they can go all the way."""
        damping = self.damping if self.damping is not None else _DAMPING if self.rule == "cep" else 0.0
        if self.rule == "vmp" and damping == 0 and model.likelihood.conjugate:
            return None
        return jnp.asarray(1 - damping, dtype)

    def _with_local(
        self, fit: Fit, observations: Observations, key: Key, gaps: np.ndarray | None, progress: Progress | None
    ) -> Fit:
        """All terms jointly under the local term's noise, from a fit without it."""
        seed = int(np.asarray(jax.random.bits(key)))
        with one_blas_thread():
            found = collapsed.fit(fit.state.model, fit.state.beliefs, observations, self.draws, seed, gaps, progress)
        state = fit.state._replace(model=found.model, beliefs=found.beliefs, local=found.local)
        return fit._replace(
            state=state,
            objective=found.objective,
            reason=_with_local_reason(found, fit.reason),
            run_seconds=fit.run_seconds + found.seconds,
        )

    def given(self, state: State, observations: Observations, key: Key) -> State:
        """A state with a local term after these observations in place of its own, all hyper-parameters as they are.

        Args:
            state: with a local term.
            observations: the data.
            key: of the draws of the local term.
        """
        listed, held = observations.listed()[0], dataclasses.replace(state.rule, held=True)
        bare = state._replace(local=None, rule=held)
        with one_blas_thread():
            fit = self.resolved_for(state.model)._from_start(state.model, listed, key, bare, None, Journal())
            assert state.local is not None
            seed, begun = int(np.asarray(jax.random.bits(key))), fit.state
            found = collapsed.given(begun.model, begun.beliefs, state.local, observations, self.draws, seed)
        return begun._replace(model=found.model, beliefs=found.beliefs, local=found.local, rule=state.rule)

    def _go_on(
        self,
        loop: Loop,
        observations: Observations | AbstractSource,
        progress: Progress | None,
        note: Callable[[Loop], None],
        fresh: bool,
    ) -> Fit:
        """Sweeps until the objective stands still; a fresh start first sweeps without learning, and for longer."""
        assert self.power is not None and self.max_sweeps is not None
        quiet, always = (_QUIET, _ALWAYS) if fresh else (0, BLOCK)
        enough = self.tol * self.power * observations.count
        while (reason := self._ended(loop, always, enough)) is None:
            begun, done = time.perf_counter(), len(loop.objective)
            count = min(BLOCK, self.max_sweeps - done)
            learn = jnp.asarray(learning_sweeps(done, BLOCK, quiet) & (not loop.state.rule.held))
            if isinstance(observations, AbstractSource):
                state, info = by_parts.sweeps(loop.state, observations, learn, jnp.asarray(count))
            else:
                state, info = sweeps(loop.state, observations, learn, jnp.asarray(count))
            objective = np.asarray(info.elbo, dtype=float)[:count].tolist()
            kept = float(np.mean(np.asarray(info.step)[:count] > 0))
            loop = loop.after(state, objective, time.perf_counter() - begun, kept)
            note(loop)
            if progress is not None:
                progress(len(loop.objective), self.max_sweeps, objective[-1])
        return _finished(loop, reason)

    def _ended(self, loop: Loop, always: int, enough: float) -> tuple[bool, str] | None:
        """Whether the objective stands still, and why no more sweeps are made; None: there are more to make."""
        assert self.max_sweeps is not None
        if not loop.counts:
            return None
        state, objective, gain = loop.state, loop.objective, np.nan
        if state.step is not None and float(state.step.now) < _SMALLEST:
            return False, _STUCK
        if len(objective) - loop.counts[-1] >= always:
            gain = (objective[-1] - objective[-BLOCK]) / (BLOCK - 1)
            if (abs(gain) if state.rule.matching else gain) < enough and loop.kept > 0.5:
                return True, _reason(True, self.max_sweeps, gain, enough)
        return None if len(objective) < self.max_sweeps else (False, _reason(False, self.max_sweeps, gain, enough))


def _finished(loop: Loop, reason: tuple[bool, str]) -> Fit:
    """A fit from the end of its loop."""
    compiling, running = _split(loop.laps, loop.counts)
    return Fit(loop.state, np.array(loop.objective), *reason, loop.begun + compiling, running)


def _without_filling(state: State, number: int | None) -> State:
    """A state without numbers of entries that a list was filled up with; number: of its own; None: it has none."""

    def own(array: Array) -> Array:
        return on_device(np.asarray(array)[:number]) if array.ndim and len(array) != number else array

    return state if number is None else state._replace(pseudo=jax.tree.map(own, state.pseudo))


def learning_sweeps(done: int, number: int, quiet: int = _QUIET) -> Bool[np.ndarray, "n"]:
    """Which of the next sweeps, after so many, take a step of the hyper-parameters; the first ones are quiet."""
    sweep = np.arange(done, done + number)
    return (sweep >= quiet) & (sweep % _EVERY == 1)


_STUCK = (
    f"stopped where no sweep gained any more, even with steps of {_SMALLEST:g}; the best state is kept. Perhaps the "
    "likelihood does not suit the data, or values differ by many orders of magnitude"
)


def _reason(converged: bool, most: int, gain: float, enough: float) -> str:
    needed = f"tol * power * observations = {enough:.3g}"
    if converged:
        return f"converged: a sweep gained {gain:.3g} nats, below {needed}"
    if np.isnan(gain):
        return f"stopped at max_sweeps={most}, too early to tell whether the objective stands still"
    return f"stopped at max_sweeps={most} before the objective stood still: {gain:.3g} nats a sweep, above {needed}"


def _with_local_reason(found: collapsed.Collapsed, before: str) -> str:
    if found.local.field is not None:
        return f"the local term solved for on the whole grid; the others as message passing left them, which {before}"
    return (
        f"after {len(found.objective)} sweeps of draws, the last {len(found.local.values)} draws kept; they began "
        f"where message passing {before}"
    )


def _split(laps: Sequence[float], counts: Sequence[int]) -> tuple[float, float]:
    """Seconds of compiling and of running: the first block's excess over its number of typical sweeps is compiling."""
    a_sweep = np.divide(laps, counts)
    typical = float(np.median(a_sweep[1:])) if len(laps) > 1 else float(a_sweep[0])
    compiling = max(laps[0] - typical * counts[0], 0.0)
    return compiling, sum(laps) - compiling
