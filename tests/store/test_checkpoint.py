"""A fit that was cut off goes on from its checkpoint to the same answer bit for bit; no other fit does."""

import functools
import os
import shutil
import zipfile

import jax
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import probtensor as pt
from probtensor.errors import DataError, FormatError, ModelError
from probtensor.store import archive
from probtensor.store import checkpoint as store
from probtensor.store.posterior import save
from probtensor.store.tree import described
from tests.helpers import interrupted_once, mostly_slow

RANDOM = np.random.default_rng(0)
VALUES = RANDOM.normal(size=(8, 4)) + 3 * np.sin(np.arange(8))[:, None]
HIDDEN = RANDOM.random((8, 4)) < 0.3
MODEL = pt.Offset() + pt.CP(2)
#: Sweeps in blocks of five: three and a bit, so that the last one is short.
ENGINE = pt.MessagePassing(max_sweeps=17, tol=0.0)


def grid():
    coords = {"time": pd.date_range("2020-01-01", periods=8), "site": list("abcd")}
    return xr.DataArray(VALUES, coords, ["time", "site"], name="pm", attrs={"units": "ug m-3"}).where(~HIDDEN)


def table():
    return pt.table(grid().to_dataframe().reset_index().dropna().iloc[::-1], "pm", ["time", "site"])


def counts():
    return np.floor(np.exp(grid() / 3))


class Stop(Exception):
    """The end of a fit before its end."""


def stop_after(calls, end=Stop):
    """A progress function that ends the fit when it has been called so often."""
    left = iter(range(calls - 1))

    def progress(done, most, objective):
        if next(left, None) is None:
            raise end

    return progress


def in_pieces(path, calls, data, model, **arguments):
    """A fit that is stopped and called again until it ends, and how often it was stopped."""
    stops = 0
    while True:
        try:
            return pt.fit(data, model, checkpoint=path, progress=stop_after(calls), **arguments), stops
        except Stop:
            stops += 1
            assert [one.name for one in path.parent.iterdir()] == [path.name + store.SUFFIX]


def assert_same(one, other):
    """Every number of the fit is, bit for bit."""
    for own, again in zip(jax.tree.leaves(one._fitted.state), jax.tree.leaves(other._fitted.state), strict=True):
        np.testing.assert_array_equal(own, again)
    np.testing.assert_array_equal(one.objective, other.objective)
    assert one._result.restarts == other._result.restarts and one._result.reason == other._result.reason
    pd.testing.assert_frame_equal(one.hyperparameters(), other.hyperparameters(), check_exact=True)


@functools.cache
def uninterrupted():
    return pt.fit(grid(), MODEL, engine=ENGINE)


CEP = pt.MessagePassing(rule="cep", max_sweeps=12, tol=0.0)
TWICE = pt.MessagePassing(max_sweeps=12, tol=0.0, restarts=2)


@pytest.mark.parametrize(
    ("data", "model", "arguments", "stops"),
    [
        (grid, MODEL, {"engine": ENGINE}, 4),
        pytest.param(table, MODEL, {"engine": TWICE}, 3, marks=pytest.mark.slow),
        pytest.param(
            counts, pt.Offset() + pt.CP(1), {"engine": TWICE, "likelihood": pt.Poisson()}, 6, marks=pytest.mark.slow
        ),
        pytest.param(counts, pt.CP(1), {"engine": CEP, "likelihood": pt.Poisson()}, 6, marks=pytest.mark.slow),
        pytest.param(grid, pt.Offset("site") + pt.Tucker(2), {"engine": ENGINE}, 4, marks=pytest.mark.slow),
        pytest.param(
            table, pt.TensorTrain(2), {"engine": pt.MessagePassing(max_sweeps=40)}, None, marks=pytest.mark.slow
        ),
    ],
    ids=["grid", "table, restarts", "counts, restarts", "two rules", "Tucker", "until it stands still"],
)
def test_a_fit_in_pieces_is_the_whole_fit(data, model, arguments, stops, tmp_path):
    whole = pt.fit(data(), model, **arguments)
    post, stopped = in_pieces(tmp_path / "fit.zarr", 1, data(), model, **arguments)
    assert stopped == stops or stops is None
    assert_same(whole, post)


@pytest.mark.parametrize("calls", [2, 3])
def test_pieces_of_several_blocks(calls, tmp_path):
    post, stopped = in_pieces(tmp_path / "fit.zarr", calls, grid(), MODEL, engine=ENGINE)
    assert stopped == 4 // calls
    assert_same(uninterrupted(), post)


def test_at_its_end_there_is_the_posterior(tmp_path):
    path = tmp_path / "fit.zarr"
    post = pt.fit(grid(), MODEL, engine=ENGINE, checkpoint=path)
    assert [one.name for one in tmp_path.iterdir()] == ["fit.zarr"]
    assert_same(uninterrupted(), post)
    assert_same(post, pt.load(path))
    (tmp_path / f"fit.zarr{store.SUFFIX}").write_text("left by a process that was killed at its very end")
    again = pt.fit(grid(), MODEL, engine=ENGINE, checkpoint=os.fspath(path), progress=stop_after(1))  # makes no sweep
    assert_same(post, again)
    assert [one.name for one in tmp_path.iterdir()] == ["fit.zarr"]
    xr.testing.assert_identical(post.impute(), again.impute())


def test_it_is_written_every_so_often(tmp_path, monkeypatch):
    written, write = [], archive.write_packed
    monkeypatch.setattr(archive, "write_packed", lambda *given: (written.append(given), write(*given)))
    pt.fit(grid(), MODEL, engine=ENGINE, checkpoint=tmp_path / "one.zarr")
    assert not written
    monkeypatch.setattr(store, "_SECONDS", 0.0)
    monkeypatch.setattr(store, "_SHARE", np.inf)
    assert_same(uninterrupted(), pt.fit(grid(), MODEL, engine=ENGINE, checkpoint=tmp_path / "two.zarr"))
    assert len(written) == 4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:no term reads mode 'site'")
def test_a_local_term_is_fitted_again_behind_message_passing(tmp_path):
    model = pt.Offset() + pt.Local(pt.Matern(1 / 2).on("time"))
    path = tmp_path / "fit.zarr"
    whole = pt.fit(grid(), model)
    for calls in (1, 6):
        with pytest.raises(Stop):
            pt.fit(grid(), model, checkpoint=path, progress=stop_after(calls))
    post = pt.fit(grid(), model, checkpoint=path)
    np.testing.assert_array_equal(whole.objective, post.objective)
    np.testing.assert_array_equal(whole._fitted.state.local.residuals, post._fitted.state.local.residuals)
    xr.testing.assert_identical(whole.impute(), post.impute())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::probtensor.errors.ProbtensorWarning")
@pytest.mark.parametrize("model", ["auto", pt.Offset() + pt.CP("auto")], ids=str)
def test_choices_are_made_again(model, tmp_path):
    path = tmp_path / "fit.zarr"
    whole = pt.fit(grid(), model)
    with pytest.raises(Stop):
        pt.fit(grid(), model, checkpoint=path, progress=stop_after(1))
    post = pt.fit(grid(), model, checkpoint=path)
    assert repr(post.model) == repr(whole.model)
    assert_same(whole, post)
    assert_same(whole, pt.fit(grid(), model, checkpoint=path, progress=stop_after(1)))


def test_an_interrupt(tmp_path, monkeypatch):
    """From the keyboard, between blocks and while the checkpoint is written."""
    path = tmp_path / "fit.zarr"
    with pytest.raises(KeyboardInterrupt):
        pt.fit(grid(), MODEL, engine=ENGINE, checkpoint=path, progress=stop_after(2, KeyboardInterrupt))
    monkeypatch.setattr(store, "_SECONDS", 0.0)
    moves = interrupted_once(monkeypatch, path.with_name(path.name + store.SUFFIX))
    with pytest.raises(KeyboardInterrupt):
        pt.fit(grid(), MODEL, engine=ENGINE, checkpoint=path)
    assert [one.name for one in tmp_path.iterdir()] == [path.name + store.SUFFIX]
    assert_same(uninterrupted(), pt.fit(grid(), MODEL, engine=ENGINE, checkpoint=path))
    assert len(moves) > 1


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A checkpoint of a fit that was stopped."""
    path = tmp_path_factory.mktemp("stopped") / "fit.zarr"
    with pytest.raises(Stop):
        pt.fit(grid(), MODEL, engine=ENGINE, checkpoint=path, progress=stop_after(1))
    return path.with_name(path.name + store.SUFFIX)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A checkpoint of a fit that has ended."""
    path = tmp_path_factory.mktemp("finished") / "fit.zarr"
    pt.fit(grid(), MODEL, engine=ENGINE, checkpoint=path)
    return path


OTHERS = {
    "data": ({"data": grid() + 1.0}, DataError),
    "data: the other way round": ({"data": grid()[::-1]}, DataError),
    "data: a name": ({"data": grid().rename("pm10")}, DataError),
    "data, model": ({"data": grid().rename(site="place"), "model": pt.CP(1)}, DataError),
    "weights": ({"weights": xr.full_like(grid(), 2.0)}, DataError),
    "errors": ({"errors": 0.1}, DataError),
    "model": ({"model": pt.CP(2)}, ModelError),
    "likelihood": ({"likelihood": pt.StudentT()}, ModelError),
    "engine": ({"engine": pt.MessagePassing(max_sweeps=18, tol=0.0)}, ModelError),
    "seed": ({"seed": 1}, ModelError),
}


@pytest.mark.parametrize("what", OTHERS)
@pytest.mark.parametrize("kind", mostly_slow(["stopped", "finished"]))
def test_another_fit_is_refused(what, kind, request, tmp_path):
    changed, error = OTHERS[what]
    path = request.getfixturevalue(kind)
    given = {"data": grid(), "model": MODEL, "engine": ENGINE} | changed
    named = what.partition(":")[0]
    with pytest.raises(error, match=rf"other {named}\. Give the same again, or delete it, or give another path"):
        pt.fit(checkpoint=path.parent / "fit.zarr", progress=stop_after(1), **given)
    assert path.exists()


def test_another_start_or_version_is_refused(stopped, monkeypatch):
    path = stopped.parent / "fit.zarr"
    with pytest.raises(ModelError, match="other init"):
        pt.fit(grid(), MODEL, engine=ENGINE, init=uninterrupted(), checkpoint=path)
    monkeypatch.setattr(store, "version", lambda: "9.0")
    with pytest.raises(ModelError, match="other version of probtensor"):
        pt.fit(grid(), MODEL, engine=ENGINE, checkpoint=path)


@pytest.mark.slow
def test_a_fit_from_another_in_pieces(tmp_path):
    given = {"data": grid(), "model": MODEL, "engine": ENGINE, "init": uninterrupted()}
    whole = pt.fit(**given)
    assert_same(whole, in_pieces(tmp_path / "fit.zarr", 1, **given)[0])


def test_another_choice_is_refused(stopped, tmp_path, monkeypatch):
    shutil.copy(stopped, tmp_path)
    monkeypatch.setattr(store, "_structure", lambda stored: "other")
    with pytest.raises(ModelError, match="of another model than is chosen now"):
        pt.fit(grid(), MODEL, engine=ENGINE, checkpoint=tmp_path / "fit.zarr")


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


def flipped(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(bytes(content))


def with_entry(name, text):
    def change(path):
        with zipfile.ZipFile(path, "a") as packed:
            packed.writestr(name, text)

    return change


def without_header(path):
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("tree.json", "{}")


DAMAGES = {
    "cut": (cut, "damaged"),
    "a bit flipped": (flipped, "damaged"),
    "empty": (lambda path: path.write_bytes(b""), "damaged"),
    "text": (lambda path: path.write_text("thesis"), "damaged"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "damaged"),
    "more": (with_entry("more", "x"), "does not belong to it: more"),
    "no header": (without_header, "no store"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_checkpoints(name, stopped, tmp_path):
    path = tmp_path / stopped.name
    shutil.copy(stopped, path)
    damage, text = DAMAGES[name]
    damage(path)
    with pytest.raises(FormatError, match=rf"^checkpoint: {path} .*{text}.*\. Delete {path}, or give another path"):
        pt.fit(grid(), MODEL, engine=ENGINE, checkpoint=tmp_path / "fit.zarr", progress=stop_after(1))
    assert path.exists()


def test_a_damaged_posterior(finished, tmp_path):
    path = tmp_path / "fit.zarr"
    shutil.copytree(finished, path)
    (path / "tree.json").write_text("{}")
    with pytest.raises(FormatError, match=rf"tree.json is damaged.* Delete {path}, or give another path"):
        pt.fit(grid(), MODEL, engine=ENGINE, checkpoint=path)


def test_where_nothing_can_be_written(tmp_path):
    """Said before the fit begins."""
    fit = functools.partial(pt.fit, grid(), MODEL, progress=stop_after(1))
    with pytest.raises(FormatError, match="there is no folder .*; make it first"):
        fit(checkpoint=tmp_path / "no folder" / "fit.zarr")
    (tmp_path / "file").write_text("x")
    with pytest.raises(FormatError, match="no store of a posterior.*or give another path"):
        fit(checkpoint=tmp_path / "file")
    with pytest.raises(FormatError, match="is no path"):
        fit(checkpoint=3)
    uninterrupted().save(tmp_path / "saved.zarr")
    with pytest.raises(ModelError, match="that was saved there, and not by a fit with this checkpoint"):
        fit(checkpoint=tmp_path / "saved.zarr")
    assert (tmp_path / "file").read_text() == "x"


def test_what_a_killed_process_left_is_removed(tmp_path):
    (tmp_path / f".fit.zarr{store.SUFFIX}.abcd1234.part").mkdir()
    (tmp_path / ".fit.zarr.abcd1234.part" / "new").mkdir(parents=True)
    (tmp_path / ".mine.part").mkdir()
    pt.fit(grid(), MODEL, engine=ENGINE, checkpoint=tmp_path / "fit.zarr")
    assert sorted(one.name for one in tmp_path.iterdir()) == [".mine.part", "fit.zarr"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"engine": pt.SVI()}, "SVI cannot go on"),
        ({"engine": pt.NUTS()}, "NUTS cannot go on"),
        ({"engine": pt.Gibbs()}, "Gibbs cannot go on"),
        ({"mesh": jax.sharding.Mesh(jax.devices()[:1], ("observations",))}, "a fit over a mesh cannot go on"),
    ],
)
def test_fits_that_have_none_say_so(arguments, text, tmp_path):
    with pytest.raises(ModelError, match=f"^checkpoint=: {text}"):
        pt.fit(grid(), MODEL, checkpoint=tmp_path / "fit.zarr", **arguments)


def test_cross_validation_has_none(tmp_path):
    with pytest.raises(ModelError, match="no argument 'checkpoint'"):
        pt.cross_validate(grid(), MODEL, checkpoint=tmp_path / "fit.zarr")


def test_filling_in_one_line_has_one(tmp_path):
    filled = pt.impute(grid(), MODEL, engine=ENGINE, checkpoint=tmp_path / "fit.zarr")
    xr.testing.assert_identical(filled, pt.load(tmp_path / "fit.zarr").impute())


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="a system that does not say which files are open")
def test_it_is_on_the_disk_before_it_takes_its_place_and_so_is_the_move(tmp_path, monkeypatch):
    """Every file is flushed before the move, and the folder with the new name in it after the move."""
    done, fsync, replace = [], os.fsync, os.replace

    def flushed(number):
        done.append(os.readlink(f"/proc/self/fd/{number}"))
        fsync(number)

    def moved(one, other):
        done.append((os.fspath(one), os.fspath(other)))
        replace(one, other)

    post = uninterrupted()
    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", moved)
    place = tmp_path / "fit.zarr"
    save(post._fitted, post._made, place, {"seed": "0"})
    (at,) = (k for k, own in enumerate(done) if isinstance(own, tuple) and own[1] == os.fspath(place))
    part = done[at][0]
    written = {os.path.join(part, path.relative_to(place)) for path in place.rglob("*")}
    assert written < set(done[:at])
    assert done[at + 1 :] == [os.fspath(tmp_path)]
    done.clear()
    archive.write_packed(tmp_path / "packed", described((1,), {}), "0", {})
    assert [type(own) for own in done[-3:]] == [str, tuple, str] and done[-1] == os.fspath(tmp_path)
    assert done[-3] == done[-2][0]
