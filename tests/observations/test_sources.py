"""Sources of batches: memory and disk deal alike, and every pass has every observation once."""

import errno
import pathlib
import threading

import numpy as np
import pytest

import probtensor as pt
from probtensor.observations import sources
from probtensor.observations.domain import domain, observations
from probtensor.observations.sources import ROWS, VALUES, WEIGHTS, InMemory
from probtensor.observations.spilled import Spill

SHAPE = (12, 9, 7)
N = int(np.prod(SHAPE))


@pytest.fixture
def grid(monkeypatch):
    """Six parts; values, weights with zeros, and the domain."""
    monkeypatch.setattr(sources, "PART", 128)
    rng = np.random.default_rng(0)
    weights = rng.integers(0, 3, SHAPE).astype(float)
    where = domain({name: np.arange(float(n)) for name, n in zip("xyz", SHAPE, strict=True)}, {})
    return where, rng.normal(size=SHAPE), weights


def spill(folder, where, values, weights, pieces, columns=(VALUES, WEIGHTS)):
    """Entries in some order, in pieces of some sizes."""
    out = Spill(folder, N, columns)
    rows = np.flatnonzero(weights.ravel() > 0)
    given = {ROWS: rows, VALUES: values.ravel()[rows], WEIGHTS: weights.ravel()[rows]}
    for piece in pieces(rows):
        out.add({name: given[name][piece] for name in (ROWS, *columns)})
    return out.sealed(where)


def forward(rows):
    return np.array_split(np.arange(len(rows)), 3)


def backward(rows):
    return np.array_split(np.arange(len(rows))[::-1], 7)


@pytest.mark.parametrize("pieces", [forward, backward], ids=["forward", "backward"])
def test_memory_and_disk_give_the_same_batches(grid, tmp_path, pieces):
    where, values, weights = grid
    memory, disk = InMemory(observations(where, values, weights)), spill(tmp_path, *grid, pieces)
    assert memory.parts == disk.parts == 6 and memory.count == disk.count == np.count_nonzero(weights)
    passes = [list(source.shuffled(50, np.random.default_rng(1))) for source in (memory, disk)]
    for mine, theirs in zip(*passes, strict=True):
        np.testing.assert_array_equal(mine[ROWS], theirs[ROWS])
        np.testing.assert_array_equal(theirs[VALUES], values.ravel()[mine[ROWS]])
    for mine, theirs in zip(memory.in_order(50, 3), disk.in_order(50, 3), strict=True):
        for k in range(3):
            one, other = mine.at(np.int32(k)), theirs.at(np.int32(k))
            np.testing.assert_array_equal(one.values, other.values)
            np.testing.assert_array_equal(one.weights, other.weights)
            np.testing.assert_array_equal(one.domain.layout.index, other.domain.layout.index)


def test_a_pass_has_every_entry_once_in_a_new_order(grid):
    where, values, weights = grid
    source, random = InMemory(observations(where, values, weights)), np.random.default_rng(0)
    first, second = (list(source.shuffled(64, random)) for _ in range(2))
    orders = [np.concatenate([own[ROWS] for own in one]) for one in (first, second)]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.flatnonzero(weights.ravel() > 0))
    assert (orders[0] != orders[1]).mean() > 0.9
    assert {len(own[ROWS]) for own in first[:-1]} == {64}


def test_padding_is_no_observation(grid, tmp_path):
    """What stands in a batch without an entry: weight 0, value 0, and 1 for what else is known."""
    where, values, weights = grid
    out = Spill(tmp_path, N, (VALUES, "errors"))
    out.add({ROWS: np.arange(4), VALUES: np.ones(4), "errors": np.full(4, 0.5)})
    batch = next(out.sealed(where).in_order(6, 1)).at(np.int32(0))
    np.testing.assert_array_equal(batch.weights, [1, 1, 1, 1, 0, 0])
    np.testing.assert_array_equal(batch.values, [1, 1, 1, 1, 0, 0])
    np.testing.assert_array_equal(batch.known["errors"], [0.5] * 4 + [1, 1])


def test_parts_are_random_shares():
    """Of a row of neighbours as of every second one: each part has its share within five sds, and their places."""
    for rows in (np.arange(100_000), np.arange(0, 10_000_000, 100)):
        dealt = sources.part_of(rows, 16)
        counts = np.bincount(dealt, minlength=16)
        assert len(counts) == 16 and np.abs(counts - 6250).max() < 5 * np.sqrt(6250)
        middle = rows.mean()
        for k in range(16):
            assert abs(rows[dealt == k].mean() - middle) < 5 * rows.std() / np.sqrt(counts[k])


def test_very_many_entries_make_larger_parts():
    assert sources.parts_of(1) == 1 and sources.parts_of(2**40) == 2**12
    assert sources.place_type(2**31 - 1) is np.int32 and sources.place_type(2**31) is np.int64


def test_several_threads_lose_nothing(grid, tmp_path):
    where, values, weights = grid
    out = Spill(tmp_path, N, (VALUES,))
    flat = values.ravel()
    pieces = np.array_split(np.arange(N), 40)
    threads = [threading.Thread(target=out.add, args=({ROWS: own, VALUES: flat[own]},)) for own in pieces]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    found = list(out.sealed(where).shuffled(N, np.random.default_rng(0)))
    assert len(found) == 1
    np.testing.assert_array_equal(found[0][VALUES], flat[found[0][ROWS]])
    np.testing.assert_array_equal(np.sort(found[0][ROWS]), np.arange(N))


def test_a_full_disk_says_what_to_do(grid, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pathlib.Path, "open", full)
    with pytest.raises(pt.DataError, match="No space left.*24 are needed for each.*TMPDIR|20 are needed.*TMPDIR"):
        spill(tmp_path, *grid, forward)


def test_nothing_is_written_after_the_end(grid, tmp_path):
    out = Spill(tmp_path, N, (VALUES,))
    out.close()
    out.add({ROWS: np.arange(4), VALUES: np.ones(4)})
    assert not list(tmp_path.iterdir()) and out.count == 0


def test_a_sample_is_whole_parts(grid, monkeypatch):
    where, values, weights = grid
    monkeypatch.setattr(sources, "SAMPLE", 150)
    some = sources.sampled(observations(where, values, weights))
    memory = InMemory(observations(where, values, weights))
    parts = [len(memory.part(k)[ROWS]) for k in range(memory.parts)]
    many = next(k for k in range(1, 7) if sum(parts[:k]) >= 150)
    assert some.count == sum(parts[:many]) < memory.count


@pytest.mark.parametrize("number", [5, 16, 17, 100])
def test_lists_of_about_a_length_are_filled_up_to_the_same(number):
    """What they are filled up with is no observation, and a grid is left as it is."""
    rng = np.random.default_rng(0)
    index, points = rng.integers(0, 4, (number, 2)), {"x": np.arange(4.0), "y": np.arange(4.0)}
    own = observations(domain(points, {}, index), rng.normal(size=number), np.ones(number), {"errors": np.ones(number)})
    filled = own.filled()
    assert filled.count == number and len(filled.values) % 16 == 0
    np.testing.assert_array_equal(filled.listed()[0].domain.layout.index, index)
    np.testing.assert_array_equal(filled.listed()[0].values, own.values)
    np.testing.assert_array_equal(filled.known["errors"], 1)
    assert (filled is own) == (number == 16) or len(filled.values) == len(own.values)
    grid = observations(domain(points, {}), np.zeros((4, 4)), np.ones((4, 4)))
    assert grid.filled() is grid
