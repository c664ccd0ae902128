import numpy as np
import pytest

from tests.evaluation.fields import MONTHS


@pytest.fixture
def field():
    """Half observed, with one cell never and one month of another cell never observed, unlike anything low-rank."""
    generator = np.random.default_rng(0)
    y = 280.0 + generator.standard_normal((16, 3, 5))
    y[generator.uniform(size=y.shape) < 0.5] = np.nan
    y[:, 1, 2] = np.nan
    y[MONTHS == 2, 0, 0] = np.nan
    return y
