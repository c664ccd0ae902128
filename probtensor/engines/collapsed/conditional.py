"""Draws of some blocks given the others under a correlated noise, by perturbing the data and the prior and solving."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from scipy.sparse.linalg import LinearOperator, cg

from probtensor.engines.collapsed.contrasts import Contrasts
from probtensor.engines.collapsed.signal import Signal
from probtensor.errors import ProbtensorWarning
from probtensor.typing import Bool, Float

#: Posterior standard deviations by which a draw is off at most, in any direction: the norm of the residual, since no
#: eigenvalue of the precision is below 1. Relative to the data's size it would stop early where the noise is small.
_TOLERANCE = 0.1


class Perturbation(NamedTuple):
    """Standard normal noise in each contrast and each white number."""

    contrast: Float[np.ndarray, "N"]
    white: Float[np.ndarray, "P"]

    def mirrored(self) -> Perturbation:
        """The opposite noise: the mean of the pair of draws is the conditional mean."""
        return Perturbation(-self.contrast, -self.white)


def groups(signal: Signal) -> list[Bool[np.ndarray, "P"]]:
    """Which white numbers are drawn together: one block of every term, so that the signal is linear in them.

    A term with fewer blocks than another takes part again, in turn. The largest group comes last: most of what is
    uncertain lies in it, and opposite draws of the last group have the mean that is conditional on the others.
    """
    numbers = signal.blocks()
    most = max((len(own) for own in numbers), default=0)
    out = []
    for g in range(most):
        chosen = np.zeros(signal.size, dtype=bool)
        for own in numbers:
            if own:
                chosen[own[g % len(own)]] = True
        if chosen.any():
            out.append(chosen)
    return sorted(out, key=lambda chosen: int(chosen.sum()))


def draw(
    signal: Signal,
    noise: Contrasts,
    values: Float[np.ndarray, "N"],
    white: Float[np.ndarray, "P"],
    free: Bool[np.ndarray, "P"],
    perturbation: Perturbation,
    iterations: int,
) -> Float[np.ndarray, "P"]:
    """The white noise with its free part drawn from the posterior given the rest.

    The minimiser of half the squares of standardised contrasts and of white noise, each perturbed by its own standard
    normal noise; found by conjugate gradients.

    Args:
        signal: of the terms, linear in the free part.
        noise: the contrasts of residuals.
        values: at the entries.
        white: where the chain stands.
        free: what is drawn.
        perturbation: of contrasts and white noise.
        iterations: at most.

    Source: Papandreou and Yuille 2010 (perturb and optimise).
    """
    held = np.where(free, 0.0, white)
    constant = signal(held)
    target = noise.A @ (values - constant) + np.sqrt(noise.variance) * perturbation.contrast

    def put(part: np.ndarray) -> np.ndarray:
        whole = held.copy()
        whole[free] = part
        return whole

    def pull(contrast: np.ndarray) -> np.ndarray:
        return signal.pull(held, noise.weighted @ contrast)[free]

    def precision(part: np.ndarray) -> np.ndarray:
        return part + pull(noise.A @ (signal(put(part)) - constant))

    size = int(free.sum())
    system = LinearOperator((size, size), matvec=precision, dtype=white.dtype)
    right = perturbation.white[free] + pull(target)
    part, left = cg(system, right, x0=white[free], rtol=0.0, atol=_TOLERANCE, maxiter=iterations)
    if left:
        warnings.warn(
            f"a posterior draw of the terms beside Local was not solved for in {iterations} steps: the noise is tiny "
            "beside them, and error bars may be too narrow; hold it higher with likelihood=pt.Gaussian(pt.fixed(sd))",
            ProbtensorWarning,
            stacklevel=1,  # the same line for every draw, so that it is shown once
        )
    return put(part)


class Chain:
    """A Gibbs sampler over groups of blocks; every step is an exact draw given the other blocks.

    A posterior and not an optimum: an optimum of factors and loadings together follows the noise (the more, the fewer
    observations a function value has), draws do not.
    """

    def __init__(self, white: Float[np.ndarray, "P"], seed: int, iterations: int) -> None:
        """iterations: of the solver in one step, at most."""
        self.white, self._iterations = white, iterations
        self._rng = np.random.default_rng(seed)

    def sweep(self, signal: Signal, noise: Contrasts, values: Float[np.ndarray, "N"]) -> list[np.ndarray]:
        """Draws every group once; gives a pair of draws with opposite noise in the last group."""
        if signal.size == 0:
            return [self.white]
        pair = []
        free = groups(signal)
        for g, chosen in enumerate(free):
            one = Perturbation(self._rng.standard_normal(len(values)), self._rng.standard_normal(signal.size))
            if g == len(free) - 1:
                pair.append(draw(signal, noise, values, self.white, chosen, one.mirrored(), self._iterations))
            self.white = draw(signal, noise, values, self.white, chosen, one, self._iterations)
        return [self.white, *pair]
