"""How precisely JAX computes, as scopes."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

import jax

from probtensor import interrupts

_Args = ParamSpec("_Args")
_Result = TypeVar("_Result")


@contextlib.contextmanager
def double_precision() -> Iterator[None]:
    """Has JAX compute in 64 bits until the end of the block, and as before after it, also after an interrupt."""
    scope = jax.enable_x64(True)
    with interrupts.around(scope.__enter__, lambda: scope.__exit__(None, None, None)):
        yield


def full_products(function: Callable[_Args, _Result]) -> Callable[_Args, _Result]:
    """The function, traced so that products of matrices in 32 bits keep all 32 of them.

    Accelerators otherwise round the factors to 10 bits or fewer, of which no Cholesky factor is left.
    """

    @functools.wraps(function)
    def run(*args: _Args.args, **kwargs: _Args.kwargs) -> _Result:
        with jax.default_matmul_precision("highest"):
            return function(*args, **kwargs)

    return run
