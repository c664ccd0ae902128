"""Folds of a cross-validation, and gaps in tables."""

import numpy as np
import pytest

from probtensor.errors import DataError, ModelError
from probtensor.evaluation import gaps
from probtensor.evaluation.entries import Entries, table

GRID = {"a": 12, "b": 9}


def observed(seed=0, share=0.7, shape=(12, 9)):
    seen = np.random.default_rng(seed).uniform(size=shape) < share
    seen.flat[0] = True
    return seen


def held(protocol, folds, entries=None, seed=0):
    entries = Entries(GRID, observed()) if entries is None else entries
    return [fold.held for fold in protocol.folds(entries, folds, seed)]


@pytest.mark.parametrize("protocol", [gaps.random(0.2), gaps.sites(0.2, "b"), gaps.by("b"), gaps.by("a")])
def test_folds_that_part_the_observations(protocol):
    parts = held(protocol, 5)
    np.testing.assert_array_equal(sum(part.astype(int) for part in parts), observed())
    sizes = [part.any(axis=0).sum() if "b" in str(protocol) else part.sum() for part in parts]
    assert min(sizes) > 0
    np.testing.assert_array_equal(parts[0], held(protocol, 1)[0])


def test_folds_of_a_small_fraction_have_nothing_in_common():
    parts = held(gaps.random(0.1), 4)
    assert max(sum(part.astype(int) for part in parts).ravel()) == 1
    assert all(abs(part.sum() - 0.1 * observed().sum()) <= 1 for part in parts)


@pytest.mark.parametrize(
    "protocol", [gaps.random(0.5), gaps.sites(0.5, "b"), gaps.blocks(0.3, {"a": 3, "b": 2}), gaps.blocks(0.2, {"a": 2})]
)
def test_folds_that_are_draws_by_themselves(protocol):
    parts = held(protocol, 3, seed=4)
    for k, part in enumerate(parts):
        np.testing.assert_array_equal(part, protocol.mask(GRID, 4 + k, observed()))


def test_every_combination_of_levels_once():
    entries = Entries({"t": 3, "a": 4, "b": 5}, observed(shape=(3, 4, 5)))
    parts = held(gaps.by(["a", "b"]), 3, entries)
    np.testing.assert_array_equal(sum(part.astype(int) for part in parts), entries.observed)
    for part in parts:
        np.testing.assert_array_equal(part, part.any(axis=0) & entries.observed)


def test_origins_of_a_forecast_roll_back():
    """By hand: 20 levels, a window of 4; the first origin has half of the 16 levels before the last one."""
    seen = np.ones(20, bool)
    for k, (origin, fold) in enumerate(
        zip([16, 14, 12, 10, 8], gaps.tail(0.2, "t").folds(_line(seen), 5, 0), strict=True)
    ):
        np.testing.assert_array_equal(np.flatnonzero(fold.held), np.arange(origin, origin + 4))
        if k:
            np.testing.assert_array_equal(np.flatnonzero(fold.dropped), np.arange(origin + 4, 20))
        else:
            assert fold.dropped is None
    starts = [np.argmax(fold.held) for fold in gaps.tail(0.2, "t").folds(_line(seen), 3, 0)]
    assert starts == [16, 12, 8]


def test_a_forecast_is_of_the_coordinate_and_not_of_the_array():
    entries = Entries({"t": 6}, np.ones(6, bool), ranks={"t": np.arange(6)[::-1]})
    assert np.flatnonzero(held(gaps.tail(0.3, "t"), 1, entries)[0]).tolist() == [0, 1]


def test_a_forecast_begins_where_the_data_end():
    seen = np.arange(20) < 10
    assert np.flatnonzero(held(gaps.tail(0.2, "t"), 1, _line(seen))[0]).tolist() == [8, 9]


def _line(seen):
    return Entries({"t": len(seen)}, seen)


@pytest.mark.parametrize(
    ("protocol", "folds", "text"),
    [
        (gaps.by("b"), 10, "b has 9 levels with observations, too few for 10 folds"),
        (gaps.by("b"), 12, "too few for 12 folds"),
        (gaps.tail(0.9, "b"), 3, "'b' has 9 levels, too few for 3 origins"),
        (gaps.tail(0.99, "b"), 1, "too few for 1 origins"),
    ],
)
def test_too_few_levels(protocol, folds, text):
    with pytest.raises(DataError, match=text):
        held(protocol, folds)


# --- tables ---------------------------------------------------------------------------------------------------------


def as_table(seen):
    """The rows of a grid in a random order: labels, and where they are in the grid."""
    rows = np.random.default_rng(9).permutation(np.argwhere(np.ones_like(seen)))
    labels = {"a": np.datetime64("2020-01-01") + rows[:, 0] * np.timedelta64(3, "D"), "b": rows[:, 1] ** 2 / 7}
    return labels, tuple(rows.T)


@pytest.mark.parametrize("protocol", [gaps.tail(0.3, "a"), gaps.by("a"), gaps.by("b"), gaps.sites(0.4, ["b"])])
def test_a_grid_as_a_table(protocol):
    """Two roads: the mask of the grid, and the rows of the same grid as a table."""
    seen = observed()
    labels, at = as_table(seen)
    np.testing.assert_array_equal(protocol.rows(labels, 3, seen[at]), protocol.mask(GRID, 3, seen)[at])


def test_boxes_among_rows_are_boxes_of_the_grid():
    seen = observed()
    labels, at = as_table(seen)
    order = np.lexsort((at[1], at[0]))  # centres are drawn in the order of rows
    sorted_rows = {name: own[order] for name, own in labels.items()}
    for size in ({"a": 3, "b": 2}, {"a": 4, "b": None}, {"a": None, "b": 1}):
        protocol = gaps.blocks(0.4, size)
        rows = protocol.rows(sorted_rows, 3, seen[at][order])
        np.testing.assert_array_equal(rows, protocol.mask(GRID, 3, seen)[at][order])


def test_random_rows_are_an_exact_share():
    rows = gaps.random(0.3).rows({"x": np.arange(40.0)}, 1, np.arange(40) < 20)
    assert rows.sum() == 6
    assert not rows[20:].any()


def test_rows_at_one_place_are_held_out_together():
    place = np.random.default_rng(0).integers(0, 5, (60, 2))
    rows = gaps.sites(0.3, ["x", "y"]).rows({"x": place[:, 0], "y": place[:, 1]})
    each = {tuple(p): set() for p in place}
    for p, one in zip(place, rows, strict=True):
        each[tuple(p)].add(bool(one))
    assert all(len(found) == 1 for found in each.values())
    assert 0 < rows.sum() < 60


@pytest.mark.parametrize(
    ("coords", "valid", "text"),
    [
        ({}, None, "arrays of one length"),
        ({"a": np.arange(3), "b": np.arange(4)}, None, "arrays of one length"),
        ({"a": np.array([1, "x", None], dtype=object)}, None, "cannot be put in order"),
        ({"a": np.arange(3)}, np.ones(4, bool), r"shape \(4,\), but there are 3 rows"),
        ({"a": np.arange(3)}, np.zeros(3, bool), "no observed entry"),
    ],
)
def test_bad_tables(coords, valid, text):
    with pytest.raises(DataError, match=text):
        gaps.random(0.5).rows(coords, 0, valid)


def test_levels_of_a_table_are_in_the_order_of_the_coordinate():
    found = table({"b": np.array(["z", "a", "z"]), "a": np.array([3.0, -1.0, 0.0])})
    np.testing.assert_array_equal(found.levels, [[1, 2], [0, 0], [1, 1]])
    assert found.sizes == {"b": 2, "a": 3}


def test_sites_of_a_grid_leave_a_dimension():
    with pytest.raises(ModelError, match="all dimensions of the data"):
        gaps.sites(0.5, ["a", "b"]).mask(GRID)
