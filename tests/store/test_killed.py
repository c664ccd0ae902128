"""A fit that is killed at random moments, again and again, ends as one that was left alone, bit for bit."""

import subprocess
import sys
import time

import jax
import numpy as np
import pytest

import probtensor as pt
from probtensor.store import checkpoint as store

#: Writes after every block, and says when the fit begins; without a second argument nothing is written on the way.
SCRIPT = """
import sys
import numpy as np
import probtensor as pt
from probtensor.store import checkpoint as store

store._SECONDS, store._SHARE = 0.0, np.inf
x, y = np.arange(20.0), np.arange(6.0)
random = np.random.default_rng(1)
values = np.outer(np.sin(x / 3), y) + random.normal(size=(20, 6))
data = pt.points({"x": np.repeat(x, 6), "y": np.tile(y, 20)}, np.floor(np.exp(values / 4)).ravel())
engine = pt.MessagePassing(max_sweeps=60, tol=0.0, restarts=3)
given = {"likelihood": pt.Poisson(), "engine": engine}
model = pt.Offset() + pt.CP(2)
print("begins", flush=True)
if sys.argv[1] == "killed":
    pt.fit(data, model, checkpoint=sys.argv[2], **given)
else:
    pt.fit(data, model, **given).save(sys.argv[2])
"""
KILLS = 50


def begun(*arguments):
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "begins\n"
    return process


def assert_same(one, other):
    for own, again in zip(jax.tree.leaves(one._fitted.state), jax.tree.leaves(other._fitted.state), strict=True):
        np.testing.assert_array_equal(own, again)
    np.testing.assert_array_equal(one.objective, other.objective)
    assert one._result.restarts == other._result.restarts


@pytest.mark.slow
def test_killed_fifty_times(tmp_path):
    process = begun("whole", str(tmp_path / "whole.zarr"))
    started = time.monotonic()
    process.communicate()
    assert process.returncode == 0
    span, whole = time.monotonic() - started, pt.load(tmp_path / "whole.zarr")
    random, kills, ends, resumed = np.random.default_rng(0), 0, 0, 0
    while kills < KILLS:
        path = tmp_path / f"{ends}.zarr"
        process = begun("killed", str(path))
        time.sleep(random.uniform(0.0, span))
        process.kill()
        process.communicate()
        kills += process.returncode != 0
        resumed += path.with_name(path.name + store.SUFFIX).exists()
        if path.exists():
            assert_same(whole, pt.load(path))
            ends += 1
    process = begun("killed", str(path))
    process.communicate()
    assert process.returncode == 0
    assert_same(whole, pt.load(path))
    assert resumed  # some were killed between their first checkpoint and their end
    assert {one.suffix for one in tmp_path.iterdir()} == {".zarr"}
