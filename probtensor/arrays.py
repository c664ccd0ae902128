"""The array-level face: fitting, prediction and sampling inside a larger JAX program.

Everything here takes and returns arrays and follows the caller's dtype; nothing knows labels or units. `problem` puts
numbers into a model once, on the host. What follows may then stand in a program of your own, under ``jax.jit``,
``jax.vmap`` and ``jax.grad``, and is compiled once for all values and weights of one shape: `observed` and `at` (new
data, new places), `start` and `sweeps` (a fit of a fixed number of sweeps), `fitted`, `predict` and `sample`. A state
is a tree of arrays.

Predictions can be differentiated with respect to new coordinates that lie between the levels of the data; at a level
itself rough functions have no derivative, which is NaN there. Under `Nearest` with more than 1,000 levels times
components there is none, as JAX then says. Draws of a sampler and local terms stay on the host.

In 32 bits, data should have noise: without, precisions grow beyond what 32 bits hold. Measured from one start, means
are then within 0.001 predictive standard deviations of those in 64 bits where hyper-parameters are held and the noise
is a hundredth of the signal or more; within 0.05 where they are learned and it is a tenth or more. With less noise,
learning can end elsewhere. Products of matrices keep all 32 bits, on accelerators too, where JAX would round their
factors to 10 or fewer. Values have to lie between 1e-12 and 1e15 in size; in 64 bits between 1e-75 and 1e75.

Example: the held-out error under each of several weightings, all fitted side by side in one program.

    >>> import jax, jax.numpy as jnp, numpy as np, probtensor as pt
    >>> from probtensor import arrays
    >>> x, y = np.linspace(0, 1, 8, dtype=np.float32), np.arange(6, dtype=np.float32)
    >>> random = np.random.default_rng(0)
    >>> values = (np.sin(3 * x)[:, None] * (y + 1) + 0.1 * random.normal(size=(8, 6))).astype(np.float32)
    >>> term = pt.CP(1, {"x": pt.Matern(1 / 2), "y": None})
    >>> model, data = arrays.problem(term, {"x": x, "y": y}, values, names=["y"])
    >>> @jax.jit
    ... def error(weights):
    ...     some = arrays.observed(data.domain, values, weights)
    ...     state, objective = arrays.sweeps(arrays.start(model, some, jax.random.key(0)), some, 10)
    ...     misfit = (arrays.fitted(state, data.domain).mean - values) ** 2
    ...     return jnp.sum((1 - weights) * misfit) / jnp.sum(1 - weights)
    >>> weights = (random.random((3, 8, 6)) < 0.8).astype(np.float32)
    >>> errors = jax.vmap(error)(weights)
    >>> errors.shape, errors.dtype, bool(jnp.all(errors < 0.2))
    ((3,), dtype('float32'), True)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from probtensor.axes import Axis, join
from probtensor.compilation import compiled, is_traced, on_device, one_blas_thread, shapes_of
from probtensor.engines import drawn, sweep
from probtensor.engines.collapsed import prediction
from probtensor.engines.drawn import refuse_local
from probtensor.engines.message_passing import learning_sweeps
from probtensor.engines.placing import Asked, asked
from probtensor.engines.sweep import Rule, State, moments
from probtensor.errors import DataError, ModelError
from probtensor.likelihoods.base import AbstractLikelihood
from probtensor.likelihoods.gaussian import Gaussian
from probtensor.model import BoundModel, as_sum, bind
from probtensor.observations import magnitude
from probtensor.observations.domain import Domain, Observations, domain
from probtensor.observations.layout import Grid, Points
from probtensor.priors.base import Marginals
from probtensor.terms.modes import parts_of
from probtensor.terms.scale import scale_of
from probtensor.typing import Array, ArrayLike, Float, Int, Key

#: Of functions at coordinates without data, in predictions from draws.
_SEED = 0
#: An entry's share of what is known of its signal, at most: products can seem to owe it more than all.
_MOST_OF_ITSELF = 0.99


class Problem(NamedTuple):
    """A model with numbers, and its data.

    Attributes:
        model: terms and likelihood with numbers.
        observations: values, weights and where they are.
    """

    model: BoundModel
    observations: Observations


class Prediction(NamedTuple):
    """Mean and variance of the noise-free signal at each entry of a domain.

    Attributes:
        mean: of each entry.
        variance: of each entry.
    """

    mean: Float[Array, "..."]
    variance: Float[Array, "..."]


def _combine(state: State, marginals: Mapping[int, Sequence[Marginals]], domain: Domain) -> Prediction:
    """The sum of terms, by their positions in the model."""
    mean = variance = jnp.zeros(domain.shape, state.power.dtype)
    for j, own in marginals.items():
        mean = mean + state.model.terms[j].mean(own, domain)
        variance = variance + state.model.terms[j].variance(own, domain)
    return Prediction(mean, variance)


def predict(state: State, domain: Domain, terms: tuple[int, ...] | None = None) -> Prediction:
    """The signal of these terms at any domain.

    Levels that the data have are read off the beliefs, which is the same as to smooth once more, as is done inside
    another program.

    Args:
        state: of a fit.
        domain: where the entries are.
        terms: their positions in the model; None: all.

    Raises:
        ModelError: the state is of draws, by a sampler or with a local term, and this is inside another program.
    """
    terms = tuple(range(len(state.model.terms))) if terms is None else terms
    if is_traced((state, domain, jnp.zeros(()))):
        _refuse_draws(state, "predict")
        return _everywhere(state, domain, terms)
    if state.local is not None or state.draws is not None:
        return _from_draws(state, domain, terms, known=False)
    where = {j: asked(state.model.terms[j], state.beliefs[j], domain) for j in terms}
    return _predict(state, where, domain)


def predicted_shapes(state: State, domain: Domain, terms: tuple[int, ...]) -> Prediction:
    """The shapes of what `predict` gives, with no numbers computed.

    Args:
        state: without draws and local term.
        domain: where.
        terms: their positions in the model.

    Returns:
        Shapes and dtypes of mean and variance.
    """
    where = {j: asked(state.model.terms[j], state.beliefs[j], domain) for j in terms}
    return shapes_of(_predict, state, where, domain)


def _refuse_draws(state: State, what: str) -> None:
    if state.local is not None or state.draws is not None:
        raise ModelError(
            f"arrays.{what}: a state of draws, by a sampler or with a Local term, is read on the host, and not inside "
            "another JAX program"
        )


@compiled
def _everywhere(state: State, domain: Domain, terms: tuple[int, ...]) -> Prediction:
    """Everything smoothed once more, with the asked coordinates among the data's."""
    marginals = {}
    for j in terms:
        term = state.model.terms[j]
        blocks = zip(term.blocks, state.beliefs[j], term.block_points(domain), strict=True)
        marginals[j] = [block.prior.predict(belief, points) for block, belief, points in blocks]
    return _combine(state, marginals, domain)


@compiled
def _predict(state: State, where: dict[int, tuple[Asked, ...]], domain: Domain) -> Prediction:
    marginals = {
        j: [one.marginals(belief) for one, belief in zip(own, state.beliefs[j], strict=True)]
        for j, own in where.items()
    }
    return _combine(state, marginals, domain)


def _from_draws(state: State, domain: Domain, terms: tuple[int, ...], known: bool) -> Prediction:
    key = jax.random.key(_SEED)
    with one_blas_thread():
        if state.draws is not None:
            found = drawn.moments(drawn.signals(state.model.terms, state.draws, domain, terms, known, key))
        else:
            assert state.local is not None
            found = prediction.moments(state.model, state.local, domain, terms, known, key)
    return Prediction(*(jnp.asarray(part.reshape(domain.shape)) for part in found))


def fitted(state: State, domain: Domain) -> Prediction:
    """The signal at the training domain, read off the beliefs: cheaper than `predict`, and the same.

    Args:
        state: of a fit.
        domain: the training domain.

    Raises:
        ModelError: as in `predict`.
    """
    if is_traced((state, domain, jnp.zeros(()))):
        _refuse_draws(state, "fitted")
    if state.local is not None or state.draws is not None:
        return _from_draws(state, domain, tuple(range(len(state.model.terms))), known=True)
    return _fitted(state, domain)


@compiled
def _fitted(state: State, domain: Domain) -> Prediction:
    pairs = zip(state.model.terms, state.beliefs, strict=True)
    marginals = {j: t.training_marginals(b, domain) for j, (t, b) in enumerate(pairs)}
    return _combine(state, marginals, domain)


@compiled
def leave_one_out(state: State, observations: Observations) -> Prediction:
    """The signal at every training entry as it is believed to be without what was observed there.

    The entry's pseudo-observation is taken out of the signal's marginal, which is exact for a Gaussian process and
    keeps hyper-parameters and, in products, the other functions as they are.

    Args:
        state: of a fit.
        observations: to which it was fitted.

    Source: Rasmussen and Williams 2006, Gaussian processes for machine learning, equations 5.10 to 5.12.
    """
    found = moments(state.model.terms, state.beliefs, observations, by_entry=True)
    pseudo = state.pseudo or state.model.likelihood.pseudo(observations, found)
    mean, variance = found.each
    precision = state.power * observations.weights * pseudo.precision
    wider = variance / (1 - jnp.minimum(precision * variance, _MOST_OF_ITSELF))
    return Prediction(mean + wider * precision * (mean - pseudo.target), wider)


def sample(state: State, domain: Domain, key: Key, n: int) -> Float[Array, "n ..."]:
    """Joint draws of the signal at every entry of a domain: functions are drawn once and used everywhere.

    Of a sampler's S draws n different ones, in random order; where n is above S, some more than once.

    Args:
        state: of a fit.
        domain: where the entries are.
        key: of the draws.
        n: how many.

    Raises:
        ModelError: as in `predict`.
    """
    if is_traced((state, domain, key, jnp.zeros(()))):
        _refuse_draws(state, "sample")
    if state.local is None and state.draws is None:
        return _sample(state, domain, key, n)
    with one_blas_thread():
        if state.draws is not None:
            terms = tuple(range(len(state.model.terms)))
            some = drawn.picked(state.draws, key, n)
            found = np.stack(list(drawn.signals(state.model.terms, some, domain, terms, False, key)))
        else:
            assert state.local is not None
            found = prediction.draws(state.model, state.local, domain, key, n)
    return jnp.asarray(found.reshape(n, *domain.shape))


@compiled
def _sample(state: State, domain: Domain, key: Key, n: int) -> Float[Array, "n ..."]:
    total = jnp.zeros((n, *domain.shape), state.power.dtype)
    for term, beliefs, k in zip(
        state.model.terms, state.beliefs, jax.random.split(key, len(state.beliefs)), strict=True
    ):
        keys = jax.random.split(k, len(beliefs))
        points = term.block_points(domain)
        blocks = zip(term.blocks, beliefs, points, keys, strict=True)
        values = [block.prior.sample(belief, p, one, n) for block, belief, p, one in blocks]
        total = total + jax.lax.map(lambda v, term=term: term.draw(v, domain), tuple(values))
    return total


def problem(
    model: Any,
    points: Mapping[str, ArrayLike],
    values: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    index: Int[np.ndarray, "N D"] | None = None,
    likelihood: AbstractLikelihood | None = None,
    names: Sequence[str] = (),
) -> Problem:
    """A model with numbers in it, and its data. On the host; not inside another program.

    Starts of hyper-parameters and the scale of the noise are read off these values, so that they should be typical of
    those that are fitted later.

    Args:
        model: a sum of terms, with ranks and without ``Local``.
        points: of each mode the (T,) levels, ascending and distinct; the modes in the order of the axes of ``values``.
        values: (T1, ..., TD) on the grid of all levels, or (N,) with an index. NaN: not observed. Everything is
            computed in their dtype, from 32 bits on, or in 32 where JAX has no others; integers become floats.
        weights: like values, at least 0; None: 1.
        index: (N, D) the level of each value in each mode.
        likelihood: how values are distributed around the signal; ``pt.Gaussian()`` by default.
        names: modes whose levels are names, given as numbers.

    Raises:
        DataError: shapes do not fit, levels do not ascend, values cannot be squared in their precision, or nothing is
            observed.
        ModelError: the model does not fit the data, or has an open rank or a local term.
    """
    likelihood = Gaussian() if likelihood is None else likelihood
    if isinstance(likelihood, Gaussian) and likelihood.scale:
        raise ModelError(f"arrays.problem: scale={likelihood.scale!r} is for labelled data; standardise the values")
    declared, values = as_sum(model), np.asarray(values)
    with np.errstate(over="ignore"):  # what becomes infinite is refused
        values = values.astype(jax.dtypes.canonicalize_dtype(magnitude.computed_in(values.dtype)))
    levels = {name: np.asarray(own).astype(values.dtype) for name, own in points.items()}
    _check(levels, values, index)
    modes = (*declared.mode_names(tuple(levels)), *likelihood.mode_names())
    joined = {mode: parts_of(mode, tuple(levels)) for mode in modes if len(parts_of(mode, tuple(levels))) > 1}
    where = domain(levels, {}, index, joined)
    seen = np.ones(values.shape) if weights is None else np.asarray(weights)
    if seen.shape != values.shape or not (seen >= 0).all():
        raise DataError(f"weights must be like values, {values.shape}, and at least 0; they have shape {seen.shape}")
    data = observed(where, likelihood.transformed(values), seen)
    if not data.count:
        raise DataError("no entry is observed: every value is missing or has weight 0")
    axes = {name: Axis(name, _kind(len(own), name in names), own) for name, own in levels.items()}
    for mode, parts in joined.items():
        axes[mode] = join([axes[part] for part in parts], np.asarray(where.points[mode]))
    latent = observed(where, likelihood.latent(values, {}), seen)
    bound = bind(declared, axes, likelihood, scale_of(latent, cycles=declared.open_periods > 0))
    refuse_local("arrays.problem", bound)
    return Problem(jax.tree.map(lambda leaf: _as(leaf, values.dtype), bound), data)


def _kind(levels: int, named: bool) -> str:
    return "constant" if levels == 1 else "category" if named else "numeric"


def _check(levels: Mapping[str, np.ndarray], values: np.ndarray, index: np.ndarray | None) -> None:
    """Raises DataError for levels that do not ascend, or shapes that do not fit."""
    for name, own in levels.items():
        if own.ndim != 1 or not own.size or not np.isfinite(own).all() or not (np.diff(own) > 0).all():
            raise DataError(f"points[{name!r}]: levels must be finite, one-dimensional, distinct and ascending")
    sizes = tuple(len(own) for own in levels.values())
    if index is None and values.shape != sizes:
        raise DataError(f"values have shape {values.shape}, and the modes {list(levels)} have {sizes} levels")
    if index is not None:
        index = np.asarray(index)
        fits = index.shape == (*values.shape, len(sizes)) and values.ndim == 1
        if not (fits and ((index >= 0) & (index < np.array(sizes))).all()):
            raise DataError(
                f"index has shape {index.shape}; expected the level of each of N values in each of the modes "
                f"{list(levels)}, from 0 to below {sizes}"
            )
    magnitude.check(values, lambda at: f"at index {at}")


def _as(leaf: Any, dtype: np.dtype) -> Any:
    """Numbers in another precision; anything else as it is."""
    floating = eqx.is_inexact_array(leaf) and leaf.dtype != dtype
    return on_device(np.asarray(leaf).astype(dtype)) if floating else leaf


def observed(where: Domain, values: ArrayLike, weights: ArrayLike | None = None) -> Observations:
    """Values on a domain, such as other ones at the places of a `problem`; what is NaN or of weight 0 is not observed.

    Args:
        where: the domain.
        values: shaped like it, already transformed if the likelihood has a transform.
        weights: the same, at least 0; None: 1.
    """
    values = jnp.asarray(values)
    given = jnp.ones_like(values) if weights is None else jnp.asarray(weights).astype(values.dtype)
    seen = jnp.isfinite(values) & (given > 0)
    return Observations(where, jnp.where(seen, values, 0.0), jnp.where(seen, given, 0.0))


def at(where: Domain, points: Mapping[str, ArrayLike], index: Int[ArrayLike, "N D"] | None = None) -> Domain:
    """A domain like another, of a model without joined modes, at other coordinates.

    Args:
        where: the domain of the data.
        points: of each mode (M,) coordinates, in any order.
        index: (N, D) which of these each entry has, in the order of the modes; None: all combinations, a grid.

    Raises:
        ModelError: a mode is joined with another, or its coordinates are not given.
    """
    names = [name for name, _ in where.position]
    if set(names) != set(points) or any(isinstance(place, tuple) for _, place in where.position):
        raise ModelError(f"arrays.at: expected coordinates of each of the modes {names}, none of them joined")
    dtype = where.points[names[0]].dtype
    numbers = {name: jnp.asarray(points[name]).astype(dtype) for name in names}
    layout = Grid(tuple(len(own) for own in numbers.values())) if index is None else Points(jnp.asarray(index))
    return Domain(layout, numbers, where.position)


def start(model: BoundModel, observations: Observations, key: Key) -> State:
    """Where `sweeps` start: beliefs drawn from the priors.

    Args:
        model: with numbers, of a `problem`.
        observations: the data.
        key: of the draws.
    """
    dtype = observations.values.dtype
    most = None if model.likelihood.conjugate else jnp.ones((), dtype)
    return sweep.start(model, jnp.ones((), dtype), observations, key, Rule(), most)


def sweeps(state: State, observations: Observations, n: int, learn: bool = True) -> tuple[State, Float[Array, "n"]]:
    """The state after n sweeps of variational message passing, and the objective after each, in nats.

    No rule stops them: some dozens do for most data; the objective tells. Cost as `probtensor.MessagePassing`'s.

    Args:
        state: of `start`, or of earlier sweeps of the same model.
        observations: the data.
        n: number of sweeps.
        learn: whether hyper-parameters are learned, in every second sweep after the first six; the likelihood's are in
            any case, unless fixed.

    Raises:
        ModelError: the state is one of draws.
    """
    _refuse_draws(state, "sweeps")
    steps = jnp.asarray(learning_sweeps(0, n) & learn)
    after, info = sweep.sweeps(state, observations, steps)
    return after, info.elbo
