"""What is released: a wheel and a source archive that hold what they should, and that work where a user installs them.

Each is installed into an environment of its own, with the newest versions of everything and with the lowest that
`pyproject.toml` allows. Needs a package index, a gigabyte of disk, and minutes for each.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
#: What users may ask for beside the library.
EXTRAS = ("arviz", "dask", "demo", "io", "plot", "sklearn")

pytestmark = pytest.mark.slow


def run(*command, **options):
    """Runs a command, which must succeed, where nothing tells of this checkout: (what it says, what it warns of)."""
    plain = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "JAX_", "PROBTENSOR_"))
    }
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=plain, **options)
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """{kind: path} of both archives."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT)
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return {"wheel": wheel, "sdist": sdist}


def lowest(requirement):
    """``name==bound`` of a requirement ``name>=bound``."""
    (bound,) = [one.version for one in requirement.specifier if one.operator == ">="]
    return f"{requirement.name}=={bound}"


def bounds(*extras):
    """The lowest versions of what the library and its extras need."""
    optional = PROJECT["optional-dependencies"]
    asked = map(Requirement, PROJECT["dependencies"] + [text for extra in extras for text in optional[extra]])
    return sorted({lowest(one) for one in asked})


def test_the_wheel_holds_the_library_and_nothing_else(built):
    names = set(zipfile.ZipFile(built["wheel"]).namelist())
    library = {
        str(path.relative_to(ROOT)) for path in (ROOT / "probtensor").rglob("*") if path.suffix in (".py", ".pyi")
    }
    assert library | {"probtensor/py.typed"} == {name for name in names if name.startswith("probtensor/")}
    rest = {name.split("/", 1)[1] for name in names if not name.startswith("probtensor/")}
    assert rest == {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="only git knows what is kept")
def test_the_source_archive_holds_what_is_kept(built):
    """All files but those that only concern git and machines that run tests."""
    names = {name.split("/", 1)[1] for name in tarfile.open(built["sdist"]).getnames()}
    kept = set(run("git", "-C", ROOT, "ls-files")[0].splitlines())
    assert {name for name in kept if not name.startswith(".")} - names == set()
    assert names - kept == {"PKG-INFO"}


@pytest.mark.parametrize(("kind", "versions"), [("wheel", "newest"), ("wheel", "lowest"), ("sdist", "newest")])
def test_works_where_it_is_installed(kind, versions, built, tmp_path):
    """Alone, then with every extra. A version that its makers withdrew is no bound."""
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--disable-pip-version-check"]
    for extras, script in (((), "first_steps.py"), (EXTRAS, "with_extras.py")):
        asked = f"probtensor[{','.join(extras)}] @ {built[kind].as_uri()}"
        said, warned = run(*install, asked, *(bounds(*extras) if versions == "lowest" else ()))
        assert "yanked" not in said + warned
        (tmp_path / script).mkdir()
        where, _ = run(python, "-I", ROOT / "tests" / "release" / script, cwd=tmp_path / script)
        assert Path(where.strip()).is_relative_to(tmp_path / "env")
    shutil.rmtree(tmp_path / "env")
