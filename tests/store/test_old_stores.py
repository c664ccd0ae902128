"""Stores that earlier versions wrote are read for ever, and answer as they did.

Of each version: ``written_by/{version}-{name}.zip``, a store, and ``{version}.json``, what it predicted then. 0.1.0
stands for the first state of format version 1: a grid with a climatology, a CP and a Tucker, its longitude a line; a
table of counts with names; a grid with a local term.
"""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

import probtensor as pt

FOLDER = Path(__file__).with_name("written_by")
STORES = sorted(FOLDER.glob("*.zip"))
DAY = np.array(["2001-03-10"], "M8[ns]")
ASKED = {
    "grid": {"time": DAY, "lat": [5.0], "lon": [90.0, 300.0]},
    "table": {"x": [0.3], "s": ["b"]},
    "local": {"time": DAY, "lon": [90.0]},
}


def unpacked(store, folder):
    with zipfile.ZipFile(store) as archive:
        archive.extractall(folder)
    return pt.load(folder)


@pytest.mark.parametrize("store", STORES, ids=lambda path: path.stem)
def test_it_answers_as_it_did(store, tmp_path):
    version, name = store.stem.split("-")
    expected = json.loads((FOLDER / f"{version}.json").read_text())[name]
    post = unpacked(store, tmp_path / "fit.zarr")
    found = post.predict(ASKED[name])
    for kind, values in expected.items():
        np.testing.assert_allclose(found[kind].values.ravel(), values, rtol=1e-8)
    assert "probtensor posterior of" in post.summary()


@pytest.mark.slow
def test_a_grid_is_filled_updated_and_saved_again(tmp_path):
    post = unpacked(FOLDER / "0.1.0-grid.zip", tmp_path / "old.zarr")
    filled = post.impute()
    assert filled["sst"].notnull().all() and filled["sst"].attrs["units"] == "K"
    later = post.predict({"time": DAY, "lat": [10.0, 0.0], "lon": [0.0, 60.0]})["mean"].rename("sst")
    updated = post.update(later)
    updated.save(tmp_path / "new.zarr")
    again = pt.load(tmp_path / "new.zarr")
    np.testing.assert_array_equal(again.predict(later)["mean"], updated.predict(later)["mean"])


def test_there_are_stores_of_every_version():
    assert {path.stem.split("-")[0] for path in STORES} == {path.stem for path in FOLDER.glob("*.json")} != set()
