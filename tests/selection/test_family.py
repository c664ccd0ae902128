"""Kernels to choose from: as the kernels that a user would write, and one program for all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from probtensor.kernels.field import FieldStart
from probtensor.selection.family import Form, declared, declared_adapted, member
from tests.helpers import assert_close
from tests.kernels.test_field import NAMES, START, axes, matrix, places

SPHERE, T, X = ("lat", "lon"), ("t",), ("x",)
UNITS = (SPHERE, T, X)
FORMS = {
    "one unit": Form(((T,),), ((T, 1 / 2),)),
    "a sphere": Form(((SPHERE,),), ((SPHERE, 5 / 2),)),
    "a product": Form(((SPHERE, T, X),), ((SPHERE, 7 / 2), (T, 1 / 2), (X, 3 / 2))),
    "nested": Form(((T,), (T, X), (T, X, SPHERE)), ((T, 3 / 2), (X, 1 / 2), (SPHERE, 5 / 2))),
}


def numbers(form):
    rng = np.random.default_rng(0)
    known = {}
    for product in form.products:
        scales = {unit: rng.uniform(0.3, 1) * (3000 if unit == SPHERE else 5) for unit in product}
        known[frozenset(product)] = (rng.uniform(0.5, 2), scales)
    return known


@pytest.mark.parametrize("name", FORMS)
def test_a_member_is_the_kernel_that_a_user_would_write(name):
    form, a, b = FORMS[name], places(9, 0), places(7, 1)
    known = numbers(form)
    kernel = member(form, UNITS, axes(), START, known)
    written = declared(form, known)
    own = np.asarray(kernel.covariance(jnp.asarray(a)[:, None], jnp.asarray(b)[None]))
    assert_close(own, matrix(written, a, b))
    found = kernel.numbers()
    assert list(found) == list(known)
    for product, (variance, scales) in known.items():
        assert found[product][0] == pytest.approx(variance, rel=1e-6)
        assert found[product][1] == pytest.approx(scales, rel=1e-6)


@pytest.mark.parametrize("name", FORMS)
def test_its_products_are_those_of_that_kernel(name):
    form, a, b = FORMS[name], places(5, 2), places(5, 3)
    kernel = member(form, UNITS, axes(), START, numbers(form))
    total = 0.0
    for product in kernel.products():
        term = 1.0
        for on in product:
            term = term * np.asarray(on.covariance(jnp.asarray(a)[:, None], jnp.asarray(b)[None]))
        total = total + term
    assert_close(total, np.asarray(kernel.covariance(jnp.asarray(a)[:, None], jnp.asarray(b)[None])))
    assert [tuple(on.dims for on in product) for product in kernel.products()] == [
        tuple(unit for unit in UNITS if unit in product) for product in form.products
    ]


def test_all_members_share_compiled_programs():
    shapes = {jax.tree.structure(member(form, UNITS, axes(), START)) for form in FORMS.values()}
    leaves = {
        tuple(leaf.shape for leaf in jax.tree.leaves(member(form, UNITS, axes(), START))) for form in FORMS.values()
    }
    assert len(shapes) == len(leaves) == 1


def test_without_numbers_a_member_starts_at_the_share_of_the_ranges():
    form = FORMS["nested"]
    kernel = member(form, UNITS, axes(), FieldStart(0.2, 3.0))
    for variance, scales in kernel.numbers().values():
        assert variance == pytest.approx(1.0)
        assert scales[T] == pytest.approx(0.2 * 99)
    assert kernel.dims == ("lat", "lon", "t", "x") == NAMES


@pytest.mark.parametrize("fields", [T, SPHERE])
def test_an_adapted_member_has_one_variance(fields):
    form = Form(((SPHERE, T),), ((SPHERE, 5 / 2), (T, 1 / 2)))
    known = numbers(form)
    kernel = declared_adapted(form, known, fields).bind(axes(), NAMES, START, True)
    learned = [on.kernel.variance.learned for on in kernel.products()[0]]
    assert sorted(learned) == [False, True]
    there = jnp.zeros((1, len(NAMES)))
    assert float(kernel.covariance(there, there)[0]) == pytest.approx(known[frozenset((SPHERE, T))][0])


def test_words():
    assert str(FORMS["nested"]) == (
        "Matern-3/2(t) + Matern-3/2(t) Matern-1/2(x) + Matern-3/2(t) Matern-1/2(x) Matern-5/2(lat, lon)"
    )
