"""The command line when it is interrupted or the disk is full: one line, and nothing lost or half-written."""

import os
import signal
import subprocess
import sys
import time

import pytest

from probtensor import datasets
from tests.helpers import mostly_slow

#: The command in a process of its own, some of it replaced; `wait` says that it is there and stays.
PROGRAM = """
import resource, signal, sys, time
import xarray as xr
from probtensor import cli
from probtensor.cli import inputs, outputs
from probtensor.labelled import fit as fitting

def wait(*_, **__):
    print("ready", flush=True)
    time.sleep(120)

def filled(data, *_, **__):
    return None, data.fillna(0.0).to_dataset().assign({f"{data.name}_filled": data.isnull()})

def half(self, path, **_):
    with open(path, "w") as file:
        file.write("half a fi")
    wait()

def half_a_folder(self, path, **_):
    path.mkdir()
    half(self, path / "zarr.json")

def on_a_full_disk(*arguments, write=outputs.write):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FULL, resource.RLIM_INFINITY))
    write(*arguments)

# A shell's background processes ignore interrupts, and what they start does, too.
signal.signal(signal.SIGINT, signal.default_int_handler)
REPLACED
cli.main()
"""
FILL = "fitting.imputed = filled\n"
MOMENTS = {
    "reading": ("inputs.variable_and_beside = wait", "out.nc"),
    "fitting": ("fitting.imputed = wait", "out.nc"),
    "writing": (FILL + "xr.Dataset.to_netcdf = half", "out.nc"),
    "writing a folder": (FILL + "xr.Dataset.to_zarr = half_a_folder", "out.zarr"),
    "writing over another": (FILL + "xr.Dataset.to_netcdf = half", "old.nc"),
}


@pytest.fixture
def folder(tmp_path):
    made = datasets.load("synthetic", times=8, latitudes=4, longitudes=6).rename("sst")
    made.to_netcdf(tmp_path / "in.nc")
    made.to_netcdf(tmp_path / "old.nc")
    return tmp_path


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def start(folder, replaced, output):
    program = PROGRAM.replace("REPLACED", replaced)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)  # a path from here on, perhaps, which would be made there
    command = [sys.executable, "-c", program, "impute", "in.nc", "--var", "sst", "-o", output]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=-1, stderr=-1, text=True)


def interrupted(process, after=0.0):
    assert process.stdout.readline() == "ready\n", process.communicate()[1]
    time.sleep(after)
    process.send_signal(signal.SIGINT)
    out, said = process.communicate(timeout=100)
    return process.returncode, out, said


@pytest.mark.parametrize("moment", mostly_slow(MOMENTS, "writing over another"))
def test_an_interrupt_leaves_everything_as_it_was(moment, folder):
    replaced, output = MOMENTS[moment]
    before = contents(folder)
    ended = interrupted(start(folder, replaced, output))
    assert ended == (130, "", "Interrupted; no output is left half-written\n")
    assert contents(folder) == before
    assert sorted(path.name for path in folder.iterdir()) == ["in.nc", "old.nc"]


@pytest.mark.slow
@pytest.mark.parametrize("after", [0.0, 1.0, 4.0, 10.0])
def test_an_interrupt_of_a_real_fit(after, folder):
    """Compiled programs cannot be stopped half-way, so it may take a moment."""
    tell = "known = fitting.imputed\ndef told(*a, **k):\n    print('ready', flush=True)\n    return known(*a, **k)\n"
    ended = interrupted(start(folder, tell + "fitting.imputed = told", "out.nc"), after)
    assert ended == (130, "", "Interrupted; no output is left half-written\n")
    assert sorted(path.name for path in folder.iterdir()) == ["in.nc", "old.nc"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("output", "limit"), [("out.zarr", 400), ("old.nc", 4000), ("out.nc", 4000), ("out.nc", 20), ("out.zarr", 2)]
)
def test_a_disk_that_is_full(output, limit, folder):
    """No file may grow beyond that many bytes, so that the write fails at once or half-way."""
    before = contents(folder)
    replaced = FILL + f"FULL = {limit}\noutputs.write = on_a_full_disk"
    process = start(folder, replaced, output)
    out, said = process.communicate(timeout=100)
    assert (process.returncode, out, said.count("\n")) == (2, "", 1), said
    assert said.startswith(f"Error: output: {output} cannot be written: ")
    assert said.endswith("nothing was changed there\n")
    assert contents(folder) == before
    assert sorted(path.name for path in folder.iterdir()) == ["in.nc", "old.nc"]
