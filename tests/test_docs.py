"""The documentation builds without a warning, and every public name is in its index."""

import importlib.util
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from tests.public import MADE, methods, public

ROOT = Path(__file__).parents[1]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("sphinx") is None, reason="needs Sphinx: pip install '.[docs]'"),
]


def command():
    """What `make docs` runs, without the interpreter and the folder that it writes to."""
    (line,) = [line for line in (ROOT / "Makefile").read_text().splitlines() if "-m sphinx" in line]
    _, *arguments, folder = line.split()
    assert folder == "build/docs"
    return arguments


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of pages."""
    folder = tmp_path_factory.mktemp("docs")
    done = subprocess.run([sys.executable, *command(), folder], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return folder


def test_every_public_name_is_in_the_index(built):
    packed = (built / "objects.inv").read_bytes().split(b"\n", 4)[4]
    entries = {line.split(" ")[0] for line in zlib.decompress(packed).decode().splitlines()}
    wanted = set(public())
    wanted |= {f"{name}.{method}" for name, kind in public().items() if kind in MADE for method in methods(kind)}
    assert wanted - entries == set()


def test_pages_show_what_was_stored_in_the_notebooks(built):
    """Their figures, and the README's links to them."""
    assert '<img alt="' in (built / "notebooks" / "01-geographic-grid.html").read_text()
    assert 'href="notebooks/01-geographic-grid.html"' in (built / "README.html").read_text()
    assert (built / "index.html").read_text().count("docs/index.html") == 2
