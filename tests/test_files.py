"""Outputs appear whole or not at all, whatever happens while they are written."""

import os
import tempfile
from pathlib import Path

import pytest

from probtensor import files
from probtensor.errors import FormatError


def half(path):
    path.write_text("half a fi")


def half_a_folder(path):
    path.mkdir()
    half(path / "one")


ENDS = [OSError(28, "No space left on device"), RuntimeError("NetCDF: HDF error"), KeyboardInterrupt()]


@pytest.mark.parametrize("begin", [half, half_a_folder])
@pytest.mark.parametrize("end", ENDS, ids=lambda error: type(error).__name__)
def test_a_write_that_ends_early_leaves_the_old(tmp_path, begin, end):
    output = tmp_path / "out"
    begin(output)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises((FormatError, KeyboardInterrupt)) as raised, files.whole(output, "save") as part:
        begin(part)
        (part / "two" if part.is_dir() else part).write_text("new")
        raise end
    if isinstance(raised.value, FormatError):
        assert str(raised.value).startswith(f"save: {output} cannot be written: N")
        assert str(raised.value).endswith("nothing was changed there")
    assert sorted(tmp_path.rglob("*")) == before
    assert (output / "one" if output.is_dir() else output).read_text() == "half a fi"


def test_what_is_there_is_replaced_by_its_like_only(tmp_path):
    file, folder = tmp_path / "file", tmp_path / "folder"
    half(file)
    half_a_folder(folder)
    with (
        pytest.raises(FormatError, match="folder cannot be written: Is a directory"),
        files.whole(folder, "save") as part,
    ):
        half(part)
    with pytest.raises(FormatError, match="file cannot be written: Not a directory"), files.whole(file, "save") as part:
        half_a_folder(part)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder", "one"]
    with files.whole(folder, "save") as part:
        part.mkdir()
        (part / "new").touch()
    with files.whole(file, "save") as part:
        part.write_text("new")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder", "new"]
    assert file.read_text() == "new"


def test_a_link_is_followed(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "file")
    with files.whole(tmp_path / "link", "save") as part:
        part.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "file").read_text() == "new"


def test_a_thread_that_goes_on_writing_after_an_interrupt(tmp_path, monkeypatch):
    with pytest.raises(KeyboardInterrupt), files.whole(tmp_path / "out", "save") as part:
        pauses = iter(["writes", "rests", "rests", "writes"])

        def meanwhile(seconds):
            if next(pauses, "rests") == "writes":
                part.mkdir(parents=True)
                half(part / "chunk")

        monkeypatch.setattr(files.time, "sleep", meanwhile)
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    assert next(pauses, None) is None


@pytest.fixture
def locked():
    """A folder that this process may not write to, whoever runs it."""
    folder, user = Path(tempfile.mkdtemp()), os.geteuid()
    folder.chmod(0o555)
    if user == 0:
        os.seteuid(65534)
    yield folder
    os.seteuid(user)
    folder.rmdir()


def test_a_folder_without_permission(locked):
    with pytest.raises(FormatError, match="save: .*fit.zarr cannot be written: Permission denied"):
        files.check_writable(locked / "fit.zarr", "save")
    with pytest.raises(FormatError, match="save: .*fit.zarr cannot be written: Permission denied"):  # noqa: SIM117
        with files.whole(locked / "fit.zarr", "save"):
            pytest.fail("it may not be written")
    assert list(locked.iterdir()) == []


def test_places_that_cannot_be(tmp_path):
    with pytest.raises(FormatError, match="there is no folder .*absent; make it first"):
        files.check_writable(tmp_path / "absent" / "out.nc", "output")
    with pytest.raises(FormatError, match="is no path"):
        files.real(3)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(FormatError, match="cannot be written"), files.whole(tmp_path / "loop" / "out.nc", "output"):
        pytest.fail("there is no such place")
    files.check_writable(tmp_path / "out.nc", "output")
    assert [path.name for path in tmp_path.iterdir()] == ["loop"]
