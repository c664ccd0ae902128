"""Every test runs in the precision that PROBTENSOR_TEST_X64 asks for: 1 (the default) is 64 bits, 0 is 32."""

import gc
import os
from pathlib import Path

import jax
import pytest

jax.config.update("jax_enable_x64", os.environ.get("PROBTENSOR_TEST_X64", "1") != "0")


#: Regions of memory after a test file, from which programs are dropped; a file adds 10,000 at most.
MOST_MAPPED = 40_000


def mapped():
    """How many regions of memory the process has; where the system does not say, more than it may."""
    try:
        return Path("/proc/self/maps").read_bytes().count(b"\n")
    except OSError:
        return MOST_MAPPED + 1


def pytest_collection_finish():
    """Modules and tests live as long as the run: the garbage collector need not look at them again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@pytest.fixture
def strict_promotion():
    """No silent change of dtype or rank in the code under test; for modules of pure array code."""
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture(autouse=True, scope="module")
def forget_programs():
    """Drops the compiled programs when a test file is done and there are very many.

    A process may map only so many regions of memory (65,530 on Linux), every compiled program takes some, and a run
    that keeps thousands of them ends in a segmentation fault of the compiler.
    """
    yield
    if mapped() > MOST_MAPPED:
        jax.clear_caches()
