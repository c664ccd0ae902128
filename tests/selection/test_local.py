"""Which local term is proposed for fields that are drawn from known kernels."""

import numpy as np
import pytest

from probtensor.axes import Axis
from probtensor.hyperparameters import fixed
from probtensor.likelihoods.gaussian import Gaussian
from probtensor.observations.domain import domain, observations
from probtensor.selection import local
from probtensor.selection.family import Form
from tests.oracles import gaussian_process as oracle

SIZES = {"t": 20, "x": 25}
POINTS = {"t": np.arange(20.0), "x": np.linspace(0, 1, 25)}
AXES = {name: Axis(name, "numeric", points) for name, points in POINTS.items()}
LIKELIHOOD = Gaussian(sd=fixed(0.1)).bind({}, 1.0)
T, X = ("t",), ("x",)


def drawn(covariance, seed):
    """A field on the grid with this covariance along t and along x, their product, and noise; proposals for it."""
    rng = np.random.default_rng(seed)
    roots = [np.linalg.cholesky(K + 1e-8 * np.eye(len(K))) for K in covariance]
    field = roots[0] @ rng.normal(size=(20, 25)) @ roots[1].T
    data = observations(domain(POINTS, {}), field + 0.1 * rng.normal(size=field.shape), np.ones(field.shape))
    gaps = np.zeros(field.shape, dtype=bool)
    gaps[3:6, 4:9] = gaps[12:15, 15:20] = True
    notes = []
    found = local.propose(AXES, data, np.asarray(data.values), LIKELIHOOD, gaps, notes.append)
    assert len(notes) == len(found)
    return found


def matern(name, nu, lengthscale):
    return oracle.matern(nu, lengthscale, 1.0, oracle.distances(POINTS[name]))


@pytest.mark.slow
def test_a_product_with_its_smoothness_is_found():
    """A smooth function of x that changes from time to time: t is rough, x is not."""
    found = drawn((matern("t", 1 / 2, 1.0), matern("x", 5 / 2, 0.3)), 0)
    best = found[-1]
    assert best.score == max(e.score for e in found) or best.score > max(e.score for e in found) - 0.1
    assert best.form.products == ((X, T),)
    orders = dict(best.form.orders)
    assert orders[T] == 1 / 2
    assert orders[X] >= 3 / 2
    (variance, scales) = best.numbers[frozenset((X, T))]
    assert 0.3 < scales[T] < 4.0
    assert 0.1 < scales[X] < 1.0
    assert 0.2 < variance < 5.0


def test_a_coordinate_that_says_nothing_is_left_out():
    found = drawn((np.ones((20, 20)), matern("x", 3 / 2, 0.2)), 1)
    assert found[-1].form.products == ((X,),)


@pytest.mark.parametrize(
    ("nested", "whole", "found"),
    [
        (0.0, 0.0, "alone"),
        (0.0, 0.02, "whole"),
        (0.015, 0.0, "nested"),
        (0.015, 0.006, "nested"),
        (0.03, 0.025, "whole"),
    ],
)
def test_more_numbers_must_gain(nested, whole, found):
    """Against x alone, which scores zero; 0.01 is a gain."""
    forms = {
        ((X,),): ("alone", 0.0),
        ((T,),): ("t", -1.0),
        ((X,), (X, T)): ("nested", nested),
        ((T, X),): ("whole", whole),
    }

    class Scored(local._Search):
        def judged(self, form, fractions, near=None):
            return local.Evidence(form, forms[form.products][1], {})

    best = Scored((T, X), AXES, 1.0, LIKELIHOOD, None, print, {}).nested()
    assert forms[best.form.products][0] == found


def test_names_alone_have_no_local_term():
    axes = {"a": Axis("a", "category", np.arange(4.0)), "b": Axis("b", "numeric", np.zeros(1))}
    data = observations(domain({"a": np.arange(4.0), "b": np.zeros(1)}, {}), np.ones((4, 1)), np.ones((4, 1)))
    assert local.propose(axes, data, np.zeros((4, 1)), LIKELIHOOD, np.zeros((4, 1), bool), print) == []


def test_a_latitude_and_a_longitude_are_read_together_and_the_longest_coordinates_first():
    levels = {"lat": 3, "a": 4, "lon": 9, "b": 8, "c": 7, "d": 6, "one": 1}
    axes = {name: Axis(name, "numeric", np.arange(float(n))) for name, n in levels.items()}
    assert local._units(axes) == (("lon", "lat"), ("b",), ("c",), ("d",))


@pytest.mark.parametrize("unit", [T, X])
def test_another_smoothness_is_another_form(unit):
    form = Form(((T, X),), ((T, 1 / 2), (X, 1 / 2)))
    changed = form.with_order(unit, 5 / 2)
    assert dict(changed.orders)[unit] == 5 / 2
    assert changed != form == changed.with_order(unit, 1 / 2)
