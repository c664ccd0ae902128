"""``model="auto"``: an offset and a CP over all modes, its rank and the likelihood's power chosen on held-out gaps.

Candidates are judged by the continuous ranked probability score on gaps shaped like those of the data: what is asked
of the model later. One hold-out serves all; it is drawn from the training entries, and the chosen model is fitted to
all of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from probtensor import arrays
from probtensor.axes import Axis
from probtensor.engines.message_passing import MessagePassing
from probtensor.engines.sweep import State
from probtensor.errors import DataError
from probtensor.evaluation import gaps, scores
from probtensor.likelihoods.gaussian import Gaussian
from probtensor.model import BoundModel, bind
from probtensor.observations.domain import Observations
from probtensor.observations.layout import Points
from probtensor.terms.base import DataScale, Sum
from probtensor.terms.cp import CP
from probtensor.terms.offset import Climatology, Offset

#: Ranks tried in turn, from low to high; the search stops at the first that does not gain.
RANKS = (5, 15, 40)
#: Powers to choose from. With many observations ranks are compared at `_USUAL_POWER` and only the best rank tries
#: other powers; with few, every power has its own search.
POWERS = (1.0, 0.3, 0.1, 0.05, 0.02)
_USUAL_POWER, _FEW = 0.1, 20_000
#: Sweeps of a candidate with many and with few observations: its ranking is settled before its objective is. With
#: many, another power goes on from the last one's state, and so does the final fit.
_SWEEPS, _SWEEPS_IF_FEW, _SWEEPS_ON, _FINAL_SWEEPS = 20, 60, 10, 20
_HELD_OUT = 0.15
#: A candidate must be better by this share of the score to be preferred to a simpler one.
_GAIN = 0.005


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A rank and a power with its score on the held-out gaps (CRPS and RMSE in data units), and what it cost."""

    rank: int
    power: float
    crps: float
    rmse: float
    compile_seconds: float
    run_seconds: float
    state: State = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True)
class Choice:
    """The chosen model and engine with the evidence for them, and the state that the final fit goes on from."""

    model: Sum
    engine: MessagePassing
    candidates: tuple[Candidate, ...]
    protocol: str
    start: State | None = None
    compile_seconds: float = 0.0
    run_seconds: float = 0.0


def offset(axes: Mapping[str, Axis]) -> Sum | Offset:
    """A constant, and one for each month where the axes have a mode of months."""
    months = [name for name, axis in axes.items() if axis.parent]
    return Offset() + Climatology(months[0]) if months else Offset()


def has_seasons(axis: Axis) -> bool:
    """Whether a time axis is long and fine enough to tell the months of the year apart."""
    return axis.kind == "time" and axis.range >= 2 * 365 and axis.spacing <= 62


def choose(
    axes: Mapping[str, Axis],
    observations: Observations,
    likelihood: Gaussian,
    engine: MessagePassing,
    seed: int,
    note: Callable[[str], None] = lambda text: None,
) -> Choice:
    """Chooses rank and power.

    Args:
        axes: the data's modes, and a derived ``"….month"`` where `has_seasons`.
        observations: the training data.
        likelihood: the declared noise.
        engine: options that stay as they are, but for the power.
        seed: of the held-out gaps and the starts.
        note: is told what is being tried.
    """
    base = [name for name, axis in axes.items() if not axis.parent]
    varying = [name for name in base if axes[name].size > 1]
    if not varying or int(observations.count) < 10:
        return Choice(Sum((Offset(),)), engine, (), "none: too few observations for a low-rank part")
    protocol, held = _hold_out(base, observations, seed)
    ranks = [r for r in RANKS if r == RANKS[0] or r * sum(axes[n].size for n in varying) < int(observations.count)]
    if len(varying) == 1:
        ranks = [1]  # one function of one coordinate: more components would be the same again
    few = int(observations.count) <= _FEW
    tried: list[Candidate] = []

    def judge(rank: int, power: float, init: State | None = None) -> Candidate:
        note(f"trying rank {rank}, power {power:g}")
        model = bind(offset(axes) + CP(rank, modes=varying), axes, likelihood, scale_of(observations))
        sweeps = _SWEEPS_IF_FEW if few else _SWEEPS if init is None else _SWEEPS_ON
        short = dataclasses.replace(engine, power=power, max_sweeps=min(engine.max_sweeps, sweeps), restarts=1)
        tried.append(_judge(short, model, rank, observations, held, seed, init))
        return tried[-1]

    def climb(best: Candidate, candidates: Iterator[Candidate]) -> Candidate:
        """The best of a ladder of candidates, left at the first that does not gain."""
        for candidate in candidates:
            if candidate.crps > best.crps * (1 - _GAIN):
                break
            best = candidate
        return best

    def over_ranks(power: float) -> Candidate:
        return climb(judge(ranks[0], power), (judge(rank, power) for rank in ranks[1:]))

    if few:
        best = min((over_ranks(power) for power in POWERS), key=lambda c: c.crps)
    else:
        usual = over_ranks(_USUAL_POWER)
        place = POWERS.index(_USUAL_POWER)
        best = climb(usual, (judge(usual.rank, power, usual.state) for power in POWERS[place + 1 :]))
        if best is usual:
            best = climb(usual, (judge(usual.rank, power, usual.state) for power in reversed(POWERS[:place])))
    sweeps = engine.max_sweeps if few else min(engine.max_sweeps, _FINAL_SWEEPS)
    return Choice(
        offset(axes) + CP(best.rank, modes=varying),
        dataclasses.replace(engine, power=best.power, max_sweeps=sweeps),
        tuple(tried),
        protocol,
        best.state,
        sum(c.compile_seconds for c in tried),
        sum(c.run_seconds for c in tried),
    )


def _hold_out(names: list[str], observations: Observations, seed: int) -> tuple[str, np.ndarray]:
    """Held-out gaps with the extent of the data's own; single entries for points."""
    seen = np.asarray(observations.weights) > 0
    if isinstance(observations.domain.layout, Points):
        names = ["observation"]
        extent: tuple[int, ...] = (1,)
    else:
        extent = gap_extent(seen)
    sizes, box = dict(zip(names, seen.shape, strict=True)), dict(zip(names, extent, strict=True))
    protocol = gaps.blocks(_HELD_OUT, size=box)
    held = protocol.mask(sizes, seed, seen)
    if not held.any() or held[seen].all():
        raise DataError("too few observations to hold any out; name a model, for example pt.Offset() + pt.CP(rank=1)")
    shape = " x ".join(f"{n} {e}" for n, e in box.items())
    return f"blocks of {shape} covering {_HELD_OUT:.0%}", held


def gap_extent(seen: np.ndarray) -> tuple[int, ...]:
    """Typical edge of the gaps along each dimension: the mean run of missing entries, weighted by its length.

    Places never observed along any one dimension (land, dead stations) are not gaps but the shape of the domain. Data
    without gaps are judged by boxes of a tenth of each dimension.
    """
    inside = np.ones(seen.shape, dtype=bool)
    for axis in range(seen.ndim):
        inside &= seen.any(axis=axis, keepdims=True)
    missing = inside & ~seen
    if missing.mean() < 0.01:
        return tuple(max(1, round(n / 10)) for n in seen.shape)
    return tuple(_typical_run(np.moveaxis(missing, axis, -1)) for axis in range(seen.ndim))


def _typical_run(missing: np.ndarray) -> int:
    rows = missing.reshape(-1, missing.shape[-1])
    edges = np.diff(np.pad(rows, ((0, 0), (1, 1))).astype(int), axis=1)
    lengths = np.nonzero(edges == -1)[1] - np.nonzero(edges == 1)[1]
    return max(1, round(float(np.sum(lengths**2) / np.sum(lengths))))


def _judge(
    engine: MessagePassing,
    model: BoundModel,
    rank: int,
    observations: Observations,
    held: np.ndarray,
    seed: int,
    init: State | None,
) -> Candidate:
    weights = jnp.where(jnp.asarray(held), 0.0, observations.weights)
    inner = Observations(observations.domain, jnp.where(weights > 0, observations.values, 0.0), weights)
    fit = engine.run(model, inner, jax.random.key(seed), init=init)
    signal = arrays.fitted(fit.state, inner.domain)
    noise = float(fit.state.model.likelihood.variance) / np.asarray(observations.weights)[held]
    mean, truth = np.asarray(signal.mean)[held], np.asarray(observations.values)[held]
    crps = scores.crps_gaussian(mean, np.sqrt(np.asarray(signal.variance)[held] + noise), truth)
    rmse = scores.rmse(mean, truth)
    return Candidate(rank, engine.power, crps, rmse, fit.compile_seconds, fit.run_seconds, fit.state)


def scale_of(observations: Observations) -> DataScale:
    """Mean and variance of the observed values."""
    values = np.asarray(observations.values)[np.asarray(observations.weights) > 0]
    variance = float(values.var())
    if variance == 0:
        # Constant data have no scale of their own; a thousandth of their size stands for it.
        variance = float(1e-3 * values[0]) ** 2 or 1.0
    return DataScale(float(values.mean()), variance)
