"""Everything runs in 64 bits, as in every fit."""

import jax
import pytest


@pytest.fixture(autouse=True)
def in_64_bits():
    with jax.enable_x64(True):
        yield
