"""The compiler's options: ours, unless the environment decides."""

import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np  # noqa: F401 - its BLAS is one that is limited
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import probtensor as pt
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


def test_options_that_this_compiler_does_not_know_are_left_out(monkeypatch):
    """They come and go with XLA's versions; the others stay."""
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    known = compilation._options()
    assert known == compilation._OPTIONS
    monkeypatch.setattr(compilation, "_OPTIONS", {**known, "xla_cpu_of_another_version": True})
    assert compilation._options() == known
    assert float(compilation.compiled(lambda x: x + 2)(jnp.ones((), DTYPE))) == 3.0


def test_programs_for_an_accelerator_have_no_options(monkeypatch):
    monkeypatch.setattr(compilation, "on_accelerator", lambda: True)
    assert compilation._options() == {}


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


PROGRAM = """
import sys, jax, jax.numpy as jnp, probtensor as pt
print(jax.config.jax_compilation_cache_dir)
if len(sys.argv) > 1:
    jax.jit(lambda x: x + 1)(jnp.zeros(3))
    assert pt.compilation_cache(sys.argv[1]) is not None
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    hits = []
    jax.monitoring.register_event_listener(lambda event, **_: hits.append(event))
    jax.jit(lambda x: jnp.sin(x) @ jnp.cos(x) * 3)(jnp.ones(7))
    print(hits.count("/jax/compilation_cache/cache_hits") > 0)
"""


def run_program(*arguments):
    """The lines that a new process prints, which no option of the environment tells where programs are kept."""
    environ = {name: own for name, own in os.environ.items() if not name.startswith("JAX_")}
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=True).stdout.split()


def test_a_second_process_finds_the_programs_of_the_first(tmp_path):
    folder = tmp_path / "not" / "yet"
    assert run_program(folder) == ["None", "False"]
    kept = sorted(path.name for path in folder.glob("*-cache"))
    assert kept
    assert run_program(folder) == ["None", "True"]
    assert sorted(path.name for path in folder.glob("*-cache")) == kept


def test_importing_sets_no_cache():
    assert run_program() == ["None"]


@pytest.fixture
def options():
    """JAX's own, which are put back."""
    names = ("compilation_cache_dir", "persistent_cache_min_compile_time_secs", "persistent_cache_min_entry_size_bytes")
    before = {f"jax_{name}": getattr(jax.config, f"jax_{name}") for name in names}
    yield before
    for name, value in before.items():
        jax.config.update(name, value)
    compilation.jax_cache.reset_cache()


def test_the_cache_is_in_the_users_folder_by_default(tmp_path, monkeypatch, options):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert pt.compilation_cache() == tmp_path / "probtensor"
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "probtensor")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert pt.compilation_cache() == tmp_path / ".cache" / "probtensor"
    assert list((tmp_path / ".cache" / "probtensor").iterdir()) == []


def test_a_cache_that_cannot_be_is_refused(tmp_path, options):
    (tmp_path / "file").write_text("")
    with pytest.raises(pt.FormatError, match="compilation_cache: .*file is a file; name a folder"):
        pt.compilation_cache(tmp_path / "file")
    with pytest.raises(pt.FormatError, match="compilation_cache: .*cannot be written: Not a directory"):
        pt.compilation_cache(tmp_path / "file" / "below")
    with pytest.raises(pt.FormatError, match="compilation_cache: /proc/.* cannot be written"):
        pt.compilation_cache("/proc/nothing")
    assert options["jax_compilation_cache_dir"] == jax.config.jax_compilation_cache_dir
