"""The stochastic engine: batches of observations, pass after pass, until the objective stands still."""

from __future__ import annotations

import dataclasses
import functools
import time
from typing import TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from probtensor.compilation import compiled, one_blas_thread
from probtensor.engines.base import AbstractEngine, Fit, Progress, best_of, check_options, is_whole
from probtensor.engines.collapsed import fit as collapsed
from probtensor.engines.svi.schedule import Schedule
from probtensor.engines.svi.steps import Walk, counts, fresh_start, objective, steps, walk_from
from probtensor.engines.sweep import State, moments
from probtensor.errors import ModelError
from probtensor.hyperparameters import parameters
from probtensor.model import BoundModel
from probtensor.observations.domain import Observations
from probtensor.observations.sources import AbstractDealt, InMemory
from probtensor.typing import Array, Key

if TYPE_CHECKING:
    import optax

#: Steps of one compiled block; progress and the stopping rule are looked at between blocks.
BLOCK = 20
#: What stands for None: a batch, and steps at most, in passes and at least.
_BATCH, _PASSES, _STEPS = 2**16, 40, 1200
#: Passes that are made before they are compared, the last of so many parts with the one before.
_COMPARED = 4
#: Passes after which a loss is no accident.
_PATIENT = 20


def _rate(count: Array) -> Array:
    """Steps that shrink like 1 / n, so that they go any distance and come to rest (Robbins and Monro 1951)."""
    return 0.1 / (1.0 + count / 50.0)


@functools.cache
def _optimizer() -> optax.GradientTransformation:
    """What moves kernels' hyper-parameters by default, in units of their resolution: one object, so one program."""
    import optax

    return optax.adam(_rate)


@dataclasses.dataclass(frozen=True)
class SVI(AbstractEngine):
    """Stochastic variational inference: every step reads a random batch of observations and updates every block.

    For millions of observations and more: a batch costs what a sweep of `MessagePassing` over so few costs. With a
    hundred thousand `MessagePassing` is faster. It needs O(batch) memory beside the observations and the levels' sums.

    It starts with a warm-up that forgets its first batches, its memory growing to a part of the observations. Then
    every pass over the data, in a new random order, replaces what the pass before had of each observation, so that
    after a pass each counts once. When passes gain nothing more, or a quarter of the steps is left, those that follow
    are averaged, which takes out sampling noise, and the fit ends where message passing would. There is no step size to
    choose.

    A dask array is fitted from disk (see `probtensor.fit`), with the same batches as in memory, so that the answer is
    the same: it may be larger than memory.

    Args:
        batch_size: observations of a batch. None: 65,536, or a tenth of the observations if that is less. Smaller ones
            save memory, but all blocks are updated in every step, so a batch should not have fewer observations than
            the modes have levels.
        steps: never make more than this many; the first third at most is warm-up. None: 40 passes, at least 1,200.
        optimizer: moves the kernels' hyper-parameters by their gradient at the current sums, in units of their
            resolution: any ``optax.GradientTransformation``. None: Adam with steps that shrink like 1 / n.
        tol: begin to average, and then stop, when a pass gains less than this many nats per observation. 0:
            make all steps.
        restarts: fits from so many random starts, of which the best is kept: that of the greatest objective.

    Raises:
        ModelError: an option has no such value.

    Its objective is an estimate of the evidence lower bound from the batches of each block of steps, noisy by what they
    differ; the last one is exact, of what is returned on all observations.
    """

    batch_size: int | None = None
    steps: int | None = None
    optimizer: optax.GradientTransformation | None = None
    tol: float = 3e-4
    restarts: int = 1

    def __post_init__(self) -> None:
        """Raises ModelError for a value that an option does not have."""
        checks = {
            "batch_size must be a whole number of at least 1": self.batch_size is None or is_whole(self.batch_size, 1),
            "steps must be a whole number of at least 1": self.steps is None or is_whole(self.steps, 1),
            "optimizer must be one of optax, such as optax.adam(1e-2)": _optimizes(self.optimizer),
            "tol must be at least zero": self.tol >= 0,
            "restarts must be a whole number of at least 1": is_whole(self.restarts, 1),
        }
        check_options(self, checks)

    def resolved_for(self, model: BoundModel) -> SVI:
        """The same engine with an optimiser; batches and steps depend on the data. Raises ModelError for `Local`."""
        if collapsed.positions(model):
            raise ModelError(
                "SVI does not fit a Local term, whose noise ties each observation to its neighbours, so that a batch "
                "of them says little. Use pt.MessagePassing(), or leave the Local term out"
            )
        return self if self.optimizer is not None else dataclasses.replace(self, optimizer=_optimizer())

    def run(
        self,
        model: BoundModel,
        observations: Observations | AbstractDealt,
        key: Key,
        progress: Progress | None = None,
        init: State | None = None,
        gaps: np.ndarray | None = None,
    ) -> Fit:
        """Fits the model, keeping the best of the restarts; ``init`` stands for the first start.

        It has no warm-up where it knows what the observations say, and not only where functions were elsewhere. The
        observations may be a source, which need not hold them in memory.
        """
        engine = self.resolved_for(model)
        source = observations if isinstance(observations, AbstractDealt) else InMemory(observations)
        if source.observations is None and _learned_by_level(model):
            raise ModelError(_BY_LEVEL)
        size, most = self._batch_of(source.count), self.steps
        if most is None:
            most = max(_STEPS, _PASSES * -(-source.count // size))
        fits: list[Fit] = []
        with one_blas_thread():
            for one in [key] if self.restarts == 1 else jax.random.split(key, self.restarts):
                first, second = jax.random.split(one)
                random = np.random.default_rng(np.asarray(jax.random.key_data(second)).astype(np.uint32))
                begun, warm = time.perf_counter(), False
                nothing = source.nothing()
                if init is not None and not fits:
                    warm = _has_sites(init)
                    power = jnp.ones((), nothing.values.dtype)
                    state = init._replace(power=power, pseudo=None, step=None, objective=None)
                else:
                    state = fresh_start(model, nothing, first)
                assert engine.optimizer is not None
                total = counts(state.model.terms, source, size, BLOCK)
                walk = jax.block_until_ready(walk_from(state, total, engine.optimizer, warm))
                starting = time.perf_counter() - begun
                fit = engine._go_on(walk, source, Schedule(source, size, most, warm, random), progress)
                fits.append(fit._replace(compile_seconds=fit.compile_seconds + starting))
        return best_of(fits)

    def _batch_of(self, number: int) -> int:
        """The size of a batch. Raises ModelError if it is larger than the data."""
        if self.batch_size is None:
            return max(min(_BATCH, number // 10), 1)
        if self.batch_size > number:
            raise ModelError(
                f"SVI(batch_size={self.batch_size}): the data have {number} observations, and a batch cannot be larger"
            )
        return self.batch_size

    def _go_on(self, walk: Walk, source: AbstractDealt, schedule: Schedule, progress: Progress | None) -> Fit:
        """Blocks of steps until a pass gains too little, or the objective breaks down."""
        assert self.optimizer is not None
        watch, count = _Watch(schedule, self.tol * source.count), jnp.asarray(source.count)
        laps: list[float] = []
        exact = _learned_by_level(walk.state.model)
        while watch.made < schedule.steps:
            begun, number = time.perf_counter(), schedule.length(watch.made, BLOCK)
            plan, batches = schedule.block(watch.made, number, BLOCK)
            after, trace = steps(walk, batches, count, plan, jnp.asarray(number), self.optimizer)
            found = np.asarray(trace.elbo, dtype=float)[:number]
            laps.append(time.perf_counter() - begun)
            if not (np.isfinite(found).all() and bool(_finite(after))):
                if not watch.made:
                    raise ModelError(_NOT_FINITE)
                watch.reason = _DIVERGED.format(made=watch.made, more=number)
                break
            if exact and watch.passing(number):
                assert source.observations is not None
                after = after._replace(state=_with_likelihood(after.state, source.observations))
            walk = after
            watch.saw(found)
            if progress is not None:
                progress(watch.made, schedule.steps, watch.objective[-1])
        typical = float(np.median(laps[1:])) if len(laps) > 1 else laps[0]
        compiling = max(laps[0] - typical, 0.0)
        begun = time.perf_counter()
        watch.objective[-1] = objective(walk.state, source, schedule.batch_size, BLOCK)
        laps.append(time.perf_counter() - begun)
        reason = watch.reason or watch.stopped()
        return Fit(walk.state, np.array(watch.objective), watch.converged, reason, compiling, sum(laps) - compiling)


class _Watch:
    """What the steps so far have gained, and whether that is enough.

    enough: nats; where a pass gains less, those that follow are averaged, and then it ends.
    """

    def __init__(self, schedule: Schedule, enough: float) -> None:
        self.schedule, self.enough = schedule, enough
        self.objective: list[float] = []
        self.made, self.converged, self.reason, self.gain = 0, False, "", np.nan
        self._each: list[float] = []

    def passing(self, number: int) -> bool:
        """Whether the next so many steps end in passes over the data, after the warm-up."""
        return self.made + number > self.schedule.warm_up

    def saw(self, elbo: np.ndarray) -> None:
        """The objective of each step of a block, which is of the warm-up or of passes."""
        self.objective.append(float(np.mean(elbo)))
        if self.passing(len(elbo)):
            self._each.extend(elbo.tolist())
        self.made += len(elbo)
        passes, rest = divmod(len(self._each), self.schedule.batches)
        if rest or passes < _COMPARED or self.made > self.schedule.averages_from:
            return
        # Means over whole passes, in which every observation counts once: the last quarter and the one before.
        each = np.reshape(self._each, (passes, -1)).mean(axis=1)
        many = passes // _COMPARED
        self.gain = float(each[-many:].mean() - each[-2 * many : -many].mean()) / many
        # Two passes of few observations differ by more than they gain.
        if abs(self.gain) < self.enough or (self.gain < self.enough and passes >= _PATIENT and self.enough > 0):
            self.converged = True
            self.schedule.settle(self.made)

    def stopped(self) -> str:
        """Why it stopped, in words."""
        needed = f"tol * observations = {self.enough:.3g}"
        if self.converged:
            return f"converged: a pass gained {self.gain:.3g} nats, below {needed}, and the last ones were averaged"
        if np.isnan(self.gain):
            return f"stopped at steps={self.schedule.steps}, too early to tell whether the objective stands still"
        return f"stopped at steps={self.schedule.steps} before the objective stood still: {self.gain:.3g} nats a pass"


def _has_sites(state: State) -> bool:
    """Whether any of its beliefs says what observations tell."""
    return any(np.any(np.asarray(belief.sites.precision)) for own in state.beliefs for belief in own)


def _learned_by_level(model: BoundModel) -> bool:
    """Whether the likelihood learns more than one number of a kind, of which a batch sees too little."""
    return any(p.learned and p.raw.size > 1 for p in parameters(model.likelihood))


@compiled
def _finite(walk: Walk) -> Array:
    leaves = [x for x in jax.tree.leaves(eqx.filter(walk.state, eqx.is_inexact_array))]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(x)) for x in leaves]))


@compiled
def _with_likelihood(state: State, observations: Observations) -> State:
    """The likelihood's parameters learned from all observations, for those of which a batch sees too little."""
    likelihood = state.model.likelihood
    found = moments(state.model.terms, state.beliefs, observations, likelihood.by_entry(observations))
    return state._replace(model=BoundModel(state.model.terms, likelihood.learn(observations, found)))


_BY_LEVEL = (
    "SVI: noise that differs between levels is learned from all observations at once, which are not in memory here; "
    "hold it, sd=pt.fixed(...), give it as errors=, or load the data first, data.load(), if they fit"
)
_NOT_FINITE = (
    "the objective is not finite after the first block of steps. Likely causes: values of very different magnitude "
    "(rescale the data), or a held hyper-parameter far from the data's scale (check pt.fixed values and units)."
)
_DIVERGED = (
    "diverged: the objective is not finite any more after step {made}; the state of that step is kept. Perhaps the "
    "likelihood does not suit the data, or the optimizer's steps are too large"
)


def _optimizes(optimizer: object) -> bool:
    return optimizer is None or (
        callable(getattr(optimizer, "init", None)) and callable(getattr(optimizer, "update", None))
    )
