"""Points among known ones, one by one."""

import numpy as np
import pytest

from probtensor.observations.levels import find

KNOWN = np.array([3.0, 1.0, 2.0, 0.0])


@pytest.mark.parametrize(
    ("asked", "levels", "others"),
    [
        ([1.0, 3.0, 1.0], [1, 0, 1], []),
        ([2.5, 2.0, -1.0, 2.5], [4, 2, 5, 4], [2.5, -1.0]),
        ([-0.0], [3], []),
        ([], [], []),
    ],
)
def test_numbers(asked, levels, others):
    found = find(KNOWN, np.array(asked))
    np.testing.assert_array_equal(found.levels, levels)
    np.testing.assert_array_equal(found.others, others)


def test_rows_and_repeats():
    rng = np.random.default_rng(0)
    known, asked = rng.integers(0, 3, (6, 2)).astype(float), rng.integers(0, 4, (30, 2)).astype(float)
    found = find(known, asked)
    np.testing.assert_array_equal(np.concatenate([known, found.others])[found.levels], asked)
    assert len(np.unique(found.others, axis=0)) == len(found.others)
    assert not (found.others[:, None] == known[None]).all(axis=2).any()
