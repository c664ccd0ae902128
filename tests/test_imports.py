"""One arrow direction: a module imports only from its own room of the house and from rooms before it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "probtensor"

#: From the words everyone uses to what a user meets. A new folder or module is entered here, where it belongs.
ROOMS = (
    "errors",
    "typing",
    "durations",
    "figures",
    "files",
    "progress",
    "interrupts",
    "precision",
    "compilation",
    "earth",
    "axes",
    "hyperparameters",
    "linalg",
    "kernels",
    "statespace",
    "nearest",
    "gridded",
    "priors",
    "observations",
    "likelihoods",
    "terms",
    "model",
    "presets",
    "approximation",
    "engines",
    "arrays",
    "evaluation",
    "selection",
    "labelled",
    "report",
    "store",
    "interop",
    "plotting",
    "datasets",
    "demo",
    "cli",
    "__init__",
    "__main__",
)

#: Rooms after `labelled` that it may import inside a function, on first use.
ON_FIRST_USE = ("store", "interop", "plotting", "report")

FILES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))


def room_of(path):
    return path.parts[0].removesuffix(".py")


def imports(tree):
    """(module, at the top of the file?) of every import that runs; those for a type checker alone do not."""
    found = []

    def walk(node, top):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            found.extend((alias.name, top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            found.extend((f"{node.module}.{alias.name}", top) for alias in node.names)
        top = top and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            walk(child, top)

    walk(tree, True)
    return found


def complaints(path, source):
    """What is wrong with one file's imports."""
    room = room_of(path)
    rank, wrong = ROOMS.index(room), []
    for module, top in imports(ast.parse(source)):
        base, *rest = module.split(".")
        if base in ("xarray", "pandas") and rank < ROOMS.index("labelled"):
            wrong.append(f"{path}: imports {base}, which only labelled/ and what follows it may")
        if base != "probtensor":
            continue
        # `from probtensor import x` is the room x where there is one, else the whole package.
        target = rest[0] if rest and rest[0] in ROOMS else "__init__"
        first_use = room == "labelled" and target in ON_FIRST_USE and not top
        if ROOMS.index(target) > rank and not first_use:
            wrong.append(f"{path}: {room} imports {module}, and {target} comes after {room}")
    return wrong


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_point_one_way(path):
    assert room_of(path) in ROOMS, f"{path}: enter its room in ROOMS, where it belongs"
    assert complaints(path, (PACKAGE / path).read_text()) == []


@pytest.mark.parametrize(
    ("path", "source", "wrong"),
    [
        ("kernels/matern.py", "from probtensor.linalg.gaussian import x", 0),
        ("kernels/matern.py", "from probtensor.kernels.base import x", 0),
        ("kernels/matern.py", "from probtensor.priors.markov import x", 1),
        ("kernels/matern.py", "def f():\n    import probtensor.priors", 1),
        ("kernels/matern.py", "import probtensor", 1),
        ("kernels/matern.py", "from probtensor import errors", 0),
        ("engines/vmp.py", "import xarray as xr", 1),
        ("engines/vmp.py", "from pandas.api import x", 1),
        ("labelled/fit.py", "import xarray, pandas", 0),
        ("labelled/fit.py", "def f():\n    from probtensor.report import x", 0),
        ("labelled/fit.py", "from probtensor.report import x", 1),
        ("labelled/fit.py", "def f():\n    from probtensor.cli import x", 1),
        ("datasets/a.py", "if TYPE_CHECKING:\n    from probtensor.cli import x", 0),
        ("__init__.py", "from probtensor.cli import x", 0),
    ],
)
def test_the_test_itself(path, source, wrong):
    assert len(complaints(Path(path), source)) == wrong


def test_relative_imports_are_found():
    with pytest.raises(AssertionError, match="relative import"):
        imports(ast.parse("from . import x"))


def test_every_public_name_is_there_and_is_named_once():
    import probtensor

    for name in probtensor.__all__:
        assert getattr(probtensor, name) is not None
    assert len(set(probtensor.__all__)) == len(probtensor.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = probtensor.no_such_name


def test_importing_it_loads_nothing_that_only_a_fit_needs():
    """What starts at once: jax and xarray, and next to nothing beside them."""
    heavy = ["equinox", "scipy", "numpyro", "optax", "tensorly", "matplotlib", "dask", "sklearn", "zarr", "rich"]
    code = (
        "import sys, jax, xarray; before = set(sys.modules); import probtensor; "
        f"print(sorted(set({heavy}) & (set(sys.modules) - before)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
