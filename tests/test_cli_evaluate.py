"""`probtensor evaluate`: the table that it shows and keeps, and that bad input leaves nothing behind."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from typer.testing import CliRunner

import probtensor as pt
from probtensor import cli, datasets
from probtensor.cli import evaluating
from probtensor.cli.evaluating import Protocol

FLOORS = ["mean", "level means", "nearest", "linear interpolation", "level means + interpolation"]


@pytest.fixture(scope="module")
def field():
    made = datasets.load("synthetic", times=12, latitudes=4, longitudes=6).rename("sst")
    return made.where(~pt.gaps.blocks(0.2, {"time": 2, "latitude": 2}).mask(dict(made.sizes), 0, made.notnull().values))


@pytest.fixture
def folder(tmp_path, field, monkeypatch):
    field.to_netcdf(tmp_path / "in.nc")
    full = field.fillna(280.0)
    full.to_dataset().assign(empty=full * np.nan).to_netcdf(tmp_path / "full.nc")
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(cli.app, ["evaluate", *map(str, arguments)], env={"COLUMNS": "100"})


def test_the_table_is_that_of_cross_validate(folder, field):
    options = [
        "--model",
        "none",
        "--protocol",
        "blocks",
        "--size",
        "time=3,latitude=2",
        "--fraction",
        "0.3",
        "--seed",
        "5",
    ]
    result = run("in.nc", "--var", "sst", *options, "--folds", "2", "--joint", "5", "-o", "scores.csv")
    assert (result.exit_code, result.stderr) == (0, "")
    expected = pt.cross_validate(field, {}, pt.gaps.blocks(0.3, {"time": 3, "latitude": 2}), folds=2, seed=5, joint=5)
    kept = pd.read_csv("scores.csv", keep_default_na=False, na_values=[""])
    assert list(kept.columns) == list(expected.columns)
    np.testing.assert_allclose(kept["crps"], expected["crps"], rtol=1e-12)
    text = " ".join(result.stdout.split())
    assert text.startswith(
        "sst, 12 time x 4 latitude x 6 longitude. Held out: boxes of 3 time x 2 latitude, 0.3 of all"
    )
    assert (
        f"is {expected['n'].iloc[:2].mean():,.0f} of {int(field.notnull().sum())} values. Means over the folds, in K"
        in text
    )
    means = expected.groupby("model")["crps"].mean().sort_values()
    lines = [line for line in result.stdout.splitlines() if any(line.strip().startswith(n.split()[0]) for n in FLOORS)]
    assert f"{means.iloc[0]:#.3g}" in lines[0] and f"{means.iloc[-1]:#.3g}" in lines[-1]
    apart = expected.pivot(index="fold", columns="model", values="crps")
    apart = apart[means.index[-1]] - apart[means.index[0]]
    assert f"{apart.mean():.2g} ± {apart.sem():.1g}" in lines[-1]
    assert "energy" in text


@pytest.mark.filterwarnings("always")
def test_a_model_that_fails_is_said_and_exits_with_2(folder):
    result = run("in.nc", "--var", "sst", "--model", "cp:1", "--likelihood", "bernoulli", "--folds", "2")
    assert result.exit_code == 2
    assert "Warning: 'cp:1' failed in fold 0, 1, and has no scores there: DataError: Bernoulli" in result.stderr
    assert result.stderr.count("\n") == 1
    assert "failed" in result.stdout and "linear" in result.stdout


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((Protocol.random, None, None, None), pt.gaps.random(0.2)),
        ((Protocol.blocks, "time=4, latitude=2", None, 0.4), pt.gaps.blocks(0.4, {"time": 4, "latitude": 2})),
        ((Protocol.blocks, None, None, None), pt.gaps.blocks(0.2, {"time": 2, "latitude": 2, "longitude": 1})),
        ((Protocol.sites, None, None, 0.1), pt.gaps.sites(0.1, ["latitude", "longitude"])),
        ((Protocol.sites, None, "longitude", None), pt.gaps.sites(0.2, ["longitude"])),
        ((Protocol.tail, None, None, None), pt.gaps.tail(0.2, "time")),
        ((Protocol.by, None, None, None), pt.gaps.by("time")),
        ((Protocol.by, None, "latitude,longitude", None), pt.gaps.by(["latitude", "longitude"])),
    ],
)
def test_protocols_and_what_they_are_where_nothing_is_said(field, options, expected):
    kind, size, dims, fraction = options
    assert evaluating.protocol(kind, field, size, dims, fraction) == expected
    assert evaluating.protocol(Protocol.like, field, None, None, 0.1).fraction == 0.1


def test_without_times_series_run_along_the_first_dimension():
    data = xr.DataArray(np.arange(12.0).reshape(3, 4), dims=["depth", "station"])
    assert evaluating.protocol(Protocol.tail, data, None, None, None) == pt.gaps.tail(0.2, "depth")


def test_models_by_their_names():
    found = evaluating.models(["auto", "cp:3", "tucker", "train:2", "none"])
    assert list(found) == ["auto", "cp:3", "tucker", "train:2"]
    assert [term.rank for model in list(found.values())[1:] for term in model.terms[1:]] == [3, "auto", 2]
    assert evaluating.models(["none"]) == {}


BAD_INPUT = {
    "no such file": (["absent.nc"], "there is no file absent.nc"),
    "no such variable": (["in.nc", "--var", "hgt"], "no variable 'hgt'"),
    "nothing observed": (["full.nc", "--var", "empty"], "no entry is observed"),
    "a model in words": (["in.nc", "--model", "best"], "--model 'best': expected auto, or cp"),
    "a rank in words": (["in.nc", "--model", "cp:many"], "--rank 'many': expected a whole number"),
    "no rank": (["in.nc", "--model", "cp:"], "--model 'cp:'"),
    "a size in words": (["in.nc", "--protocol", "blocks", "--size", "4"], "--size '4': expected levels for each"),
    "a size for others": (["in.nc", "--size", "time=4"], "--size is for --protocol blocks, and the protocol is random"),
    "dims for others": (
        ["in.nc", "--protocol", "like", "--dims", "time"],
        "--dims is for --protocol sites, tail or by",
    ),
    "a fraction for by": (["in.nc", "--protocol", "by", "--fraction", "0.2"], "--fraction is not for --protocol by"),
    "two tails": (["in.nc", "--protocol", "tail", "--dims", "time,latitude"], "tail has one dimension"),
    "no such dimension": (["in.nc", "--protocol", "by", "--dims", "depth"], "no dimension 'depth'"),
    "a fraction of all": (["in.nc", "--fraction", "1.5"], "fraction=1.5 must lie strictly between 0 and 1"),
    "no gaps to copy": (["full.nc", "--protocol", "like"], "the data have no gaps"),
    "output in no folder": (["in.nc", "-o", "absent/s.csv"], "there is no folder absent; make it first"),
    "output is a folder": (["in.nc", "-o", "sub"], "sub is a folder; name a file in it, such as sub/scores.csv"),
    "output is the input": (["in.nc", "-o", "in.nc"], "-o in.nc is the input file"),
}


@pytest.mark.parametrize(("arguments", "words"), BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_input_is_one_paragraph_and_exit_status_2(folder, monkeypatch, arguments, words):
    monkeypatch.setattr("probtensor.engines.message_passing.MessagePassing.run", None)  # all are refused before a fit
    before = sorted(path.name for path in folder.rglob("*"))
    result = run(*arguments, *([] if "--var" in arguments else ["--var", "sst"]))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: ") and result.stderr.count("\n") == 1
    assert words in result.stderr
    assert sorted(path.name for path in folder.rglob("*")) == before


def test_help_teaches(monkeypatch):
    shown = run("--help").output
    assert "probtensor evaluate in.nc --var sst --protocol blocks" in " ".join(shown.split())
