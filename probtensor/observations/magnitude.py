"""Numbers whose squares a machine can add up, divide by and take apart."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from probtensor.errors import DataError
from probtensor.typing import Float

#: Sizes of values between which variances, and products of two, neither overflow nor lose digits, by bits of a number.
_RANGE = {32: (1e-12, 1e15), 64: (1e-75, 1e75)}
#: In 64 bits.
LARGEST = _RANGE[64][1]


def computed_in(dtype: np.dtype) -> np.dtype:
    """What numbers of a type are computed in: 32 bits for half and single precision, 64 for all others."""
    return np.dtype(np.float32 if dtype.kind == "f" and dtype.itemsize <= 4 else np.float64)


def first_beyond(coordinates: np.ndarray) -> int | None:
    """Where the first is that is infinite, missing, or too large to square in 64 bits; None: there is none."""
    beyond = ~(np.abs(coordinates.astype(float)) <= LARGEST)
    return int(np.argmax(beyond)) if beyond.any() else None


def check(values: Float[np.ndarray, "..."], describe: Callable[[tuple[int, ...]], str]) -> None:
    """Raises DataError for values, NaN aside, that are infinite or too large to square; describe: where an index is."""
    bits, _, most = _range(values)
    if (
        -most <= np.fmin.reduce(values, axis=None, initial=0.0)
        and np.fmax.reduce(values, axis=None, initial=0.0) <= most
    ):
        return
    bad = np.argwhere(np.abs(values) > most)
    first = tuple(int(i) for i in bad[0])
    if np.isinf(values[first]):
        raise DataError(
            f"{len(bad)} values are infinite (first: {describe(first)}); mark missing values as NaN, for example "
            "data.where(np.isfinite(data))"
        )
    raise DataError(
        f"{len(bad)} values are beyond {most:g} (first: {values[first]:g}, {describe(first)}), and their squares "
        f"overflow in {bits} bits; mark them as NaN if they stand for missing values, or give the data in another unit"
    )


def check_scale(values: Float[np.ndarray, "N"]) -> None:
    """Raises DataError where observed values are so small that their squares are lost; zeros alone are not."""
    bits, least, _ = _range(values)
    largest = float(np.abs(values).max(initial=0.0))
    if 0 < largest < least:
        raise DataError(
            f"no observed value is larger than {largest:g}, and squares of numbers below {least:g} are lost in {bits} "
            f"bits; give the data in another unit, such as data * {1 / least:g}"
        )


def _range(values: np.ndarray) -> tuple[int, float, float]:
    """Bits of the numbers that they are computed in, and the least and the largest size of values."""
    bits = 8 * computed_in(values.dtype).itemsize
    return bits, *_RANGE[bits]
