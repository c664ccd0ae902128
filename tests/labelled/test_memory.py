"""Fits that memory has no room for are refused before they begin, and long ones say what they will take."""

import logging
import warnings

import numpy as np
import pytest
import xarray as xr

import probtensor as pt
from probtensor.engines.message_passing import MessagePassing
from probtensor.labelled import memory
from tests.helpers import mostly_slow

GIB = 2**30


@pytest.fixture
def room(monkeypatch):
    """Says how much memory there is."""

    def say(number):
        monkeypatch.setattr(memory, "host_memory", lambda: number)

    return say


@pytest.fixture
def unfitted(monkeypatch):
    """No fit may begin."""

    def run(*args):
        raise AssertionError("the fit began")

    monkeypatch.setattr(MessagePassing, "run", run)


def field(levels=200):
    x = np.linspace(0, 1, levels)
    y = np.linspace(0, 1, 6)
    return xr.DataArray(np.sin(5 * x)[:, None] * y, {"time": x, "place": y}, ["time", "place"])


@pytest.mark.parametrize(
    ("model", "engine", "said"),
    [
        (
            pt.Offset() + pt.CP(rank=10_000),
            pt.MessagePassing(),
            r"take about 6[\d,.]+ GiB more memory, and 8\.0 GiB are available: the matrices of the posterior of term 1 "
            r"\(CP\), mode 'time' \(200 levels, 10,000 functions\) alone take [\d,.]+ GiB\. Give the term a smaller "
            r"rank, or .*coarser grid.*coupling='component'",
        ),
        (
            pt.CP(rank=10_000),
            pt.MessagePassing(coupling="component"),
            r"available: beliefs of term 0 \(CP\), mode 'time' \(200 levels, 10,000 functions\) alone .*smaller rank",
        ),
        (
            pt.CP(rank=3000, modes={"time": pt.Categorical(), "place": pt.Markov(pt.RBF())}),
            pt.MessagePassing(),
            r"the posterior of term 0 \(CP\), mode 'place' .* take .*smaller rank",
        ),
    ],
)
def test_a_rank_that_memory_has_no_room_for_is_refused(room, unfitted, model, engine, said):
    room(8 * GIB)
    with pytest.raises(pt.ModelError, match=said):
        pt.fit(field(), model, engine=engine)


def test_a_table_is_refused_too(room, unfitted):
    room(2**20)
    rng = np.random.default_rng(0)
    data = pt.points({"a": rng.uniform(size=20_000), "b": rng.uniform(size=20_000).round(1)}, rng.normal(size=20_000))
    with pytest.raises(pt.ModelError, match=r"MiB more memory, and 1 MiB are available: .* alone take"):
        pt.fit(data, pt.CP(rank=2))


def test_data_that_cannot_be_held_are_refused_unread(room, unfitted):
    """A petabyte, of which no chunk may be computed."""
    dask = pytest.importorskip("dask.array")

    def read(block):
        raise AssertionError("a chunk was read")

    size = 50_000
    values = dask.map_blocks(read, dask.zeros((size, size, size), chunks=10_000), dtype=float, meta=np.empty((0, 0, 0)))
    room(64 * GIB)
    with pytest.raises(pt.DataError, match=r"125,000,000,000,000 entries.* GiB of memory.* 64\.0 GiB are .*pt\.SVI"):
        pt.fit(xr.DataArray(values, dims=["a", "b", "c"]), pt.CP(rank=2))


def test_data_in_memory_are_refused_before_they_are_copied(room, unfitted):
    room(field().size * 8 * 2)
    with pytest.raises(pt.DataError, match=r"1,200 entries, gaps included.*coarser grid.*pt\.table"):
        pt.fit(field(), pt.Offset())


@pytest.mark.parametrize("there", mostly_slow([64 * GIB, None]))
def test_nothing_is_refused_where_it_fits_or_nobody_knows(room, there):
    room(there)
    pt.fit(field(20), pt.CP(rank=1), engine=pt.MessagePassing(max_sweeps=1))


def test_without_a_word_of_the_system_even_a_huge_rank_begins(room, unfitted):
    room(None)
    with pytest.raises(AssertionError, match="the fit began"):
        pt.fit(field(), pt.CP(rank=2000))


def test_local_terms_are_not_judged(room, unfitted):
    """They are fitted on the observed entries alone, by solvers of their own."""
    room(40_000)
    model = pt.Offset() + pt.Local(pt.Matern(1 / 2).on("time"))
    with pytest.raises(AssertionError, match="the fit began"), warnings.catch_warnings():
        warnings.simplefilter("ignore", pt.ProbtensorWarning)  # of the mode that no term reads
        pt.fit(field(), model)
    with pytest.raises(pt.ModelError, match="1,200 entries alone take"):
        pt.fit(field(), pt.Offset() + pt.CP(rank=1))


def test_an_accelerators_own_memory_counts(monkeypatch, room):
    device = type("Device", (), {"memory_stats": lambda self: {"bytes_limit": 10, "bytes_in_use": 3}})
    monkeypatch.setattr(memory.jax, "local_devices", lambda: [device()])
    room(99)
    assert memory.device_memory() == 7
    device.memory_stats = lambda self: None
    assert memory.device_memory() == 99


def test_a_long_fit_is_told_what_it_takes(room, unfitted, caplog):
    room(None)
    caplog.set_level(logging.INFO, "probtensor")
    with pytest.raises(AssertionError, match="the fit began"):
        pt.fit(field(), pt.CP(rank=2000))
    assert "GiB of memory, of the order of" in caplog.text and "at most 100 sweeps from each of 1 starts" in caplog.text
    caplog.clear()
    with pytest.raises(AssertionError, match="the fit began"):
        pt.fit(field(), pt.CP(rank=2))
    assert "of memory" not in caplog.text


MEMINFO = "MemTotal: 24000000 kB\nMemFree: 1000 kB\nMemAvailable: 2000 kB\nHugePages_Total: 0\n"


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({"proc/meminfo": MEMINFO}, 2_048_000),
        (
            {
                "proc/meminfo": MEMINFO,
                "proc/self/cgroup": "0::/one/two\n",
                "sys/fs/cgroup/one/two/memory.max": "max\n",
                "sys/fs/cgroup/one/two/memory.current": "700\n",
                "sys/fs/cgroup/one/memory.max": "1000\n",
                "sys/fs/cgroup/one/memory.current": "800\n",
                "sys/fs/cgroup/one/memory.stat": "anon 500\nactive_file 100\ninactive_file 150\n",
            },
            450,
        ),
        (
            {
                "proc/meminfo": MEMINFO,
                "proc/self/cgroup": "5:devices:/\n4:memory:/job\n0::/\n",
                "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/memory/job/memory.usage_in_bytes": "1\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "5000\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "4000\n",
            },
            1000,
        ),
    ],
    ids=["machine", "second version", "first version"],
)
def test_what_linux_says_is_left(tmp_path, files, left):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert memory.host_memory(tmp_path) == left


def test_elsewhere_it_is_all_there_is_or_not_known(tmp_path, monkeypatch):
    monkeypatch.setattr(memory.os, "sysconf_names", {"SC_PHYS_PAGES": 1, "SC_PAGE_SIZE": 2})
    monkeypatch.setattr(memory.os, "sysconf", {"SC_PHYS_PAGES": 3, "SC_PAGE_SIZE": 4096}.__getitem__)
    assert memory.host_memory(tmp_path) == 3 * 4096
    monkeypatch.setattr(memory.os, "sysconf_names", {})
    assert memory.host_memory(tmp_path) is None


def test_this_machine_says_something_sensible():
    there = memory.host_memory()
    assert there is None or there > 2**20
    assert (memory.size(3 * GIB // 2), memory.size(5 * 2**20)) == ("1.5 GiB", "5 MiB")
