"""Where a fit goes on from another one: its functions at the coordinates of these data, and its hyper-parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from probtensor.compilation import compiled, on_device, one_blas_thread
from probtensor.engines.learning import start_learning
from probtensor.engines.placing import asked, placed
from probtensor.engines.sweep import Beliefs, State
from probtensor.errors import ModelError
from probtensor.hyperparameters import carried
from probtensor.model import BoundModel
from probtensor.observations.domain import Domain
from probtensor.priors.base import Belief, Sites
from probtensor.terms.base import AbstractBoundTerm, Block
from probtensor.terms.cp import BoundCP
from probtensor.terms.local import BoundLocal
from probtensor.terms.offset import BoundOffset
from probtensor.terms.tensor_train import BoundTensorTrain
from probtensor.terms.tucker import BoundTucker
from probtensor.typing import Float


def continued(model: BoundModel, domain: Domain, before: State, numbered: Domain) -> State:
    """A state to start from, with what another fit found.

    Functions are read off at the coordinates of the new data, where the old data did not have them by the prior's
    prediction; a level that no entry reaches has the prior. Hyper-parameters that the model holds stay.

    Args:
        model: bound to the new data.
        domain: of the new data.
        before: the other fit, of the same terms.
        numbered: the same domain with its coordinates numbered as those of the other fit.

    Raises:
        ModelError: the terms are others, or have other modes or ranks.
    """
    if len(model.terms) != len(before.model.terms):
        raise ModelError(
            f"init: its model has {len(before.model.terms)} terms, and this one {len(model.terms)}; give the same "
            "terms, as in pt.fit(data, post.model, init=post)"
        )
    terms: list[AbstractBoundTerm] = []
    beliefs: list[tuple[Belief, ...]] = []
    with one_blas_thread():
        for number, (term, old) in enumerate(zip(model.terms, before.model.terms, strict=True)):
            blank = _initial(term, domain)
            _refuse_other(number, term, blank, old, before.beliefs[number])
            if isinstance(term, BoundLocal) and isinstance(old, BoundLocal):
                terms.append(eqx.tree_at(lambda t: t.kernel, term, carried(term.kernel, old.kernel)))
                beliefs.append(())
                continue
            known = before.beliefs[number]
            if before.local is not None or before.draws is not None:
                known = tuple(_as_sites(block, own) for block, own in zip(old.blocks, known, strict=True))
            beliefs.append(_read_off(term, blank, domain, old, known, numbered))
            pairs = zip(term.blocks, _order(term, old), strict=True)
            terms.append(term.with_priors([carried(new.prior, old.blocks[k].prior) for new, k in pairs]))
    likelihood = carried(model.likelihood, before.model.likelihood)
    return started(BoundModel(tuple(terms), likelihood), tuple(beliefs))


def started(model: BoundModel, beliefs: Beliefs) -> State:
    """A state with these beliefs, from which engines go on."""
    learning = tuple(tuple(start_learning(block.prior) for block in term.blocks) for term in model.terms)
    dtype = jax.tree.leaves(beliefs)[0].dtype if jax.tree.leaves(beliefs) else None
    return State(model, jnp.ones((), dtype), beliefs, learning)


def initial_beliefs(model: BoundModel, domain: Domain) -> Beliefs:
    """What terms start from that nothing is known of."""
    return tuple(_initial(term, domain) for term in model.terms)


@compiled
def _initial(term: AbstractBoundTerm, domain: Domain) -> tuple[Belief, ...]:
    return term.initial(jax.random.key(0), domain)


def _refuse_other(
    number: int,
    term: AbstractBoundTerm,
    blank: Sequence[Belief],
    old: AbstractBoundTerm,
    known: Sequence[Belief],
) -> None:
    """Raises ModelError if a term is not the same as another fit's but for its levels and priors."""
    if type(term) is not type(old) or _modes(term) != _modes(old):
        raise ModelError(
            f"init: term {number} is a {_said(term)}, and in the fit to go on from it is a {_said(old)}; give the same "
            "terms, as in pt.fit(data, post.model, init=post)"
        )
    for k, (new, place) in enumerate(zip(blank, _order(term, old), strict=True)):
        own = known[place]
        if new.mean.shape[1] != own.mean.shape[1]:
            raise ModelError(
                f"init: term {number}, a {_said(term)}, has {new.mean.shape[1]} functions or numbers of "
                f"{term.mode_of(k) or 'its core'} where the fit to go on from has {own.mean.shape[1]}; give the ranks "
                "of that fit, or leave init out"
            )


def _order(term: AbstractBoundTerm, old: AbstractBoundTerm) -> list[int]:
    """For each block the other term's block of the same mode: the mode with most levels comes first in each."""
    places = {old.mode_of(k): k for k in range(len(old.blocks))}
    return [places[term.mode_of(k)] for k in range(len(term.blocks))]


def _modes(term: AbstractBoundTerm) -> tuple[str, ...]:
    """The modes that a term reads, those of a train in its order."""
    if isinstance(term, BoundOffset):
        return tuple(term.over)
    if isinstance(term, BoundTensorTrain):
        return tuple(name for _, name in sorted(zip(term.order, term.names, strict=True)))
    return tuple(sorted(name for k in range(len(term.blocks)) if (name := term.mode_of(k)) is not None))


def _said(term: AbstractBoundTerm) -> str:
    names = ", ".join(_modes(term))
    return type(term).__name__.removeprefix("Bound") + (f" over {names}" if names else "")


@compiled
def _as_sites(block: Block, belief: Belief) -> Belief:
    """A summary of draws as a posterior process: each level's mean and variances as if they were observations.

    They narrow the prior once more where they are wide, which a start may.
    """
    precision = 1.0 / jnp.maximum(jnp.diagonal(belief.cov, axis1=1, axis2=2), jnp.finfo(belief.cov.dtype).tiny)
    rank = belief.mean.shape[1]
    process = block.posterior(Sites(precision * belief.mean, precision[:, :, None] * jnp.eye(rank)))
    return process._replace(mean=belief.mean, cov=belief.cov)


class _Functions(NamedTuple):
    """Marginals on the host."""

    mean: Float[np.ndarray, "T R"]
    cov: Float[np.ndarray, "T R R"]


def _read_off(
    term: AbstractBoundTerm,
    blank: Sequence[Belief],
    domain: Domain,
    old: AbstractBoundTerm,
    known: Sequence[Belief],
    numbered: Domain,
) -> tuple[Belief, ...]:
    """Each block's functions at the term's own levels, through the entries that have both."""
    there, here = asked(old, known, numbered), placed(term, domain)
    beliefs: list[_Functions] = []
    for empty, own, k in zip(blank, here, _order(term, old), strict=True):
        marginals = there[k].marginals(known[k])
        mean, cov = np.array(empty.mean), np.array(empty.cov)
        mean[own.levels], cov[own.levels] = np.asarray(marginals.mean), np.asarray(marginals.cov)
        beliefs.append(_Functions(mean, cov))
    if isinstance(term, BoundTucker) and isinstance(old, BoundTucker):
        beliefs[-1] = _transposed(beliefs[-1], [old.names.index(n) for n in term.names], old.ranks)
    elif beliefs and term.mode_of(0) != old.mode_of(0):
        _pass_on(beliefs, [term.mode_of(k) for k in range(len(beliefs))].index(old.mode_of(0)), term)
    return tuple(
        empty._replace(mean=on_device(own.mean), cov=on_device(own.cov))
        for empty, own in zip(blank, beliefs, strict=True)
    )


def _transposed(core: _Functions, axes: Sequence[int], sizes: Sequence[int]) -> _Functions:
    """A core with its modes in another order."""
    whole, number = np.arange(np.prod(sizes)).reshape(sizes).transpose(axes).ravel(), len(core.mean)
    return _Functions(core.mean[:, whole], core.cov[np.ix_(np.arange(number), whole, whole)])


def _pass_on(beliefs: list[_Functions], carrier: int, term: AbstractBoundTerm) -> None:
    """Amplitude goes from the block that had it to the first, in place; the others' functions are of size one.

    Each component of a CP has its own; the functions of a tensor train have one together.
    """
    mean = beliefs[carrier].mean
    size = np.sqrt(np.mean(mean**2, axis=0 if isinstance(term, BoundCP) else None, keepdims=True)).ravel()
    size = np.where(size > 0, size, 1.0)
    for k, scale in ((carrier, 1.0 / size), (0, size)):
        own, cov = beliefs[k]
        beliefs[k] = _Functions(own * scale, cov * scale[:, None] * scale)
