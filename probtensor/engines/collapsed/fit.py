"""Fitting a model with a local term: message passing for a start, then all terms jointly under the correlated noise."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import numpy as np

from probtensor.engines.collapsed import adapting, block_learning, local_learning, term_learning
from probtensor.engines.collapsed.ascent import Learned
from probtensor.engines.collapsed.conditional import Chain
from probtensor.engines.collapsed.contrasts import Contrasts, Near, contrasts
from probtensor.engines.collapsed.entries import Training, training
from probtensor.engines.collapsed.field import FEWEST, Field, beside, field, grid_of, system
from probtensor.engines.collapsed.said import AllSaid
from probtensor.engines.collapsed.signal import Signal
from probtensor.engines.collapsed.spread import Spread
from probtensor.engines.drawn import Draws, Terms, Values, summaries
from probtensor.engines.sweep import Beliefs
from probtensor.errors import ModelError
from probtensor.gridded.grid import Grid
from probtensor.hyperparameters import Parameter, moved
from probtensor.kernels.adapted import adapted_part, extended, with_table
from probtensor.kernels.field import AbstractFieldKernel, FieldSum, summands, summed
from probtensor.likelihoods.gaussian import BoundGaussian
from probtensor.model import BoundModel
from probtensor.observations.domain import Observations
from probtensor.terms.local import BoundLocal
from probtensor.typing import Bool, Float

#: Rounds of learning all hyper-parameters, sweeps of the chain in each, and draws that it learns from.
_ROUNDS, _SWEEPS, _DRAWS = 5, 2, 4
#: Rounds end where the logarithm of no hyper-parameter has moved further.
_STILL = 0.02
#: Rounds of learning an adapted kernel's covariances after all hyper-parameters.
_ADAPTATIONS = 2
#: Sweeps that settle the chain under the final hyper-parameters.
_SETTLE = 2
#: Iterations at most: of the optimiser towards the start, and of the solver in a step of the chain. Most draws take 30
#: to 50; where the noise is a thousandth of the terms some would take more than these, see `systems`.
TO_START, IN_STEP = 60, 300
#: Iterations in which a round learns the terms' hyper-parameters.
_TERM_STEPS = 6


class Local(NamedTuple):
    """The local part of a fitted state.

    Attributes:
        kernels: (position of the term, its kernel with numbers) of each local term.
        names: of the columns that the kernels read.
        neighbours: how many entries each is conditioned on.
        training: the observed entries.
        values: S draws of the function values of every block of the other terms.
        residuals: S draws of the values minus the other terms, means at each place.
        noise: variance of an entry with weight 1.
        observations: those that the entries are among.
        said: what observations that are no longer kept said of each block; None: all are kept.
        field: the local function on the grid of the training data, where it was solved for there.
        spread: by how much standard deviations grow from place to place; None: they are as the model says.
    """

    kernels: tuple[tuple[int, AbstractFieldKernel], ...]
    names: tuple[str, ...]
    neighbours: int
    training: Training
    values: tuple[Values, ...]
    residuals: Float[np.ndarray, "S M"]
    noise: float
    observations: Observations
    said: AllSaid | None = None
    field: Field | None = None
    spread: Spread | None = None

    @property
    def kernel(self) -> AbstractFieldKernel:
        """The sum of the local terms' kernels."""
        return summed([kernel for _, kernel in self.kernels])


class Collapsed(NamedTuple):
    """What the joint fit gives: the model with learned numbers, beliefs that summarise draws, and the local part."""

    model: BoundModel
    beliefs: Beliefs
    local: Local
    objective: np.ndarray
    seconds: float


def positions(model: BoundModel) -> list[int]:
    """Where the local terms stand in a model."""
    return [j for j, term in enumerate(model.terms) if isinstance(term, BoundLocal)]


class _Numbers(NamedTuple):
    """All hyper-parameters as they stand."""

    terms: Terms
    kernel: AbstractFieldKernel
    noise_sd: Parameter

    @property
    def noise(self) -> float:
        return float(self.noise_sd.value[0]) ** 2


class _Task(NamedTuple):
    """What stays while hyper-parameters are learned.

    Attributes:
        data: the observed entries.
        names: of the columns that kernels read.
        neighbours: of an entry.
        gaps: entries that could be missing together.
        floor: of the noise.
        seed: of draws.
        draws: to keep.
    """

    data: Training
    names: tuple[str, ...]
    neighbours: int
    gaps: Bool[np.ndarray, "..."]
    floor: float
    seed: int
    draws: int

    def left(self, signal: Signal, whites: list[np.ndarray]) -> Float[np.ndarray, "S N"]:
        """Of the values, by each draw of the other terms' white noise."""
        return np.stack([self.data.values - signal(one) for one in whites])

    def means(self, signal: Signal, whites: list[np.ndarray]) -> Float[np.ndarray, "S M"]:
        """The same at each place."""
        return self.data.pooled.means(self.left(signal, whites))

    def learned(
        self, starts: list[AbstractFieldKernel], noise_sd: Parameter, signal: Signal, whites: list[np.ndarray]
    ) -> Learned:
        """Kernel and noise from what is left."""
        return local_learning.learn(starts, noise_sd, self.floor, self.residuals(signal, whites))

    def residuals(self, signal: Signal, whites: list[np.ndarray]) -> local_learning.Residuals:
        """What kernels learn from."""
        return local_learning.Residuals.of(self.data, self.left(signal, whites), self.neighbours, self.gaps)

    def near(self, numbers: _Numbers, before: Near | None = None) -> Near:
        """Neighbours of all places; those of before, if they serve."""
        if before is not None and before.serve(numbers.kernel, numbers.noise):
            return before
        return Near.of(numbers.kernel, numbers.noise, self.data.pooled.entries, self.neighbours)

    def contrasts(self, numbers: _Numbers, near: Near) -> Contrasts:
        """Of the local terms and the noise."""
        return contrasts(numbers.kernel, numbers.noise, self.data.pooled, self.neighbours, near)


class _Found(NamedTuple):
    """Numbers, the signal with them, white noise of the draws that are kept, log densities, and the grid's field."""

    numbers: _Numbers
    signal: Signal
    kept: list[np.ndarray]
    trace: list[float]
    field: Field | None = None


def fit(
    model: BoundModel,
    beliefs: Beliefs,
    observations: Observations,
    draws: int,
    seed: int,
    gaps: Bool[np.ndarray, "..."] | None = None,
    watch: Callable[[int, int, float], None] | None = None,
) -> Collapsed:
    """Goes on from beliefs of the terms with blocks.

    Args:
        model: with at least one local term.
        beliefs: of a fit without the local term.
        observations: the data.
        draws: posterior draws to keep, an even number.
        seed: of the draws.
        gaps: entries to learn the range across gaps from, True where the data could be missing together.
        watch: is told rounds done, rounds at most, and the log density.
    """
    begun = time.perf_counter()
    locals_ = [term for term in model.terms if isinstance(term, BoundLocal)]
    data = training(observations, locals_[0].names, [d for term in locals_ for d in term.kernel.dims])
    signal = _signal(model, beliefs, observations, data)
    white = signal.whitened(beliefs, TO_START)
    assert isinstance(model.likelihood, BoundGaussian)
    gaps = np.zeros(observations.domain.shape, dtype=bool) if gaps is None else gaps
    neighbours = max(term.neighbours for term in locals_)
    task = _Task(data, locals_[0].names, neighbours, gaps, float(model.likelihood.floor), seed, draws)

    starts = [summed(list(kernels)) for kernels in zip(*([t.kernel, *t.starts] for t in locals_), strict=True)]
    # Where the user gave all numbers there is one start.
    starts = [starts[0], *(start for start in starts[1:] if not eqx.tree_equal(start, starts[0]))]
    adapts = adapted_part(starts[0]) is not None
    grid = grid_of(starts[0], task.names, data.pooled.entries, observations.domain) if _additive(model) else None
    if grid is None and adapts and isinstance(starts[0], FieldSum):
        raise ModelError(
            f"Local: kernel.adapted() in a sum of kernels, or beside another Local term, goes with grids of {FEWEST:,} "
            "or more values and of times and places that each kernel tells apart, beside terms of one mode each; adapt "
            "a single product of kernels"
        )
    first = Learned(starts[0], model.likelihood.sd, -np.inf)
    if grid is None or len(starts) > 1:
        first = task.learned(starts, model.likelihood.sd, signal, [white])
    numbers = _Numbers(model.terms, first.kernel, first.noise_sd)
    if grid is not None:
        numbers, log_density = _learned_on_grid(task, grid, signal, white, numbers)
        found = _on_grid(task, grid, signal, white, numbers)._replace(trace=[log_density])
    else:
        found = _by_draws(task, signal, white, numbers, adapts, watch)
    return _collapsed(model, beliefs, task, found, observations, begun)


def given(
    model: BoundModel, beliefs: Beliefs, local: Local, observations: Observations, draws: int, seed: int
) -> Collapsed:
    """A fit to other observations on the same domain, with hyper-parameters as they are.

    Covariances that an adapted kernel has learned are learned anew: they say much of each of the observations.

    Args:
        model: with the numbers.
        beliefs: of a fit to these observations without the local term.
        local: of a fit to others.
        observations: the data.
        draws: posterior draws to keep, an even number.
        seed: of the draws.
    """
    begun = time.perf_counter()
    data = training(observations, local.names, local.kernel.dims)
    signal = _signal(model, beliefs, observations, data)
    white = signal.whitened(beliefs, TO_START)
    assert isinstance(model.likelihood, BoundGaussian)
    nowhere, likelihood = np.zeros(observations.domain.shape, dtype=bool), model.likelihood
    task = _Task(data, local.names, local.neighbours, nowhere, float(likelihood.floor), seed, draws)
    adapts = adapted_part(local.kernel) is not None
    kernel = with_table(local.kernel, None) if adapts else local.kernel
    numbers = _Numbers(model.terms, kernel, likelihood.sd)
    entries, domain = data.pooled.entries, observations.domain
    grid = None if local.field is None else grid_of(kernel, local.names, entries, domain, any_number=True)
    if grid is not None:
        found = _on_grid(task, grid, signal, white, numbers)
    else:
        found = _by_draws(task, signal, white, numbers, adapts, None, rounds=0)
    return _collapsed(model, beliefs, task, found, observations, begun)


def _signal(model: BoundModel, beliefs: Beliefs, observations: Observations, data: Training) -> Signal:
    """As a list, for a grid and a table to have the same rounding errors, of which learning makes much."""
    ranks = tuple(tuple(int(b.mean.shape[1]) for b in part) for part in beliefs)
    return Signal(model.terms, ranks, observations.listed()[0].domain, np.arange(len(data.rows)))


def _collapsed(
    model: BoundModel, beliefs: Beliefs, task: _Task, found: _Found, observations: Observations, begun: float
) -> Collapsed:
    places, numbers = positions(model), found.numbers
    values = tuple(found.signal.values(one) for one in found.kept)
    local = Local(
        tuple(zip(places, _split(numbers.kernel, len(places)), strict=True)),
        task.names,
        task.neighbours,
        task.data,
        values,
        task.means(found.signal, found.kept),
        numbers.noise,
        observations,
        field=found.field,
    )
    return Collapsed(
        _with_numbers(model, numbers, local),
        beliefs if found.field is not None else summaries(beliefs, Draws.of(model.terms, values).values),
        local,
        np.array(found.trace),
        time.perf_counter() - begun,
    )


def _learned_on_grid(
    task: _Task, grid: Grid, signal: Signal, white: np.ndarray, numbers: _Numbers
) -> tuple[_Numbers, float]:
    """The kernel's numbers and the noise, from blocks, with their log density."""
    start, residuals = Learned(numbers.kernel, numbers.noise_sd, -np.inf), task.residuals(signal, [white])
    found = block_learning.learn(start, task.floor, residuals, block_learning.chosen(start.kernel, grid, residuals))
    density = found.score * len(residuals.entries.points)
    return numbers._replace(kernel=found.kernel, noise_sd=found.noise_sd), density


def _on_grid(task: _Task, grid: Grid, signal: Signal, white: np.ndarray, numbers: _Numbers) -> _Found:
    """The local function on the whole grid, the other terms held.

    What each of these says of one mode is as good as known beside so many observations, and the local function has a
    part that makes up for where it is not.
    """
    left = task.means(signal, [white])
    numbers = numbers._replace(kernel=_adapted(task, grid, numbers, left))
    means = np.repeat(left, task.draws, axis=0)
    entries = task.data.pooled.entries
    whole = field(system(grid, numbers.kernel, task.names, numbers.noise, entries), means, task.seed)
    return _Found(numbers, signal, [white], [], whole)


def _adapted(task: _Task, grid: Grid, numbers: _Numbers, residuals: Float[np.ndarray, "S M"]) -> AbstractFieldKernel:
    """The kernel whose adapted summand, if it has one, has the covariances that the others leave over."""
    kernel, entries = numbers.kernel, task.data.pooled.entries
    found = [(k, part) for k, part in enumerate(summands(kernel)) if adapted_part(part) is not None]
    if not found:
        return kernel
    ((which, one),) = found
    whole = system(grid, kernel, task.names, numbers.noise, entries)
    left = residuals - beside(whole, which, residuals)
    learned = adapted_part(adapting.adapt(one, numbers.noise, entries, left, task.seed))
    if learned is None or learned.table is None:
        return kernel
    # Places of the grid that were never observed are not in the table.
    return extended(with_table(kernel, learned.table), np.concatenate([grid.rows, grid.columns]))


def _by_draws(
    task: _Task,
    signal: Signal,
    white: np.ndarray,
    numbers: _Numbers,
    adapts: bool,
    watch: Callable[[int, int, float], None] | None,
    rounds: int = _ROUNDS,
) -> _Found:
    """Draws of all other terms under the local terms' noise, in turn with the learning of all hyper-parameters."""
    near = task.near(numbers)
    noise, chain, trace = task.contrasts(numbers, near), Chain(white, task.seed, IN_STEP), []

    def swept(number: int) -> list[np.ndarray]:
        found = []
        for _ in range(number):
            found += chain.sweep(signal, noise, task.data.values)
            contrast = noise.log_density(task.data.values - signal(chain.white))
            trace.append(contrast - 0.5 * float(chain.white @ chain.white))
        return found

    for k in range(rounds):
        some = swept(_SWEEPS)[-_DRAWS:]
        terms = term_learning.learn(signal, noise, task.data.values, some, _TERM_STEPS)
        signal = signal.with_terms(terms)
        found = task.learned([numbers.kernel], numbers.noise_sd, signal, some)
        before, numbers = numbers, _Numbers(terms, found.kernel, found.noise_sd)
        near = task.near(numbers, near)
        noise = task.contrasts(numbers, near)
        if watch is not None:
            watch(k + 1, rounds + 1, trace[-1])
        if moved(before, numbers) <= _STILL:
            break
    for k in range(_ADAPTATIONS if adapts else 0):
        means = task.means(signal, swept(_SWEEPS)[-_DRAWS:])
        kernel = adapting.adapt(numbers.kernel, numbers.noise, task.data.pooled.entries, means, task.seed + k)
        numbers = numbers._replace(kernel=kernel)
        noise = task.contrasts(numbers, task.near(numbers))
    swept(_SETTLE)
    kept = swept(max(task.draws // 2, 1)) if signal.size else [chain.white]
    return _Found(numbers, signal, kept, trace)


def _additive(model: BoundModel) -> bool:
    """Whether each term but the local ones is a function of one mode, and these are several processes."""
    others = [term for term in model.terms if not isinstance(term, BoundLocal)]
    kernels = [term.kernel for term in model.terms if isinstance(term, BoundLocal)]
    return isinstance(summed(kernels), FieldSum) and all(len(term.blocks) <= 1 for term in others)


def _split(kernel: AbstractFieldKernel, number: int) -> tuple[AbstractFieldKernel, ...]:
    return (kernel,) if number == 1 else kernel.parts  # type: ignore[attr-defined]


def _with_numbers(model: BoundModel, numbers: _Numbers, local: Local) -> BoundModel:
    terms = list(numbers.terms)
    for place, kernel in local.kernels:
        terms[place] = BoundLocal(kernel, local.names, local.neighbours)
    return BoundModel(tuple(terms), eqx.tree_at(lambda g: g.sd, model.likelihood, numbers.noise_sd))
