"""Importing it changes nothing for the process, and loads no library that only some calls need."""

import json
import subprocess
import sys

import pytest

CODE = """
import json, locale, logging, os, random, signal, sys, warnings
import jax, numpy as np, xarray as xr

def state():
    loggers = {name: log for name, log in logging.root.manager.loggerDict.items() if hasattr(log, "handlers")}
    return {
        "jax": {name: str(getattr(jax.config, name)) for name in (
            "jax_enable_x64", "jax_default_matmul_precision", "jax_numpy_dtype_promotion", "jax_debug_nans",
            "jax_platforms", "jax_compilation_cache_dir", "jax_numpy_rank_promotion")},
        "warnings": [repr(one) for one in warnings.filters],
        "numpy": [np.geterr(), str(np.get_printoptions()), repr(np.random.get_state())],
        "random": repr(random.getstate()),
        "xarray": str(xr.get_options()),
        "logging": [logging.root.level, len(logging.root.handlers), logging.root.disabled,
                    {name: [len(log.handlers), log.level] for name, log in loggers.items() if name in known}],
        "environment": dict(os.environ),
        "locale": locale.setlocale(locale.LC_ALL),
        "signals": repr(signal.getsignal(signal.SIGINT)),
        "hooks": [repr(sys.excepthook), repr(sys.displayhook), sys.getrecursionlimit()],
    }

{first}
known = set(logging.root.manager.loggerDict)
before = state()
{then}
after = state()
print(json.dumps({
    "changed": [name for name in before if before[name] != after[name]],
    "handlers": [name for name, log in logging.root.manager.loggerDict.items()
                 if name.startswith("probtensor") and getattr(log, "handlers", [])],
    "modules": sorted(name for name in sys.modules if "." not in name),
}))
"""


def imported(first, then):
    code = CODE.replace("{first}", first).replace("{then}", then)
    found = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


#: Of what it needs, these add filters for their own warnings, and variables of OpenMP, when they are imported.
THEIRS = "import equinox, scipy.optimize, scipy.special, threadpoolctl, zarr"
LATER = {"sklearn", "arviz", "matplotlib", "dask", "tensorly", "numpyro", "optax", "joblib", "numba", "IPython"}


def test_the_package():
    found = imported("", "import probtensor")
    assert found["changed"] == [] and found["handlers"] == []
    assert LATER & set(found["modules"]) == set()


def test_what_a_fit_needs():
    found = imported(THEIRS, "import probtensor; probtensor.fit, probtensor.Posterior, probtensor.load")
    assert found["changed"] == [] and found["handlers"] == []
    assert LATER & set(found["modules"]) == set()


@pytest.mark.slow
def test_the_imputer():
    found = imported(f"{THEIRS}, sklearn.impute, sklearn.utils", "import probtensor; probtensor.Imputer()")
    assert found["changed"] == [] and found["handlers"] == []
    assert (LATER - {"sklearn", "joblib"}) & set(found["modules"]) == set()
