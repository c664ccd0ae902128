"""Small data and models whose fits on several devices are compared; no size is a multiple of 2 or 4 throughout."""

import jax
import numpy as np
import pandas as pd
import xarray as xr
from jax.sharding import Mesh

import probtensor as pt

SWEEPS = 8


def grid() -> xr.DataArray:
    """7 x 5 x 11, a fifth missing; split along its last mode, which has to be filled up least."""
    random = np.random.default_rng(0)
    a, b, c = np.arange(7.0), np.arange(5.0), np.arange(11.0)
    signal = np.sin(a / 3)[:, None, None] * np.cos(b / 2)[:, None] * np.cos(c / 4) + 0.3 * b[:, None]
    noisy = signal + 0.1 * random.normal(size=signal.shape)
    field = xr.DataArray(noisy, {"a": a, "b": b, "c": c}, ["a", "b", "c"], name="y")
    return field.where(random.random(field.shape) < 0.8)


def table() -> pd.DataFrame:
    """253 rows of the grid, some twice."""
    rows = grid().to_dataframe().reset_index().dropna()
    return pd.concat([rows.iloc[:240], rows.iloc[:13]])


def on_table():
    """The table as data."""
    return pt.table(table(), value="y", coords=["a", "b", "c"])


def weights() -> np.ndarray:
    """Of the table's rows, some of them 0."""
    return np.random.default_rng(1).integers(0, 3, 253).astype(float)


#: Name -> data, model and further arguments of a fit.
QUICK = {
    "grid, CP, normal": (
        grid,
        lambda: pt.Offset(over="b") + pt.CP(2),
        lambda: {},
    ),
}
CASES = QUICK | {
    "table, Tucker, Student-t": (
        on_table,
        lambda: pt.Offset(over="b") + pt.Tucker(2, modes=["a", "c"]),
        lambda: {"likelihood": pt.StudentT(), "weights": weights()},
    ),
    "grid, Tucker and surfaces, Student-t": (
        grid,
        lambda: pt.Tucker(2, modes=["a", "c"]) + pt.CP(1, modes={("b", "c"): None, "a": None}),
        lambda: {"likelihood": pt.StudentT()},
    ),
    "grid, tensor train, counts": (
        lambda: np.round(np.exp(grid())),
        lambda: pt.Offset() + pt.TensorTrain(2),
        lambda: {"likelihood": pt.Poisson(exposure=2.0)},
    ),
    "grid, CP, moments matched": (
        grid,
        lambda: pt.Offset() + pt.CP(1),
        lambda: {"likelihood": pt.StudentT(), "rule": "cep"},
    ),
    "table, CP, noise of levels and known errors": (
        on_table,
        lambda: pt.Offset(over=("a", "b")) + pt.CP(1, modes={("b", "c"): None, "a": None}),
        lambda: {"likelihood": pt.Gaussian(noise="b"), "errors": 0.05},
    ),
}


def mesh(number: int) -> Mesh:
    """Of so many devices; four are two by two."""
    devices = np.array(jax.devices()[:number])
    return Mesh(devices.reshape(2, 2), ("x", "y")) if number == 4 else Mesh(devices, ("x",))


def fitted(case: str, on: Mesh | None) -> pt.Posterior:
    """The posterior of a case after a fixed number of sweeps."""
    data, model, more = CASES[case]
    given = more()
    engine = pt.MessagePassing(given.pop("rule", "vmp"), tol=0.0, max_sweeps=SWEEPS)
    return pt.fit(data(), model(), engine=engine, mesh=on, **given)


def answers(post: pt.Posterior) -> dict[str, np.ndarray]:
    """What it says at places of the data and between them, and how it got there."""
    asked = {"a": np.arange(0.0, 7.5, 1.5), "b": np.arange(5.0), "c": np.arange(0.0, 11.0, 2.0)}
    there = post.predict(asked)
    found = {name: there[name].to_numpy() for name in ("mean", "sd", "signal_sd")}
    residuals = post.residuals()
    found |= {str(name): own.to_numpy() for name, own in residuals.data_vars.items()}
    return found | {"objective": post.objective.to_numpy()}
