"""``model="auto"``: an offset with what earns its place beside it, chosen on held-out gaps.

Candidates are a CP over all modes, with the rank and the likelihood's power; and, unless the data are very few or very
many, sums with a local term. They are judged by the continuous ranked probability score on gaps shaped like those of
the data: what is asked of the model later. One hold-out serves all; it is drawn from the training entries, and the
chosen model is fitted to all of them.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

import jax
import numpy as np

from probtensor import arrays
from probtensor.axes import Axis, join_names
from probtensor.compilation import one_blas_thread
from probtensor.engines.message_passing import MessagePassing
from probtensor.engines.sweep import State
from probtensor.errors import DataError, ModelError
from probtensor.kernels.field import AbstractFieldKernel
from probtensor.kernels.metric import latitude_longitude
from probtensor.likelihoods.gaussian import BoundGaussian, Gaussian
from probtensor.model import as_sum, bind
from probtensor.observations.domain import Observations
from probtensor.selection import grids, judging, local
from probtensor.selection.beside import factors_beside, main_effects
from probtensor.selection.choice import Candidate, Choice
from probtensor.selection.hold_out import HoldOut, hold_out, number_of_places
from probtensor.selection.roles import times
from probtensor.selection.trends import trend
from probtensor.terms.base import Sum
from probtensor.terms.cp import CP
from probtensor.terms.local import Local
from probtensor.terms.offset import Climatology, Offset
from probtensor.terms.scale import scale_of

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
#: Observations, and different places, from which some are held out.
_FEWEST = 10
#: Local terms are tried with so many observations: fewer are soon fitted by anything, more take too long.
_LOCAL_FEWEST, _LOCAL_MOST = 200, 100_000
#: Draws and neighbours while they are tried.
_DRAWS, _NEIGHBOURS = 8, 15
#: On a grid each draw is a right side more to solve for.
_DRAWS_ON_GRID = 4
#: A CP is not tried beside a local term if alone it scores worse than that by more than this factor.
_HOPELESS = 1.5


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


def offset(axes: Mapping[str, Axis]) -> Sum:
    """A constant, and one for each month where the axes have a mode of months."""
    months = [name for name, axis in axes.items() if axis.parent]
    return as_sum(Offset() + Climatology(months[0]) if months else Offset())


def has_seasons(axis: Axis) -> bool:
    """Whether a time axis is long and fine enough to tell the months of the year apart."""
    return axis.kind == "time" and axis.range >= 2 * 365 and axis.spacing <= 62


def surfaces(axes: Mapping[str, Axis]) -> list[str]:
    """Names of the joined modes of a latitude and a longitude that vary."""
    names = [n for n, a in axes.items() if a.kind == "numeric" and a.size > 1]
    pairs = itertools.combinations(names, 2)
    return [join_names(pair) for pair in pairs if latitude_longitude([axes[n] for n in pair])]


def choose(
    axes: Mapping[str, Axis],
    observations: Observations,
    likelihood: Gaussian,
    engine: MessagePassing,
    seed: int,
    note: Callable[[str], None] = lambda text: None,
    ranks: tuple[int, ...] | None = None,
    local_terms: bool = True,
) -> Choice:
    """Chooses the terms, their rank and the power.

    Args:
        axes: the data's modes, a derived ``"….month"`` where `has_seasons`, and latitude and longitude joined.
        observations: the training data.
        likelihood: the declared noise.
        engine: options that stay as they are; the power is searched and the sweeps are bounded where they are None.
        seed: of the held-out gaps and the starts.
        note: is told what is being tried.
        ranks: tried in turn, from low to high, and nothing but a CP; None: those of `RANKS` that the data can bear, and
            local terms.
        local_terms: whether those are tried.
    """
    base = [name for name, axis in axes.items() if not (axis.parent or axis.parts)]
    varying = [name for name in base if axes[name].size > 1]
    count = observations.count
    if not varying or count < _FEWEST:
        model = offset(axes) + CP(ranks[0], modes=varying) if ranks and varying else Sum((Offset(),))
        return Choice(model, engine.resolved(), (), "none: too few observations to hold any out")
    if np.ptp(np.asarray(observations.values)[np.asarray(observations.weights) > 0]) == 0:
        return Choice(Sum((Offset(),)), engine.resolved(), (), "none: all values are the same")
    if number_of_places(observations) < _FEWEST:
        model = offset(axes) + CP(ranks[0] if ranks else 1, modes=varying)
        return Choice(model, engine.resolved(), (), "none: too few places to hold any out")
    held = hold_out(base, observations, seed, times(axes))
    judge = _Judge(dict(axes), base, observations, held, likelihood, engine, seed, note)
    if ranks is not None:
        return judge.choice(judge.low_rank(ranks))
    ranks = tuple(r for r in RANKS if r == RANKS[0] or r * sum(axes[n].size for n in varying) < count)
    if len(varying) == 1:
        ranks = (1,)  # one function of one coordinate: more components would be the same again
    best = judge.low_rank(ranks)
    if local_terms and _LOCAL_FEWEST <= count <= _LOCAL_MOST:
        best = judge.with_local(best)
    elif local_terms and count > _LOCAL_MOST and grids.serves(axes, observations):
        best = judge.on_grid(best)
    return judge.choice(best)


class _Judge:
    """Fits candidates to what is not held out, and scores them on what is."""

    def __init__(
        self,
        axes: Mapping[str, Axis],
        base: Sequence[str],
        observations: Observations,
        held: HoldOut,
        likelihood: Gaussian,
        engine: MessagePassing,
        seed: int,
        note: Callable[[str], None],
    ) -> None:
        self._axes, self._likelihood, self._engine, self._seed, self._note = axes, likelihood, engine, seed, note
        self._observations, self._inner, self._held = observations, judging.without(observations, held.mask), held
        self._varying = [name for name in base if axes[name].size > 1]
        self._few = observations.count <= _FEW
        self._scale = scale_of(self._inner)
        self._base = base
        self._gaps: np.ndarray | None = None
        self._tried: list[Candidate] = []
        self._forms: list[local.Evidence] = []
        self._form: local.Evidence

    def choice(self, best: Candidate) -> Choice:
        """Model and engine of the final fit, which has time for more neighbours, and the evidence."""
        model = Sum(tuple(Local(t.kernel) if isinstance(t, Local) else t for t in best.model.terms))
        engine = dataclasses.replace(self._engine, power=best.power)
        if not best.has_local:
            engine = engine.resolved() if self._few else engine.resolved(max_sweeps=_FINAL_SWEEPS)
        return Choice(model, engine, tuple(self._tried), self._held.protocol, best, tuple(self._forms), self._held)

    def low_rank(self, ranks: Sequence[int]) -> Candidate:
        """The best rank and power of a CP over all modes."""

        def over_ranks(power: float) -> Candidate:
            return _climb(self._cp(ranks[0], power), (self._cp(rank, power) for rank in ranks[1:]))

        if self._engine.power is not None:
            return over_ranks(self._engine.power)
        if self._few:
            return min((over_ranks(power) for power in POWERS), key=lambda c: c.crps)
        usual = over_ranks(_USUAL_POWER)
        place = POWERS.index(_USUAL_POWER)
        best = _climb(usual, (self._cp(usual.rank, power, usual.state) for power in POWERS[place + 1 :]))
        if best is usual:
            best = _climb(usual, (self._cp(usual.rank, power, usual.state) for power in reversed(POWERS[:place])))
        return best

    def _cp(self, rank: int, power: float, init: State | None = None) -> Candidate:
        sweeps = _SWEEPS_IF_FEW if self._few else _SWEEPS if init is None else _SWEEPS_ON
        sweeps = sweeps if self._engine.max_sweeps is None else min(self._engine.max_sweeps, sweeps)
        short = dataclasses.replace(self._engine, power=power, max_sweeps=sweeps, restarts=1)
        model = offset(self._axes) + CP(rank, modes=self._varying)
        return self._judged(f"rank {rank:>3}, power {power:<5g}", model, rank, short, init)

    def with_local(self, low_rank: Candidate) -> Candidate:
        """The best of sums with a local term, and of what was best without one."""
        mains = main_effects(self._axes, not self._held.sites)
        base = offset(self._axes) if mains is None else offset(self._axes) + mains
        self._gaps = _gaps(self._axes, self._base, self._inner, self._seed + 1)
        self._forms = [] if self._gaps is None else self._kernels(base, self._gaps)
        if not self._forms:
            return low_rank if mains is None else _better(low_rank, self._plain("main effects", base))
        name = "local" if mains is None else "main effects + local"
        best = self._either_form(name, base, low_rank)
        kernel = local.adapted(self._axes, self._forms)
        if kernel is not None:
            best = _better(best, self._beside(f"{name}, adapted", base, low_rank, kernel=kernel))
        if best.has_adapted:
            return _better(low_rank, best)
        if low_rank.crps > _HOPELESS * best.crps:
            return best
        orders, beside = dict(self._form.form.orders), best.name
        best = _climb(
            best,
            (
                self._beside(f"rank {rank} over {', '.join(modes)} + {beside}", base + CP(rank, modes), low_rank, rank)
                for rank, modes in factors_beside(self._axes, self._varying, orders)
            ),
        )
        return _better(low_rank, best)

    def on_grid(self, low_rank: Candidate) -> Candidate:
        """A sum of separable processes over space and time, or what was best without it."""
        seasonal = any(has_seasons(axis) for axis in self._axes.values())
        mains = (
            None if seasonal else main_effects(self._axes, not self._held.sites)
        )  # few years leave the mean of a place open
        base = offset(self._axes) if mains is None else offset(self._axes) + mains
        self._gaps = _gaps(self._axes, self._base, self._inner, self._seed + 1)
        if self._gaps is None:
            return low_rank
        inner, residual, noise, rows = self._left_over(base)
        with one_blas_thread():
            form = grids.propose(self._axes, inner, residual, noise, self._gaps.ravel()[rows], seasonal, self._note)
        name = "processes that stay, return, last and pass" if seasonal else "processes that stay, last and pass"

        def tried(name: str, form: grids.SpaceTime) -> tuple[Candidate, grids.SpaceTime]:
            found = self._beside(name, base, low_rank, kernel=form.kernel, draws=_DRAWS_ON_GRID)
            if found.state.local is not None:  # a fit to all data begins with what this one has learned
                form = form.with_numbers(found.state.local.kernel)
                found = dataclasses.replace(found, model=base + Local(form.kernel))
            return found, form

        best, form = tried(name, form)
        shared = None
        if best.state.local is not None and self._held.forecast:
            shared = trend(self._axes, form.time, inner, residual, float(noise.floor))
        if shared is not None:
            going, goes_on = tried(f"{name}, go on", form.with_trend(shared, self._axes))
            if _better(best, going) is going:
                best, form, name = going, goes_on, going.name
        if best.state.local is not None and grids.can_adapt(self._axes):
            best = _better(best, tried(f"{name}, adapted", dataclasses.replace(form, adapts=True))[0])
        return _better(low_rank, best)

    def _either_form(self, name: str, model: Sum, low_rank: Candidate) -> Candidate:
        """A model with the local term of the densest form beside it, or with that form's rival if this fills better."""
        self._form, rival = self._forms[-1], local.rival(self._forms)
        best = self._beside(name, model, low_rank)
        if rival is None:
            return best
        densest, self._form = self._form, rival
        other = self._beside(f"{name} {rival.form}", model, low_rank)
        if other.crps < best.crps:
            return other
        self._form = densest
        return best

    def _plain(self, name: str, model: Sum) -> Candidate:
        return self._judged(name, model, 0, dataclasses.replace(self._engine.resolved(), restarts=1))

    def _kernels(self, base: Sum, gaps: np.ndarray) -> list[local.Evidence]:
        """Kernels for what a model leaves over, the best last."""
        inner, residual, noise, rows = self._left_over(base)
        with one_blas_thread():
            return local.propose(self._axes, inner, residual, noise, gaps.ravel()[rows], self._note)

    def _left_over(self, base: Sum) -> tuple[Observations, np.ndarray, BoundGaussian, np.ndarray]:
        """What is not held out, as a list, what a model leaves over of it, the noise, and which entries these are."""
        bound = bind(base, self._axes, self._likelihood, self._scale)
        # As a list: kernels are learned from rounding errors on, and a grid has others than a table.
        inner, rows = self._inner.listed()
        state = self._engine.resolved().run(bound, inner, jax.random.key(self._seed)).state
        residual = np.asarray(inner.values - arrays.fitted(state, inner.domain).mean)
        noise = state.model.likelihood
        assert isinstance(noise, BoundGaussian)
        return inner, residual, noise, rows

    def _beside(
        self,
        name: str,
        model: Sum,
        low_rank: Candidate,
        rank: int = 0,
        kernel: AbstractFieldKernel | None = None,
        draws: int = _DRAWS,
    ) -> Candidate:
        """A model with the local term beside it; it starts with the power that suits a CP."""
        draws = min(self._engine.draws, draws)
        short = dataclasses.replace(self._engine, restarts=1, draws=draws, power=low_rank.power)
        term = Local(self._form.kernel if kernel is None else kernel, _NEIGHBOURS)
        return self._judged(name, model + term, rank, short)

    def _judged(self, name: str, model: Sum, rank: int, engine: MessagePassing, init: State | None = None) -> Candidate:
        self._note(f"trying {name}")
        bound = bind(model, self._axes, self._likelihood, self._scale)
        fit = engine.run(bound, self._inner, jax.random.key(self._seed), init=init, gaps=self._gaps)
        candidate = Candidate(
            name,
            model,
            rank,
            float(fit.state.power),
            fit.state.local is not None,
            *judging.predicted(fit.state, self._observations, self._held.mask).score,
            len(fit.objective),
            fit.compile_seconds,
            fit.run_seconds,
            fit.state,
        )
        self._tried.append(candidate)
        return candidate


def _climb(best: Candidate, candidates: Iterator[Candidate]) -> Candidate:
    """The best of a ladder of candidates, left at the first that does not gain."""
    for candidate in candidates:
        if _better(best, candidate) is best:
            break
        best = candidate
    return best


def _better(best: Candidate, candidate: Candidate) -> Candidate:
    """A candidate if it gains on the best so far, else that."""
    return best if candidate.crps > best.crps * (1 - _GAIN) else candidate


def _gaps(axes: Mapping[str, Axis], base: Sequence[str], observations: Observations, seed: int) -> np.ndarray | None:
    """Gaps in what is not held out, for a local term to learn from; None where all of it is at one place."""
    try:
        return hold_out(base, observations, seed, times(axes)).mask
    except DataError:
        return None
