"""How much memory a fit took."""

from __future__ import annotations

import sys
from typing import NamedTuple

import jax


class Memory(NamedTuple):
    """The most memory that was in use, in bytes, and whose it is: ``"this process"`` or ``"the device"``."""

    bytes: int
    of: str


def peak_memory() -> Memory | None:
    """The most that was in use so far: of an accelerator's own memory, or of the process since it began.

    A fit that needs less than the process did before it does not show. None where the system does not say.
    """
    stats = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return Memory(int(stats["peak_bytes_in_use"]), "the device")
    try:
        import resource
    except ImportError:  # Windows
        return None
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Memory(int(most) * (1 if sys.platform == "darwin" else 1024), "this process")
