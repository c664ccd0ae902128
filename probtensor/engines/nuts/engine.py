"""NUTS: the posterior by Hamiltonian Monte Carlo, exact but for its finite number of draws."""

from __future__ import annotations

import dataclasses
import time
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from probtensor.compilation import compiled, on_device, one_blas_thread
from probtensor.engines import diagnostics, drawn
from probtensor.engines.alignment import aligned
from probtensor.engines.base import AbstractEngine, Fit, Progress, check_options, compiling_of, is_whole
from probtensor.engines.collapsed.signal import Signal
from probtensor.engines.drawn import Draws, refuse_local
from probtensor.engines.message_passing import MessagePassing
from probtensor.engines.nuts.joint import Joint, Sites, drawn_mask, joint, white_name
from probtensor.engines.sweep import State
from probtensor.errors import ModelError
from probtensor.hyperparameters import is_parameter, learned_mask
from probtensor.model import BoundModel
from probtensor.observations.domain import Observations
from probtensor.typing import Array, Bool, Float, Key

#: Sweeps of message passing before a chain starts, at most, and iterations towards its white noise.
_SWEEPS, _TO_START = 40, 60
#: Standard deviation of what is added to a start.
_JITTER = 0.1


@dataclasses.dataclass(frozen=True)
class NUTS(AbstractEngine):
    """Draws from the posterior by numpyro's no-U-turn sampler: the reference on small problems.

    Functions are sampled as white noise that their priors colour, together with all learned hyper-parameters, so that
    nothing is assumed of the posterior's shape. Chains run one after the other, each from a short fit by message
    passing with a random start of its own, and are compared by r-hat and effective sample sizes of the signal, since
    factors themselves can change places. For some thousand observations: a draw takes up to 2^max_tree_depth
    evaluations of the whole signal.

    The parameters of the likelihood are sampled with the rest; in predictive distributions they have their mean. A
    noise or scale without a prior of its own gets the weak log-normal one of all hyper-parameters, the common mean of
    an offset's levels a normal one 5 standard deviations of these wide around the data's mean; that of a single level
    is held.

    Args:
        samples: draws that each chain keeps, 4 at least.
        warmup: steps of each chain that adapt the sampler, and are left out.
        chains: how many.
        target_accept: acceptance probability that step sizes are adapted to; closer to 1 avoids divergent transitions.
        max_tree_depth: a transition takes at most 2^max_tree_depth steps.
        dense: adapt a full mass matrix instead of a diagonal one; for strongly correlated posteriors of up to some
            hundred numbers.

    Raises:
        ModelError: an option has no such value.

    Source: Hoffman and Gelman 2014, The No-U-Turn Sampler, JMLR; Phan, Pradhan and Jankowiak 2019 (numpyro).
    """

    samples: int = 500
    warmup: int = 500
    chains: int = 2
    target_accept: float = 0.8
    max_tree_depth: int = 10
    dense: bool = False

    def __post_init__(self) -> None:
        """Raises ModelError for a value that an option does not have."""
        checks = {
            "samples must be a whole number from 4": is_whole(self.samples, 4),
            "warmup must be a whole number from 1": is_whole(self.warmup, 1),
            "chains must be a whole number from 1": is_whole(self.chains, 1),
            "target_accept must be above 0 and below 1": 0 < self.target_accept < 1,
            "max_tree_depth must be a whole number from 1": is_whole(self.max_tree_depth, 1),
        }
        check_options(self, checks)

    def resolved_for(self, model: BoundModel) -> NUTS:
        """Itself. Raises ModelError for a model with a local term."""
        refuse_local("NUTS", model)
        return self

    def run(
        self,
        model: BoundModel,
        observations: Observations,
        key: Key,
        progress: Progress | None = None,
        init: State | None = None,
        gaps: np.ndarray | None = None,
    ) -> Fit:
        """Samples; ``init`` is where message passing starts for the first chain, and progress is told of each chain.

        Warns where r-hat is above 1.05 or transitions diverged.
        """
        whole = joint(model, observations)
        chains, laps, states = [], [], []
        with one_blas_thread():
            begun = time.perf_counter()
            for number, one in enumerate(jax.random.split(key, self.chains)):
                keys = jax.random.split(one, 3)
                state, start = self._start(whole, keys[0], keys[1], init if number == 0 else None)
                states.append(state)
                chains.append(jax.tree.map(np.asarray, _chain(whole, start, keys[2], self)))
                laps.append(time.perf_counter() - begun)
                begun = time.perf_counter()
                if progress is not None:
                    progress(number + 1, self.chains, -float(chains[-1].energy[-1]))
            begun = time.perf_counter()
            fit = self._fit(whole, chains, states[0])
        compiling = compiling_of(laps)
        running = sum(laps) - compiling + time.perf_counter() - begun
        return fit._replace(compile_seconds=compiling, run_seconds=running)

    def _start(self, whole: Joint, key: Key, jitter: Key, init: State | None) -> tuple[State, Sites]:
        """A short fit by message passing, and where it lies on the whole real line."""
        model, observations = whole.model, whole.observations
        passing = MessagePassing(max_sweeps=_SWEEPS).resolved_for(model)
        state = passing.run(model, observations, key, init=init).state
        rows = np.arange(int(np.prod(observations.domain.shape)))
        ranks = tuple(tuple(int(b.mean.shape[1]) for b in part) for part in state.beliefs)
        signal = Signal(state.model.terms, ranks, observations.domain, rows)
        white = signal.whitened(state.beliefs, _TO_START)
        white = white + _JITTER * np.asarray(jax.random.normal(jitter, white.shape))
        found = {}
        for j, (places, shapes) in enumerate(zip(signal.blocks(), whole.shapes, strict=True)):
            for k, (at, shape) in enumerate(zip(places, shapes, strict=True)):
                found[white_name(j, k)] = jnp.asarray(white[at].reshape(shape), observations.values.dtype)
        sites, potential = _placed(whole, state.model, found)
        if not np.isfinite(float(potential)):
            raise ModelError(
                "NUTS: the log density is not finite where the chain starts. Likely causes: values of very different "
                "magnitude (rescale the data), or a held hyper-parameter far from the data's scale"
            )
        return state, sites

    def _fit(self, whole: Joint, chains: list[_Chain], start: State) -> Fit:
        energy, diverging, steps = (
            np.stack([getattr(chain, name) for chain in chains]) for name in ("energy", "diverging", "steps")
        )
        places = jax.tree.map(lambda *each: np.concatenate(each), *[chain.places for chain in chains])
        rows = diagnostics.entries(whole.observations)
        draws, likelihoods, signal = _meaning(whole, places, jnp.asarray(rows))
        followed = np.concatenate([np.asarray(signal).reshape(*energy.shape, -1), energy[..., None]], axis=-1)
        found = diagnostics.diagnose(followed, diverging, steps >= 2**self.max_tree_depth - 1)
        diagnostics.warn_of("NUTS", found)
        known = {"lp": -energy, "diverging": diverging, "n_steps": steps}
        stats = {name: on_device(own.ravel()) for name, own in known.items()}
        for_reading = aligned(whole.model.terms, draws, int(np.argmin(energy.ravel())))
        terms = eqx.combine(_means(for_reading.learned, whole.model.terms), whole.model.terms)
        likelihood = eqx.combine(_means(likelihoods, whole.model.likelihood), whole.model.likelihood)
        state = start._replace(
            model=BoundModel(terms, likelihood),
            beliefs=drawn.summaries(start.beliefs, for_reading.values),
            draws=draws._replace(likelihood=likelihoods, stats=stats),
        )
        reason = f"{self.samples} draws of each of {self.chains} chains: {found}"
        return Fit(state, -energy.ravel(), found.converged, reason, 0.0, 0.0)


class _Chain(NamedTuple):
    """S draws: on the whole real line, minus their log density, whether they diverged, and steps taken."""

    places: Sites
    energy: Float[Array, "S"]
    diverging: Bool[Array, "S"]
    steps: Array


@compiled
def _placed(whole: Joint, model: BoundModel, white: Sites) -> tuple[Sites, Float[Array, ""]]:
    """Where a chain starts, and minus the log density there."""
    sites = whole.unconstrained(whole.sites(model, white))
    return sites, whole.potential(sites)


@compiled
def _chain(whole: Joint, start: Sites, key: Key, engine: NUTS) -> _Chain:
    """One program for warm-up and draws, in which the transition stands once."""
    from numpyro.infer.hmc import hmc

    init_kernel, sample_kernel = hmc(whole.potential, algo="NUTS")
    state = init_kernel(
        start,
        engine.warmup,
        dense_mass=engine.dense,
        target_accept_prob=engine.target_accept,
        trajectory_length=None,
        max_tree_depth=engine.max_tree_depth,
        rng_key=key,
    )

    def kept(state: Any) -> _Chain:
        return _Chain(state.z, state.potential_energy, state.diverging, state.num_steps)

    def body(i: Array, carry: tuple[Any, _Chain]) -> tuple[Any, _Chain]:
        state, known = carry
        state = sample_kernel(state)
        at = jnp.maximum(i - engine.warmup, 0)
        return state, jax.tree.map(lambda whole, new: whole.at[at].set(new), known, kept(state))

    empty = jax.tree.map(lambda leaf: jnp.zeros((engine.samples, *leaf.shape), leaf.dtype), kept(state))
    return jax.lax.fori_loop(0, engine.warmup + engine.samples, body, (state, empty))[1]


@compiled
def _meaning(whole: Joint, places: Sites, rows: Array) -> tuple[Draws, Any, Float[Array, "S K"]]:
    """Functions, hyper-parameters of the terms and of the likelihood, and the signal at some entries."""

    def one(place: Sites) -> tuple[Draws, Any, Array]:
        model, values, signal = whole.drawn(place)
        learned = eqx.filter(model.terms, drawn_mask(model.terms))
        return Draws(values, learned), _learned(model.likelihood), signal.ravel()[rows]

    return jax.lax.map(one, places)


def _learned(tree: Any) -> Any:
    """A tree with the raw values of learned parameters alone."""
    return eqx.filter(tree, learned_mask(tree))


def _means(drawn_numbers: Any, held: Any) -> Any:
    """Means over the draws: of the values of parameters, whose logarithms are drawn, and of common means."""

    def own(stacked: Any, node: Any) -> Any:
        if not is_parameter(node):
            return None if stacked is None else jnp.mean(stacked, axis=0)
        if stacked.raw is None:
            return stacked
        return eqx.tree_at(lambda p: p.raw, stacked, jnp.log(jnp.mean(jnp.exp(stacked.raw), axis=0)))

    return jax.tree.map(own, drawn_numbers, held, is_leaf=lambda node: node is None or is_parameter(node))
