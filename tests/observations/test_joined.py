"""Factors of several modes at once: on a grid against the loops, in a list of points against a column of its own."""

import jax.numpy as jnp
import numpy as np
import pytest

from probtensor.observations.domain import domain, joint_levels
from probtensor.observations.layout import Factor, Grid
from tests.helpers import DTYPE, assert_close
from tests.observations.test_layout import CELLS, LETTERS, SIZES, along

#: Places with a factor, and the place that is kept: apart, in the other order, and sharing a mode with another factor.
CASES = {
    "apart": ([(0, 1), 3], 2),
    "kept": ([2, 3], (0, 1)),
    "kept in the other order": ([2, 0], (3, 1)),
    "not neighbours": ([(0, 3), 1], 2),
    "sharing a mode": ([(0, 1), 1], 3),
    "sharing the kept mode": ([(0, 1), 2], 1),
    "sharing both": ([(1, 2), 0], (0, 1)),
    "nothing": ([], (1, 2)),
}


def modes(place):
    return place if isinstance(place, tuple) else (place,)


def level(place, entry):
    """The number of an entry's joint level, the last mode running fastest."""
    number = 0
    for m in modes(place):
        number = number * SIZES[m] + entry[m]
    return number


def size(place):
    return int(np.prod([SIZES[m] for m in modes(place)]))


@pytest.mark.parametrize("case", CASES)
def test_contractions_and_evaluations_are_those_of_the_loops(case):
    places, keep = CASES[case]
    rng, grid = np.random.default_rng(0), Grid(SIZES)
    factors = {place: rng.normal(size=(size(place), 3)).astype(DTYPE) for place in places}
    values = rng.normal(size=SIZES).astype(DTYPE)
    exact, sums = [], np.zeros((size(keep), 3 if places else 1))
    for entry in CELLS:
        product = np.ones(sums.shape[1])
        for place, columns in factors.items():
            product = product * columns[level(place, entry)]
        exact.append(product.sum())
        sums[level(keep, entry)] += values[tuple(entry)] * product
    on_device = {place: jnp.asarray(columns) for place, columns in factors.items()}
    assert_close(grid.contract(jnp.asarray(values), on_device, keep, size(keep)), sums)
    if places:
        assert_close(grid.evaluate(on_device).ravel(), exact)


@pytest.mark.parametrize("case", [name for name in CASES if name != "nothing"])
def test_networks_are_those_of_the_loops(case):
    places, keep = CASES[case]
    rng, grid = np.random.default_rng(1), Grid(SIZES)
    wiring = [(place, letters) for place, letters in zip(places, ("ab", "b"), strict=True)] + [(None, "a")]
    factors = [
        Factor(place, rng.normal(size=[size(place)] * (place is not None) + [LETTERS[x] for x in letters]), letters)
        if place is not None
        else Factor(None, rng.normal(size=[LETTERS[x] for x in letters]), letters)
        for place, letters in wiring
    ]
    factors = [f._replace(array=f.array.astype(DTYPE)) for f in factors]
    values = rng.normal(size=SIZES).astype(DTYPE)

    def at(entry, out, some):
        """`along` reads levels by mode: each factor as one of the level that the entry has."""
        own = [f if f.mode is None else f._replace(mode=None, array=f.array[level(f.mode, entry)]) for f in some]
        return along(own, entry, out)

    on_device = [f._replace(array=jnp.asarray(f.array)) for f in factors]
    assert_close(grid.evaluate_network(on_device).ravel(), [at(entry, "", factors) for entry in CELLS])
    sums = np.zeros((size(keep), LETTERS["a"]))
    for entry in CELLS:
        sums[level(keep, entry)] += values[tuple(entry)] * at(entry, "a", factors[:2])
    assert_close(grid.contract_network(jnp.asarray(values), on_device[:2], "a", keep, size(keep)), sums)


def test_a_joined_mode_has_all_combinations_on_a_grid_and_those_that_occur_in_a_list():
    points = {"a": np.array([1.0, 2.0, 3.0]), "b": np.array([10.0, 20.0])}
    grid = domain(points, {}, joined={"a x b": ("a", "b")})
    assert grid.place("a x b") == (0, 1) and grid.layout.sizes == (3, 2)
    np.testing.assert_array_equal(grid.points["a x b"], [[1, 10], [1, 20], [2, 10], [2, 20], [3, 10], [3, 20]])
    index = np.array([[2, 0], [0, 1], [2, 0], [0, 0]])
    listed = domain(points, {}, index, {"a x b": ("a", "b")})
    np.testing.assert_array_equal(listed.points["a x b"], [[1, 10], [1, 20], [3, 10]])
    assert listed.place("a x b") == 2
    np.testing.assert_array_equal(listed.layout.index[:, 2], [2, 1, 2, 0])
    assert joint_levels(list(points.values()), None)[1] is None


@pytest.mark.parametrize("listed", [False, True])
def test_some_entries_of_a_domain_have_its_levels(listed):
    """Single, derived and joined modes say the same of an entry in the whole and in a part."""
    points = {
        "a": np.arange(3.0),
        "b": np.arange(4.0) * 2,
        "c": np.arange(5.0),
        "b.half": np.array([0.0, 0.0, 1.0, 1.0]),
    }
    rng = np.random.default_rng(0)
    index = rng.integers(0, (3, 4, 5), (30, 3)) if listed else None
    whole = domain(points, {"b.half": "b"}, index, {"a x c": ("a", "c")})
    rows = rng.permutation(30)[:11]
    part = whole.at(rows)
    assert part.shape == (11,)
    for name in ("a", "b", "b.half", "c", "a x c"):
        values = rng.normal(size=(len(whole.points[name]), 1))
        everywhere = whole.layout.evaluate({whole.place(name): jnp.asarray(values)})
        everywhere = jnp.broadcast_to(everywhere, whole.shape).ravel()
        assert_close(part.layout.evaluate({part.place(name): jnp.asarray(values)}), np.asarray(everywhere)[rows])
