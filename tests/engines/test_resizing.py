"""Growing and dropping functions, against the term's own mean."""

import jax.numpy as jnp
import numpy as np
import pytest

from probtensor.engines import resizing
from probtensor.engines.initialise import Component
from probtensor.terms.cp import CP
from probtensor.terms.tensor_train import TensorTrain
from probtensor.terms.tucker import Tucker
from tests.helpers import assert_close
from tests.terms.problems import AXES, SCALE, SIZES, data, observed, random_beliefs

TERMS = {
    "cp": (CP, {"a": 2}, lambda s: s["a"]),
    "tucker": (
        Tucker,
        {"a": 2, "b": 2, "c": 1},
        lambda s: dict(zip(["time", "lat", "site"], (s[c] for c in "abc"), strict=True)),
    ),
    "tensor train": (TensorTrain, {"a": 2, "b": 2}, lambda s: [s["a"], s["b"]]),
}


def bound(kind, sizes):
    make, _, rank = TERMS[kind]
    return make(rank(sizes)).bind(AXES, SCALE)


def some(kind, seed=0):
    """A term with random beliefs, and its functions."""
    sizes = TERMS[kind][1]
    term = bound(kind, sizes)
    return term, resizing.read(term, random_beliefs(term, seed)[0], sizes, sizes)


def mean(kind, functions):
    """The term's mean on the whole grid."""
    sizes = resizing.sizes_of(functions)
    term, beliefs, _ = resizing.write(bound(kind, sizes), functions, sizes)
    domain = observed("grid", *data()).domain
    return np.asarray(term.mean(term.training_marginals(beliefs, domain), domain), np.float64)


def component(term, seed=1):
    rng = np.random.default_rng(seed)
    functions = {n: rng.normal(size=SIZES[n]) for n in SIZES}
    raws = {n: tuple(0.5 for _ in resizing.parameters(b.prior)) for n, b in zip(term.names, term.blocks, strict=False)}
    return Component(functions, raws, 1.0)


@pytest.mark.parametrize("kind", TERMS)
def test_a_component_is_added_as_it_is(kind):
    term, functions = some(kind)
    new = component(term)
    more = resizing.appended(term, functions, new, resizing.letters_of(term))
    assert resizing.sizes_of(more) == {c: n + 1 for c, n in resizing.sizes_of(functions).items()}
    product = np.einsum("a,b,c->abc", *(new.functions[n] for n in SIZES))
    assert_close(mean(kind, more), mean(kind, functions) + product, 10)


@pytest.mark.parametrize("kind", TERMS)
def test_a_component_can_be_the_first(kind):
    term, functions = some(kind)
    sizes, new = resizing.sizes_of(functions), component(term)
    none = resizing.nothing(bound(kind, dict.fromkeys(sizes, 2)), dict.fromkeys(sizes, 2))
    first = resizing.appended(term, none, new, resizing.letters_of(term))
    assert set(resizing.sizes_of(first).values()) == {1}
    assert_close(mean(kind, first), np.einsum("a,b,c->abc", *(new.functions[n] for n in SIZES)), 10)


def test_a_mode_that_cannot_grow_serves_with_what_it_has():
    """Its two functions span the component's: the sum is exact."""
    term, functions = some("tucker")
    new = component(term)
    new.functions["lat"][:] = functions[term.names.index("lat")].mean @ np.array([0.7, -1.2])
    more = resizing.appended(term, functions, new, "ac")
    assert resizing.sizes_of(more) == {"a": 3, "b": 2, "c": 2}
    product = np.einsum("a,b,c->abc", *(new.functions[n] for n in SIZES))
    assert_close(mean("tucker", more), mean("tucker", functions) + product, 1e3)


@pytest.mark.parametrize("kind", TERMS)
def test_turning_changes_nothing_and_the_last_function_matters_least(kind):
    """Against the singular values of the whole tensor, for the networks."""
    _, functions = some(kind)
    term, whole = bound(kind, resizing.sizes_of(functions)), mean(kind, functions)
    for c in resizing.letters_of(term):
        turned = resizing.weakest_last(term, functions, c)
        assert_close(mean(kind, turned), whole, 1e3)
        if resizing.sizes_of(functions)[c] == 1:
            continue
        left = mean(kind, resizing.dropped(turned, c, resizing.sizes_of(functions)[c] - 1))
        lost = np.sum((whole - left) ** 2)
        if kind == "cp":
            first = mean(kind, resizing.dropped(turned, c, 0))
            assert lost < np.sum((whole - first) ** 2)
            continue
        axes = _mode(term, c)
        matrix = np.moveaxis(whole, axes, range(len(axes))).reshape(np.prod([whole.shape[k] for k in axes]), -1)
        values = np.linalg.svd(matrix, compute_uv=False)
        np.testing.assert_allclose(lost, values[resizing.sizes_of(functions)[c] - 1] ** 2, rtol=1e-4)


def _mode(term, letter):
    """Places in the grid of the modes on one side of a letter."""
    places = list(SIZES)
    if isinstance(term, type(bound("tucker", TERMS["tucker"][1]))):
        return [places.index(term.names["abc".index(letter)])]
    ordered = sorted(SIZES)  # a train's order is alphabetical
    return [places.index(n) for n in ordered[: "ab".index(letter) + 1]]


def test_hyper_parameters_go_with_their_functions():
    term, functions = some("cp")
    values = [
        np.array([0.1, 0.9]) if own else raw for raw, own in zip(functions[0].raws, functions[0].own, strict=True)
    ]
    functions = (functions[0]._replace(raws=tuple(values)), *functions[1:])
    kept = resizing.dropped(functions, "a", 0)
    written = resizing.write(bound("cp", {"a": 1}), kept, {"a": 1})[0]
    learned = [p for p in resizing.parameters(written.blocks[0].prior) if p.learned]
    assert learned
    for parameter in learned:
        assert_close(parameter.raw, jnp.array([0.9]))
