"""How precisely JAX computes, as scopes."""

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


def full_products() -> contextlib.AbstractContextManager[None]:
    """Has JAX keep all bits of 32 in products of matrices, in the programs that are traced and run in the block.

    Accelerators otherwise round the factors to 10 bits or fewer, of which no Cholesky factor is left.
    """
    return jax.default_matmul_precision("highest")
