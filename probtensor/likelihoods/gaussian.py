"""Normal noise with a learned standard deviation."""

from __future__ import annotations

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from probtensor import hyperparameters
from probtensor.errors import ModelError
from probtensor.hyperparameters import Declaration, Parameter
from probtensor.typing import Array, Float

#: Noise standard deviation at the start of learning, in units of the data's.
_START = 0.3
#: The noise is never learned below this, in units of the data's standard deviation.
FLOOR = 1e-4


class Gaussian(eqx.Module):
    """y = f + e with e normal, variance sd^2 / weight.

    Args:
        sd: noise standard deviation in data units; learned by default, a number is a start, ``pt.fixed(0.1)`` holds it.
            It is learned at the objective's optimum, without a prior.
    """

    sd: Declaration = None

    def bind(self, variance: float) -> BoundGaussian:
        """A number for the noise, from the variance of the data. Raises ModelError if that is not above zero."""
        if hasattr(self.sd, "log_prob"):
            raise ModelError("Gaussian(sd=...): a prior distribution for the noise is not available; give a number")
        if not (np.isfinite(variance) and variance > 0):
            raise ModelError(
                f"Gaussian: the scale of the data is {variance!r}, and the noise is learned relative to it; give "
                "constant data a positive variance (DataScale)"
            )
        scale = float(np.sqrt(variance))
        return BoundGaussian(
            hyperparameters.bind(self.sd, np.array([_START * scale]), "sd"), jnp.asarray(FLOOR * scale)
        )


class BoundGaussian(eqx.Module):
    """Normal noise with a number for its standard deviation."""

    sd: Parameter
    floor: Float[Array, ""]

    @property
    def precision(self) -> Float[Array, ""]:
        """1 / sd^2, of an observation with weight 1."""
        return 1 / self.sd.value[0] ** 2

    @property
    def variance(self) -> Float[Array, ""]:
        """sd^2, of an observation with weight 1."""
        return self.sd.value[0] ** 2

    def expected_log_likelihood(self, squares: Float[Array, ""], weights: Float[Array, "..."]) -> Float[Array, ""]:
        """E[log p(y | f)] in nats, from squares = sum of w E[(y - f)^2]."""
        seen = weights > 0
        log_weights = jnp.where(seen, jnp.log(jnp.where(seen, weights, 1.0)), 0.0)
        count = jnp.sum(seen).astype(squares.dtype)
        constant = count * jnp.log(2 * jnp.pi * self.variance)
        return 0.5 * (jnp.sum(log_weights) - constant - squares * self.precision)

    def learn(self, squares: Float[Array, ""], weights: Float[Array, "..."]) -> BoundGaussian:
        """The sd at the objective's exact optimum, not below the floor; unchanged if held or without observations."""
        if not self.sd.learned:
            return self
        count = jnp.sum(weights > 0).astype(squares.dtype)
        optimum = jnp.maximum(jnp.sqrt(squares / jnp.maximum(count, 1.0)), self.floor)
        raw = jnp.where(count > 0, jnp.log(optimum), self.sd.raw[0])[None]
        return eqx.tree_at(lambda g: g.sd.raw, self, raw)
