"""What probtensor and its neighbours accept, return and keep: each is tried on the same small field.

    python benchmarks/ecosystem.py probtensor=.venv/bin/python xeofs=PYTHON scikit-learn=PYTHON ...

PYTHON is an interpreter that has the package beside xarray and pandas; GPJax and tensorly are tried in the same way. A
cell is what happened, not what a manual says: "yes", "no" and why, or "by hand" where the user has to take labels off
and put them on again. The table is for `benchmarks/README.md`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

#: Asked of each, in the order of the table.
QUESTIONS = (
    "a DataArray with scattered gaps",
    "a DataArray with gaps of whole boxes",
    "more than two dimensions",
    "dask-backed arrays",
    "a long table with repeated rows",
    "names as a coordinate",
    "irregular steps of a coordinate count",
    "gives back a DataArray with its coordinates",
    "keeps attributes, order of dimensions and dtype",
    "leaves observed values as they were",
    "gives an sd for every filled entry",
    "gives joint draws",
    "predicts between the grid points",
    "gives factors with labels",
    "saves and loads the fit",
)


def field() -> Any:
    """(time, lat, lon) in 32 bits, descending latitudes, a month left out, and with attributes."""
    import pandas as pd
    import xarray as xr

    time = pd.date_range("2001-01-01", periods=19, freq="MS").delete(7)
    lat, lon = np.linspace(30.0, 0.0, 6), np.linspace(0.0, 70.0, 8)
    phase = 2 * np.pi * time.dayofyear.to_numpy() / 365
    values = np.sin(phase)[:, None, None] * np.cos(lat / 20)[:, None] * np.sin(lon / 30)
    values = values + 0.3 * np.cos(phase)[:, None, None] * (lat / 30)[:, None] + 0.5
    attrs = {"units": "K", "standard_name": "sea_surface_temperature"}
    coords = {"time": time, "lat": lat, "lon": lon}
    return xr.DataArray(values.astype("float32"), coords, ["time", "lat", "lon"], "sst", attrs)


def with_gaps(whole: Any, boxes: bool) -> Any:
    hidden = np.zeros(whole.shape, bool)
    if boxes:
        hidden[4:7, 1:4, 2:6] = True
    else:
        hidden = np.random.default_rng(0).random(whole.shape) < 0.2
    return whole.where(~hidden)


def tried(work: Callable[[], Any]) -> str:
    """What came of it, in a few words: a text that the work gives, yes, or the error."""
    try:
        answer = work()
    except Exception as error:  # noqa: BLE001 a package may fail in any way, and that is its row
        text = " ".join(str(error).split())
        return f"no: {text[:70] or type(error).__name__}"
    return answer if isinstance(answer, str) else "yes" if answer is None or bool(answer) else "no"


def kept(given: Any, found: Any) -> bool:
    return found.attrs.items() >= given.attrs.items() and found.dims == given.dims and found.dtype == given.dtype


def untouched(given: Any, found: np.ndarray) -> bool:
    seen = given.notnull().to_numpy()
    return bool(np.array_equal(found[seen], given.to_numpy()[seen]))


def probtensor() -> dict[str, Callable[[], Any]]:
    import tempfile

    import probtensor as pt

    data, model = with_gaps(field(), boxes=True), pt.Offset() + pt.CP(2)
    post = pt.fit(data, model)
    filled, holes = post.impute(samples=2), data.isnull()
    table = pt.points({"x": [0.0, 0.0, 1.0, 3.5], "name": ["a", "a", "b", "a"]}, [1.0, 1.1, 2.0, 0.5])

    def saved() -> bool:
        with tempfile.TemporaryDirectory() as folder:
            post.save(f"{folder}/fit.zarr")
            return pt.load(f"{folder}/fit.zarr").predict(data).identical(post.predict(data))

    def irregular() -> bool:
        other = data.assign_coords(time=data["time"].to_numpy() + np.arange(18) ** 2 * np.timedelta64(2, "D"))
        return not np.allclose(pt.impute(other, model)["sst"], filled["sst"], atol=1e-6)

    return {
        QUESTIONS[0]: lambda: pt.impute(with_gaps(field(), boxes=False), model)["sst"].notnull().all(),
        QUESTIONS[1]: lambda: filled["sst"].notnull().all(),
        QUESTIONS[2]: lambda: pt.impute(data.expand_dims(member=2), model)["sst"].notnull().all(),
        QUESTIONS[3]: lambda: pt.impute(data.chunk(time=6), model)["sst"].notnull().all(),
        QUESTIONS[4]: lambda: pt.fit(table, pt.CP(1)).predict({"x": [0.0], "name": ["a"]}) is not None,
        QUESTIONS[5]: lambda: pt.fit(table, pt.CP(1)).predict({"x": [2.0], "name": ["b"]}) is not None,
        QUESTIONS[6]: irregular,
        QUESTIONS[7]: lambda: filled["sst"].coords.to_dataset().identical(data.coords.to_dataset()),
        QUESTIONS[8]: lambda: kept(data, filled["sst"]),
        QUESTIONS[9]: lambda: untouched(data, filled["sst"].to_numpy()),
        QUESTIONS[10]: lambda: bool((filled["sst_sd"].where(holes, 1.0) > 0).all()),
        QUESTIONS[11]: lambda: "sample" in filled["sst_samples"].dims,
        QUESTIONS[12]: lambda: np.isfinite(post.predict(data.interp(lat=[7.0], lon=[5.0]))["mean"]).all(),
        QUESTIONS[13]: lambda: {"time", "lat", "lon", "component"} <= set(post.factors().dims),
        QUESTIONS[14]: saved,
    }


def xeofs() -> dict[str, Callable[[], Any]]:
    import tempfile

    import xeofs as xe

    def model(data: Any, dims: Any = "time") -> Any:
        return xe.single.EOF(n_modes=2).fit(data, dim=dims)

    def reconstructed(data: Any) -> Any:
        found = model(data)
        return found.inverse_transform(found.scores())

    whole = field()

    def saved() -> bool:
        with tempfile.TemporaryDirectory() as folder:
            model(whole).save(f"{folder}/eof.zarr")
            return xe.single.EOF.load(f"{folder}/eof.zarr").scores().equals(model(whole).scores())

    def irregular() -> bool:
        other = whole.assign_coords(time=whole["time"].to_numpy() + np.arange(18) ** 2 * np.timedelta64(2, "D"))
        return not np.allclose(reconstructed(other), reconstructed(whole), atol=1e-6)

    return {
        QUESTIONS[0]: lambda: reconstructed(with_gaps(field(), boxes=False)).notnull().all(),
        QUESTIONS[1]: lambda: reconstructed(with_gaps(field(), boxes=True)).notnull().all(),
        QUESTIONS[2]: lambda: model(whole).scores() is not None,
        QUESTIONS[3]: lambda: model(whole.chunk(time=6)).scores() is not None,
        QUESTIONS[4]: lambda: model(whole.to_dataframe().reset_index()) is not None,
        QUESTIONS[5]: lambda: model(whole.assign_coords(lat=list("abcdef"))).scores() is not None,
        QUESTIONS[6]: irregular,
        QUESTIONS[7]: lambda: set(reconstructed(whole).coords) == set(whole.coords),
        QUESTIONS[8]: lambda: kept(whole, reconstructed(whole).transpose(*whole.dims)),
        QUESTIONS[9]: lambda: untouched(whole, reconstructed(whole).transpose(*whole.dims).to_numpy()),
        QUESTIONS[10]: lambda: "no",
        QUESTIONS[11]: lambda: "no",
        QUESTIONS[12]: lambda: "no",
        QUESTIONS[13]: lambda: {"mode", "lat", "lon"} <= set(model(whole).components().dims),
        QUESTIONS[14]: saved,
    }


def scikit_learn() -> dict[str, Callable[[], Any]]:
    import pickle

    from sklearn.experimental import enable_iterative_imputer  # noqa: F401
    from sklearn.impute import IterativeImputer, KNNImputer

    def by_hand(data: Any, imputer: Any) -> Any:
        flat = data.stack(cell=("lat", "lon"))
        return flat.copy(data=imputer.fit_transform(flat.to_numpy())).unstack("cell")

    scattered, box = with_gaps(field(), boxes=False), with_gaps(field(), boxes=True)

    def drawn() -> str:
        imputer = IterativeImputer(sample_posterior=True, max_iter=2, random_state=0)
        by_hand(scattered, imputer)
        return "one at a time, column by column (IterativeImputer)"

    return {
        QUESTIONS[0]: lambda: "by hand" if by_hand(scattered, KNNImputer()).notnull().all() else "no",
        QUESTIONS[1]: lambda: "by hand" if by_hand(box, KNNImputer()).notnull().all() else "no",
        QUESTIONS[2]: lambda: KNNImputer().fit_transform(scattered) is not None,
        QUESTIONS[3]: lambda: (
            "loaded, by hand" if by_hand(scattered.chunk(time=6), KNNImputer()).notnull().all() else "no"
        ),
        QUESTIONS[4]: lambda: "no: a column a variable, a row a sample",
        QUESTIONS[5]: lambda: "columns have names",
        QUESTIONS[6]: lambda: "no: rows have no coordinate",
        QUESTIONS[7]: lambda: "by hand",
        QUESTIONS[8]: lambda: "by hand",
        QUESTIONS[9]: lambda: untouched(
            scattered, by_hand(scattered, KNNImputer()).transpose(*scattered.dims).to_numpy()
        ),
        QUESTIONS[10]: lambda: "no",
        QUESTIONS[11]: drawn,
        QUESTIONS[12]: lambda: "no",
        QUESTIONS[13]: lambda: "no",
        QUESTIONS[14]: lambda: "pickle" if pickle.loads(pickle.dumps(KNNImputer().fit(np.eye(3)))) else "no",
    }


def gpjax() -> dict[str, Callable[[], Any]]:
    import gpjax
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    scattered, box = with_gaps(field(), boxes=False), with_gaps(field(), boxes=True)

    def posterior(data: Any) -> tuple[Any, Any, Any]:
        frame = data.to_dataframe().reset_index().dropna()
        days = (frame["time"] - frame["time"].min()).dt.days
        X = jnp.asarray(np.column_stack([days / 90.0, frame["lat"] / 15.0, frame["lon"] / 30.0]))
        training = gpjax.Dataset(X, jnp.asarray(frame[["sst"]].to_numpy(), float))
        prior = gpjax.gps.Prior(mean_function=gpjax.mean_functions.Constant(), kernel=gpjax.kernels.Matern32())
        likelihood = gpjax.likelihoods.Gaussian()
        return prior * likelihood, training, likelihood

    def predicted(data: Any, at: Any) -> Any:
        found, training, _ = posterior(data)
        return found.predict(jnp.asarray(at), train_data=training)

    def gaps(data: Any) -> str:
        law = predicted(data, np.zeros((2, 3)))
        return "by hand: rows of numbers, O(N^3)" if np.isfinite(np.asarray(law.mean)).all() else "no"

    def spread() -> str:
        law = predicted(box, np.array([[0.5, 1.0, 1.0]]))
        return "yes, by hand" if float(np.diag(np.asarray(law.covariance()))[0]) > 0 else "no"

    return {
        QUESTIONS[0]: lambda: gaps(scattered),
        QUESTIONS[1]: lambda: gaps(box),
        QUESTIONS[2]: lambda: "yes, as columns",
        QUESTIONS[3]: lambda: "no: arrays in memory",
        QUESTIONS[4]: lambda: "yes, as arrays of numbers",
        QUESTIONS[5]: lambda: gpjax.kernels.Matern32()(jnp.asarray(["a"]), jnp.asarray(["b"])) is not None,
        QUESTIONS[6]: lambda: "yes",
        QUESTIONS[7]: lambda: "by hand",
        QUESTIONS[8]: lambda: "by hand",
        QUESTIONS[9]: lambda: "by hand",
        QUESTIONS[10]: spread,
        QUESTIONS[11]: lambda: (
            predicted(box, np.array([[0.5, 1.0, 1.0]])).sample(jax.random.key(0), (2,)).shape[0] == 2
        ),
        QUESTIONS[12]: lambda: "yes, by hand",
        QUESTIONS[13]: lambda: "no: full rank",
        QUESTIONS[14]: lambda: "by hand (orbax or pickle)",
    }


def tensorly() -> dict[str, Callable[[], Any]]:
    import pickle

    from tensorly.decomposition import parafac

    def decomposed(data: Any) -> Any:
        values = data.to_numpy().astype(float)
        seen = np.isfinite(values)
        return parafac(np.where(seen, values, 0.0), 2, mask=seen, init="random", random_state=0)

    scattered, box = with_gaps(field(), boxes=False), with_gaps(field(), boxes=True)

    def filled(data: Any) -> str:
        return "by hand, with a mask" if np.isfinite(decomposed(data).to_tensor()).all() else "no"

    return {
        QUESTIONS[0]: lambda: filled(scattered),
        QUESTIONS[1]: lambda: filled(box),
        QUESTIONS[2]: lambda: decomposed(scattered.expand_dims(member=2)) is not None,
        QUESTIONS[3]: lambda: parafac(scattered.chunk(time=6).data, 2) is not None,
        QUESTIONS[4]: lambda: "no: arrays",
        QUESTIONS[5]: lambda: "no: indices have no labels",
        QUESTIONS[6]: lambda: "no: indices have no coordinates",
        QUESTIONS[7]: lambda: "by hand",
        QUESTIONS[8]: lambda: "by hand",
        QUESTIONS[9]: lambda: "by hand",
        QUESTIONS[10]: lambda: "no",
        QUESTIONS[11]: lambda: "no",
        QUESTIONS[12]: lambda: "no",
        QUESTIONS[13]: lambda: "without labels",
        QUESTIONS[14]: lambda: "pickle" if pickle.loads(pickle.dumps(decomposed(box))) is not None else "no",
    }


PACKAGES = {
    "probtensor": probtensor,
    "xeofs": xeofs,
    "scikit-learn": scikit_learn,
    "GPJax": gpjax,
    "tensorly": tensorly,
}


def answers(package: str) -> dict[str, str]:
    """What the package in this interpreter does."""
    import importlib.metadata
    import warnings

    warnings.simplefilter("ignore")
    asked = PACKAGES[package]()
    assert set(asked) == set(QUESTIONS)
    return {question: tried(asked[question]) for question in QUESTIONS} | {
        "version": importlib.metadata.version(package)
    }


def main() -> None:
    if sys.argv[1:2] == ["--ask"]:
        print(json.dumps(answers(sys.argv[2])))
        return
    found = {}
    for argument in sys.argv[1:]:
        package, python = argument.split("=", 1)
        run = subprocess.run([python, __file__, "--ask", package], capture_output=True, text=True)
        if run.returncode:
            print(f"{package} failed: {run.stderr.strip().splitlines()[-1]}")
            continue
        found[package] = json.loads(run.stdout.strip().splitlines()[-1])
    if not found:
        print(__doc__)
        return
    print("| | " + " | ".join(f"{package} {own['version']}" for package, own in found.items()) + " |")
    print("| --- " * (len(found) + 1) + "|")
    for question in QUESTIONS:
        print(f"| {question} | {' | '.join(own[question] for own in found.values())} |")


if __name__ == "__main__":
    main()
