"""The examples in the docstrings are executed."""

import doctest
import importlib
from pathlib import Path

import pytest

from tests.helpers import partly_slow

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for path in (ROOT / "probtensor").rglob("*.py")
    if ">>> " in path.read_text()
)


#: Fits of their own; the others say nearly all of what examples show.
LONG = ("probtensor.interop.numpyro", "probtensor.interop.sklearn", "probtensor.labelled.cross_validation")


@pytest.mark.parametrize("name", partly_slow(MODULES, *LONG))
def test_examples(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0
