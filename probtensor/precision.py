"""64 bits as a scope."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import jax

from probtensor import interrupts


@contextlib.contextmanager
def double_precision() -> Iterator[None]:
    """Has JAX compute in 64 bits until the end of the block, and as before after it, also after an interrupt."""
    scope = jax.enable_x64(True)
    with interrupts.around(scope.__enter__, lambda: scope.__exit__(None, None, None)):
        yield
