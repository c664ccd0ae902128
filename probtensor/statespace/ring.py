"""A chain that closes: the states of a process on a circle, along which each level also knows the first.

Cut open at its first level, the circle is a line whose end is its beginning. Given the state at the first level, the
rest is a bridge to it: the state after a step is that of the line, given that the way that is left leads back to the
first. So the pair of the current and the first state is a Markov chain, with twice the states of the line.

The covariance is the kernel wrapped around the circle (its sum over all turns), scaled back to the kernel's variance:
the stationary solution of the kernel's stochastic differential equation on a circle.

Source: Poisson's summation for the wrapped covariance; the bridge is Gaussian conditioning on its end.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from probtensor.kernels.base import AbstractKernel
from probtensor.kernels.combinations import Sum
from probtensor.linalg.small import inverse_root, semidefinite_root
from probtensor.statespace.chain import Chain
from probtensor.typing import Array, Float

#: Turns are summed by doubling their number so often: enough for lengthscales of a hundred thousand turns.
_DOUBLINGS = 20
#: The share of a turn that is left before the first level is at least this power of a rounding error: what is nearer is
#: rounding, and its noise too small for a number.
_LEAST_LEFT = 0.75


def discretise(kernel: AbstractKernel, turned: Float[Array, "T"], period: float) -> Chain:
    """The chain of pairs (state here, state at the first level).

    Args:
        kernel: stationary, driven by noise.
        turned: ascending, from 0 to below the period; repeated points are steps of length zero.
        period: length of the circle.
    """
    steps = jnp.diff(turned)
    least = float(jnp.finfo(turned.dtype).eps) ** _LEAST_LEFT * period
    left = jnp.maximum(period - (turned[1:] - turned[0]), least)
    F, root_Q = jax.vmap(lambda step, rest: _bridge(kernel, step, rest))(steps, left)
    scale = _scale(kernel, period)[:, :, None]
    S = kernel.state_size
    closed = scale * semidefinite_root(*_wrapped(kernel, period))[0]
    nothing = jnp.zeros_like(closed)
    start = jnp.concatenate([jnp.concatenate([closed, nothing], -1)] * 2, -2)[None]
    root_Q = root_Q.at[:, :, :S, :S].multiply(scale[None])
    emission = jnp.asarray(kernel.emission(), dtype=turned.dtype)
    return Chain(
        jnp.concatenate([jnp.zeros_like(start), F]),
        jnp.concatenate([start, root_Q]),
        jnp.concatenate([emission, jnp.zeros_like(emission)]),
    )


def _bridge(kernel: AbstractKernel, step: Float[Array, ""], left: Float[Array, ""]) -> tuple[Array, Array]:
    """F and root_Q of a pair over a step after which so much is left of the turn."""
    F, root = kernel.transition(jnp.zeros_like(step), step)
    onward, onward_root = kernel.transition(jnp.zeros_like(left), left)
    covariance = onward_root @ jnp.swapaxes(onward_root, -1, -2)
    # Whitened by its own noise, the end says this of the state after the step.
    whiten = inverse_root(covariance, _tiny(covariance))
    said = whiten @ onward
    seen = said @ root
    identity = jnp.broadcast_to(jnp.eye(root.shape[-1], dtype=root.dtype), root.shape)
    inner = identity + jnp.swapaxes(seen, -1, -2) @ seen
    factor = root @ jnp.swapaxes(inverse_root(inner, jnp.ones_like(inner[..., 0])), -1, -2)
    gain = factor @ jnp.swapaxes(said @ factor, -1, -2)
    here = (identity - gain @ said) @ F
    nothing = jnp.zeros_like(here)
    rows = [jnp.concatenate([here, gain @ whiten], -1), jnp.concatenate([nothing, identity], -1)]
    noise = [jnp.concatenate([factor, nothing], -1), jnp.concatenate([nothing, nothing], -1)]
    return jnp.concatenate(rows, -2), jnp.concatenate(noise, -2)


def _tiny(covariance: Float[Array, "... S S"]) -> Float[Array, "... S"]:
    """Pivots that are rounding errors of a covariance's diagonal."""
    return jnp.finfo(covariance.dtype).eps * jnp.diagonal(covariance, axis1=-2, axis2=-1)


def _wrapped(kernel: AbstractKernel, period: float) -> tuple[Float[Array, "R S S"], Float[Array, "R S"]]:
    """The covariance of the states at one place of the circle, of the sum over all turns; and zeros beside it."""
    root = kernel.state_root(jnp.zeros(()))
    stationary = root @ jnp.swapaxes(root, -1, -2)
    turn = kernel.transition(jnp.zeros((), root.dtype), jnp.asarray(period, root.dtype))[0]

    def double(_: Array, both: tuple[Array, Array]) -> tuple[Array, Array]:
        total, power = both
        return total + power @ total, power @ power

    total = jax.lax.fori_loop(0, _DOUBLINGS, double, (stationary, turn))[0]
    return total + jnp.swapaxes(total, -1, -2) - stationary, jnp.zeros_like(root[..., 0])


def _scale(kernel: AbstractKernel, period: float) -> Float[Array, "R S"]:
    """What each state is multiplied by, for each part of the kernel to have its own variance on the circle, too."""
    parts = kernel.parts if isinstance(kernel, Sum) else (kernel,)
    scales = []
    for part in parts:
        wrapped, _ = _wrapped(part, period)
        emission = jnp.asarray(part.emission(), dtype=wrapped.dtype)
        variance = jnp.einsum("i,rij,j->r", emission, wrapped, emission)
        root = part.state_root(jnp.zeros(()))
        line = jnp.sum(jnp.einsum("i,rij->rj", emission, root) ** 2, axis=-1)
        scales.append(jnp.repeat(jnp.sqrt(line / variance)[:, None], part.state_size, axis=1))
    return jnp.concatenate(scales, axis=1)
