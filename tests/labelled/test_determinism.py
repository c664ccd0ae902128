"""The same seed, data and machine give the same bytes, in any process; another order, the same to rounding."""

import hashlib
import os
import subprocess
import sys

import jax
import numpy as np
import pandas as pd
import pytest
import xarray as xr

import probtensor as pt
from tests.helpers import mostly_slow

SCRIPT = """
import sys
from tests.labelled.test_determinism import KINDS, digest, fitted
print(*(digest(fitted(name)) for name in sys.argv[1].split(",")))
"""
RANDOM = np.random.default_rng(0)
X, Y = np.arange(20.0), np.arange(6.0)
VALUES = np.outer(np.sin(X / 3), np.cos(Y)) + 0.1 * RANDOM.normal(size=(20, 6))
HIDDEN = RANDOM.random((20, 6)) < 0.3
KINDS = {
    "message passing": (pt.Offset() + pt.CP(2), {"engine": pt.MessagePassing(max_sweeps=15, restarts=2)}),
    "local": (pt.Offset("y") + pt.Local(pt.Matern(3 / 2).on("x") * pt.Matern(1 / 2).on("y")), {}),
    "svi": (pt.Offset() + pt.CP(1), {"engine": pt.SVI(steps=40)}),
    "gibbs": (pt.Offset() + pt.CP(1), {"engine": pt.Gibbs(samples=10, warmup=10, chains=2)}),
    "nuts": (pt.Offset() + pt.CP(1), {"engine": pt.NUTS(samples=5, warmup=5, chains=1)}),
    "auto": ("auto", {}),
    "rank": (pt.Offset() + pt.CP("auto"), {}),
}
QUICK = ("message passing",)
ORDERS = mostly_slow(KINDS, *QUICK)


def grid():
    return xr.DataArray(VALUES, {"x": X, "y": Y}, ["x", "y"], name="v").where(~HIDDEN)


def fitted(name, data=None, seed=0):
    model, arguments = KINDS[name]
    return pt.fit(grid() if data is None else data, model, seed=seed, **arguments)


def digest(post):
    """Of every number of a fit, of predictions, draws and what is filled."""
    own = hashlib.sha256()
    answers = (post.predict({"x": [0.5, 30.0], "y": Y}), post.sample(3).to_dataset(), post.impute())
    leaves = [leaf for leaf in jax.tree.leaves(post._fitted.state) if isinstance(leaf, np.ndarray | jax.Array | float)]
    for array in [*leaves, *(answer[name].to_numpy() for answer in answers for name in sorted(answer.data_vars))]:
        own.update(np.ascontiguousarray(array).tobytes())
    return own.hexdigest()


def in_another_process(names, seed_of_hashes):
    environment = os.environ | {
        "PYTHONHASHSEED": seed_of_hashes,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "JAX_ENABLE_X64": str(int(jax.config.read("jax_enable_x64"))),
    }
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT, ",".join(names)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()


def check_same_bytes(names):
    once = [digest(fitted(name)) for name in names]
    assert [digest(fitted(name)) for name in names] == once
    assert in_another_process(names, "1") == once
    assert [digest(fitted(name, seed=1)) for name in names if name != "rank"] != once


def test_same_bytes():
    check_same_bytes(QUICK)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::probtensor.errors.ProbtensorWarning")
@pytest.mark.parametrize("name", sorted(set(KINDS) - set(QUICK)))
def test_same_bytes_of_every_engine_and_choice(name):
    check_same_bytes([name])


def rows():
    """With some places measured more than once."""
    frame = grid().to_dataframe().reset_index().dropna()
    return pd.concat([frame, frame.iloc[:10].assign(v=lambda f: f["v"] + 0.05)], ignore_index=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::probtensor.errors.ProbtensorWarning")
@pytest.mark.parametrize("name", ORDERS)
def test_rows_in_another_order(name):
    """Rows are sorted by coordinates, weights and values before anything is made of them, so that even bytes agree."""
    given = pt.table(rows(), "v", ["x", "y"])
    own, at = fitted(name, given), {"x": [0.5, 3.0], "y": Y}
    shuffled = rows().sample(frac=1.0, random_state=7)
    other = fitted(name, pt.table(shuffled[["y", "v", "x"]], "v", ["y", "x"]))
    xr.testing.assert_identical(own.predict(at), other.predict(at))
    np.testing.assert_array_equal(own.objective, other.objective)


@pytest.mark.filterwarnings("ignore::probtensor.errors.ProbtensorWarning")
@pytest.mark.parametrize("name", ORDERS)
def test_dimensions_and_levels_in_another_order(name):
    own, given = fitted(name), grid()
    other = fitted(name, given.isel(x=slice(None, None, -1), y=[3, 0, 5, 1, 2, 4]).transpose("y", "x"))
    expected, found = own.predict(given), other.predict(given)
    for answer in ("mean", "sd"):
        np.testing.assert_allclose(found[answer].transpose("x", "y"), expected[answer].transpose("x", "y"), atol=1e-8)
