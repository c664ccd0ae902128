"""Damaged files at the command line: one line and exit status 2, or the answer, and nothing half-written."""

import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import netCDF4
import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

from probtensor import cli
from probtensor.cli import probe, probing

RUN = CliRunner()


def tried(folder, first, last):
    """What came of each damaged file."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "tests.cli_hostile", str(folder), str(first), str(last)]
    options = {"env": environment, "cwd": Path(__file__).parents[1], "capture_output": True, "text": True}
    done = subprocess.run(command, **options)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, (lines[-1:], done.stderr[-3000:])
    found = [own | came for own, came in zip(lines[::2], lines[1::2], strict=True)]
    assert [own["seed"] for own in found] == list(range(first, last))
    return found


def check(found):
    assert [own for own in found if own["outcome"] == "bad"] == []
    assert {own["outcome"] for own in found} == {"read", "refused"}


def test_a_few_damaged_files(tmp_path):
    check(tried(tmp_path, 0, 5))


@pytest.mark.slow
@pytest.mark.parametrize("begin", range(1000, 1400, 100))
def test_many_damaged_files(begin, tmp_path):
    check(tried(tmp_path, begin, begin + 100))


@pytest.fixture
def file(tmp_path):
    values = np.where(np.arange(12) % 5, np.arange(12.0), np.nan).reshape(4, 3)
    xr.DataArray(values, dims=["x", "y"], name="v").to_netcdf(tmp_path / "in.nc")
    return tmp_path / "in.nc"


#: A library that does what a damaged file can make of the real one.
ENDS = {
    "crashes": ("os.kill(os.getpid(), signal.SIGSEGV)", "ended with SIGSEGV"),
    "leaves": ("os._exit(7)", "ended with exit status 7"),
    "hangs": ("time.sleep(300)", "nothing more of it could be read for 3 seconds"),
    "eats memory": ("bytearray(2**50)", "asks for more memory than there is"),
}


@pytest.mark.parametrize("how", ENDS)
def test_a_library_that_fails(how, file, tmp_path, monkeypatch):
    code, words = ENDS[how]
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "netCDF4.py").write_text(f"import os, signal, time\ndef Dataset(path):\n    {code}\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "lib"), *sys.path])
    if how == "hangs":
        monkeypatch.setattr(probing, "PATIENCE", 3.0)
    done = RUN.invoke(cli.app, ["impute", str(file), "--var", "v", "-o", str(tmp_path / "out.nc")])
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(f"Error: {file} cannot be read as NetCDF: ") and words in done.stderr
    assert not (tmp_path / "out.nc").exists()


def test_every_part_that_is_read_is_a_sign_of_life(file, monkeypatch, capsys):
    monkeypatch.setattr(probe, "_limit", lambda *_: None)
    monkeypatch.setattr(probe, "PART", 24)
    assert probe.main(str(file), str(2**30), "v") == 0
    assert capsys.readouterr().out == "." * 4


def test_what_memory_has_no_room_for_is_said_before_it_is_read(tmp_path):
    """A file of a few thousand bytes can say that it has as many numbers as it likes."""
    path = tmp_path / "large.nc"
    with netCDF4.Dataset(path, "w") as dataset:
        for dim in "xy":
            dataset.createDimension(dim, 2**22)
        dataset.createVariable("v", "f8", ("x", "y"), chunksizes=(1024, 1024))
    for command in (["info", path], ["impute", path, "--var", "v", "-o", tmp_path / "out.nc"]):
        done = RUN.invoke(cli.app, list(map(str, command)))
        assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
        assert re.search(r"'v' is of 131,072.0 GiB, more than [\d.]+ GiB, the memory that there is$", done.stderr)


@pytest.mark.parametrize("kind", ["nc", "zarr"])
def test_a_variable_larger_than_memory_is_looked_at_part_by_part(kind, tmp_path, monkeypatch):
    path, values = tmp_path / f"large.{kind}", np.arange(600.0).reshape(30, 20)
    values[3:7, 2] = np.nan
    data = xr.Dataset({"v": (["x", "y"], values)})
    data.to_netcdf(path) if kind == "nc" else data.to_zarr(path, zarr_format=2, consolidated=False)
    monkeypatch.setattr(probing, "host_memory", lambda: 1000)
    monkeypatch.setattr(probe, "PART", 800)
    looked = RUN.invoke(cli.app, ["info", str(path)])
    assert looked.exit_code == 0, looked.output
    assert "  variable     v: x x y, float64, 4 of 600 missing (1%)" in looked.output.splitlines()
    asked = RUN.invoke(cli.app, ["impute", str(path), "--var", "v", "-o", str(tmp_path / "out.nc")])
    assert (asked.exit_code, asked.stderr.count("\n")) == (2, 1)
    assert "'v' is of 0.0 GiB, more than 0.0 GiB, the memory that there is" in asked.stderr


def test_what_is_far_larger_than_its_file_is_not_looked_at(tmp_path, monkeypatch):
    with netCDF4.Dataset(tmp_path / "large.nc", "w") as dataset:
        dataset.createDimension("x", 2**40)
        dataset.createVariable("v", "f8", ("x",), chunksizes=(2**20,))
    monkeypatch.setattr(probing, "host_memory", lambda: 1000)
    looked = RUN.invoke(cli.app, ["info", str(tmp_path / "large.nc")])
    assert (looked.exit_code, looked.stderr.count("\n")) == (2, 1)
    assert "GiB, 1,000 times the size of what it is read from" in looked.stderr


def test_no_pickle_of_a_zarr_store_is_run(tmp_path, monkeypatch):
    """numcodecs has a codec that unpickles, which newer versions only do if told to; a store chooses its codecs."""
    import pickle

    import numcodecs.pickles

    monkeypatch.setattr(numcodecs.pickles, "ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False)
    monkeypatch.setenv("NUMCODECS_ALLOW_UNSAFE_PICKLE_DECODE", "1")

    class Touch:
        def __reduce__(self):
            return Path.touch, (tmp_path / "touched",)

    xr.DataArray([1.0, np.nan], dims="x", name="v").to_dataset().to_zarr(tmp_path / "in.zarr", zarr_format=2)
    told = json.loads((tmp_path / "in.zarr" / "v" / ".zarray").read_text())
    told |= {"dtype": "|O", "filters": [{"id": "vlen-utf8"}, {"id": "pickle"}], "compressor": None, "fill_value": ""}
    (tmp_path / "in.zarr" / "v" / ".zarray").write_text(json.dumps(told))
    (tmp_path / "in.zarr" / "v" / "0").write_bytes(pickle.dumps(Touch()))
    with contextlib.suppress(Exception):
        xr.open_zarr(tmp_path / "in.zarr", consolidated=False)["v"].load()
    assert (tmp_path / "touched").exists()  # by xarray alone
    (tmp_path / "touched").unlink()
    for command in (["info"], ["impute", "--var", "v", "-o", str(tmp_path / "out.nc")]):
        done = RUN.invoke(cli.app, [command[0], str(tmp_path / "in.zarr"), *command[1:]])
        assert done.exit_code == 2, done.output
    assert not (tmp_path / "touched").exists()
    assert "pickle" in numcodecs.registry.codec_registry  # others may want it


@pytest.mark.parametrize(
    ("shape", "chunk", "itemsize"),
    [((), (), 8), ((0, 5), (1, 1), 8), ((7,), (3,), 8), ((400, 300, 250), (7, 300, 11), 4), ((3, 2**24), (1, 1), 4)],
)
def test_parts_are_whole_chunks_and_make_the_whole(shape, chunk, itemsize):
    seen = np.zeros(shape, "i1")
    for part in probe.parts(shape, chunk, itemsize):
        assert all(own.start % step == 0 for own, step in zip(part, chunk, strict=True))
        assert seen[part].size * itemsize <= probe.PART
        seen[part] += 1
    assert (seen == 1).all()
