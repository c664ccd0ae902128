"""Draws that are the same but for order, signs or rotations become the same; the signal stays what it was."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import probtensor as pt
from probtensor.engines.alignment import aligned, match
from probtensor.engines.drawn import Draws, signals
from probtensor.hyperparameters import is_parameter
from tests.engines.nuts.problems import handed
from tests.labelled.fields import field

S, R = 6, 3
TERMS = {
    "cp": pt.CP(R),
    "tucker": pt.Tucker({"time": R, "lat": R, "station": 2}),
    "train": pt.TensorTrain((R, 2), modes=["lat", "time", "station"]),
}


def some(name):
    """A term, one draw of it repeated, and the same in S disguises."""
    with jax.enable_x64(True):
        model, observations = handed(field()[0], TERMS[name])
    term, generator = model.terms[0], np.random.default_rng(0)
    sizes = {"cp": [R] * 3, "tucker": [*getattr(term, "ranks", ()), 18]}.get(name)
    if name == "train":
        sizes = [term.bonds[d] * term.bonds[d + 1] for d in term.order]
    plain = [generator.normal(size=(len(b.points), n)) for b, n in zip(term.blocks, sizes, strict=True)]
    return model.terms, observations.domain, plain, [disguised(name, term, plain, generator) for _ in range(S)]


def orthogonal(size, generator):
    return np.linalg.qr(generator.normal(size=(size, size)))[0]


def disguised(name, term, plain, generator):
    if name == "cp":
        order, signs = generator.permutation(R), generator.choice([-1.0, 1.0], size=(3, R))
        signs[2] = signs[0] * signs[1]
        return [block[:, order] * sign for block, sign in zip(plain, signs, strict=True)]
    if name == "tucker":
        turns = [orthogonal(rank, generator) for rank in term.ranks]
        core = np.einsum("abc,ax,by,cz->xyz", plain[-1].reshape(term.ranks), *turns)
        return [*(f @ q for f, q in zip(plain[:-1], turns, strict=True)), core.reshape(1, -1)]
    turns = [np.eye(1), *(orthogonal(bond, generator) for bond in term.bonds[1:-1]), np.eye(1)]
    out = []
    for d, block in zip(term.order, plain, strict=True):
        core = block.reshape(len(block), term.bonds[d], term.bonds[d + 1])
        out.append(np.einsum("ba,tbc,cd->tad", turns[d], core, turns[d + 1]).reshape(block.shape))
    return out


def signal(terms, draws, where):
    return np.stack(list(signals(terms, draws, where, (0,), True, jax.random.key(0))))


@pytest.mark.parametrize("name", TERMS)
def test_disguises_come_off(name):
    with jax.enable_x64(True):
        terms, where, _, drawn = some(name)
        values = (tuple(jnp.asarray(np.stack(block)) for block in zip(*drawn, strict=True)),)
        draws = Draws(values, (eqx.filter(terms[0], False),))
        found = aligned(terms, draws, 0)
        before, after = signal(terms, draws, where), signal(terms, found, where)
    np.testing.assert_allclose(before, np.broadcast_to(before[0], before.shape), atol=1e-9)
    np.testing.assert_allclose(after, before, atol=1e-9)
    for block, own in zip(found.values[0], drawn[0], strict=True):
        np.testing.assert_allclose(block, np.broadcast_to(own, block.shape), atol=1e-9)


def test_hyperparameters_go_with_their_components():
    with jax.enable_x64(True):
        terms, _, plain, drawn = some("cp")
        order = match([np.stack(block) for block in zip(*drawn, strict=True)], plain)
        raw = jnp.asarray(np.argsort(order, axis=1).astype(float))
        where = next(k for k, b in enumerate(terms[0].blocks) if hasattr(b.prior, "kernel"))

        empty = jax.tree.map(
            lambda node: eqx.tree_at(lambda p: p.raw, node, raw) if is_parameter(node) else node,
            terms[0],
            is_leaf=is_parameter,
        )
        values = (tuple(jnp.asarray(np.stack(block)) for block in zip(*drawn, strict=True)),)
        found = aligned(terms, Draws(values, (empty,)), 0).learned[0]
    lengthscales = np.asarray(found.blocks[where].prior.kernel.lengthscale.raw)
    np.testing.assert_array_equal(lengthscales, np.broadcast_to(lengthscales[0], lengthscales.shape))


def test_a_component_whose_signs_are_odd_gives_in_where_it_is_least_clear():
    with jax.enable_x64(True):
        terms, where, plain, _ = some("cp")
        other = [block.copy() for block in plain]
        other[1] = other[1] * np.array([1.0, -1.0, 1.0])  # minus the tensor of one component
        values = (tuple(jnp.asarray(np.stack(pair)) for pair in zip(plain, other, strict=True)),)
        draws = Draws(values, (eqx.filter(terms[0], False),))
        before = signal(terms, draws, where)
        after = signal(terms, aligned(terms, draws, 0), where)
    np.testing.assert_allclose(after, before, atol=1e-9)
