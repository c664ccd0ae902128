"""Where one more component starts: the best product of smooth functions for what a model leaves over.

Alternating smooth fits from several random starts and lengthscales, side by side in one program, on incomplete data.
Outliers are drawn in: what lies further than `_CLIP` robust standard deviations from the fit counts as if it lay there
(Huber's loss, by pseudo-values), so that a few wild values cannot claim a component.

Source: Huber and Ronchetti 2009, Robust statistics, section 7.8 (pseudo-values); the alternation is the higher-order
power method of De Lathauwer, De Moor and Vandewalle 2000 with a smoother in place of the plain mean.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from probtensor.compilation import compiled
from probtensor.hyperparameters import component, is_parameter
from probtensor.observations.domain import Observations
from probtensor.observations.marginal_means import NORMAL_MEDIAN
from probtensor.priors.base import AbstractModePrior, Belief
from probtensor.terms.base import Block
from probtensor.terms.cp import BoundCP
from probtensor.terms.start import positive_starts
from probtensor.typing import Array, Float, Key

#: Residuals count up to this many robust standard deviations.
_CLIP = 2.5
#: Turns a median of absolute residuals into a standard deviation, for normal ones.
#: The bulk of the residuals counts as zero below this share of the noise.
_EXACT = 1e-3
#: Rounds over all modes.
_ROUNDS = 20


class Component(NamedTuple):
    """One component.

    Attributes:
        functions: mode -> (T,) values; all but the first mode's have mean square one.
        raws: mode -> logarithms of its hyper-parameters, in the order of `hyperparameters.parameters`.
        gain: by how many nats it explains the residual better than zero, its own divergence taken off.
    """

    functions: dict[str, np.ndarray]
    raws: dict[str, tuple[float, ...]]
    gain: float


def robust_sd(values: np.ndarray) -> float:
    """Standard deviation around zero of the bulk of some values."""
    return float(np.median(np.abs(values))) / NORMAL_MEDIAN


def components(
    term: BoundCP, observations: Observations, residual: Float[Array, "..."], noise_sd: float, key: Key
) -> list[Component]:
    """Candidates for one more component, the best first.

    Args:
        term: a CP whose R components are as many starts, each with the hyper-parameters that it is fitted under.
        observations: whose weights count; their values are not read.
        residual: what is to be explained, at every entry.
        noise_sd: of the residual beside the component.
        key: of the random starts.

    Cost O(R N D) a round for N entries and D modes.
    """
    seen = np.asarray(observations.weights) > 0
    left = np.asarray(residual)[seen]
    bulk = robust_sd(left)
    if bulk < _EXACT * noise_sd:  # most residuals are zero, so that what is left is no outlier
        bulk = float(np.sqrt(np.mean(left**2)))
    clip = jnp.asarray(_CLIP * max(bulk, 1e-12 * noise_sd))
    means, gains = _alternate(term, observations, residual, clip, jnp.asarray(1 / noise_sd**2), key)
    found = []
    for k in np.argsort(-np.asarray(gains)):
        functions = {n: np.asarray(m[k]) for n, m in zip(term.names, means, strict=True)}
        raws = {n: _raws(b.prior, int(k)) for n, b in zip(term.names, term.blocks, strict=True)}
        if all(np.isfinite(f).all() for f in functions.values()):
            found.append(Component(functions, raws, float(gains[k])))
    return found


def _raws(prior: AbstractModePrior, k: int) -> tuple[float, ...]:
    raws = [p.raw for p in jax.tree.leaves(prior, is_leaf=is_parameter) if is_parameter(p)]
    return tuple(float(raw[min(k, raw.shape[0] - 1)]) for raw in raws)


@compiled
def _alternate(
    term: BoundCP, observations: Observations, residual: Array, clip: Array, precision: Array, key: Key
) -> tuple[tuple[Float[Array, "R T"], ...], Float[Array, "R"]]:
    """Functions of every mode and gains of R starts."""

    def one(k: Array, key: Key) -> tuple[tuple[Array, ...], Array]:
        blocks = tuple(Block(component(b.prior, k, term.rank), b.points) for b in term.blocks)
        alone = BoundCP(1, term.names, term.constant, blocks)
        scales = [float(k > 0) for k in range(len(blocks))]
        beliefs = [_certain(b) for b in positive_starts(key, blocks, [1] * len(blocks), scales)]

        def turn(_: Array, means: tuple[Array, ...]) -> tuple[Array, ...]:
            return _round(alone, beliefs, means, observations, residual, clip, precision)[0]

        means = jax.lax.fori_loop(0, _ROUNDS, turn, tuple(b.mean for b in beliefs))
        means, cost = _round(alone, beliefs, means, observations, residual, clip, precision)
        fit = _value(alone, beliefs, means, observations)
        before, after = _huber(residual, clip), _huber(residual - fit, clip)
        gain = precision * jnp.sum(observations.weights * (before - after)) - cost
        return tuple(m[:, 0] for m in means), gain

    return jax.vmap(one)(jnp.arange(term.rank), jax.random.split(key, term.rank))


def _certain(belief: Belief) -> Belief:
    return belief._replace(cov=jnp.zeros_like(belief.cov))


def _huber(residual: Array, clip: Array) -> Array:
    size = jnp.abs(residual)
    return jnp.where(size <= clip, 0.5 * size**2, clip * (size - 0.5 * clip))


def _with(beliefs: list[Belief], means: tuple[Array, ...]) -> list[Belief]:
    return [b._replace(mean=m) for b, m in zip(beliefs, means, strict=True)]


def _value(term: BoundCP, beliefs: list[Belief], means: tuple[Array, ...], observations: Observations) -> Array:
    domain = observations.domain
    return term.mean(term.training_marginals(_with(beliefs, means), domain), domain)


def _round(
    term: BoundCP,
    beliefs: list[Belief],
    means: tuple[Array, ...],
    observations: Observations,
    residual: Array,
    clip: Array,
    precision: Array,
) -> tuple[tuple[Array, ...], Array]:
    """Each mode's function smoothed given the others; and the sum of their divergences from the priors."""
    fit = _value(term, beliefs, means, observations)
    target = fit + jnp.clip(residual - fit, -clip, clip)
    now, cost = list(means), jnp.zeros((), residual.dtype)
    for d, block in enumerate(term.blocks):
        sites = term.sites(d, _with(beliefs, tuple(now)), observations, target).times(precision)
        belief = block.posterior(sites)
        size = jnp.sqrt(jnp.mean(belief.mean**2))
        # The first mode carries the amplitude; a function that vanishes stays as it is.
        now[d] = belief.mean if d == 0 else belief.mean / jnp.where(size > 0, size, 1.0)
        cost = cost + belief.kl
    # The first mode once more, since the others' scales have changed since.
    sites = term.sites(0, _with(beliefs, tuple(now)), observations, target).times(precision)
    now[0] = term.blocks[0].posterior(sites).mean
    return tuple(now), cost
