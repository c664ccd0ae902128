"""Trying ranks: a model with terms of open rank at any sizes, fitted from given functions and judged.

No rank has a program of its own: a term is bound with functions to spare, which are switched off (see
`probtensor.terms.switched`), and only when all are in use again with room for more.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from probtensor.axes import Axis
from probtensor.engines import initialise, resizing
from probtensor.engines.learning import start_learning
from probtensor.engines.message_passing import MessagePassing
from probtensor.engines.resizing import Decomposition, Functions
from probtensor.engines.sweep import State, start, term_mean
from probtensor.errors import ModelError
from probtensor.likelihoods.gaussian import BoundGaussian, Gaussian
from probtensor.model import BoundModel, bind_term, scale_for_terms
from probtensor.observations.domain import Observations
from probtensor.priors.categorical import Categorical
from probtensor.selection import judging
from probtensor.terms.base import AbstractTerm, DataScale, Sum
from probtensor.terms.cp import CP
from probtensor.terms.modes import AUTO
from probtensor.terms.switched import Switched
from probtensor.terms.tensor_train import TensorTrain
from probtensor.terms.tucker import Tucker

#: Functions of each letter that a program has room for: one more than what is found, so that growth can be refused.
_ROOM, _ROOM_OF_NETWORK = (5, 10, 20, 40, 80), (4, 6, 8)
#: Starts of a component that are fitted side by side.
_STARTS = 8
#: Sweeps of a trial, and how many of them are made between looks at whether what is needed can still be reached; they
#: end where one gains fewer nats than the last number. A trial that would reach what is needed in so many more as are
#: made between looks goes on.
_SWEEPS, _BETWEEN, _STILL = 60, 15, 0.5

#: How many functions each letter of a term counts, for each term of open rank by its position.
Capacity = dict[int, dict[str, int]]


def is_open(term: AbstractTerm) -> bool:
    """Whether its rank has yet to be learned."""
    return isinstance(term, CP | Tucker | TensorTrain) and term.rank == AUTO


def ranked(term: Any, sizes: Mapping[str, int] | None = None, names: Sequence[str] = ()) -> AbstractTerm:
    """An open term with these ranks; None: one everywhere.

    names: of the modes that a Tucker's letters stand for.
    """
    modes = None if term.modes is None else dict(term.modes)
    values = [sizes[c] for c in sorted(sizes)] if sizes else [1]
    same = min(values) == max(values)
    if isinstance(term, CP):
        return CP(values[0], modes)
    if isinstance(term, TensorTrain):
        return TensorTrain(values[0] if same else values, modes)
    return Tucker(values[0] if same else dict(zip(names, values, strict=True)), modes, term.core_variance)


class Trial(NamedTuple):
    """A fitted model.

    Attributes:
        functions: of each term of open rank, by its position.
        capacity: the sizes that these terms are bound with.
        state: of the whole model.
        objective: in nats.
        crps: on the held-out gaps, in data units; NaN if there are none. rmse: the same.
    """

    functions: dict[int, tuple[Functions, ...]]
    capacity: Capacity
    state: State
    objective: float
    crps: float
    rmse: float
    compile_seconds: float
    run_seconds: float

    def sizes(self, j: int) -> dict[str, int]:
        """How many functions each letter of a term counts."""
        return resizing.sizes_of(self.functions[j])


@dataclasses.dataclass(frozen=True)
class Problem:
    """What stands while ranks are tried: a model without local terms, the data, and what is held out of them.

    Attributes:
        engine: resolved.
        held: True where an observation is held out.
        key: of all random starts.
    """

    model: Sum
    axes: Mapping[str, Axis]
    likelihood: Gaussian
    scale: DataScale
    engine: MessagePassing
    observations: Observations
    held: np.ndarray
    key: jax.Array

    @property
    def open(self) -> list[int]:
        """Positions of the terms of open rank."""
        return [j for j, term in enumerate(self.model.terms) if is_open(term)]

    @property
    def inner(self) -> Observations:
        """What is not held out."""
        return judging.without(self.observations, self.held)

    def _bind(self, term: AbstractTerm, scale: DataScale | None = None) -> Any:
        return bind_term(term, self.axes, scale_for_terms(self.model, scale or self.scale))

    def bound(self, j: int, sizes: Mapping[str, int] | None = None) -> Any:
        """A term of open rank with numbers, at these sizes."""
        return self._bind(self.declared(j, sizes))

    def declared(self, j: int, sizes: Mapping[str, int] | None = None) -> AbstractTerm:
        """A term of open rank with these ranks."""
        term = self.model.terms[j]
        names = self._bind(ranked(term)).names if sizes and isinstance(term, Tucker) else ()
        return ranked(term, sizes, names)

    def letters(self, j: int) -> str:
        """The letters that count a term's functions."""
        return resizing.letters_of(self.bound(j))

    def _fits(self, j: int, sizes: Mapping[str, int]) -> bool:
        """Whether a term can have these sizes, with fewer numbers than there are observations.

        A smooth function of many scattered places counts as the root of the observations.
        """
        try:
            bound = self.bound(j, sizes)
        except ModelError:
            return False
        levels = [b.points.shape[0] for b in bound.blocks]
        functions = [math.prod(sizes[c] for c in bound.letters(k)) for k in range(len(levels))]
        if isinstance(self.model.terms[j], CP) and functions[0] > math.prod(levels) // max(levels):
            return False  # a product of so many levels has no larger rank
        count = self.observations.count
        numbers = [
            n if isinstance(b.prior, Categorical) else min(n, math.sqrt(count))
            for n, b in zip(levels, bound.blocks, strict=True)
        ]
        return max(sizes.values()) == 1 or np.dot(numbers, functions) < count

    def larger(self, j: int, sizes: Mapping[str, int], most: int | None = None) -> dict[str, int]:
        """One function more for every letter that can have one, up to ``most``."""
        if not any(sizes.values()):
            return dict.fromkeys(sizes, 1)
        now = dict(sizes)
        for c in sizes:
            more = now | {c: now[c] + 1}
            if (most is None or now[c] < most) and self._fits(j, more):
                now = more
        return now

    def room(self, j: int, need: int) -> dict[str, int]:
        """The smallest capacity with room for so many functions of a letter."""
        network = not isinstance(self.model.terms[j], CP)
        most = next((r for r in (_ROOM_OF_NETWORK if network else _ROOM) if r >= need), need)
        if not network:
            return {"a": most}
        sizes = dict.fromkeys(self.letters(j), 1)
        while (more := self.larger(j, sizes, most)) != sizes:
            sizes = more
        return sizes

    def empty(self) -> Trial:
        """The model with all open terms empty."""
        capacity, terms = {j: self.room(j, 1) for j in self.open}, []
        functions = {j: resizing.nothing(self.bound(j, capacity[j]), capacity[j]) for j in self.open}
        for j, term in enumerate(self.model.terms):
            if j in functions:
                terms.append(resizing.switched(self.bound(j, capacity[j]), functions[j], capacity[j])[0])
            else:
                terms.append(self._bind(term))
        model = BoundModel(tuple(terms), self.likelihood.bind(self.axes, self.scale.variance))
        inner = self.inner
        state = start(model, jnp.asarray(self.engine.power, inner.values.dtype), inner, self.key)
        return self.fitted(functions, capacity, state)

    def _state(self, functions: Mapping[int, tuple[Functions, ...]], capacity: Capacity, before: State) -> State:
        """The state with these functions; all else as it was before."""

        def written(j: int, own: tuple[Functions, ...]) -> tuple[Switched, tuple[Any, ...]]:
            return resizing.switched(self.bound(j, capacity[j]), own, capacity[j])

        return _replaced(before, {j: written(j, own) for j, own in functions.items()})

    def fitted(
        self,
        functions: Mapping[int, tuple[Functions, ...]],
        capacity: Capacity,
        before: State,
        needed: float = -np.inf,
    ) -> Trial:
        """The model fitted from these functions, and the held-out score.

        Sweeps end when the objective stands still, or is out of reach of what is needed at the pace of the last ones.
        One that climbs slowly to what is needed is not cut short: a component that two others share is given up so.
        """
        assert self.engine.power is not None and self.engine.max_sweeps is not None
        inner, limit = self.inner, self.engine.max_sweeps
        still = _STILL / (self.engine.power * inner.count)
        engine = dataclasses.replace(self.engine, tol=still, restarts=1)
        state, made, compiling, running = self._state(functions, capacity, before), 0, 0.0, 0.0
        most = min(limit, _SWEEPS)
        while made < most:
            engine = dataclasses.replace(engine, max_sweeps=min(_BETWEEN, most - made))
            fit = engine.run(state.model, inner, self.key, init=state)
            state, made = fit.state, made + len(fit.objective)
            compiling, running = compiling + fit.compile_seconds, running + fit.run_seconds
            pace = max(np.ptp(fit.objective[-2:]), 0.0)
            if fit.converged or fit.objective[-1] + max(most - made, _BETWEEN) * pace < needed:
                break
            if made == most and fit.objective[-1] < needed:
                most = min(limit, most + _BETWEEN)
        found = {}
        for j, own in functions.items():
            term: Any = state.model.terms[j]
            found[j] = resizing.read(term.term, state.beliefs[j], capacity[j], resizing.sizes_of(own))
        crps, rmse = self._judged(state)
        return Trial(found, capacity, state, float(fit.objective[-1]), crps, rmse, compiling, running)

    def _judged(self, state: State) -> tuple[float, float]:
        """CRPS and RMSE on what is held out."""
        if not self.held.any():
            return float("nan"), float("nan")
        return judging.predicted(state, self.observations, self.held).score

    def starts(self, j: int, trial: Trial) -> list[initialise.Component]:
        """Starts of one more component of a term, from what a fit leaves over, the best first."""
        term: Any = self.model.terms[j]
        modes = None if term.modes is None else dict(term.modes)
        inner, state = self.inner, trial.state
        means = [term_mean(t, b, inner) for t, b in zip(state.model.terms, state.beliefs, strict=True)]
        residual = jnp.where(inner.weights > 0, inner.values - sum(means), 0.0)
        assert isinstance(state.model.likelihood, BoundGaussian)
        noise_sd = float(np.sqrt(state.model.likelihood.variance))
        # Each of the starts may have the whole variance, and a mean that no offset has taken off.
        square = float(jnp.sum(inner.weights * residual**2) / jnp.sum(inner.weights))
        scale = self.scale._replace(variance=_STARTS * max(self.scale.variance, square))
        key = jax.random.fold_in(jax.random.fold_in(self.key, j), sum(trial.sizes(j).values()))
        return initialise.components(self._bind(CP(_STARTS, modes), scale), inner, residual, noise_sd, key)

    def final(self, trial: Trial) -> State | None:
        """The fitted state with every term bound at the sizes that were found; None if one stayed empty."""
        if any(n < 1 for j in self.open for n in trial.sizes(j).values()):
            return None
        written: dict[int, tuple[Decomposition, tuple[Any, ...]]] = {}
        for j, own in trial.functions.items():
            written[j] = resizing.write(self.bound(j, trial.sizes(j)), own, trial.sizes(j))[:2]
        return _replaced(trial.state, written)


def _replaced(state: State, written: Mapping[int, tuple[Any, tuple[Any, ...]]]) -> State:
    """The state with other terms and beliefs in some positions; what learning remembered of those is forgotten."""
    terms, beliefs, learning = list(state.model.terms), list(state.beliefs), list(state.learning)
    for j, (term, own) in written.items():
        terms[j], beliefs[j] = term, own
        learning[j] = tuple(start_learning(block.prior) for block in term.blocks)
    model = BoundModel(tuple(terms), state.model.likelihood)
    return state._replace(model=model, beliefs=tuple(beliefs), learning=tuple(learning))
