"""Gaps with the shapes of those that data have."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.ndimage import label

import probtensor as pt
from probtensor.errors import DataError, ModelError
from probtensor.evaluation import gaps
from probtensor.evaluation.entries import Entries


def array(missing, times=True):
    dims = ["time", "lat", "lon"][: missing.ndim]
    coords = {"time": pd.date_range("2020-01-01", periods=len(missing))} if times else {}
    return xr.DataArray(np.where(missing, np.nan, 1.0), coords, dims)


@pytest.fixture(scope="module")
def clouds():
    """(40, 16, 24) boxes of two sizes, well apart, and a corner of land."""
    missing = np.zeros((40, 16, 24), bool)
    for k in range(4):
        missing[3 + 10 * k : 5 + 10 * k, 3:6, 2:5] = True  # four of 2 x 3 x 3
        missing[3 + 10 * k, 12, 15] = True  # four single entries
    missing[1:5, 8:11, 8:14] = True  # one of 4 x 3 x 6
    land = np.zeros((40, 16, 24), bool)
    land[:, :4, 20:] = True
    return missing, land


def sizes_of(mask):
    return sorted(np.bincount(label(mask)[0].ravel())[1:].tolist())


def test_shapes_are_those_of_the_data(clouds):
    missing, land = clouds
    protocol = gaps.like(array(missing | land))
    assert sorted(len(shape) for shape in protocol.shapes) == [1] * 4 + [18] * 4 + [72]
    np.testing.assert_allclose(protocol.fraction, missing.sum() / (~land).sum())


def test_sizes_are_distributed_as_in_the_data(clouds):
    """Over many draws gaps of each size are as frequent as in the data, not one mean box."""
    missing, land = clouds
    seen = ~(missing | land)
    protocol = gaps.like(array(missing | land))
    found = [sizes_of(protocol.mask({"time": 40, "lat": 16, "lon": 24}, seed, seen)) for seed in range(20)]
    every = np.concatenate(found)
    # A few fall on others, on the data's own gaps or over an edge, and are smaller or melt into one.
    assert 2 < np.mean([np.sum(np.array(own) == 1) for own in found]) <= 5
    assert 2 < np.mean([np.sum((np.array(own) >= 16) & (np.array(own) <= 20)) for own in found]) <= 5
    assert 0.7 < np.mean([np.sum(np.array(own) >= 65) for own in found]) <= 1.3
    assert np.mean((every > 1) & (every < 16)) < 0.1


def test_only_observations_are_held_out_and_as_many_as_are_asked_for(clouds):
    missing, land = clouds
    seen = ~(missing | land)
    sizes = {"time": 40, "lat": 16, "lon": 24}
    for fraction in (0.02, 0.2):
        mask = gaps.like(array(missing | land), fraction).mask(sizes, 1, seen)
        assert mask.sum() == round(fraction * seen.sum())
        assert not (mask & ~seen).any()
    first = gaps.like(array(missing | land)).folds(Entries(sizes, seen), 2, 5)
    np.testing.assert_array_equal(first[1].held, gaps.like(array(missing | land)).mask(sizes, 6, seen))


def test_the_order_of_labels_and_dimensions_is_irrelevant(clouds):
    missing, land = clouds
    data = array(missing | land)
    shuffled = data.isel(time=np.random.default_rng(0).permutation(40)).transpose("lon", "time", "lat")
    seen = ~(missing | land)
    protocol, other = gaps.like(data), gaps.like(shuffled)
    assert sorted(map(len, protocol.shapes)) == sorted(map(len, other.shapes))
    mask = other.mask({"time": 40, "lat": 16, "lon": 24}, 0, seen)
    edges = [shape.max(axis=0) + 1 for shape in protocol.shapes]
    assert max(edge[0] for edge in edges) <= 4
    times = np.max([run.sum() for run in mask.transpose(1, 2, 0).reshape(-1, 40)])
    assert times <= 20  # no gap runs along the whole of another axis


def test_a_day_without_data_is_a_gap_where_there_are_times_and_a_dead_station_is_none():
    missing = np.zeros((20, 6), bool)
    missing[7] = True
    missing[:, 2] = True
    protocol = gaps.like(array(missing))
    assert sorted(map(len, protocol.shapes)) == [2, 3]  # the day, cut in two by the dead station
    with pytest.raises(DataError, match="no gaps"):
        gaps.like(array(missing, times=False))


def test_a_gap_larger_than_what_is_wanted_is_cut():
    missing = np.zeros((40, 20), bool)
    missing[5:35, 3:18] = True
    mask = gaps.like(array(missing), 0.1).mask({"time": 40, "lat": 20}, 0)
    assert mask.sum() == 80
    assert sizes_of(mask)[-1] > 20


def test_cells_of_a_table_are_held_out_with_all_their_rows():
    """Three rows a day and station, each at a temperature of its own; a station fails for five days."""
    random = np.random.default_rng(0)
    day, station, _ = (own.ravel() for own in np.indices((30, 8, 3)))
    values = np.where((day >= 10) & (day < 15) & (station == 3), np.nan, 1.0)
    data = pt.points({"day": day, "station": station, "temperature": random.normal(size=day.size)}, values)
    protocol = gaps.like(data)
    assert protocol.dims == ("day", "station")
    assert [len(shape) for shape in protocol.shapes] == [5]
    rows = gaps.like(data, 0.02).rows(data.coords, 0, np.isfinite(values))
    cells = {(d, s) for d, s in zip(day[rows], station[rows], strict=True)}
    assert rows.sum() == 3 * len(cells)
    assert len({s for _, s in cells}) == 1
    assert np.ptp([d for d, _ in cells]) == 4


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: gaps.like(array(np.zeros((4, 4), bool))), DataError, r"have no gaps.*pt.gaps.blocks\(0.2"),
        (lambda: gaps.like(np.zeros((4, 4))), DataError, "data is a ndarray; expected a DataArray"),
        (lambda: gaps.like(xr.DataArray(np.nan)), DataError, "expected a DataArray with dimensions"),
        (lambda: gaps.like(array(np.eye(4, dtype=bool)), 1.5), ModelError, "like: fraction=1.5"),
        (lambda: gaps.like(array(np.eye(4, dtype=bool)).stack(z=["time", "lat"])), DataError, "multi-index"),
        (
            lambda: gaps.like(pt.points({"x": np.arange(50.0), "y": np.arange(50.0) % 7}, np.zeros(50))),
            DataError,
            "rows do not lie on a grid",
        ),
        (lambda: gaps.like(array(np.eye(4, dtype=bool))).mask({"time": 4}), ModelError, "no dimension 'lat'"),
        (
            lambda: gaps.like(array(np.eye(4, dtype=bool))).mask({"time": 4, "lat": 4, "z": 2}),
            ModelError,
            "copy gaps of data with the same dimensions",
        ),
    ],
)
def test_bad_input(make, error, text):
    with pytest.raises(error, match=text):
        make()
