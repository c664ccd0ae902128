"""What a choice of model is judged on: gap shapes read off the data, and no twin left behind."""

import numpy as np
import pytest
import xarray as xr

from probtensor.errors import DataError
from probtensor.labelled.encode import encode
from probtensor.observations.domain import domain, observations
from probtensor.selection.hold_out import another, gap_extent, hold_out


def test_extent_of_boxes_of_one_size():
    seen = np.ones((40, 40), dtype=bool)
    for i, j in [(2, 3), (12, 20), (25, 8), (30, 30)]:
        seen[i : i + 3, j : j + 5] = False
    assert gap_extent(seen) == (3, 5)


def test_extent_of_single_entries_is_one():
    seen = np.ones((30, 31), dtype=bool)
    seen[::3, ::4] = False
    assert gap_extent(seen) == (1, 1)


def test_places_never_observed_are_no_gaps():
    seen = np.ones((20, 12, 9), dtype=bool)
    seen[:, 3:9, 2:7] = False
    assert gap_extent(seen) == (2, 1, 1)  # a tenth of each dimension: nothing is missing inside the domain
    for start, row, column in [(5, 0, 0), (12, 10, 8), (1, 1, 1), (2, 10, 2), (8, 10, 5), (14, 1, 4), (9, 0, 7)]:
        seen[start : start + 4, row, column] = False
    assert gap_extent(seen) == (4, 1, 1)


def _cube(change):
    seen = np.ones((30, 14, 12), dtype=bool)
    seen[:, 3:9, 2:7] = False  # land
    change(seen, np.random.default_rng(0))
    axes = {name: np.arange(n, dtype=float) for name, n in zip(("time", "y", "x"), seen.shape, strict=True)}
    encoded = encode(xr.DataArray(np.where(seen, 1.0, np.nan), axes, list(axes)))
    found = hold_out(tuple(encoded.coordinates), encoded.observations(tuple(encoded.coordinates)), 0)
    order = [tuple(encoded.coordinates).index(name) for name in axes]
    return seen, found._replace(mask=found.mask.transpose(order))


def _some_sites(seen, rng):
    seen[:, rng.random(seen.shape[1:]) < 0.3] = False


def test_sites_without_data_among_others_are_judged_by_sites():
    seen, found = _cube(_some_sites)
    assert found.sites
    held = found.mask.any(axis=0)
    np.testing.assert_array_equal(found.mask, seen & held)
    assert 0.1 < held.sum() / seen.any(axis=0).sum() < 0.2


@pytest.mark.parametrize(
    "change",
    [
        lambda seen, rng: None,
        lambda seen, rng: np.copyto(seen, seen & (rng.random(seen.shape) < 0.4)),
        lambda seen, rng: seen[10:20, 8:, 5:].fill(False),
        lambda seen, rng: seen[:, 11, 9:11].fill(False),
    ],
    ids=["land", "random", "a box", "two dead stations"],
)
def test_other_data_are_not_judged_by_sites(change):
    assert not _cube(change)[1].sites


def test_extent_of_half_the_entries_lost_at_random_is_one():
    """Runs of chance, three long on average when weighted by length, are no blocks."""
    assert gap_extent(np.random.default_rng(0).random((40, 50)) < 0.5) == (1, 1)


def table(index, sizes, weights=None):
    """Observations of a long table in the order of its rows."""
    index = np.asarray(index)
    points = {f"d{k}": np.arange(float(n)) for k, n in enumerate(sizes)}
    weights = np.ones(len(index)) if weights is None else weights
    return observations(domain(points, {}, index), np.zeros(len(index)), weights)


def held_out(index, sizes, seed=0, weights=None):
    return hold_out([f"d{k}" for k in range(len(sizes))], table(index, sizes, weights), seed)


def share_with_a_twin(index, held):
    trained = {tuple(row) for row in index[~held]}
    return np.mean([tuple(row) in trained for row in index[held]])


RANDOM = np.random.default_rng(1)
SCATTERED = np.repeat(RANDOM.integers(0, 60, (150, 3)), RANDOM.integers(1, 6, 150), axis=0)
CROSSED = np.argwhere(RANDOM.random((12, 40)) < 0.6)
REPEATED = np.repeat(CROSSED, 3, axis=0)
LINE = np.repeat(np.arange(30), 4)[:, None]


@pytest.mark.parametrize(
    ("index", "sizes"),
    [(SCATTERED, (60, 60, 60)), (REPEATED, (12, 40)), (LINE, (30,))],
    ids=["scattered", "crossed", "one mode"],
)
def test_rows_at_the_same_place_are_held_out_together(index, sizes):
    for seed in range(3):
        protocol, held, *_ = held_out(index, sizes, seed)
        assert 0.08 < held.mean() < 0.25
        assert share_with_a_twin(index, held) == 0.0
        assert "rows at the same place together" in protocol


def test_rows_in_any_order_are_held_out_alike():
    order = np.random.default_rng(2).permutation(len(SCATTERED))
    np.testing.assert_array_equal(
        held_out(SCATTERED[order], (60, 60, 60)).mask, held_out(SCATTERED, (60, 60, 60)).mask[order]
    )


def test_a_grid_as_a_table_is_held_out_as_the_grid():
    seen = np.ones((30, 20), dtype=bool)
    for i, j in [(2, 3), (12, 10), (22, 2), (20, 14)]:
        seen[i : i + 6, j : j + 3] = False
    places = {"d0": np.arange(30.0), "d1": np.arange(20.0)}
    grid = observations(domain(places, {}), np.zeros(seen.shape), seen.astype(float))
    one = hold_out(["d0", "d1"], grid, 4)
    other = held_out(np.argwhere(seen), seen.shape, 4)
    assert one.protocol == other.protocol == "blocks of d0 6 x d1 3 covering 15%"
    np.testing.assert_array_equal(other.mask, one.mask[seen])


def test_outages_in_a_table_are_judged_by_outages():
    """Stations that fall silent for twenty days: runs of days are held out, not single readings.

    A third coordinate, measured along, tells no places apart and does not hide the runs.
    """
    generator = np.random.default_rng(3)
    seen = np.ones((12, 200), dtype=bool)
    for station in range(12):
        first = generator.integers(0, 180)
        seen[station, first : first + 20] = False
    index = np.argwhere(seen)
    along = np.column_stack([index, generator.integers(0, 150, len(index))])
    for rows, sizes in [(index, (12, 200)), (along, (12, 200, 150))]:
        protocol, held, *_ = held_out(rows, sizes)
        assert protocol == "blocks of d0 1 x d1 20 covering 15%"
        neighbour = {tuple(r) for r in rows[held][:, :2]}
        lonely = [(a, b) for a, b in neighbour if not {(a, b - 1), (a, b + 1)} & neighbour]
        assert len(lonely) < 0.05 * len(neighbour)


def test_whole_levels_missing_for_others_are_judged_by_whole_levels():
    """Most instruments measure in the first half of the levels only: a level is held out with all its instruments."""
    seen = np.zeros((10, 60), dtype=bool)
    seen[0] = True
    seen[1:, ::4] = True
    protocol, held, *_ = held_out(np.argwhere(seen), seen.shape)
    assert protocol.startswith("blocks of d0 ")
    assert int(protocol.split()[3]) >= 5
    assert held.any() and not held.all()


def test_boxes_leave_enough_to_train_on():
    """Two clusters far apart: boxes as large as the void between them would hold out everything."""
    seen = np.zeros((40, 40), dtype=bool)
    seen[:12, :12] = seen[28:, 28:] = True
    _, held, *_ = held_out(np.argwhere(seen), seen.shape)
    assert 0.1 < held.mean() <= 0.4


def test_rows_without_weight_are_not_held_out():
    weights = np.tile([1.0, 0.0], 60)
    _, held, *_ = held_out(LINE, (30,), weights=weights)
    assert held.any() and not held[weights == 0].any()


def test_a_single_place_cannot_be_judged():
    with pytest.raises(DataError, match="too few observations to hold any out"):
        held_out(np.zeros((12, 2), int), (3, 4))


def on_grid(seen, seed=0, along=("d0",)):
    places = {f"d{k}": np.arange(float(n)) for k, n in enumerate(seen.shape)}
    return hold_out(
        list(places), observations(domain(places, {}), np.zeros(seen.shape), seen.astype(float)), seed, along
    )


@pytest.mark.parametrize(("empty", "held"), [(1, 1), (3, 3), (6, 6), (15, 4), (20, 2)])
def test_data_without_a_tail_are_judged_by_a_forecast(empty, held):
    """As long as what is asked for, and no longer than a quarter of what there is."""
    seen = np.random.default_rng(0).random((30, 5, 6)) < 0.99
    seen[30 - empty :] = False
    protocol, mask, _, forecast = on_grid(seen)
    assert forecast == "d0"
    assert protocol.startswith("a forecast, the last ") and protocol.endswith(" of d0 that has data")
    expected = np.zeros_like(seen)
    expected[30 - empty - held : 30 - empty] = seen[30 - empty - held : 30 - empty]
    np.testing.assert_array_equal(mask, expected)


def grid_of(seen):
    places = {f"d{k}": np.arange(float(n)) for k, n in enumerate(seen.shape)}
    return list(places), observations(domain(places, {}), np.zeros(seen.shape), seen.astype(float))


@pytest.mark.parametrize(("empty", "times"), [(6, [(18, 24), (12, 18)]), (2, [(26, 28), (24, 26)])])
def test_another_forecast_is_of_the_times_before(empty, times):
    seen = np.random.default_rng(0).random((30, 5, 6)) < 0.99
    seen[30 - empty :] = False
    names, data = grid_of(seen)
    first = hold_out(names, data, 0, ["d0"])
    for held, (begin, end) in zip((first, another(first, names, data, 0, ["d0"])), times, strict=True):
        expected = np.zeros_like(seen)
        expected[begin:end] = seen[begin:end]
        np.testing.assert_array_equal(held.mask, expected)
        assert held.forecast == "d0"


def test_no_forecast_is_made_from_less_than_a_third_of_the_times():
    seen = np.ones((30, 5, 6), dtype=bool)
    seen[20:] = False
    names, data = grid_of(seen)
    held, number = hold_out(names, data, 0, ["d0"]), 0
    while held is not None:
        left = int(np.flatnonzero(held.mask.any(axis=(1, 2)))[0])
        assert left >= 20 / 3
        held, number = another(held, names, data, 0, ["d0"]), number + 1
    assert number == 2


def test_other_gaps_are_at_other_places():
    seen = np.ones((30, 6, 6), dtype=bool)
    seen[3:9, 1:4, 1:4] = seen[20:26, 3:, 2:5] = False
    names, data = grid_of(seen)
    first = hold_out(names, data, 0, ["d0"])
    second = another(first, names, data, 1, ["d0"])
    assert second.protocol == first.protocol
    assert (second.mask & ~first.mask).any() and not (second.mask & ~seen).any()


def box(seen):
    seen[3:20, 1:5, 1:5] = False
    seen[26:] = False


def whole_times(seen):
    """Among others, more of them than at the end."""
    seen[[3, 4, 9, 10, 15, 29]] = False


def elsewhere(seen):
    seen[:5] = False


def land(seen):
    seen[:, 4:] = False


def nothing(seen):
    pass


@pytest.mark.parametrize("change", [box, whole_times, elsewhere, land, nothing])
def test_other_gaps_ask_for_no_forecast(change):
    seen = np.random.default_rng(0).random((30, 6, 6)) < 0.97
    change(seen)
    protocol, mask, _, forecast = on_grid(seen)
    assert forecast is None
    assert "forecast" not in protocol
    assert mask.any() and not (mask & ~seen).any()


def test_land_at_the_edge_of_a_map_is_no_future():
    """Only along times: a tenth of a map is never observed."""
    seen = np.ones((30, 10), dtype=bool)
    seen[:, 9:] = False
    assert on_grid(seen).protocol == on_grid(seen, along=()).protocol
    assert "forecast" in on_grid(seen.T).protocol
    assert "forecast" not in on_grid(seen.T, along=("d1",)).protocol


def test_what_is_left_of_a_forecast_asks_for_one_again():
    """The gaps that a local term learns from are those of what is not held out."""
    seen = np.ones((24, 4), dtype=bool)
    seen[20:] = False
    held = on_grid(seen).mask
    again = on_grid(seen & ~held)
    assert "forecast" in again.protocol
    np.testing.assert_array_equal(np.flatnonzero(again.mask.any(axis=1)), [12, 13, 14, 15])
