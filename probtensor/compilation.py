"""How programs are compiled: one place for the compiler's options."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import equinox as eqx
from threadpoolctl import threadpool_limits

_Function = TypeVar("_Function", bound=Callable[..., Any])

#: Options of XLA's CPU backend; other backends ignore them.
#: - Without the Eigen thread pool: on two cores, programs that mix loops and library calls sometimes wait for each
#:   other in that pool for ever (seen in one start of five; a known fault of the pool).
#: - Optimisation level 1: the time goes into Cholesky factors and matrix products, which are library calls, so LLVM's
#:   expensive passes double the compile time and gain nothing.
_OPTIONS = {"xla_cpu_multi_thread_eigen": False, "xla_backend_optimization_level": 1}


def compiled(function: _Function) -> _Function:
    """Compiles a function once for each shape and static structure; arrays are traced, everything else is static."""
    return eqx.filter_jit(function, compiler_options=_OPTIONS)  # type: ignore[call-overload]


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keeps BLAS to one thread while it lasts, then restores what was set.

    The factorisations here are small and many; BLAS threads then mostly wait for each other (measured on two cores: up
    to four times slower with two threads, and worse beside another busy process).
    """
    with threadpool_limits(limits=1, user_api="blas"):
        yield
