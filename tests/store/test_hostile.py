"""Stores that somebody has tampered with, who writes right digests, too: refused, or read as what they say.

Whatever is in a file: no code of its choosing runs, nothing outside it is read or written, and it costs no more memory
than a bound, no crash and no endless wait.
"""

import copy
import io
import json
import os
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import probtensor as pt
from probtensor.engines.checkpoint import Checkpoint, Loop
from probtensor.errors import FormatError
from probtensor.store import archive, guard
from probtensor.store.tree import Stored, described, rebuilt
from tests.store import hostile

FOLDER = Path(__file__).with_name("written_by")
ASKED = {"table": {"x": [0.3], "s": ["b"]}, "local": {"time": ["2001-03-10"], "lon": [90.0]}}
ASKED["grid"] = ASKED["local"] | {"lat": [5.0], "lon": [90.0, 300.0]}


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Folders of stores by name, and a file of a fit that was stopped."""
    folder = tmp_path_factory.mktemp("stores")
    for name in ASKED:
        with zipfile.ZipFile(FOLDER / f"0.1.0-{name}.zip") as whole:
            whole.extractall(folder / name)
    post = pt.load(folder / "table")
    checkpoint = Checkpoint((post._result,), Loop(post._fitted.state, 1.0, (1.0, 2.0), (0.5,), (2,)))
    archive.write_packed(folder / "fit.zarr.checkpoint", described(("model", checkpoint), {}), "0.1.0", {"seed": "0"})
    return folder


def tried(stores, folder, *jobs):
    """What came of each mutant, of a process that tries them one after the other."""
    told = [[what, str(stores / name), str(folder / "mutants"), ASKED.get(name, {}), a, b] for what, name, a, b in jobs]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-m", "tests.store.hostile", json.dumps(told)]
    options = {"env": environment, "cwd": Path(__file__).parents[2], "capture_output": True, "text": True}
    done = subprocess.run(command, **options)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, (lines[-1:], done.stderr[-3000:])
    found = [own | came for own, came in zip(lines[::2], lines[1::2], strict=True)]
    assert len(found) == sum(last - first for *_, first, last in jobs)
    return found


def check(found, at_use=()):
    """None ends in an exception of another kind; what was not digested again is refused, or is as it was."""
    assert [own for own in found if own["outcome"].startswith("bad") and own["outcome"] not in at_use] == []
    strict = {own["outcome"] for own in found if "digested" not in own["kind"]}
    assert strict <= {"refused", "same"}
    assert {"refused", "same"} <= {own["outcome"] for own in found}


def test_a_few_mutants(stores, tmp_path):
    jobs = ("posteriors", "table", 0, 20), ("checkpoints", "fit.zarr.checkpoint", 0, 12)
    check(tried(stores, tmp_path, *jobs))


@pytest.mark.slow
@pytest.mark.parametrize("begin", [1000, 1200, 1400, 1600])
def test_many_mutants_of_a_table(begin, stores, tmp_path):
    check(tried(stores, tmp_path, ("posteriors", "table", begin, begin + 200)))


@pytest.mark.slow
def test_many_mutants_of_a_grid(stores, tmp_path):
    check(tried(stores, tmp_path, ("posteriors", "grid", 2000, 2150)))


@pytest.mark.slow
def test_many_mutants_of_a_checkpoint(stores, tmp_path):
    check(tried(stores, tmp_path, ("checkpoints", "fit.zarr.checkpoint", 3000, 3400)))


@pytest.mark.slow
def test_many_mutants_of_a_local_term(stores, tmp_path):
    """Whose parts are numbers that are first computed with when it is asked; they may not fit together then."""
    check(tried(stores, tmp_path, ("posteriors", "local", 4000, 4200)), at_use=("bad at use",))


def changed(stores, folder, changes):
    """A store with other files, with right digests."""
    files = hostile.read_from(stores / "table") | changes
    hostile.written(hostile.digested({n: c for n, c in files.items() if c is not None}), folder)
    return folder


def with_array(stores, folder, name="0", **said):
    told = json.loads((stores / "table" / name / "zarr.json").read_text())
    return changed(stores, folder, {f"{name}/zarr.json": json.dumps(told | said).encode()})


def large(*shape, chunk=None):
    return {"shape": shape, "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunk or shape}}}


ARRAYS = {
    "one chunk of fill values": (large(10**12), "asks for .* GiB of memory"),
    "many chunks": (large(10**9, 10**9, chunk=(1, 1)), "asks for .* GiB of memory"),
    "chunks without end": (large(10**6, chunk=(1,)), "which are too many"),
    "a chunk beyond the array": (large(3, chunk=(10**12,)), "in chunks of"),
    "a negative shape": (large(-3), "it has the shape"),
    "text for a shape": (large("3"), "it has the shape"),
    "objects": ({"data_type": "object"}, "is damaged"),
    "a codec that unpickles": (
        {"codecs": [{"name": "bytes"}, {"name": "numcodecs.pickle"}]},
        "no array of a posterior",
    ),
    "another format": ({"zarr_format": 2}, "no array of a posterior"),
    "chunks under hidden names": ({"chunk_key_encoding": {"name": "v2"}}, "no array of a posterior"),
}


@pytest.mark.parametrize("how", ARRAYS)
def test_arrays_that_ask_for_too_much(how, stores, tmp_path):
    said, words = ARRAYS[how]
    with pytest.raises(FormatError, match=words):
        pt.load(with_array(stores, tmp_path / "fit.zarr", **said))


@pytest.mark.parametrize("chunk", hostile.bombs(), ids=lambda chunk: f"{len(chunk)} bytes")
def test_chunks_that_unpack_to_another_length(chunk, stores, tmp_path):
    name = next(n for n in hostile.read_from(stores / "table") if n.startswith("0/c"))
    with pytest.raises(FormatError, match="0 is damaged"):
        pt.load(changed(stores, tmp_path / "fit.zarr", {name: chunk}))


@pytest.mark.parametrize("size", [0, 1, 255, 256, 300, 65535, 65536, 65791, 65792, 10**6])
def test_the_length_of_a_chunk_is_read_as_it_was_written(size, tmp_path):
    (tmp_path / "c").write_bytes(hostile.zstd(bytes(size)))
    assert guard._unpacked(tmp_path / "c", True) == size


LABELS = {"kind": "labels", "dtype": "<U500000000", "shape": [200], "items": ["a"] * 200}
BLANK = {"kind": "blank", "shape": [10**12], "value": {"kind": "float", "value": "nan"}}
TREES = {
    "a deep one": (b"[" * 10**6, "tree.json is damaged"),
    "a number without end": (b"9" * 10**5, "tree.json is damaged"),
    "NaN": (b'{"kind": "float", "value": NaN}', "NaN is no number of JSON"),
    "records that double": (hostile.doubling().encode(), "repeats itself without end"),
    "long labels": (json.dumps(LABELS).encode(), "asks for .* GiB"),
    "a blank": (json.dumps(BLANK).encode(), "asks for .* GiB"),
    "objects behind numbers": (b'{"kind": "array", "at": 0, "dtype": "|O"}', "is said to be of object"),
    "a file as a time zone": (
        b'{"kind": "timestamp", "value": "2000", "unit": "s", "zone": "dateutil//dev/zero"}',
        "no time zone",
    ),
    "a list": (b"[1]", "no kind"),
}


@pytest.mark.parametrize("how", TREES)
def test_trees_that_ask_for_too_much(how, stores, tmp_path):
    text, words = TREES[how]
    with pytest.raises(FormatError, match=words):
        pt.load(changed(stores, tmp_path / "fit.zarr", {"tree.json": text}))


def test_a_sparse_matrix_that_points_beyond_itself():
    parts = [np.ones(1), np.array([10**6], np.int32), np.array([0, 1, 1], np.int32)]
    tree = {"kind": "sparse", "items": [{"kind": "array", "at": k} for k in range(3)], "shape": [2, 2]}
    with pytest.raises(FormatError, match="indices"):
        rebuilt(Stored(tree, parts))


@pytest.mark.parametrize(
    "said",
    [
        *({"arrays": wrong} for wrong in (10**12, -1, "58", 58.0)),
        *({"version": "1"}, {"fit": []}, {"fit": {"data": 1}}),
    ],
    ids=str,
)
def test_headers_that_say_something_else(said, stores, tmp_path):
    header = json.loads((stores / "table" / archive.HEADER).read_text())
    with pytest.raises(FormatError, match="damaged|missing|cannot read"):
        pt.load(changed(stores, tmp_path / "fit.zarr", {archive.HEADER: json.dumps(header | said).encode()}))


def test_nothing_outside_a_store_is_read(stores, tmp_path):
    (tmp_path / "outside").write_bytes((stores / "table" / "tree.json").read_bytes())
    header = json.loads((stores / "table" / archive.HEADER).read_text())
    for name in ("../outside", "/dev/zero"):
        told = header | {"files": header["files"] | {name: header["files"]["tree.json"]}}
        path = changed(stores, tmp_path / "fit.zarr", {archive.HEADER: json.dumps(told).encode()})
        with pytest.raises(FormatError, match=f"{name} is missing"):
            pt.load(path)
    path = changed(stores, tmp_path / "fit.zarr", {})
    (path / "tree.json").unlink()
    (path / "tree.json").symlink_to(tmp_path / "outside")
    with pytest.raises(FormatError, match="tree.json is a link"):
        pt.load(path)
    path = changed(stores, tmp_path / "fit.zarr", {})
    (path / "0").rename(tmp_path / "0")
    (path / "0").symlink_to(tmp_path / "0")
    with pytest.raises(FormatError, match="is missing"):
        pt.load(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without named pipes")
@pytest.mark.parametrize("name", ["tree.json", archive.HEADER, "0/zarr.json"])
def test_a_pipe_is_not_waited_for(name, stores, tmp_path):
    path = changed(stores, tmp_path / "fit.zarr", {})
    (path / name).unlink()
    os.mkfifo(path / name)
    with pytest.raises(FormatError, match="missing|no store"):
        pt.load(path)
    os.mkfifo(tmp_path / "packed")
    with pytest.raises(FormatError, match="is no file"):
        archive.read_packed(tmp_path / "packed")


def squeezed(files):
    """A store whose largest file is a billion zeros."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as whole:
        whole.writestr("tree.json", bytes(10**8))
    return stream.getvalue()


def with_name(name):
    def packed(files):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as whole:
            whole.writestr(name, "x")
        return stream.getvalue()

    return packed


def overlapping(files):
    """Two names for one part, so that together they are longer than the whole."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as whole:
        whole.writestr("a", bytes(10**4))
        other = copy.copy(whole.filelist[0])
        other.filename = "b"
        whole.filelist.append(other)
    return stream.getvalue()


def longer_than_said(files):
    content = bytearray(with_name("tree.json")(files))
    place = content.rindex(b"PK\x01\x02")
    content[place + 20 : place + 28] = struct.pack("<II", 2**31, 2**31)
    return bytes(content)


PACKED = {
    "squeezed": (squeezed, "is squeezed"),
    "above": (with_name("../outside"), "no name of a file in it"),
    "from the root": (with_name("/tmp/outside"), "no name of a file in it"),
    "of Windows": (with_name("C:\\outside"), "no name of a file in it"),
    "a folder": (with_name("a/"), "no name of a file in it"),
    "overlapping": (overlapping, "longer than it is"),
    "longer than the file": (longer_than_said, "longer than it is"),
}


@pytest.mark.parametrize("how", PACKED)
def test_files_that_hold_more_than_they_are(how, stores, tmp_path):
    make, words = PACKED[how]
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / "fit.zarr.checkpoint"
    path.write_bytes(make(None))
    with pytest.raises(FormatError, match=words):
        archive.read_packed(path)
    assert [own.name for own in tmp_path.rglob("*")] == ["in", path.name]


def test_fields_hold_what_their_classes_declare(stores, tmp_path):
    tree = json.loads((stores / "table" / "tree.json").read_text())
    tree["items"][1]["fields"]["seed"] = "0"
    with pytest.raises(FormatError, match="Made has a str for its seed"):
        pt.load(changed(stores, tmp_path / "fit.zarr", {"tree.json": json.dumps(tree).encode()}))
