"""Centre and scale of levels: against loops in NumPy, on grids and in lists, at old and new levels."""

import jax
import numpy as np
import pytest

from probtensor.axes import Axis
from probtensor.errors import ModelError
from probtensor.likelihoods.standard import Standard
from probtensor.observations.domain import domain
from probtensor.observations.groups import Groups

POINTS = {"a": np.arange(3.0), "b": np.array([0.5, 2.0]), "c": np.arange(4.0)}
AXES = {name: Axis(name, "numeric", points) for name, points in POINTS.items()}
RANDOM = np.random.default_rng(0)
VALUES = RANDOM.normal(size=(3, 2, 4)) * np.array([1.0, 1e-3, 1e6])[:, None, None] + 10
WEIGHTS = RANDOM.integers(0, 3, size=(3, 2, 4)).astype(float)
NAMES = [("a",), ("b", "a"), ("c",), ("a", "b")]


def grid():
    return domain(POINTS, {})


def listed(shuffle):
    index = np.stack([own.ravel() for own in np.indices(VALUES.shape)], axis=1)[shuffle]
    return domain(POINTS, {}, index)


@pytest.fixture(autouse=True)
def _wide():
    with jax.enable_x64(True):
        yield


def by_loops(names, values, weights):
    """Entry by entry the mean and standard deviation of its level, an observation repeated as its weight says."""
    axes = [list(POINTS).index(name) for name in names]
    centre, scale = np.empty(values.shape), np.empty(values.shape)
    for at in np.ndindex(*values.shape):
        same = [
            values[k]
            for k in np.ndindex(*values.shape)
            if all(k[d] == at[d] for d in axes)
            for _ in range(int(weights[k]))
        ]
        centre[at], scale[at] = np.mean(same), np.std(same)
    return centre, scale


@pytest.mark.parametrize("names", NAMES, ids=str)
def test_mean_and_standard_deviation_of_each_level(names):
    centre, scale = by_loops(names, VALUES, WEIGHTS)
    hidden = np.where(WEIGHTS > 0, VALUES, np.nan)
    found = Standard.of(names, AXES, grid(), hidden, WEIGHTS).at(grid())
    np.testing.assert_allclose(np.broadcast_to(found.centre, VALUES.shape), centre, rtol=1e-12)
    np.testing.assert_allclose(np.broadcast_to(found.scale, VALUES.shape), scale, rtol=1e-9)
    shuffle = RANDOM.permutation(VALUES.size)
    where = listed(shuffle)
    found = Standard.of(names, AXES, where, hidden.ravel()[shuffle], WEIGHTS.ravel()[shuffle]).at(where)
    np.testing.assert_allclose(found.centre, centre.ravel()[shuffle], rtol=1e-12)
    np.testing.assert_allclose(found.scale, scale.ravel()[shuffle], rtol=1e-9)


@pytest.mark.parametrize("names", [(), *NAMES], ids=str)
def test_numbers_of_groups_on_the_host_are_those_of_the_device(names):
    groups = Groups.over("test", names, AXES)
    other = {"a": np.array([1.0, 7.0]), "b": np.array([2.0, 3.0, 0.5]), "c": np.array([-1.0])}
    for where in (grid(), listed(np.arange(5)), domain(other, {}), domain(other, {}, np.array([[1, 0, 0], [0, 2, 0]]))):
        np.testing.assert_array_equal(
            np.broadcast_to(groups.numbers(where), where.shape), np.broadcast_to(groups.of(where), where.shape)
        )


def test_new_levels_have_the_usual_numbers_until_there_are_data():
    weights = WEIGHTS.copy()
    weights[2] = 0
    values = np.where(weights > 0, VALUES, np.nan)
    standard = Standard.of(("a",), AXES, grid(), values, weights)
    centres, scales = (np.asarray(own) for own in (standard.centre, standard.scale))
    assert centres[2] == pytest.approx(centres[:2].mean()) and scales[2] == pytest.approx(
        np.sqrt(scales[0] * scales[1])
    )
    there = domain({**POINTS, "a": np.array([9.0, 1.0])}, {})
    found = standard.at(there)
    np.testing.assert_allclose(np.ravel(found.centre), [centres[2], centres[1]])
    np.testing.assert_allclose(np.ravel(found.scale), [scales[2], scales[1]])
    # New data at the levels 1, 2 and 9: the first keeps what it has, the others have what is seen of them.
    wider = {**AXES, "a": Axis("a", "numeric", np.array([0.0, 1.0, 2.0, 9.0]))}
    where = domain({**POINTS, "a": np.array([1.0, 2.0, 9.0])}, {})
    grown = standard.extended(wider, where, VALUES, np.ones(VALUES.shape))
    own = VALUES.reshape(3, -1)
    np.testing.assert_allclose(grown.centre, [centres[0], centres[1], own[1].mean(), own[2].mean()])
    np.testing.assert_allclose(grown.scale, [scales[0], scales[1], own[1].std(), own[2].std()])
    again = grown.extended(wider, where, 5 * VALUES, np.ones(VALUES.shape))
    np.testing.assert_array_equal(again.centre, grown.centre)


def test_values_that_differ_by_rounding_alone_do_not():
    """The mean of ten times 0.1 is not 0.1."""
    where, same = domain({"a": np.arange(2.0), "n": np.arange(10.0)}, {}), np.full((2, 10), 0.1)
    axes = {"a": Axis("a", "numeric", np.arange(2.0))}
    standard = Standard.of(("a",), axes, where, same, np.ones((2, 10)))
    np.testing.assert_array_equal(standard.centre, 0.1)
    np.testing.assert_allclose(standard.scale, 1e-4)
    values, known = standard.relative(where, same, {"errors": 0.01 * np.ones((2, 10)), "other": np.ones((2, 10))})
    np.testing.assert_array_equal(values, 0.0)
    np.testing.assert_allclose(known["errors"], 100.0)
    np.testing.assert_array_equal(known["other"], 1.0)


def test_levels_of_single_observations_are_refused():
    with pytest.raises(ModelError, match="no level has more than one observation.*name modes whose levels have many"):
        Standard.of(("a", "b", "c"), AXES, grid(), VALUES, np.ones(VALUES.shape))
