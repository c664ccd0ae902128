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
from probtensor.errors import ModelError
from probtensor.evaluation import scores
from probtensor.likelihoods.gaussian import Gaussian
from probtensor.model import BoundModel, bind
from probtensor.observations import variogram
from probtensor.observations.domain import Observations
from probtensor.selection.hold_out import hold_out
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
_SWEEPS, _SWEEPS_IF_FEW, _SWEEPS_ON = 20, 60, 10
#: Bound on the final fit with many observations, unless the engine has one. The objective still rises, the fill of
#: gaps does not: on the inner hold-outs of three OSTIA box sets CRPS was 0.1573 at the candidate's end and 0.1568,
#: 0.1595, 0.1617 after 15, 30, 45 more sweeps.
_FINAL_SWEEPS = 20
#: A candidate must be better by this share of the score to be preferred to a simpler one.
_GAIN = 0.005


@dataclasses.dataclass(frozen=True)
class Automatic:
    """What ``model="auto"`` stands for; ``ranks`` limits the ranks that are tried, None = those of `RANKS`.

    Raises:
        ModelError: no rank, or one that is not a whole number from 1.
    """

    ranks: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        """Raises ModelError for ranks that cannot be tried."""
        if self.ranks is not None and (not self.ranks or min(self.ranks) < 1):
            raise ModelError(f"ranks={self.ranks!r}: expected at least one rank, each 1 or more")


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A rank and a power with its score on the held-out gaps (CRPS and RMSE in data units), and what it cost."""

    rank: int
    power: float
    crps: float
    rmse: float
    sweeps: int
    compile_seconds: float
    run_seconds: float
    state: State = dataclasses.field(repr=False)

    def __str__(self) -> str:
        """One line of the evidence."""
        return (
            f"rank {self.rank:>3}, power {self.power:<5g} CRPS {self.crps:<8.4g} RMSE {self.rmse:<8.4g} "
            f"{self.sweeps} sweeps in {self.run_seconds:.1f} s + {self.compile_seconds:.1f} s compiling"
        )


@dataclasses.dataclass(frozen=True)
class Choice:
    """The chosen model and engine with the evidence for them, and the state that the final fit goes on from."""

    model: Sum
    engine: MessagePassing
    candidates: tuple[Candidate, ...]
    protocol: str
    best: Candidate | None = None

    @property
    def start(self) -> State | None:
        """The state of the best candidate."""
        return None if self.best is None else self.best.state

    @property
    def compile_seconds(self) -> float:
        """Of all candidates."""
        return sum(c.compile_seconds for c in self.candidates)

    @property
    def run_seconds(self) -> float:
        """Of all candidates."""
        return sum(c.run_seconds for c in self.candidates)

    def report(self) -> str:
        """What was held out, and a line for each candidate in the order in which they were tried."""
        lines = [f"chosen on held-out gaps: {self.protocol}"]
        lines += [f"  {c}{', chosen' if c is self.best else ''}" for c in self.candidates]
        return "\n".join(lines)

    def __str__(self) -> str:
        """The report."""
        return self.report()


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
    ranks: tuple[int, ...] | None = None,
) -> Choice:
    """Chooses rank and power.

    Args:
        axes: the data's modes, and a derived ``"….month"`` where `has_seasons`.
        observations: the training data.
        likelihood: the declared noise.
        engine: options that stay as they are; the power is searched and the sweeps are bounded where they are None.
        seed: of the held-out gaps and the starts.
        note: is told what is being tried.
        ranks: tried in turn, from low to high; None: those of `RANKS` that the data can bear.
    """
    base = [name for name, axis in axes.items() if not axis.parent]
    varying = [name for name in base if axes[name].size > 1]
    count = int(observations.count)
    if not varying or count < 10:
        model = offset(axes) + CP(ranks[0], modes=varying) if ranks and varying else Sum((Offset(),))
        return Choice(model, engine.resolved(), (), "none: too few observations to hold any out")
    protocol, held = hold_out(base, observations, seed)
    if ranks is None:
        ranks = tuple(r for r in RANKS if r == RANKS[0] or r * sum(axes[n].size for n in varying) < count)
        if len(varying) == 1:
            ranks = (1,)  # one function of one coordinate: more components would be the same again
    few = count <= _FEW
    scale = scale_of(observations)
    tried: list[Candidate] = []

    def judge(rank: int, power: float, init: State | None = None) -> Candidate:
        note(f"trying rank {rank}, power {power:g}")
        model = bind(offset(axes) + CP(rank, modes=varying), axes, likelihood, scale)
        sweeps = _SWEEPS_IF_FEW if few else _SWEEPS if init is None else _SWEEPS_ON
        sweeps = sweeps if engine.max_sweeps is None else min(engine.max_sweeps, sweeps)
        short = dataclasses.replace(engine, power=power, max_sweeps=sweeps, restarts=1)
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

    if engine.power is not None:
        best = over_ranks(engine.power)
    elif few:
        best = min((over_ranks(power) for power in POWERS), key=lambda c: c.crps)
    else:
        usual = over_ranks(_USUAL_POWER)
        place = POWERS.index(_USUAL_POWER)
        best = climb(usual, (judge(usual.rank, power, usual.state) for power in POWERS[place + 1 :]))
        if best is usual:
            best = climb(usual, (judge(usual.rank, power, usual.state) for power in reversed(POWERS[:place])))
    final = engine.resolved(best.power) if few else engine.resolved(best.power, _FINAL_SWEEPS)
    return Choice(offset(axes) + CP(best.rank, modes=varying), final, tuple(tried), protocol, best)


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
    power, made = float(fit.state.power), len(fit.objective)
    return Candidate(rank, power, crps, rmse, made, fit.compile_seconds, fit.run_seconds, fit.state)


def scale_of(observations: Observations) -> DataScale:
    """Mean and variance of the observed values, and the scale on which they vary along each mode."""
    values = np.asarray(observations.values)[np.asarray(observations.weights) > 0]
    variance = float(values.var())
    if variance == 0:
        # Constant data have no scale of their own; a thousandth of their size stands for it.
        variance = float(1e-3 * values[0]) ** 2 or 1.0
    return DataScale(float(values.mean()), variance, variogram.lengthscales(observations))
