"""Which local term is proposed for fields that are drawn from known kernels."""

import numpy as np
import pytest

from probtensor.axes import Axis
from probtensor.hyperparameters import fixed
from probtensor.kernels.adapted import Adapted, adapted_part
from probtensor.kernels.field import FieldStart
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


@pytest.mark.slow
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


LEVELS = {"time": 30, "lat": 5, "lon": 7, "depth": 20, "year": 40, "run": 3}
KINDS = {
    n: Axis(n, "time" if n == "time" else "numeric", np.arange(float(size)), "days" if n == "time" else "")
    for n, size in LEVELS.items()
}
TIME, MAP, DEPTH, YEAR, RUN = ("time",), ("lat", "lon"), ("depth",), ("year",), ("run",)


def evidence(score, *products):
    units = dict.fromkeys(unit for product in products for unit in product)
    numbers = {frozenset(p): (2.0 * len(p), {unit: 1.0 + len(unit[0]) for unit in p}) for p in products}
    return local.Evidence(Form(products, tuple((unit, 3 / 2) for unit in units)), score, numbers)


@pytest.mark.parametrize(
    ("forms", "fields", "others"),
    [
        ([evidence(0.0, (MAP, TIME))], TIME, {"lat", "lon"}),
        ([evidence(0.0, (MAP, TIME, DEPTH))], TIME, {"lat", "lon", "depth"}),
        ([evidence(0.0, (MAP, YEAR, DEPTH))], YEAR, {"lat", "lon", "depth"}),
        ([evidence(0.0, (DEPTH, TIME)), evidence(1.0, (MAP, TIME))], TIME, {"lat", "lon"}),
        ([evidence(0.0, (MAP, TIME)), evidence(1.0, (MAP,), (MAP, TIME)), evidence(2.0, (MAP,))], TIME, {"lat", "lon"}),
        ([evidence(0.0, (TIME, DEPTH)), evidence(1.0, (MAP, RUN))], TIME, {"depth"}),
    ],
)
def test_what_is_not_time_is_adapted(forms, fields, others):
    kernel = local.adapted(KINDS, forms)
    along, part = kernel.parts
    assert isinstance(part, Adapted) and adapted_part(kernel) is part
    assert along.dims == fields
    assert set(part.dims) == others
    assert along.kernel.lengthscale == 1.0 + len(fields[0])


@pytest.mark.parametrize(
    "forms",
    [
        [],
        [evidence(0.0, (TIME,))],
        [evidence(0.0, (MAP,), (MAP, TIME))],
        [evidence(0.0, (MAP, RUN))],
        [evidence(0.0, (YEAR, DEPTH))],
    ],
    ids=["none", "time alone", "nested", "few fields", "neither time nor map"],
)
def test_nothing_is_adapted(forms):
    assert local.adapted(KINDS, forms) is None


def test_the_adapted_kernel_begins_as_the_one_that_was_found():
    found = evidence(0.0, (DEPTH, TIME))
    names = tuple(KINDS)
    plain, other = (
        k.bind(KINDS, names, FieldStart(0.1, 1.0), True) for k in (found.kernel, local.adapted(KINDS, [found]))
    )
    rng = np.random.default_rng(0)
    a, b = (rng.uniform(0, 5, size=(9, len(names))) for _ in range(2))
    np.testing.assert_allclose(other.covariance(a, b), plain.covariance(a, b), rtol=1e-5)
    assert np.ptp(np.asarray(plain.covariance(a, b))) > 0
