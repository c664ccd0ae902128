"""The notebooks run from top to bottom: quickly on a small made field, and as they are among the slow tests."""

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
#: How many figures each has at least.
FIGURES = {"01-geographic-grid": 6, "02-imputing-missing-entries": 2, "03-a-component-in-a-pipeline": 1}
#: Where a stored notebook must not say that it ran.
HOMES = ("/home/", "/root/", "/Users/", "/work/")

# What the notebook's own server machinery warns of is not ours.
pytestmark = pytest.mark.filterwarnings("default::DeprecationWarning", "default::ResourceWarning")


@pytest.fixture(autouse=True)
def paths_from_here(monkeypatch):
    """The notebook runs in its own folder, so what the tests call by a relative path needs the whole one."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FOLDER.parent), os.environ.get("PYTHONPATH", "")]))
    if "JAX_COMPILATION_CACHE_DIR" in os.environ:
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(Path(os.environ["JAX_COMPILATION_CACHE_DIR"]).absolute()))


def run(path):
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(FOLDER)}}
    ).execute()
    notebook.metadata.name = path.stem
    return notebook


def outputs(notebook):
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def check(notebook):
    """It prints no warning, and every figure that is the value of a cell is shown."""
    assert not [output.text for output in outputs(notebook) if output.get("name") == "stderr"]
    assert sum("image/png" in output.get("data", {}) for output in outputs(notebook)) >= FIGURES[notebook.metadata.name]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_on_small_data(path, monkeypatch):
    monkeypatch.setenv("PROBTENSOR_NOTEBOOK_QUICK", "1")
    check(run(path))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook(path, monkeypatch):
    monkeypatch.delenv("PROBTENSOR_NOTEBOOK_QUICK", raising=False)
    check(run(path))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_stored_as_it_ran(path):
    """From top to bottom, with its figures, so that it can be read where nothing runs; and not too large for that."""
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    notebook.metadata.name = path.stem
    check(notebook)
    assert path.stat().st_size < 3_000_000
    assert not [text for text in HOMES if text in path.read_text()]


def test_every_notebook_is_known():
    assert set(FIGURES) == {path.stem for path in NOTEBOOKS}
