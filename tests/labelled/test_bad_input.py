"""Every bad input is one paragraph that says what, where and what to do."""

import numpy as np
import pytest
import xarray as xr

import probtensor as pt
from tests.labelled.fields import field, fit


def _at(value, **where):
    data, _ = field()
    data = data.copy()
    data[where] = value
    return data


DATA = {
    "dataset": (lambda: field()[0].to_dataset(), "is a Dataset.*ds\\['tas'\\]"),
    "list": (lambda: [1.0, 2.0], "is a list; expected"),
    "all missing": (lambda: field()[0] * np.nan, "no entry is observed"),
    "infinite": (lambda: _at(np.inf, lat=0, time=2, station=1), "infinite .*lat=40.0, station=a, time=2020-01-21"),
    "duplicate": (
        lambda: field()[0].assign_coords(lat=[40.0, 41.0, 41.0, 45.0, 50.0]),
        r"'lat': label 41.0 stands at indices \[1, 2\]",
    ),
    "nan coordinate": (lambda: field()[0].assign_coords(lat=[40.0, np.nan, 42.0, 45.0, 50.0]), "'lat': 1 of 5 labels"),
    "infinite coordinate": (lambda: field()[0].assign_coords(lat=[40.0, np.inf, 42.0, 45.0, 50.0]), "'lat'.*finite"),
    "reserved": (lambda: field()[0].rename(lat="sample"), "a mode is called 'sample'"),
    "scalar": (lambda: xr.DataArray(1.0), "no dimension"),
    "empty": (lambda: field()[0].isel(time=slice(0)), "data is empty"),
    "strings": (lambda: xr.DataArray(["a", "b"], dims=["x"]), "not numbers"),
    "no values": (lambda: pt.points({"x": [1.0, 2.0]}), "have no values"),
}


@pytest.mark.parametrize("case", DATA)
def test_data(case):
    make, words = DATA[case]
    with pytest.raises(pt.DataError, match=words) as error:
        fit(make())
    assert "\n" not in str(error.value)


MODELS = {
    "unknown mode": (lambda: pt.CP(1, modes=["longitude"]), "names mode 'longitude'.*lat, station, time"),
    "not a model": (lambda: "best", "expected 'auto'"),
    "not terms": (lambda: 3, "expected 'auto', a term"),
    "no such attribute": (lambda: pt.Climatology("lat.month"), "'lat' is not a time coordinate"),
    "duration on a length": (lambda: pt.CP(1, modes={"lat": pt.Matern(1 / 2, lengthscale="3D")}), "only a time axis"),
    "bad duration": (lambda: pt.CP(1, modes={"time": pt.Matern(1 / 2, lengthscale="3X")}), "is not a duration"),
    "negative": (lambda: pt.CP(1, modes={"lat": pt.Matern(1 / 2, lengthscale=-1.0)}), "finite number above zero"),
    "a cycle over two": (
        lambda: pt.CP(1, modes={("time", "lat"): pt.Dense(pt.Periodic("3D"))}),
        "CP: mode 'lat x time': Periodic is a covariance along one coordinate, and not of a distance over lat, time",
    ),
}


@pytest.mark.filterwarnings("ignore:no term reads")
@pytest.mark.parametrize("case", MODELS)
def test_models(case):
    make, words = MODELS[case]
    with pytest.raises(pt.ModelError, match=words):
        fit(field()[0], make())


OPTIONS = {
    "negative weight": (
        {"weights": -np.ones((6, 5, 3))},
        pt.DataError,
        "weights of observed values are negative.*lat=40.0",
    ),
    "weight shape": ({"weights": np.ones(3)}, pt.DataError, r"weights: its shape is \(3,\) and the data's \(6, 5, 3\)"),
    "weight dimension": ({"weights": xr.DataArray(np.ones(2), dims=["x"])}, pt.DataError, "dimension 'x'"),
    "all weights zero": ({"weights": np.zeros((6, 5, 3))}, pt.DataError, "weight 0"),
    "weight of an observed value": (
        {"weights": xr.ones_like(field()[1]).where(field()[1]["time"] != field()[1]["time"][2])},
        pt.DataError,
        "not finite or too small to divide by .first: nan at .*time=2020-01-21",
    ),
    "subnormal weight": (
        {"weights": xr.ones_like(field()[1]).where(field()[1]["time"] != field()[1]["time"][2], 1e-310)},
        pt.DataError,
        "too small to divide by .first: 1e-310 at .*time=2020-01-21",
    ),
    "weights in words": (
        {"weights": np.full((6, 5, 3), "one")},
        pt.DataError,
        "weights: an array of <U3; expected bool",
    ),
    "seed of a fraction": ({"seed": 0.9}, pt.ModelError, "seed=0.9: expected a whole number, 0 or more"),
    "likelihood": ({"likelihood": "normal"}, pt.ModelError, "pt.Gaussian"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_options(case):
    arguments, kind, words = OPTIONS[case]
    with pytest.raises(kind, match=words):
        fit(field()[0], **arguments)


ENGINES = {
    "rule": "ep",
    "coupling": "loose",
    "tol": -1.0,
    "max_sweeps": 0,
    "restarts": 0,
    "power": 1.5,
    "out_of_core": 1.5,
}


@pytest.mark.parametrize("option", ENGINES)
def test_engine_options(option):
    with pytest.raises(pt.ModelError, match=f"MessagePassing\\({option}="):
        pt.MessagePassing(**{option: ENGINES[option]})


@pytest.fixture(scope="module")
def post():
    return fit(field()[0])


PLACES = {
    "absent": (lambda: {"lat": 41.0, "station": "a"}, "reads coordinate 'time'"),
    "kind": (lambda: {"lat": "north", "station": "a", "time": np.datetime64("2020-01-01")}, "'lat' holds numbers"),
    "not times": (lambda: {"lat": 41.0, "station": "a", "time": ["soon"]}, "'time' holds times"),
    "missing": (
        lambda: {"lat": [np.nan], "station": "a", "time": np.datetime64("2020-01-01")},
        "'lat' in `at` is missing",
    ),
    "empty": (lambda: {"lat": [], "station": "a", "time": np.datetime64("2020-01-01")}, "'lat' in `at` is empty"),
    "type": (lambda: 3, "expected a dict of coordinates"),
}


@pytest.mark.parametrize("case", PLACES)
def test_places(post, case):
    make, words = PLACES[case]
    with pytest.raises(pt.DataError, match=words):
        post.predict(make())


def test_questions(post):
    data, _ = field()
    with pytest.raises(pt.ModelError, match="terms 0 to 1"):
        post.predict(data, terms=[2])
    with pytest.raises(pt.ModelError, match="terms=0.5: expected a whole number"):
        post.predict(data, terms=0.5)
    with pytest.raises(pt.ModelError, match="names term 1 twice"):
        post.predict(data, terms=[1, 1])
    with pytest.raises(pt.ModelError, match="names no term"):
        post.predict(data, terms=[])
    with pytest.raises(pt.ModelError, match="n=2.0: expected a whole number, 1 or more"):
        post.sample(2.0)
    with pytest.raises(pt.ModelError, match="seed=0.9: expected a whole number"):
        post.sample(2, seed=0.9)
    with pytest.raises(pt.ModelError, match="which has no factors"):
        post.factors(0)
    with pytest.raises(pt.ModelError, match="'canonical' or 'raw'"):
        post.factors(1, gauge="best")
    with pytest.raises(pt.DataError, match="strictly between 0 and 1"):
        post.predict(data, quantiles=[1.0])
    with pytest.raises(pt.DataError, match="no value to score"):
        post.score(data * np.nan)
    with pytest.raises(pt.ModelError, match="n=0: expected a whole number, 1 or more"):
        post.sample(0)


def test_a_mode_that_nothing_reads_is_a_warning():
    with pytest.warns(pt.ProbtensorWarning, match="no term reads mode 'lat'"):
        fit(field()[0], pt.CP(1, modes=["station", "time"]))


def test_tables():
    import pandas as pd

    frame = pd.DataFrame({"x": [1.0, 2.0], "y": [3.0, 4.0]})
    with pytest.raises(pt.DataError, match="no column 'z'"):
        pt.table(frame, value="z", coords=["x"])
    with pytest.raises(pt.DataError, match="one length"):
        pt.points({"x": [1.0, 2.0]}, [1.0])
