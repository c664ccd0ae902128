"""The command line: what it writes, what it says, and that bad input leaves nothing behind."""

import functools
import importlib.util
import os
import shutil
import subprocess
import sys

import netCDF4
import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

from probtensor import cli, datasets, demo
from probtensor.evaluation import gaps
from probtensor.terms.cp import CP
from probtensor.terms.offset import Offset
from tests.helpers import mostly_slow

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
    (tmp_path / "notes.nc").write_text("no field at all")
    (tmp_path / "none.nc").touch()
    (tmp_path / "half.nc").write_bytes((tmp_path / "in.nc").read_bytes()[:3000])
    (tmp_path / "link.nc").symlink_to("in.nc")
    os.link(tmp_path / "in.nc", tmp_path / "hard.nc")
    (tmp_path / "old.zarr").write_text("from another day")
    (tmp_path / "sub").mkdir()
    (tmp_path / "mine.zarr").mkdir()
    (tmp_path / "mine.zarr" / "thesis.tex").touch()
    dataset = field.to_dataset()
    dataset["when"] = ("latitude", np.arange(4).astype("M8[D]").astype("M8[ns]"))
    dataset["word"] = ("latitude", np.array([b"a", b"b", b"c", b"d"]))
    dataset.to_zarr(tmp_path / "in.zarr", zarr_format=2)
    shutil.copytree(tmp_path / "in.zarr", tmp_path / "cut.zarr")
    for chunk in (tmp_path / "cut.zarr" / NAME).glob("[0-9]*"):
        chunk.write_bytes(chunk.read_bytes()[:-9])
    shutil.copytree(tmp_path / "in.zarr", tmp_path / "noted.zarr")
    (tmp_path / "noted.zarr" / "thesis.tex").touch()
    (tmp_path / "fit.zarr").mkdir()
    (tmp_path / "fit.zarr" / "zarr.json").write_text("{}")
    (tmp_path / "fit.zarr" / "probtensor.json").write_text("{}")
    with netCDF4.Dataset(tmp_path / "groups.nc", "w") as file:
        inner = file.createGroup("north").createGroup("sea")
        inner.createDimension("x", 3)
        inner.createVariable("sst", "f4", ("x",))
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
    "not NetCDF but called so": (["notes.nc"], "notes.nc cannot be read as NetCDF: it is not a NetCDF file"),
    "empty": (["none.nc"], "none.nc cannot be read as NetCDF"),
    "truncated": (["half.nc"], "half.nc cannot be read as NetCDF: "),
    "truncated zarr": (["cut.zarr"], "cut.zarr cannot be read as zarr: "),
    "a posterior": (["fit.zarr"], "fit.zarr is a saved fit, not data"),
    "only groups": (
        ["groups.nc", "--var", "sst"],
        "all that it has is in the groups ['north/sea']; write one as a file of its own, for example with "
        "xarray.open_dataset('groups.nc', group='north/sea').to_netcdf('north_sea.nc')",
    ),
    "times": (
        ["in.zarr", "--var", "when"],
        f"'when' of in.zarr holds datetime64[ns], not numbers; fill one of ['{NAME}']",
    ),
    "characters": (["in.zarr", "--var", "word"], "'word' of in.zarr holds "),
    "a slash in the name": (["in.nc", "--var", "a/b"], "in.nc has no variable 'a/b'"),
    "no such variable": (["in.nc", "--var", "sst"], f"no variable 'sst'; it has ['{NAME}', 'text']"),
    "a coordinate": (["in.nc", "--var", "latitude"], "no variable 'latitude'"),
    "text": (["in.nc", "--var", "text"], "'text' of in.nc holds "),
    "nothing observed": (["empty.nc"], "no entry is observed"),
    "infinite": (["infinite.nc"], "infinite"),
    "a repeated coordinate": (["twice.nc"], "'time'"),
    "output in no folder": (["in.nc", "-o", "absent/out.nc"], "there is no folder absent; make it first"),
    "output is a folder": (["in.nc", "-o", "sub"], "sub is a folder; name a file in it"),
    "output under a file": (["in.nc", "-o", "notes.txt/out.nc"], "there is no folder notes.txt"),
    "output where none may": (["in.nc", "-o", "/proc/out.nc"], "/proc/out.nc cannot be written"),
    "output is the input": (["in.nc", "-o", "in.nc"], "is the input file"),
    "output is the input by a link": (["in.nc", "-o", "link.nc"], "is the input file"),
    "output is the input by another name": (["in.nc", "-o", "hard.nc"], "is the input file"),
    "input by a link": (["link.nc", "-o", "in.nc"], "is the input file"),
    "output is the mask": (["in.nc", "--where", "sea.nc:sea", "-o", "sea.nc"], "is the input file"),
    "output is the input store": (["in.zarr", "-o", "in.zarr"], "is the input file"),
    "output in the input store": (["in.zarr", "-o", "in.zarr/out.nc"], "written into the input, or over it"),
    "output over what is no store": (["in.nc", "-o", "mine.zarr"], "mine.zarr exists and is no zarr store of data"),
    "output over a posterior": (["in.nc", "-o", "fit.zarr"], "fit.zarr exists and is no zarr store of data"),
    "output over a store with more": (["in.nc", "-o", "noted.zarr"], "a file that is not the store's, thesis.tex"),
    "zarr in no folder": (["in.nc", "-o", "absent/out.zarr"], "there is no folder absent; make it first"),
    "zarr over a file": (["in.nc", "-o", "old.zarr"], "old.zarr exists and is no zarr store"),
    "save where something is": (["in.nc", "--save", "mine.zarr"], "exists and is no store of a posterior"),
    "save in no folder": (["in.nc", "--save", "absent/fit"], "there is no folder absent; make it first"),
    "save is the output": (["in.nc", "--save", "out.nc"], "--save out.nc is the input or the output"),
    "save is the input": (["in.nc", "--save", "in.nc"], "--save in.nc is the input or the output"),
    "rank zero": (["in.nc", "--rank", "0"], "--rank '0': expected a whole number"),
    "rank in words": (["in.nc", "--rank", "many"], "--rank 'many'"),
    "quantile above one": (["in.nc", "--quantiles", "0.05,95"], "--quantiles '0.05,95': expected numbers between 0"),
    "quantiles in words": (["in.nc", "--quantiles", "low"], "--quantiles 'low'"),
    "where without variable": (["in.nc", "--where", "sea.nc"], "expected FILE:VARIABLE"),
    "where without file": (["in.nc", "--where", "absent.nc:sea"], "there is no file absent.nc"),
    "where with another variable": (["in.nc", "--where", "sea.nc:ocean"], "no variable 'ocean'"),
    "where in words": (
        ["in.nc", "--where", "sea.nc:word"],
        "'word' of sea.nc holds <U7, not numbers; fill one of ['sea']",
    ),
    "where of another place": (
        ["in.nc", "--where", "north.nc:sea"],
        "where: 4 of the data's 4 labels along 'latitude'",
    ),
}


#: Of each kind of cause those that differ most; what reads files of other kinds takes longest.
QUICK = [
    "no such file",
    "truncated",
    "a posterior",
    "only groups",
    "no such variable",
    "text",
    "nothing observed",
    "infinite",
    "a repeated coordinate",
    "output in no folder",
    "output is the input by a link",
    "output is the mask",
    "output over what is no store",
    "save where something is",
    "save is the output",
    "rank zero",
    "quantile above one",
    "where without variable",
    "where with another variable",
    "where of another place",
]


@pytest.mark.parametrize("case", mostly_slow(BAD_INPUT, *QUICK))
def test_bad_input_is_one_paragraph_and_exit_status_2(folder, monkeypatch, case):
    arguments, words = BAD_INPUT[case]
    monkeypatch.chdir(folder)
    monkeypatch.setattr("probtensor.engines.message_passing.MessagePassing.run", None)  # all are refused before a fit
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    defaults = [] if "--var" in arguments else ["--var", NAME]
    defaults += [] if "-o" in arguments else ["-o", "out.nc"]
    result = run("impute", *arguments, *defaults)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert words in result.stderr
    assert result.stderr.count("\n") == 1
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.slow
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


@pytest.mark.parametrize("command", [[], ["impute"], ["evaluate"], ["info"], ["demo"]])
def test_help_teaches(command, monkeypatch):
    """The short and the long option say the same: what it does, an example, and what the exit status means."""
    monkeypatch.setenv("COLUMNS", "120")
    shown = [run(*command, option).output for option in ("-h", "--help")]
    assert shown[0] == shown[1]
    assert f"probtensor {command[0] if command else 'impute'} " in shown[0]
    if not command:
        assert "Exit status: 0 done, 2 bad input" in " ".join(shown[0].split())
        assert "probtensor 0.1.0" in run("--version").output


def test_an_unknown_command_or_option_is_bad_input():
    for arguments in (["fill"], ["impute", "in.nc", "--bar"], ["impute"], ["impute", "in.nc", "--seed", "-1"]):
        assert run(*arguments).exit_code == 2


NO_STORES = {
    "a folder": ("sub", "no store of a posterior"),
    "a damaged posterior": ("fit.zarr", "damaged"),
    "nothing": ("absent", "load: there is no "),
    "text": ("notes.txt", "it is not a NetCDF file"),
}


@pytest.mark.parametrize("case", NO_STORES)
def test_info_of_what_cannot_be_read(folder, monkeypatch, case):
    monkeypatch.chdir(folder)
    path, words = NO_STORES[case]
    result = run("info", path)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert words in result.stderr


def test_info_of_data(folder, monkeypatch):
    monkeypatch.chdir(folder)
    for path, kind in (("in.nc", "a NetCDF file"), ("in.zarr", "a zarr store")):
        lines = run("info", path).output.splitlines()
        assert lines[0] == f"{path}: {kind}, no saved fit"
        assert any(line.startswith(f"  variable     {NAME}: time x latitude x longitude, float") for line in lines)
        assert lines[-1] == f"fill one with: probtensor impute {path} --var {NAME} -o filled.nc"
    assert "north/sea" in run("info", "groups.nc").output


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
        "probtensor, factors",
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
