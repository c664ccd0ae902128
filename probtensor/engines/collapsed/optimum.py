"""The most probable white noise under a correlated noise, and posterior draws by perturbing and solving again."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize

from probtensor.engines.collapsed.contrasts import Contrasts
from probtensor.engines.collapsed.signal import Signal
from probtensor.typing import Float

#: Pairs of steps and gradients that the optimiser remembers.
_MEMORY = 20


class Perturbation(NamedTuple):
    """Standard normal noise in each contrast and each white number; zero leaves the optimum where it is."""

    contrast: Float[np.ndarray, "N"] | float
    white: Float[np.ndarray, "P"] | float

    def mirrored(self) -> Perturbation:
        """The opposite noise: the mean over a pair has no error of first order."""
        return Perturbation(-self.contrast, -self.white)


NONE = Perturbation(0.0, 0.0)


class Optimum(NamedTuple):
    """White noise, and the negative log density along the way."""

    white: Float[np.ndarray, "P"]
    losses: list[float]


def optimum(
    signal: Signal,
    noise: Contrasts,
    values: Float[np.ndarray, "N"],
    start: Float[np.ndarray, "P"],
    iterations: int,
    perturbation: Perturbation = NONE,
    watch: Callable[[float], None] | None = None,
) -> Optimum:
    """Minimises half the squares of standardised contrasts and of white noise, by L-BFGS.

    With a perturbation drawn from the standard normal the minimiser is a draw from the posterior where the signal is
    linear in the noise, and close to one elsewhere (randomize-then-optimise; Papandreou and Yuille 2010).

    Args:
        signal: of the terms.
        noise: the contrasts of residuals.
        values: at the entries.
        start: white noise to start from.
        iterations: at most.
        perturbation: of contrasts and white noise.
        watch: is told the loss after every iteration.
    """
    losses: list[float] = []
    if signal.size == 0:
        return Optimum(start, losses)
    sd = np.sqrt(noise.variance)
    target = noise.A @ values + sd * perturbation.contrast
    transposed = noise.A.T.tocsr()

    def loss(white: np.ndarray) -> tuple[float, np.ndarray]:
        standardised = (target - noise.A @ signal(white)) / sd
        deviation = white - perturbation.white
        gradient = deviation - signal.pull(white, transposed @ (standardised / sd))
        return 0.5 * float(standardised @ standardised + deviation @ deviation), gradient

    def after(intermediate_result: object) -> None:
        losses.append(float(intermediate_result.fun))  # type: ignore[attr-defined]
        if watch is not None:
            watch(losses[-1])

    options = {"maxiter": iterations, "maxcor": _MEMORY, "ftol": 1e-9, "gtol": 0.0, "maxfun": 2 * iterations}
    found = minimize(loss, start, jac=True, method="L-BFGS-B", callback=after, options=options)
    return Optimum(found.x, losses)
