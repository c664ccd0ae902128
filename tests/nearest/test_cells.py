"""Cells of space: that they hold what they should, and depend on the entries alone."""

import numpy as np
import pytest

from probtensor.axes import Axis
from probtensor.hyperparameters import fixed
from probtensor.kernels.field import FieldStart
from probtensor.kernels.matern import Matern
from probtensor.nearest.cells import Cells
from probtensor.nearest.embedding import Embedding
from probtensor.nearest.sharing import groups
from tests.nearest.fields import KERNELS, bind, entries


def corners(cells, targets):
    found = cells.occupied(targets)
    return found.low[found.of], found.high[found.of]


def cells_of(places, size):
    """Of places that are their own embedding."""
    names = ("a", "b", "c")[: places.shape[1]]
    axes = {n: Axis(n, "numeric", np.linspace(0, 10, 11)) for n in names}
    kernel = Matern(1 / 2, lengthscale=fixed(1.0)).on(*names, metric="euclidean")
    bound = kernel.bind(axes, names, FieldStart(0.1, 1.0), True)
    return Cells.of(Embedding((bound,), (1.0,), np.ones((1, len(names)))), places, size)


def plane_with_a_hole():
    rng = np.random.default_rng(0)
    places = rng.uniform(0, 10, size=(800, 2))
    return places[np.max(np.abs(places - 5), axis=1) > 2]


def test_leaves_hold_few_entries():
    places = plane_with_a_hole()
    cells = cells_of(places, 20)
    sizes = np.bincount(cells.leaf)
    assert 5 < sizes.min() <= sizes.max() <= 20
    assert (places >= cells.low[cells.leaf]).all() and (places <= cells.high[cells.leaf]).all()


@pytest.mark.parametrize("copies", [50, 3])
def test_repeated_places_share_a_leaf(copies):
    places = np.repeat(np.arange(8.0)[:, None], copies, axis=0)
    cells = cells_of(places, 7)
    for place in range(8):
        assert len(set(cells.leaf[places[:, 0] == place])) == 1
    assert np.bincount(cells.leaf).max() <= max(copies, 7)


def test_targets_are_in_or_near_their_cell():
    places = plane_with_a_hole()
    targets = np.random.default_rng(1).uniform(-20, 30, size=(3000, 2))
    cells = cells_of(places, 20)
    low, high = corners(cells, targets)
    away = np.array([np.linalg.norm(places - t, axis=1).min() for t in targets])
    outside = np.linalg.norm(np.maximum(np.maximum(low - targets, targets - high), 0), axis=1)
    assert (outside <= away + 1e-12).all()
    assert (np.max(high - low, axis=1) <= np.maximum(4 * away, (cells.high - cells.low).max()) + 1e-12).all()
    gap = np.flatnonzero(np.max(np.abs(targets - 5), axis=1) < 1)
    assert gap.size and (outside[gap] == 0).all()
    # The hole is a few cells, and so is all of the outside.
    assert len(np.unique(low[gap], axis=0)) <= 16
    assert len(cells.occupied(targets).low) < 150


def test_a_cell_does_not_depend_on_the_other_targets():
    cells = cells_of(plane_with_a_hole(), 20)
    targets = np.random.default_rng(1).uniform(-5, 15, size=(500, 2))
    some = np.random.default_rng(2).permutation(500)[:40]
    for whole, part in zip(corners(cells, targets), corners(cells, targets[some]), strict=True):
        np.testing.assert_array_equal(whole[some], part)


@pytest.mark.parametrize("name", ["space", "product"])
def test_groups(name):
    """Every target is in one; a group has as many different entries; the nearest to its targets are among them."""
    kernel, points, targets = bind(KERNELS[name]), entries(500).points, entries(100, seed=1).points
    found = list(groups(kernel, points, targets, 2))
    assert sorted(np.concatenate([g.rows for g in found]).tolist()) == list(range(100))
    embedding = Embedding.of(kernel, points)
    (known,), (asked,) = (embedding.seen(embedding.joint(some)) for some in (points, targets))
    for g in found:
        assert len(set(g.near.tolist())) == 60
        for row in g.rows:
            assert np.argmin(np.linalg.norm(known - asked[row], axis=1)) in g.near


def test_far_cells_are_narrow_where_a_product_of_a_sum_still_sees_entries():
    """Far in time and x, the part of the sum that only reads y is known; without it all would be one cell."""
    points = entries(500).points
    targets = np.stack([np.full(20, 100.0), np.full(20, -100.0), points[:20, 2]], axis=1)
    assert len(list(groups(bind(KERNELS["sum"]), points, targets, 2))) >= 4
    assert len(list(groups(bind(KERNELS["product"]), points, targets, 2))) == 1


def test_leaves_of_one_place_and_a_product_that_sees_it_right_there():
    points = np.repeat(entries(30).points, 8, axis=0)
    targets = entries(30).points + [100.0, 100.0, 0.0]
    found = list(groups(bind(KERNELS["sum"]), points, targets, 2))
    assert sorted(np.concatenate([g.rows for g in found]).tolist()) == list(range(30))
    assert all(len(g.near) == 60 for g in found)


def test_all_entries_where_there_are_few():
    found = list(groups(bind(KERNELS["sum"]), entries(60).points, entries(10).points, 2))
    assert [(len(g.rows), len(g.near)) for g in found] == [(10, 60)]
