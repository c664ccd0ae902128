"""Learning the hyper-parameters of the terms with blocks from posterior draws of their white noise.

The expectation of the log density over the draws, at white noise that stays as it is, is the part of the evidence lower
bound that depends on the hyper-parameters: the divergence from the prior does not. (With function values that stay as
they are the steps would be small: amplitude and shape are then fixed by the values.)

Source: Dempster et al. 1977, with Monte-Carlo expectations; Murray and Adams 2010 (whitened parametrisation).
"""

from __future__ import annotations

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from scipy.optimize import minimize

from probtensor.compilation import compiled_for
from probtensor.engines.collapsed.contrasts import Contrasts
from probtensor.engines.collapsed.signal import Signal
from probtensor.engines.drawn import Terms
from probtensor.hyperparameters import learned_mask, log_prior
from probtensor.typing import Array, Float

#: How far a logarithm may move in one step; common means of offsets are free, and searched in the values' own unit.
_REACH = 0.7


def learn(
    signal: Signal,
    noise: Contrasts,
    values: Float[np.ndarray, "N"],
    draws: Sequence[Float[np.ndarray, "P"]],
    iterations: int,
) -> Terms:
    """The terms with hyper-parameters a step further.

    Args:
        signal: of the terms.
        noise: the contrasts of residuals.
        values: at the entries.
        draws: of the white noise.
        iterations: of L-BFGS, at most.
    """
    learned, held = eqx.partition(signal.terms, signal.movable)
    if not draws or not sum(leaf.size for leaf in jax.tree.leaves(learned)):
        return signal.terms
    start, unravel = ravel_pytree(learned)
    flat = np.asarray(start)
    logarithms = eqx.filter(learned_mask(signal.terms), signal.movable)
    bounded = jax.tree.map(lambda value, logarithm: jnp.full(value.shape, bool(logarithm)), learned, logarithms)
    logarithm = np.asarray(ravel_pytree(bounded)[0]).astype(bool)
    width, unit = np.where(logarithm, _REACH, np.inf), np.where(logarithm, 1.0, np.std(values) or 1.0)
    prior = compiled_for(_log_prior, held)

    def loss(moved: np.ndarray) -> tuple[float, np.ndarray]:
        terms = unravel(jnp.asarray(flat + unit * moved))
        here = signal.with_terms(eqx.combine(terms, held))
        value, gradient = prior(terms)
        total, slope = -float(value), -np.asarray(ravel_pytree(gradient)[0])
        for white in draws:
            contrast = noise.A @ (values - here(white))
            total += 0.5 * float(np.sum(contrast**2 / noise.variance)) / len(draws)
            pulled = here.pull_learned(white, noise.weighted @ contrast)
            slope = slope - np.asarray(ravel_pytree(pulled)[0]) / len(draws)
        return total, unit * slope

    bounds = list(zip(-width, width, strict=True))
    found = minimize(
        loss, np.zeros_like(flat), jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": iterations}
    )
    return eqx.combine(unravel(jnp.asarray(flat + unit * found.x)), held)


def _log_prior(held: Terms, learned: Terms) -> tuple[Array, Terms]:
    """And its gradient."""
    return jax.value_and_grad(lambda part: jnp.asarray(log_prior(eqx.combine(part, held))))(learned)
