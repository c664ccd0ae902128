"""How programs are compiled: one place for the compiler's options."""

from __future__ import annotations

import contextlib
import functools
import os
import tempfile
import threading
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.compilation_cache import compilation_cache as jax_cache
from threadpoolctl import threadpool_limits

from probtensor import files, interrupts
from probtensor.errors import FormatError
from probtensor.precision import full_products

_Function = TypeVar("_Function", bound=Callable[..., Any])

#: Options of XLA's CPU backend; programs for other backends have none.
#: - Without the Eigen thread pool: on two cores, programs that mix loops and library calls sometimes wait for each
#:   other in that pool for ever (seen in one start of five; a known fault of the pool).
#: - Optimisation level 1: the time goes into Cholesky factors and matrix products, which are library calls, so LLVM's
#:   expensive passes double the compile time and gain nothing.
#: - Without the fusion emitters: they take every fusion through a chain of MLIR passes of its own, which is more than
#:   half of the compile time of a sweep (12 s with them, 4 to 7 without), and sweeps run as fast without.
_OPTIONS = {
    "xla_cpu_multi_thread_eigen": False,
    "xla_backend_optimization_level": 1,
    "xla_cpu_use_fusion_emitters": False,
}
_Options = dict[str, bool | int]


def _options() -> _Options:
    """Those of `_OPTIONS` that the backend's compiler knows, but for those that the environment's XLA_FLAGS decide."""
    if on_accelerator():
        return {}
    named = {flag.lstrip("-").partition("=")[0] for flag in os.environ.get("XLA_FLAGS", "").split()}
    return _known(tuple((name, value) for name, value in _OPTIONS.items() if name not in named))


@functools.cache
def _known(options: tuple[tuple[str, bool | int], ...]) -> _Options:
    """Those that this version's compiler has: they come and go with XLA's versions."""
    if _is_known(dict(options)):
        return dict(options)
    return {name: value for name, value in options if _is_known({name: value})}


def _is_known(options: _Options) -> bool:
    try:
        jax.jit(lambda: np.zeros(()), compiler_options=options).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True


#: Programs that compile faster than this, in seconds, are not kept on disk: they are many, and soon made again.
_WORTH_KEEPING = 0.3
#: Numbers of points are rounded up to multiples of the first, and to so many leading bits.
_FEWEST, _DIGITS = 16, 3


def compilation_cache(folder: str | os.PathLike[str] | None = None) -> Path:
    """Keeps compiled programs on disk, so that later processes do not compile them again; a fit is otherwise the same.

    Call it once, before the first fit of a process. It sets JAX's own options for the whole process, so that JAX's
    other programs are kept there, too: ``jax_compilation_cache_dir``, and that programs of any size are kept which took
    at least 0.3 s to compile. Without the call nothing is set. A program serves data of the same shape, the same
    model, and the same version of JAX on the same kind of machine. The folder is never emptied; delete it at will.

    Args:
        folder: where; made if it is not there. None: ``probtensor`` in the user's cache folder, which the environment's
            XDG_CACHE_HOME names (``~/.cache`` where it does not).

    Returns:
        The folder.

    Raises:
        FormatError: the folder cannot be made or written to, or is a file.

    Example:
        >>> import probtensor as pt
        >>> folder = pt.compilation_cache()  # doctest: +SKIP
    """
    named = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "probtensor" if folder is None else Path(folder)
    place = named.expanduser().absolute()
    if place.exists() and not place.is_dir():
        raise FormatError(f"compilation_cache: {place} is a file; name a folder, or one that can be made")
    with files.told(place, "compilation_cache"):
        place.mkdir(parents=True, exist_ok=True)
        os.rmdir(tempfile.mkdtemp(dir=place))
    jax.config.update("jax_compilation_cache_dir", str(place))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _WORTH_KEEPING)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    jax_cache.reset_cache()  # JAX looks at its options when it compiles for the first time, and then no more
    return place


def compiled(function: _Function) -> _Function:
    """Compiles a function once for each shape and static structure; arrays are traced, everything else is static.

    Called while another program is traced, it is the function itself: options are those of the outermost program.
    """

    @functools.lru_cache(maxsize=2)
    def program(on_accelerator: bool) -> Callable[..., Any]:
        return eqx.filter_jit(function, compiler_options=_options())  # type: ignore[call-overload]

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        if is_traced(jnp.zeros(())):
            with full_products():
                return function(*args, **kwargs)
        with interrupts.deferred(), full_products():
            return program(on_accelerator())(*args, **kwargs)

    return run  # type: ignore[return-value]


def is_traced(tree: Any) -> bool:
    """Whether an array in a tree has no value yet, as while a program is traced, mapped or differentiated.

    Every array that is made while a program is traced has none.
    """
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(tree))


def on_accelerator() -> bool:
    """Whether programs run on something else than the processor, by JAX's default device."""
    device = jax.config.jax_default_device  # type: ignore[attr-defined]
    platform = getattr(device, "platform", device) or jax.default_backend()
    return platform != "cpu"


def compiled_for(function: Callable[..., Any], *fixed: Any) -> Callable[..., Any]:
    """`compiled`, with some first arguments that are looked at once and not in every call; the others are arrays.

    To look at a model with all its parts takes as long as a small program runs.
    """
    arrays, rest = eqx.partition(fixed, lambda leaf: isinstance(leaf, jax.Array | np.ndarray | np.generic))
    leaves, tree = jax.tree.flatten(arrays)
    static, static_tree = jax.tree.flatten(rest)
    program = _program(function, tree, tuple(static), static_tree, on_accelerator())

    def run(*others: Any) -> Any:
        with interrupts.deferred(), full_products():
            return program(leaves, *others)

    return run


def shapes_of(function: Callable[..., Any], *args: Any) -> Any:
    """What a function would give, with shapes and dtypes in place of its arrays."""
    with interrupts.deferred():
        return eqx.filter_eval_shape(function, *args)


@functools.lru_cache(maxsize=128)
def _program(
    function: Callable[..., Any],
    tree: Hashable,
    static: tuple[Hashable, ...],
    static_tree: Hashable,
    on_accelerator: bool,
) -> Callable[..., Any]:
    def run(leaves: list[Any], *others: Any) -> Any:
        fixed = eqx.combine(jax.tree.unflatten(tree, leaves), jax.tree.unflatten(static_tree, static))
        return function(*fixed, *others)

    return jax.jit(run, compiler_options=_options())


def on_device(array: np.ndarray, fresh: bool = False) -> jax.Array:
    """A host's array as JAX's; not inside a program.

    `jnp.asarray` compiles a program for each shape and dtype, only to copy. Here the copy is the host's: without it the
    array on the device could share the host's memory, and change when that does.

    fresh: nobody else has the array, so that it may share its memory.
    """
    return jax.device_put(array if fresh else np.array(array))


def shared_size(number: int) -> int:
    """A size for all numbers of points that are close to each other, so that they share a program."""
    step = max(_FEWEST, 1 << max(number.bit_length() - _DIGITS, 0))
    return -(-number // step) * step


def padded(array: np.ndarray, size: int) -> np.ndarray:
    """Repeats the last row up to a size that a program is compiled for."""
    missing = size - len(array)
    return array if missing == 0 else np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])


class _Blas:
    """The limit that is set while anybody wants one thread: the first sets it, and the last restores what was."""

    def __init__(self) -> None:
        self._lock, self._wanted, self._limits = threading.Lock(), 0, contextlib.ExitStack()

    def enter(self) -> None:
        """One more wants it."""
        with self._lock:
            if self._wanted == 0:
                self._limits.enter_context(threadpool_limits(limits=1, user_api="blas"))
            self._wanted += 1

    def leave(self) -> None:
        """One less."""
        with self._lock:
            self._wanted -= 1
            if self._wanted == 0:
                self._limits.close()


_BLAS = _Blas()


@contextlib.contextmanager
def one_blas_thread() -> Iterator[None]:
    """Keeps BLAS to one thread while it lasts, then restores what was set; several threads may do so at once.

    The factorisations here are small and many; BLAS threads then mostly wait for each other (measured on two cores: up
    to four times slower with two threads, and worse beside another busy process).
    """
    with interrupts.around(_BLAS.enter, _BLAS.leave):
        yield
