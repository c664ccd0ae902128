"""The command line: what it writes, what it says, and that bad input leaves nothing behind."""

import functools
import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

from probtensor import cli, datasets, demo
from probtensor.evaluation import gaps
from probtensor.terms.cp import CP
from probtensor.terms.offset import Offset

NAME = "sea_surface_temperature"


@pytest.fixture(scope="module")
def field():
    """A made field with land and gaps, small enough to fit in a moment."""
    made = datasets.load("synthetic", times=8, latitudes=4, longitudes=6)
    return made.where(~gaps.random(0.2).mask(dict(made.sizes), 0, made.notnull().values))


@pytest.fixture
def folder(tmp_path, field):
    """A folder with the input, and some files that are of no use."""
    field.to_dataset().assign(text=("word", np.array(["a", "b"]))).to_netcdf(tmp_path / "in.nc")
    field.where(False).to_netcdf(tmp_path / "empty.nc")
    field.where(field.isnull(), np.inf).to_netcdf(tmp_path / "infinite.nc")
    xr.concat([field, field.isel(time=[0])], "time").to_netcdf(tmp_path / "twice.nc")
    sea = field.notnull().any("time")
    sea.rename("sea").to_dataset().assign(word="no mask").to_netcdf(tmp_path / "sea.nc")
    sea.assign_coords(latitude=sea["latitude"] + 30).to_dataset(name="sea").to_netcdf(tmp_path / "north.nc")
    (tmp_path / "notes.txt").write_text("no field at all")
    (tmp_path / "sub").mkdir()
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def imputed(tmp_path_factory, field):
    """What one run said and wrote."""
    folder = tmp_path_factory.mktemp("imputed")
    field.to_netcdf(folder / "in.nc")
    field.notnull().any("time").astype(float).rename("sea").to_netcdf(folder / "sea.nc")
    options = ["--rank", "1", "--where", folder / "sea.nc:sea", "--quantiles", "0.05,0.95"]
    result = run("impute", folder / "in.nc", "--var", NAME, "-o", folder / "out.nc", *options)
    assert result.exit_code == 0, result.output
    with xr.open_dataset(folder / "out.nc") as dataset:
        return result, dataset.load(), folder


def test_impute_fills_the_gaps_and_nothing_else(imputed, field):
    _, filled, _ = imputed
    seen, sea = field.notnull(), field.notnull().any("time")
    np.testing.assert_array_equal(filled[NAME].values[seen.values], field.values[seen.values])
    np.testing.assert_array_equal(filled[NAME].notnull().values, np.broadcast_to(sea.values, field.shape))
    np.testing.assert_array_equal(filled[f"{NAME}_filled"].values.astype(bool), (sea & ~seen).transpose(*field.dims))
    assert filled[NAME].dims == field.dims
    assert filled[NAME].attrs["units"] == "K"


def test_impute_writes_quantiles_in_order(imputed, field):
    _, filled, _ = imputed
    np.testing.assert_allclose(filled["quantile"], [0.05, 0.95])
    gap = filled[f"{NAME}_filled"].astype(bool)
    low, high = (filled[f"{NAME}_quantiles"].sel(quantile=q).where(gap) for q in (0.05, 0.95))
    middle = filled[NAME].where(gap)
    assert bool(((low < middle) & (middle < high)).where(gap, True).all())


def test_impute_is_quiet_in_a_pipe_and_leaves_no_other_file(imputed):
    result, _, folder = imputed
    assert result.output == ""
    assert sorted(path.name for path in folder.iterdir()) == ["in.nc", "out.nc", "sea.nc"]


BAD_INPUT = {
    "no such file": (["absent.nc"], "there is no file absent.nc"),
    "a folder": (["sub"], "sub is a folder, and no zarr store; name a NetCDF file"),
    "not NetCDF": (["notes.txt"], "notes.txt cannot be read as NetCDF: it is not a NetCDF file"),
    "no such variable": (["in.nc", "--var", "sst"], f"no variable 'sst'; it has ['{NAME}', 'text']"),
    "a coordinate": (["in.nc", "--var", "latitude"], "no variable 'latitude'"),
    "text": (["in.nc", "--var", "text"], "not numbers"),
    "nothing observed": (["empty.nc"], "no entry is observed"),
    "infinite": (["infinite.nc"], "infinite"),
    "a repeated coordinate": (["twice.nc"], "'time'"),
    "output in no folder": (["in.nc", "-o", "absent/out.nc"], "there is no folder absent; make it first"),
    "output is a folder": (["in.nc", "-o", "sub"], "sub is a folder; name a file in it"),
    "output under a file": (["in.nc", "-o", "notes.txt/out.nc"], "there is no folder notes.txt"),
    "output where none may": (["in.nc", "-o", "/proc/out.nc"], "/proc/out.nc cannot be written"),
    "output is the input": (["in.nc", "-o", "in.nc"], "is the input file"),
    "rank zero": (["in.nc", "--rank", "0"], "--rank '0': expected a whole number"),
    "rank in words": (["in.nc", "--rank", "many"], "--rank 'many'"),
    "quantile above one": (["in.nc", "--quantiles", "0.05,95"], "--quantiles '0.05,95': expected numbers between 0"),
    "quantiles in words": (["in.nc", "--quantiles", "low"], "--quantiles 'low'"),
    "where without variable": (["in.nc", "--where", "sea.nc"], "expected FILE:VARIABLE"),
    "where without file": (["in.nc", "--where", "absent.nc:sea"], "there is no file absent.nc"),
    "where with another variable": (["in.nc", "--where", "sea.nc:ocean"], "no variable 'ocean'"),
    "where in words": (["in.nc", "--where", "sea.nc:word"], "expected booleans or numbers"),
    "where of another place": (
        ["in.nc", "--where", "north.nc:sea"],
        "where: 4 of the data's 4 labels along 'latitude'",
    ),
}


@pytest.mark.parametrize(("arguments", "words"), BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_input_is_one_paragraph_and_exit_status_2(folder, monkeypatch, arguments, words):
    monkeypatch.chdir(folder)
    monkeypatch.setattr("probtensor.engines.message_passing.MessagePassing.run", None)  # all are refused before a fit
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    defaults = [] if "--var" in arguments else ["--var", NAME]
    defaults += [] if "-o" in arguments else ["-o", "out.nc"]
    result = run("impute", *arguments, *defaults)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_the_installed_command_without_a_terminal(folder):
    command = [sys.executable, "-c", "from probtensor.cli import main; main()"]
    options = {"cwd": folder, "capture_output": True, "text": True}
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    found = subprocess.run([*command, "impute", "notes.txt", "--var", "x", "-o", "y.nc"], env=environment, **options)
    assert (found.returncode, found.stdout, found.stderr.count("\n")) == (2, "", 1)
    assert "Traceback" not in found.stderr
    shown = subprocess.run([*command, "--help"], env=environment, **options)
    assert shown.returncode == 0
    assert {"demo", "impute"} <= set(shown.stdout.split())


@pytest.fixture
def small_demo(monkeypatch):
    """The demo on a field and with models that take a moment."""
    protocol = gaps.blocks(0.3, size={"time": 2, "latitude": 2, "longitude": 2})
    made = datasets.load("synthetic", times=8, latitudes=4, longitudes=6)
    small = functools.partial(demo.compute, protocol=protocol, ranks=(1,), model=Offset() + CP(1))
    monkeypatch.setattr(demo, "compute", small)
    monkeypatch.setattr(demo.datasets, "load", lambda name: made)
    return made


def test_demo_tells_its_story(tmp_path, small_demo, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    result = run("demo", "--data", "synthetic", "--output-dir", tmp_path / "new" / "demo", "--seed", 3)
    assert result.exit_code == 0, result.output
    for words in (
        "climatology by month",
        "linear interpolation",
        "tensorly masked CP",
        "probtensor, pt.fit(data)",
        "hidden ones, in K",
    ):
        assert words in result.stdout
    assert sorted(path.name for path in (tmp_path / "new" / "demo").iterdir()) == sorted(demo.OUTPUTS)
    with (
        xr.open_dataset(tmp_path / "new" / "demo" / "filled.nc") as dataset,
        xr.open_dataarray(tmp_path / "new" / "demo" / "gaps.nc") as gapped,
    ):
        seen = gapped.notnull()
        np.testing.assert_array_equal(dataset[NAME].values[seen.values], gapped.values[seen.values])
        land = small_demo.isnull().all("time")
        assert bool(dataset[NAME].where(land).isnull().all())
        assert int(dataset[NAME].notnull().sum()) > int(seen.sum())


def test_demo_says_what_to_install(capsys, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "iris_sample_data" else find(name))
    field = demo.load("ostia", demo.Console(width=200))
    assert field.name == NAME
    assert "pip install iris-sample-data" in capsys.readouterr().out


@pytest.mark.parametrize("where", ["/proc/demo", "file/demo", "file"])
def test_demo_refuses_a_folder_it_cannot_make(tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("in the way")
    result = run("demo", "--output-dir", where)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert f"{where} cannot be written" in result.stderr
