"""Gibbs: draws from the posterior by drawing each block given the others, from where message passing ends."""

from __future__ import annotations

import dataclasses
import time
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from probtensor.compilation import compiled, on_device, one_blas_thread
from probtensor.engines import diagnostics, drawn
from probtensor.engines.alignment import aligned
from probtensor.engines.base import AbstractEngine, Fit, Progress, check_options, compiling_of, is_whole
from probtensor.engines.drawn import Draws, Values, refuse_local
from probtensor.engines.gibbs.turn import Place, Target, means, turn
from probtensor.engines.message_passing import MessagePassing
from probtensor.engines.sweep import State
from probtensor.model import BoundModel
from probtensor.observations.domain import Observations
from probtensor.typing import Array, Float, Int, Key

#: Rounds of warm-up; after each, proposals are tangent at the mean of the signal in its second half.
_ROUNDS = 3
#: Sweeps of message passing before another chain starts, at most.
_SWEEPS = 40


@dataclasses.dataclass(frozen=True)
class Gibbs(AbstractEngine):
    """Draws from the posterior at the hyper-parameters that message passing learns.

    What message passing takes for independent, the functions of different modes, is drawn jointly, so that error bars
    are those of the posterior, and weak components that the bound would give up are kept with their uncertainty. One
    turn draws every block given the others, and costs about what two sweeps of message passing cost, so that it suits
    data far beyond the reach of `NUTS`. Chains are compared by r-hat and effective sample sizes of the signal.

    Args:
        samples: draws that each chain keeps, 4 at least.
        warmup: turns of each chain that are left out.
        thin: turns from one draw to the next.
        chains: how many. The first starts from the fit, the others from short fits with random starts of their own.
        start: the message passing that learns the hyper-parameters. None: the default one.

    Raises:
        ModelError: an option has no such value.

    Source: Geman and Geman 1984, Stochastic relaxation, section XII; for likelihoods that are not normal, Nishihara,
    Murray and Adams 2014, JMLR, section 3.
    """

    samples: int = 200
    warmup: int = 200
    thin: int = 5
    chains: int = 2
    start: MessagePassing | None = None

    def __post_init__(self) -> None:
        """Raises ModelError for a value that an option does not have."""
        checks = {
            "samples must be a whole number from 4": is_whole(self.samples, 4),
            "warmup must be a whole number from 1": is_whole(self.warmup, 1),
            "thin must be a whole number from 1": is_whole(self.thin, 1),
            "chains must be a whole number from 1": is_whole(self.chains, 1),
            "start must be a pt.MessagePassing": isinstance(self.start, MessagePassing | None),
        }
        check_options(self, checks)

    def resolved_for(self, model: BoundModel) -> Gibbs:
        """With message passing to start from. Raises ModelError for a model with a local term."""
        refuse_local("Gibbs", model)
        passing = MessagePassing() if self.start is None else self.start
        return dataclasses.replace(self, start=passing.resolved_for(model))

    def run(
        self,
        model: BoundModel,
        observations: Observations,
        key: Key,
        progress: Progress | None = None,
        init: State | None = None,
        gaps: np.ndarray | None = None,
    ) -> Fit:
        """Fits by message passing, then draws; ``init`` is where message passing goes on from.

        Progress is told of message passing's sweeps, then of each chain. Warns where r-hat is above 1.05.
        """
        passing = self.resolved_for(model).start
        assert passing is not None
        first, *keys = jax.random.split(key, 1 + 2 * self.chains)
        fit = passing.run(model, observations, first, progress, init)
        rows = diagnostics.entries(observations)
        short = dataclasses.replace(passing, restarts=1, max_sweeps=min(passing.max_sweeps or _SWEEPS, _SWEEPS))
        chains, laps = [], []
        with one_blas_thread():
            for number in range(self.chains):
                begun = time.perf_counter()
                one, two = keys[2 * number : 2 * number + 2]
                at = fit.state if number == 0 else short.run(fit.state.model, observations, one).state
                target = Target.of(fit.state._replace(beliefs=at.beliefs), observations)
                chains.append(self._chain(target, means(at), two, rows))
                laps.append(time.perf_counter() - begun)
                if progress is not None:
                    progress(number + 1, self.chains, float(chains[-1].density[-1]))
            found = self._fit(fit, chains)
        compiling = compiling_of(laps)
        return found._replace(
            compile_seconds=fit.compile_seconds + compiling, run_seconds=fit.run_seconds + sum(laps) - compiling
        )

    def _chain(self, target: Target, values: Values, key: Key, rows: Int[np.ndarray, "K"]) -> _Chain:
        """Warm-up, in which proposals follow the draws, and draws."""
        last, *keys = jax.random.split(key, 1 + _ROUNDS)
        turns = -(-self.warmup // _ROUNDS)
        number = min(turns, self.samples)
        for one in keys:
            values, mean, _ = _draws(target, values, one, rows, self.samples, *_traced(number, -(-turns // number)))
            target = target.near(mean)
        chain = _draws(target, values, last, rows, self.samples, *_traced(self.samples, self.thin))[2]
        return jax.tree.map(np.asarray, chain)

    def _fit(self, fit: Fit, chains: list[_Chain]) -> Fit:
        density = np.stack([chain.density for chain in chains])
        followed = np.concatenate([np.stack([chain.followed for chain in chains]), density[..., None]], axis=-1)
        found = diagnostics.diagnose(followed)
        diagnostics.warn_of("Gibbs", found)
        values = jax.tree.map(lambda *each: jnp.asarray(np.concatenate(each)), *[chain.values for chain in chains])
        terms = fit.state.model.terms
        draws = Draws(values, eqx.filter(terms, False), stats={"lp": on_device(density.ravel())})
        for_reading = aligned(terms, draws, int(np.argmax(density.ravel())))
        beliefs = drawn.summaries(fit.state.beliefs, for_reading.values)
        reason = f"{self.samples} draws of each of {self.chains} chains: {found}; message passing {fit.reason}"
        return fit._replace(
            state=fit.state._replace(beliefs=beliefs, draws=draws),
            objective=density.ravel(),
            converged=found.converged,
            reason=reason,
        )


class _Chain(NamedTuple):
    """S draws: functions, the log likelihood, and the signal at some entries."""

    values: Values
    density: Float[Array, "S"]
    followed: Float[Array, "S K"]


def _traced(*numbers: int) -> tuple[Int[Array, ""], ...]:
    """Numbers of which each has the same program."""
    return tuple(jnp.asarray(number) for number in numbers)


@compiled
def _draws(
    target: Target,
    values: Values,
    key: Key,
    rows: Int[np.ndarray, "K"],
    room: int,
    number: Int[Array, ""],
    thin: Int[Array, ""],
) -> tuple[Values, Array, _Chain]:
    """A program for warm-up and for draws.

    Args:
        target: what is sampled.
        values: to start from.
        key: of the draws.
        rows: entries that are followed.
        room: for so many draws.
        number: of draws.
        thin: turns from one to the next.

    Returns:
        The last draw; the mean of the signal over the second half; and the draws.
    """

    def body(i: Array, carry: tuple[Place, Array, _Chain]) -> tuple[Place, Array, _Chain]:
        place, mean, known = carry
        keys = jax.random.split(jax.random.fold_in(key, i))
        place = jax.lax.fori_loop(0, thin, lambda n, at: turn(target, at, jax.random.fold_in(keys[0], n)), place)
        signal = target.signal(place.values)
        count = jnp.maximum(i - number // 2 + 1, 0)
        mean = mean + jnp.where(count > 0, signal - mean, 0.0) / jnp.maximum(count, 1)
        found = _Chain(place.values, target.log_likelihood(signal), signal.ravel()[rows])
        return place, mean, jax.tree.map(lambda whole, new: whole.at[i].set(new), known, found)

    signal = target.signal(values)
    empty = _Chain(values, jnp.zeros((), signal.dtype), signal.ravel()[rows])
    empty = jax.tree.map(lambda leaf: jnp.zeros((room, *leaf.shape), leaf.dtype), empty)
    start = (Place(values, target.excess(signal)), jnp.zeros_like(signal), empty)
    place, mean, chain = jax.lax.fori_loop(0, number, body, start)
    return place.values, mean, chain
