"""The objective, and that no figure touches matplotlib's state."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

from probtensor import plotting
from probtensor.errors import DataError


def test_objective_shows_every_sweep():
    trace = xr.DataArray(-100.0 * np.exp(-np.arange(10.0)), dims="sweep")
    figure = plotting.objective(trace)
    x, y = figure.axes[0].lines[0].get_data()
    np.testing.assert_array_equal(x, np.arange(1, 11))
    np.testing.assert_array_equal(y, trace)
    np.testing.assert_array_equal(figure.axes[1].lines[0].get_ydata(), trace[5:])
    figure.canvas.draw()
    with pytest.raises(DataError, match="one dimension"):
        plotting.objective(trace.expand_dims("restart"))


@pytest.mark.slow
def test_pyplot_is_never_imported(tmp_path):
    code = (
        "import sys, numpy as np, xarray as xr\n"
        "from probtensor import plotting\n"
        "assert 'matplotlib' not in sys.modules\n"
        "plotting.objective(xr.DataArray(np.arange(4.0), dims='sweep')).savefig(sys.argv[1])\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a.png")], check=True, env={"PYTHONPATH": ":".join(sys.path)}
    )


def test_a_notebook_shows_a_figure_without_pyplot(tmp_path):
    figure = plotting.objective(xr.DataArray(np.arange(4.0), dims="sweep"))
    assert figure._repr_png_().startswith(b"\x89PNG")
    pickle.loads(pickle.dumps(figure)).savefig(tmp_path / "again.png")
