"""Seconds, warm and of several repeats, and what one core can do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

REPEATS = 3


def seconds(work: Callable[[], Any]) -> float:
    """Median of some calls, after one that compiles."""
    jax.block_until_ready(work())
    found = []
    for _ in range(REPEATS):
        begun = time.perf_counter()
        jax.block_until_ready(work())
        found.append(time.perf_counter() - begun)
    return float(np.median(found))


def product_rate(size: int = 2048) -> float:
    """Floating-point operations a second of a product of large matrices in 64 bits."""
    with jax.enable_x64(True):
        square = jax.random.normal(jax.random.key(0), (size, size), jnp.float64)
        return 2 * size**3 / seconds(lambda: square @ square)


def slope(sizes: list[int], values: list[float]) -> float:
    """Of the logarithms: 1 is linear."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])
