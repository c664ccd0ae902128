"""Draws of some blocks given the others under a correlated noise, by perturbing the data and the prior and solving."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np

from probtensor.engines.collapsed.contrasts import Contrasts
from probtensor.engines.collapsed.signal import Signal
from probtensor.engines.collapsed.systems import System
from probtensor.errors import ProbtensorWarning
from probtensor.typing import Bool, Float


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
    system: System,
    values: Float[np.ndarray, "N"],
    start: Float[np.ndarray, "P"],
    one: Perturbation,
    iterations: int,
) -> Float[np.ndarray, "P"]:
    """The white noise with its free part drawn from the posterior given the rest.

    The minimiser of half the squares of standardised contrasts and of white noise, each perturbed by its own standard
    normal noise.

    Args:
        system: of the free part.
        values: at the entries.
        start: where the solver starts.
        one: noise of contrasts and white noise.
        iterations: of the solver, at most.

    Source: Papandreou and Yuille 2010 (perturb and optimise).
    """
    target = system.contrast(values) + np.sqrt(system.noise.variance) * one.contrast
    right = one.white[system.free] + system.pull(target)
    part, solved = system.solve(right, start[system.free], iterations)
    if not solved:
        warnings.warn(
            f"a posterior draw of the terms beside Local was not solved for in {iterations} steps: the noise is tiny "
            "beside them, and error bars may be too narrow; hold it higher with likelihood=pt.Gaussian(pt.fixed(sd))",
            ProbtensorWarning,
            stacklevel=1,  # the same line for every draw, so that it is shown once
        )
    return system.whole(part)


class Chain:
    """A Gibbs sampler over groups of blocks; every step is an exact draw given the other blocks.

    A posterior and not an optimum: an optimum of factors and loadings together follows the noise (the more, the fewer
    observations a function value has), draws do not.
    """

    def __init__(self, white: Float[np.ndarray, "P"], seed: int, iterations: int) -> None:
        """iterations: of the solver in one step, at most."""
        self.white, self._iterations = white, iterations
        self._rng = np.random.default_rng(seed)
        self._systems: dict[int, System] = {}

    def sweep(self, signal: Signal, noise: Contrasts, values: Float[np.ndarray, "N"]) -> list[np.ndarray]:
        """Draws every group once; gives a pair of draws with opposite noise in the last group."""
        if signal.size == 0:
            return [self.white]
        pair = []
        free = groups(signal)
        for g, chosen in enumerate(free):
            one = Perturbation(self._rng.standard_normal(len(noise.variance)), self._rng.standard_normal(signal.size))
            system = self._system(g, signal, noise, chosen)
            if g == len(free) - 1:
                pair.append(draw(system, values, self.white, one.mirrored(), self._iterations))
            self.white = draw(system, values, self.white, one, self._iterations)
        return [self.white, *pair]

    def _system(self, group: int, signal: Signal, noise: Contrasts, free: Bool[np.ndarray, "P"]) -> System:
        known = self._systems.get(group)
        if known is None or not known.serves(signal, noise, self.white):
            self._systems[group] = System(signal, noise, self.white, free)
        return self._systems[group]
