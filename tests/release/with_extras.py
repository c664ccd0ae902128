"""What each extra is for, once: tables for scikit-learn, data in chunks, NetCDF files, figures and ArviZ.

Run by the interpreter of a fresh environment in an empty folder; prints where the package was found.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import xarray as xr

import probtensor as pt

t, x = xr.date_range("2001-01-01", periods=12, calendar="noleap", use_cftime=True), np.linspace(0, 1, 10)
wave = xr.DataArray(np.outer(np.sin(np.arange(12) / 3), np.cos(2 * x)), {"t": t, "x": x}, ["t", "x"], name="wave")
gappy = wave.where(np.random.default_rng(0).random(wave.shape) > 0.3)

post = pt.fit(gappy.chunk({"t": 5}), pt.Offset() + pt.CP(rank=1))
lazy = post.predict({"t": t, "x": x}, batch_size=50)["mean"]
assert lazy.chunks is not None
assert float(abs(lazy.compute() - wave).max()) < 0.05

gappy.to_netcdf("in.nc", engine="netcdf4")
program = Path(sys.executable).with_name("probtensor")
subprocess.run([program, "impute", "in.nc", "--var", "wave", "-o", "out.nc", "--rank", "1"], check=True)
with xr.open_dataset("out.nc", engine="netcdf4") as out:
    assert bool(out["wave"].notnull().all())

post.plot.factors().savefig("factors.png")
assert Path("factors.png").stat().st_size > 1000
assert set(post.to_arviz().groups()) >= {"posterior", "observed_data"}

table = np.where(np.random.default_rng(1).random((30, 3)) < 0.2, np.nan, np.outer(np.arange(30.0), [1.0, 2.0, -1.0]))
assert np.isfinite(pt.Imputer().fit_transform(table)).all()
assert float(pt.datasets.load("ostia").isel(time=0).notnull().mean()) > 0.5
print(Path(pt.__file__).parent)
