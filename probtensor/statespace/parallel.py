"""All levels at once, in O(log T) steps of products over pairs of them: the way on an accelerator.

What can be known of a stretch of levels before its first state is, is Gaussian, and that of two neighbouring stretches
together follows from that of each. So messages and marginals are prefix sums of an associative operation, which JAX
makes as a tree. All else happens at each level by itself.

Source: Sarkka and Garcia-Fernandez 2021, Temporal parallelization of Bayesian smoothers (eqs. 10 to 15), here for the
information filter that runs backward.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from probtensor.statespace.chain import Chain, apply_blocks, emit, lift
from probtensor.statespace.passes import Message, Path, PosteriorChain, absorb, carry, transition
from probtensor.typing import Array, Float


class _Stretch(NamedTuple):
    """What a stretch of levels says: its last state given the one before its first, and a message about that one.

    The last state is N(A x + b, C) given the state x before and the stretch's sites; these make x more or less likely
    by exp(eta' x - x' precision x / 2).
    """

    A: Float[Array, "T n n"]
    b: Float[Array, "T n"]
    C: Float[Array, "T n n"]
    eta: Float[Array, "T n"]
    precision: Float[Array, "T n n"]


def _joined(later: _Stretch, earlier: _Stretch) -> _Stretch:
    """Two neighbouring stretches as one."""
    n = earlier.b.shape[-1]
    # The state between them, by what both say: (I + C P)^-1 applied to all that the earlier one says of it.
    system = jnp.eye(n, dtype=earlier.b.dtype) + earlier.C @ later.precision
    shift = earlier.b + _times(earlier.C, later.eta)
    solved = jnp.linalg.solve(system, jnp.concatenate([earlier.A, earlier.C, shift[..., None]], axis=-1))
    A, C, b = solved[..., :n], solved[..., n:-1], solved[..., -1]
    back = _transposed(A)
    eta = _times(back, later.eta - _times(later.precision, earlier.b)) + earlier.eta
    precision = _transposed(earlier.A) @ later.precision @ A + earlier.precision
    covariance = later.A @ C @ _transposed(later.A) + later.C
    return _Stretch(later.A @ A, _times(later.A, b) + later.b, _symmetric(covariance), eta, _symmetric(precision))


def _transposed(matrix: Float[Array, "... n n"]) -> Float[Array, "... n n"]:
    return jnp.swapaxes(matrix, -1, -2)


def _symmetric(matrix: Float[Array, "... n n"]) -> Float[Array, "... n n"]:
    return 0.5 * (matrix + _transposed(matrix))


def _times(matrix: Float[Array, "... n m"], vector: Float[Array, "... m"]) -> Float[Array, "... n"]:
    return jnp.einsum("...nm,...m->...n", matrix, vector)


def backward(
    chain: Chain, eta: Float[Array, "T R"], precision: Float[Array, "T R R"]
) -> tuple[Float[Array, ""], PosteriorChain, Message]:
    """The log-normaliser, the posterior's chain, and the messages about each F_t x_(t-1)."""
    lifted_eta, lifted_precision = jax.vmap(lambda e, p: lift(e, p, chain.emission))(eta, precision)
    own = Message(lifted_eta, lifted_precision, jnp.zeros(eta.shape[0], eta.dtype))
    later = jax.lax.associative_scan(_joined, _alone(chain, own), reverse=True)
    # A level sees what all levels behind it say, and its own site.
    behind = jax.tree.map(lambda x: jnp.concatenate([x[1:], jnp.zeros_like(x[:1])]), (later.eta, later.precision))
    here = Message(own.eta + behind[0], own.precision + behind[1], own.log_normaliser)
    before, posterior = jax.vmap(absorb)(here, chain.root_Q)
    return jnp.sum(before.log_normaliser), posterior, before


def _alone(chain: Chain, own: Message) -> _Stretch:
    """Stretches of one level, from the message of its site."""

    def level(message: Message, F: Array, root_Q: Array) -> _Stretch:
        before, conditional = absorb(message, root_Q)
        C = conditional.factor @ conditional.factor.T
        A = transition(F, root_Q, conditional.U)
        told = carry(before, F)
        return _Stretch(A, C @ message.eta, C, told.eta, told.precision)

    return jax.vmap(level)(own, chain.F, chain.root_Q)


class _Affine(NamedTuple):
    """States x -> A x + b with noise of covariance C, over a stretch of levels."""

    A: Float[Array, "T n n"]
    b: Float[Array, "T n"]
    C: Float[Array, "T n n"]


def _onward(earlier: _Affine, later: _Affine) -> _Affine:
    covariance = later.A @ earlier.C @ _transposed(later.A) + later.C
    return _Affine(later.A @ earlier.A, _times(later.A, earlier.b) + later.b, _symmetric(covariance))


def forward(chain: Chain, posterior: PosteriorChain) -> Path:
    """Means and covariances along the posterior's chain."""
    A, shift = _steps(chain, posterior)
    noise = posterior.factor @ _transposed(posterior.factor)
    path = jax.lax.associative_scan(_onward, _Affine(A, shift, noise))
    before = jnp.concatenate([jnp.zeros_like(path.b[:1]), path.b[:-1]])
    y = jax.vmap(apply_blocks)(chain.F, before[..., None])[..., 0]
    return Path(path.b, path.C, posterior.c - _times(posterior.U, y))


def _steps(chain: Chain, posterior: PosteriorChain) -> tuple[Float[Array, "T n n"], Float[Array, "T n"]]:
    """What takes the posterior from each state to the next, but for noise: a matrix and a shift."""
    A = jax.vmap(transition)(chain.F, chain.root_Q, posterior.U)
    return A, jax.vmap(apply_blocks)(chain.root_Q, posterior.c[..., None])[..., 0]


def _moved(earlier: tuple[Array, Array], later: tuple[Array, Array]) -> tuple[Array, Array]:
    """Paths x -> A x + b, several of them under one A."""
    return later[0] @ earlier[0], jnp.einsum("...nm,...km->...kn", later[0], earlier[1]) + later[1]


def walk(chain: Chain, posterior: PosteriorChain, noise: Float[Array, "T number n"]) -> Float[Array, "T number R"]:
    """Function values along the posterior's chain, driven by this noise."""
    A, shift = _steps(chain, posterior)
    driven = jnp.einsum("tnm,tkm->tkn", posterior.factor, noise)
    return emit(chain, jax.lax.associative_scan(_moved, (A, shift[:, None, :] + driven))[1])


def run(chain: Chain, innovations: Float[Array, "T R S"]) -> Float[Array, "T R"]:
    """The function values of a chain driven by these innovations."""
    driven = jnp.einsum("trij,trj->tri", chain.root_Q, innovations)
    states = jax.lax.associative_scan(_moved, (chain.F, driven[:, :, None, :]))[1]
    return states[:, :, 0, :] @ chain.emission
