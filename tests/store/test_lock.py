"""Two processes do not fit to one path at a time, and one that was killed stands in no one's way."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

import probtensor as pt
from probtensor.errors import FormatError
from probtensor.store import lock

HOLD = """
import sys
from pathlib import Path
from probtensor.store import lock

with lock.locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def other(tmp_path):
    """Another process that has the lock of a path, until its input ends."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", HOLD, str(tmp_path / "fit.zarr")]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True, env=environment) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def fit(path):
    data = xr.DataArray(np.sin(np.arange(12.0)).reshape(4, 3), dims=["a", "b"])
    return pt.fit(data, pt.CP(1), engine=pt.MessagePassing(max_sweeps=2), checkpoint=path)


def test_another_process_is_named(other, tmp_path):
    with pytest.raises(FormatError, match=rf"^checkpoint: process {other.pid} on .* fits to .*fit.zarr now; wait"):
        fit(tmp_path / "fit.zarr")
    assert sorted(own.name for own in tmp_path.iterdir()) == ["fit.zarr.lock"]
    with lock.locked(tmp_path / "other.zarr"):
        pass
    other.communicate()
    assert list(tmp_path.iterdir()) == []
    fit(tmp_path / "fit.zarr")
    assert [own.name for own in tmp_path.iterdir()] == ["fit.zarr"]


def test_one_that_was_killed_is_in_no_ones_way(other, tmp_path):
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert (tmp_path / "fit.zarr.lock").exists()
    fit(tmp_path / "fit.zarr")
    assert [own.name for own in tmp_path.iterdir()] == ["fit.zarr"]


def test_a_lock_of_one_thread_keeps_the_others_out(tmp_path):
    with lock.locked(tmp_path / "fit"):
        with pytest.raises(FormatError, match=f"process {os.getpid()} on"), lock.locked(tmp_path / "fit"):
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_was_removed_meanwhile_is_none(tmp_path, monkeypatch):
    """Whoever had it removes its file, and a third makes a new one: the old one locks nothing."""
    real, calls = lock._lock, []

    def late(number):
        real(number)
        calls.append(number)
        if len(calls) == 1:
            (tmp_path / "fit.lock").unlink()

    monkeypatch.setattr(lock, "_lock", late)
    with lock.locked(tmp_path / "fit"), pytest.raises(FormatError, match="fits to"), lock.locked(tmp_path / "fit"):
        pass
    assert len(calls) == 2


def test_where_there_are_no_locks_it_is_logged(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(lock, "_lock", lambda number: os.fstat(10**6))  # an error of another kind
    with lock.locked(tmp_path / "fit"):
        assert "let no other process fit to it" in caplog.text


@pytest.mark.parametrize("make", [lambda p: p.symlink_to("/dev/null"), lambda p: p.mkdir()], ids=["a link", "a folder"])
def test_what_is_no_lock_is_left_alone(make, tmp_path):
    make(tmp_path / "fit.lock")
    with pytest.raises(FormatError, match="cannot be written"), lock.locked(tmp_path / "fit"):
        pass
    assert [own.name for own in tmp_path.iterdir()] == ["fit.lock"]
