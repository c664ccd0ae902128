"""What a user does first: a fit, a fill, a posterior saved, loaded and asked, and what the command line says of it.

Run by the interpreter of a fresh environment in an empty folder; prints where the package was found.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import xarray as xr

import probtensor as pt


def command(*words):
    """What the installed command says."""
    program = Path(sys.executable).with_name("probtensor")
    return subprocess.run([program, *words], capture_output=True, text=True, check=True).stdout


t, x = np.arange(12), np.linspace(0, 1, 10)
wave = xr.DataArray(np.outer(np.sin(t / 3), np.cos(2 * x)), {"t": t, "x": x}, ["t", "x"], name="wave")
hidden = np.random.default_rng(0).random(wave.shape) < 0.3
post = pt.fit(wave.where(~hidden), pt.Offset() + pt.CP(rank=1))

filled = post.impute()
assert int(filled["wave_filled"].sum()) == hidden.sum()
assert float(abs(filled["wave"] - wave).max()) < 0.05

post.save("wave.zarr")
at = {"t": [3.0, 4.5], "x": [0.25]}
xr.testing.assert_identical(pt.load("wave.zarr").predict(at), post.predict(at))

assert "probtensor posterior of 'wave'" in command("info", "wave.zarr")
assert "--var" in command("impute", "--help")
print(Path(pt.__file__).parent)
