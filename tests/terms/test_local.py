"""The local term by itself: how many neighbours there can be. What it fits is for `tests/engines/collapsed`."""

import pytest

from probtensor.errors import ModelError
from probtensor.kernels.matern import Matern
from probtensor.terms.local import Local


@pytest.mark.parametrize("neighbours", [None, 1, 5])
def test_as_many_neighbours_as_observations_will_do(neighbours):
    Local(Matern(1 / 2).on("time"), neighbours).check(5)


def test_more_neighbours_than_observations_are_refused():
    with pytest.raises(ModelError, match=r"Local\(neighbours=6\): there are only 5 observations"):
        Local(Matern(1 / 2).on("time"), 6).check(5)
