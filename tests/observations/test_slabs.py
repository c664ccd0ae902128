"""Slabs of a grid: contractions of each add up to those of the whole, and memory and disk read alike."""

import errno
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import probtensor as pt
from probtensor.observations import slabs, sources
from probtensor.observations.domain import domain, observations
from probtensor.observations.grid_files import GridFiles
from probtensor.observations.layout import Factor, Grid
from probtensor.observations.slabs import OnGrid
from probtensor.observations.sources import ROWS, VALUES, WEIGHTS
from tests.helpers import assert_close, mostly_slow

SHAPE = (7, 5, 6)
RNG = np.random.default_rng(0)
COLUMNS = [RNG.normal(size=(n, 3)) for n in SHAPE]
CORE = RNG.normal(size=(3, 3))
WHERE = domain({name: np.arange(float(n)) for name, n in zip("xyz", SHAPE, strict=True)}, {})
#: Batches of so many entries, so many at a time: along the first mode, in one, with a last one that overlaps, and along
#: the longest mode where a level of the first is too large.
CUTS = {"one level": (30, 2), "all": (1000, 3), "overlapping": (60, 2), "longest": (29, 3)}


def grid():
    values = RNG.normal(size=SHAPE)
    weights = RNG.integers(0, 3, SHAPE).astype(float)
    values[weights == 0] = np.nan
    return values, weights


def batches(source, cut):
    return [one.at(jnp.asarray(k)) for one in source.in_order(*CUTS[cut]) for k in range(one.number)]


CONTRACTIONS = {
    "columns": lambda o, v: o.domain.layout.contract(v, {1: COLUMNS[1], 2: COLUMNS[2]}, 0, SHAPE[0]),
    "short mode": lambda o, v: o.domain.layout.contract(v, {0: COLUMNS[0], 2: COLUMNS[2]}, 1, SHAPE[1]),
    "joined": lambda o, v: o.domain.layout.contract(v, {2: COLUMNS[2]}, (1, 0), SHAPE[0] * SHAPE[1]),
    "network": lambda o, v: o.domain.layout.contract_network(
        v,
        [Factor(0, COLUMNS[0], "a"), Factor(1, COLUMNS[1], "b"), Factor(None, np.ones((3, 3)), "ab")],
        "",
        2,
        SHAPE[2],
    ),
    "one sum": lambda o, v: o.domain.layout.contract_network(
        v, [Factor(0, COLUMNS[0], "a"), Factor(2, COLUMNS[2], "b")], "ab", None
    ),
    "evaluated": lambda o, v: jnp.sum(
        v * o.domain.layout.evaluate({0: COLUMNS[0], (1, 2): np.repeat(COLUMNS[1], SHAPE[2], axis=0)})
    ),
    "network evaluated": lambda o, v: jnp.sum(
        v * o.domain.layout.evaluate_network([Factor(0, COLUMNS[0], "a"), Factor(1, COLUMNS[1], "a")])
    ),
    "groups": lambda o, v: o.domain.layout.sum_groups(
        v, o.domain.layout.combine([0, 2], [jnp.arange(SHAPE[0]) % 3, jnp.arange(SHAPE[2]) % 2], [3, 2]), 6
    ),
}


@pytest.mark.parametrize("cut", mostly_slow(CUTS, "one level", "longest"))
@pytest.mark.parametrize("what", CONTRACTIONS)
def test_slabs_add_up_to_the_whole(what, cut):
    values, weights = grid()
    contract = CONTRACTIONS[what]
    with jax.enable_x64(True):
        whole = observations(WHERE, values, weights)
        assert isinstance(whole.domain.layout, Grid)
        parts = batches(OnGrid.in_memory(WHERE, values, weights), cut)
        found = sum(contract(own, own.weights * own.values) for own in parts)
        assert_close(found, contract(whole, whole.weights * whole.values))
        assert sum(own.count for own in parts) == whole.count


def test_a_batch_without_weights_counts_each_entry_once():
    values, _ = grid()
    with jax.enable_x64(True):
        source = OnGrid.in_memory(WHERE, values, None)
        total = sum(float(jnp.sum(own.weights)) for own in batches(source, "overlapping"))
        assert total == source.count == np.count_nonzero(~np.isnan(values))
        assert source.nothing().count == 0


def test_disk_reads_what_memory_has_whatever_order_it_came_in(tmp_path):
    values, weights = grid()
    files = GridFiles(tmp_path, SHAPE, (VALUES, WEIGHTS))
    for rows in (np.array([3, 6, 0]), np.array([5, 1]), np.array([2, 4])):
        box = np.ix_(rows, np.arange(5), np.arange(6)[::-1])
        files.add([rows, np.arange(5), np.arange(6)[::-1]], {VALUES: values[box], WEIGHTS: weights[box]})
    with jax.enable_x64(True):
        memory, disk = OnGrid.in_memory(WHERE, values, weights), files.sealed(WHERE)
        assert memory.count == disk.count
        for mine, theirs in zip(batches(memory, "overlapping"), batches(disk, "overlapping"), strict=True):
            np.testing.assert_array_equal(mine.values, theirs.values)
            np.testing.assert_array_equal(mine.weights, theirs.weights)


@pytest.mark.parametrize("enough", [20, 60, 10_000])
def test_the_sample_is_that_of_a_list(monkeypatch, enough):
    monkeypatch.setattr(sources, "PART", 16)
    monkeypatch.setattr(sources, "SAMPLE", enough)
    monkeypatch.setattr(slabs, "_AT_ONCE", 70)
    values, weights = grid()
    with jax.enable_x64(True):
        listed = sources.InMemory(observations(WHERE, values, weights)).some()[ROWS]
        found = OnGrid.in_memory(WHERE, values, weights).some()
    np.testing.assert_array_equal(found[ROWS], listed)
    np.testing.assert_array_equal(found[VALUES], values.ravel()[listed])
    np.testing.assert_array_equal(found[WEIGHTS], weights.ravel()[listed])


def test_a_full_disk_is_told_before_anything_is_read(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pathlib.Path, "open", full)
    with pytest.raises(pt.DataError, match=r"No space left.*1,680 are needed for 210 entries.*TMPDIR"):
        GridFiles(tmp_path, SHAPE, (VALUES,))


def test_nothing_is_written_after_the_end(tmp_path):
    files = GridFiles(tmp_path, SHAPE, (VALUES,))
    files.close()
    files.add([np.arange(n) for n in SHAPE], {VALUES: np.ones(SHAPE)})
    assert files.count == 0 and files.sealed(WHERE).count == 0
