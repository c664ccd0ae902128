"""The compiler's options: ours, unless the environment decides."""

import jax.numpy as jnp
import numpy as np  # noqa: F401 - its BLAS is one that is limited
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from probtensor import compilation
from tests.helpers import DTYPE


@pytest.mark.parametrize(
    ("flags", "left"),
    [
        ("", set()),
        ("--xla_dump_to=/nowhere", set()),
        ("--xla_backend_optimization_level=0", {"xla_backend_optimization_level"}),
        (
            "--xla_cpu_use_fusion_emitters=true  --xla_cpu_multi_thread_eigen",
            {"xla_cpu_use_fusion_emitters", "xla_cpu_multi_thread_eigen"},
        ),
    ],
)
def test_options_that_the_environment_names_are_left_to_it(monkeypatch, flags, left):
    monkeypatch.setenv("XLA_FLAGS", flags)
    assert set(compilation._OPTIONS) - set(compilation._options()) == left


def test_this_compiler_knows_the_options(monkeypatch):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    assert float(compilation.compiled(lambda x: x + 1)(jnp.ones((), DTYPE))) == 2.0


def test_one_blas_thread_is_undone_when_nobody_wants_it():
    """Two that overlap, as in two threads: the second ends after the first."""

    def threads():
        return {own["num_threads"] for own in threadpool_info() if own["user_api"] == "blas"}

    with threadpool_limits(limits=2, user_api="blas"):
        before = threads()
        first, second = compilation.one_blas_thread(), compilation.one_blas_thread()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert threads() == {1}
        second.__exit__(None, None, None)
        assert threads() == before != {1}
