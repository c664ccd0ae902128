"""The README's Python runs, and its commands exist."""

import re
from pathlib import Path

import numpy as np
import xarray as xr

import probtensor as pt

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_the_ten_lines(capsys):
    names: dict = {}
    exec(BLOCKS[0], names)  # noqa: S102
    assert "probtensor posterior of 'sst'" in capsys.readouterr().out
    filled = names["filled"]
    assert isinstance(filled, xr.Dataset)
    assert int(filled["sst_filled"].sum()) == int((names["field"].notnull() & names["sst"].isnull()).sum())
    # The fill is far better than the mean of everything, and its sd is of the right size.
    error = (filled["sst"] - names["field"]).values[names["held"]]
    assert np.sqrt(np.mean(error**2)) < 0.5 * float(names["field"].std())
    assert 0.7 < names["post"].score(names["field"].where(names["held"]))["coverage90"] <= 1.0


def test_the_model_line():
    names = {"pt": pt}
    exec(BLOCKS[1], names)  # noqa: S102
    assert len(names["model"].terms) == 3


def test_the_make_targets_exist():
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"make ([\w-]+)", README)) - {"nothing"} <= set(targets)


def test_every_name_exists():
    for name in set(re.findall(r"\bpt\.(\w+)", README)):
        assert hasattr(pt, name), name
