"""Posteriors on disk: the same answers bit for bit, and no answer from a store that is not whole."""

import functools
import json
import resource
import shutil
import signal

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from typer.testing import CliRunner

import probtensor as pt
from probtensor import cli
from probtensor.errors import FormatError
from probtensor.store.archive import HEADER
from tests.helpers import interrupted_once

RANDOM = np.random.default_rng(0)
VALUES = RANDOM.normal(size=(8, 4)) + 3 * np.sin(np.arange(8))[:, None]
HIDDEN = RANDOM.random((8, 4)) < 0.3


def grid():
    coords = {"time": pd.date_range("2020-01-01", periods=8), "site": list("abcd")}
    return xr.DataArray(VALUES, coords, ["time", "site"], name="pm", attrs={"units": "ug m-3"}).where(~HIDDEN)


@functools.cache
def fitted():
    return pt.fit(grid(), pt.Offset() + pt.CP(2), engine=pt.MessagePassing(max_sweeps=10))


def saved(post, path):
    post.save(path)
    return pt.load(path)


def assert_same_answers(one, other, at):
    xr.testing.assert_identical(one.predict(at, quantiles=[0.1]), other.predict(at, quantiles=[0.1]))
    xr.testing.assert_identical(one.sample(2, at), other.sample(2, at))
    assert one.summary() == other.summary()
    pd.testing.assert_frame_equal(one.hyperparameters(), other.hyperparameters())
    xr.testing.assert_identical(one.objective, other.objective)


def test_a_grid(tmp_path):
    post = fitted()
    found = saved(post, tmp_path / "fit.zarr")
    at = {"time": ["2020-01-03", "2020-02-01"], "site": ["b", "new"]}
    assert_same_answers(post, found, at)
    xr.testing.assert_identical(post.impute(), found.impute())
    xr.testing.assert_identical(post.factors(1), found.factors(1))
    xr.testing.assert_identical(post.residuals(), found.residuals())
    new = grid().fillna(0.0)
    xr.testing.assert_identical(post.update(new).predict(at), found.update(new).predict(at))
    assert repr(found.model) == repr(post.model)
    assert [path.name for path in tmp_path.iterdir()] == ["fit.zarr"]
    assert_same_answers(post, saved(found, tmp_path / "again.zarr"), at)


@pytest.mark.parametrize(
    ("model", "arguments"),
    [
        pytest.param(pt.Offset() + pt.Local(pt.Matern(1 / 2).on("time")), {}, marks=pytest.mark.slow),
        (pt.CP(1, modes={"time": pt.Basis("hilbert", 3), ...: None}), {"engine": pt.MessagePassing(max_sweeps=3)}),
        pytest.param(pt.CP("auto"), {}, marks=pytest.mark.slow),
        pytest.param("auto", {}, marks=pytest.mark.slow),
        pytest.param(pt.Tucker(2), {"likelihood": pt.StudentT()}, marks=pytest.mark.slow),
        pytest.param(pt.CP(1), {"engine": pt.SVI(steps=40)}, marks=pytest.mark.slow),
        pytest.param(pt.CP(1), {"engine": pt.Gibbs(samples=4, warmup=3, chains=1)}, marks=pytest.mark.slow),
        pytest.param(pt.TensorTrain(2), {"likelihood": pt.Gaussian(noise="site")}, marks=pytest.mark.slow),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::probtensor.errors.ProbtensorWarning")
def test_every_kind(model, arguments, tmp_path):
    post = pt.fit(grid(), model, **arguments)
    assert_same_answers(post, saved(post, tmp_path / "fit.zarr"), {"time": ["2020-01-05"], "site": ["a", "c"]})


@pytest.mark.slow
def test_a_calibrated_table(tmp_path):
    site, time = np.tile(list("abcd"), 20), np.repeat(np.arange(20), 4)
    value = np.sin(time) + RANDOM.normal(size=80)
    table = pt.table(pd.DataFrame({"t": time, "s": site, "v": value}), "v", ["t", "s"])
    post = pt.fit(table, pt.Offset() + pt.CP(1), engine=pt.MessagePassing(max_sweeps=5)).calibrate()
    assert_same_answers(post, saved(post, tmp_path / "fit.zarr"), pt.points({"t": [3, 50], "s": ["a", "b"]}))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("stores") / "fit.zarr"
    fitted().save(path)
    return path


def truncated(path):
    file = max((f for f in path.rglob("*") if f.is_file() and f.name != HEADER), key=lambda f: f.stat().st_size)
    file.write_bytes(file.read_bytes()[:-1])


def with_header(**changes):
    def change(path):
        header = json.loads((path / HEADER).read_text())
        (path / HEADER).write_text(json.dumps(header | changes))

    return change


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (truncated, "is damaged: it is not what was written"),
        (lambda path: (path / "tree.json").unlink(), "tree.json is missing"),
        (lambda path: (path / "more").write_text("x"), "does not belong to it: more"),
        (lambda path: (path / HEADER).unlink(), "no store of a posterior"),
        (lambda path: (path / HEADER).write_text("{"), "is damaged"),
        (with_header(version=99, written_by="9.0"), "version 99 .* written by probtensor 9.0.*newer probtensor"),
        (with_header(format="other"), "is a 'other'"),
        (with_header(files={}), "its own digest"),
        (with_header(arrays=1), "its own digest"),
        (with_header(version=0), "its own digest"),
        (with_header(version=None), "is damaged"),
        (lambda path: (path / HEADER).write_text("[]"), "is damaged"),
    ],
)
def test_damaged_stores(damage, text, store, tmp_path):
    copy = tmp_path / "copy.zarr"
    shutil.copytree(store, copy)
    damage(copy)
    with pytest.raises(FormatError, match=text):
        pt.load(copy)


def test_what_is_no_store(tmp_path):
    with pytest.raises(FormatError, match="there is no"):
        pt.load(tmp_path / "absent.zarr")
    (tmp_path / "file.zarr").write_text("x")
    with pytest.raises(FormatError, match="no store of a posterior"):
        pt.load(tmp_path / "file.zarr")
    with pytest.raises(FormatError, match="exists and is no store"):
        fitted().save(tmp_path / "file.zarr")
    assert (tmp_path / "file.zarr").read_text() == "x"
    with pytest.raises(FormatError, match="cannot be written: .*; nothing was changed"):
        fitted().save(tmp_path / "no folder" / "fit.zarr")


def test_a_store_is_replaced_whole(store, tmp_path):
    path = tmp_path / "fit.zarr"
    path.mkdir()
    fitted().save(path)
    (path / ".DS_Store").write_text("x")
    fitted().save(path)
    pt.load(path)
    (tmp_path / "link").symlink_to(path)
    fitted().save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    pt.load(tmp_path / "link")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["fit.zarr", "link"]


def test_nothing_else_is_replaced(store, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / HEADER).write_text("{}")
    (mine / "thesis.tex").write_text("x")
    with pytest.raises(FormatError, match="exists and is no store"):
        fitted().save(mine)
    assert (mine / "thesis.tex").exists()
    path = tmp_path / "fit.zarr"
    fitted().save(path)
    (path / "notes.txt").write_text("x")
    with pytest.raises(FormatError, match="a file that is not the store's, .*notes.txt"):
        fitted().save(path)
    with pytest.raises(FormatError, match="is no path"):
        pt.load(None)


def test_an_interrupt_between_two_moves(store, tmp_path, monkeypatch):
    path = tmp_path / "fit.zarr"
    fitted().save(path)
    interrupted_once(monkeypatch, path)
    with pytest.raises(KeyboardInterrupt):
        fitted().save(path)
    pt.load(path)
    assert [one.name for one in tmp_path.iterdir()] == ["fit.zarr"]


def test_what_could_not_be_read_is_not_written(tmp_path):
    from numpyro.distributions import TruncatedNormal

    post = fitted()
    made = post._made._replace(model=TruncatedNormal(5.0, 2.0, low=1.0))
    with pytest.raises(pt.ModelError, match="could not be read again"):
        type(post)(post._fitted, made).save(tmp_path / "fit.zarr")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full(tmp_path):
    """No file may grow beyond 2,000 bytes: the write fails half-way, and the old store stays."""
    path = tmp_path / "fit.zarr"
    fitted().save(path)
    before = pt.load(path).predict(grid())
    old, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, old[1]))
    try:
        with pytest.raises(FormatError, match="cannot be written: File too large; nothing was changed"):
            fitted().save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    xr.testing.assert_identical(pt.load(path).predict(grid()), before)
    assert [one.name for one in tmp_path.iterdir()] == ["fit.zarr"]


def test_a_users_own_function_is_refused(tmp_path):
    post = fitted()
    made = post._made._replace(model=pt.kernels.Custom(lambda d: jnp.exp(-d)))
    other = type(post)(post._fitted, made)
    with pytest.raises(pt.ModelError, match="function .*cannot be stored"):
        other.save(tmp_path / "fit.zarr")
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_says_what_a_store_is(store, tmp_path):
    told = CliRunner().invoke(cli.app, ["info", str(store)])
    assert told.exit_code == 0
    assert told.output.strip() == fitted().summary().strip()
    told = CliRunner().invoke(cli.app, ["info", str(tmp_path)])
    assert told.exit_code == 2
    assert "no store of a posterior" in told.output
