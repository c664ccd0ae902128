"""What goes into a tree comes out the same, and what cannot go in is refused."""

import datetime
import json

import cftime
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from numpyro.distributions import Distribution, LogNormal
from scipy import sparse

import probtensor as pt
from probtensor.errors import FormatError
from probtensor.hyperparameters import Fixed
from probtensor.priors.base import Marginals
from probtensor.store import classes
from probtensor.store.tree import Stored, described, rebuilt


def there_and_back(value):
    stored = described(value, {})
    return rebuilt(Stored(json.loads(json.dumps(stored.tree, allow_nan=False)), stored.arrays))


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        3,
        0.1 + 0.2,
        float("inf"),
        "Köln",
        b"\x00\xff",
        1 + 2j,
        (1, (2.5, None), [3]),
        {"a": 1, ("b", 2): [...], 3: ...},
        slice(1, None, 2),
        frozenset({"a"}),
        np.float32(0.1),
        np.int64(2**60),
        np.datetime64("2020-01-31T12:00", "m"),
        np.dtype("<f4"),
        pd.Timestamp("2020-01-01 12:00:00.123456789"),
        pd.Timestamp("2020-07-01", tz="Europe/Berlin"),
        pd.Timedelta(1, "ns"),
        np.str_("a"),
        datetime.datetime(2020, 1, 1, 3),
        datetime.date(2020, 1, 1),
        datetime.timedelta(days=-1, microseconds=7),
        cftime.datetime(2000, 2, 30, 6, 30, 15, 250, calendar="360_day"),
        cftime.datetime(-5, 2, 3, calendar="noleap"),
        Fixed("30D"),
        pt.Matern(3 / 2, lengthscale=pt.fixed(2.0)),
        pt.Gaussian(noise=("lat", "lon")),
    ],
    ids=repr,
)
def test_values(value):
    found = there_and_back(value)
    assert type(found) is type(value)
    assert found == value


def test_what_is_missing():
    assert np.isnan(there_and_back(float("nan")))
    assert there_and_back(pd.NaT) is pd.NaT


@pytest.mark.parametrize(
    "index",
    [
        pd.CategoricalIndex(["b", "a", "b"], ["b", "a"], ordered=True),
        pd.date_range("2020-03-28", periods=3, tz="Europe/Berlin"),
    ],
    ids=["categories", "zone"],
)
def test_indexes_of_pandas(index):
    data = xr.DataArray(np.arange(3.0), {"x": index, "z": ("x", [3, 4, 5])}, ["x"]).set_xindex("z")
    found = there_and_back(data)
    pd.testing.assert_index_equal(found.indexes["x"], data.indexes["x"], check_freq=False)
    assert set(found.xindexes) == {"x", "z"}
    assert set(there_and_back(data.drop_indexes("x")).xindexes) == {"z"}


@pytest.mark.parametrize(
    "value",
    [
        np.arange(6, dtype=np.int16).reshape(2, 3).T,
        np.array(2.5),
        np.zeros((0, 3)),
        np.array([True, False]),
        np.array(["2020-01-01", "NaT"], dtype="datetime64[ns]"),
        np.array([1, 2], dtype="timedelta64[D]"),
        np.array(["a", "bcd"]),
        np.array([b"a", b"bc"]),
        np.array(["a", 1, None, pd.Timestamp("2020")], dtype=object),
        np.array([cftime.DatetimeNoLeap(2000, 1, 1)], dtype=object),
    ],
    ids=lambda v: str(v.dtype) + str(v.shape),
)
def test_arrays(value):
    found = there_and_back(value)
    assert found.dtype == value.dtype
    assert type(found) is np.ndarray
    np.testing.assert_array_equal(found, value)


def test_arrays_of_jax_and_records():
    found = there_and_back(Marginals(jnp.ones((3, 2)), np.ones((3, 2, 2))))
    assert isinstance(found, Marginals)
    assert isinstance(found.mean, type(jnp.zeros(1)))
    assert isinstance(found.cov, np.ndarray)
    np.testing.assert_array_equal(found.mean, np.ones((3, 2)))


def test_one_object_stays_one():
    one = pt.Poisson()
    found = there_and_back({"first": one, "again": (one, pt.Poisson())})
    assert found["first"] is found["again"][0]
    assert found["first"] is not found["again"][1]


def test_a_distribution():
    found = there_and_back(LogNormal(0.5, 2.0))
    assert isinstance(found, Distribution)
    assert float(found.log_prob(1.3)) == float(LogNormal(0.5, 2.0).log_prob(1.3))


def test_a_sparse_matrix():
    matrix = sparse.csr_matrix(np.array([[0, 1.5], [2.0, 0]]))
    np.testing.assert_array_equal(there_and_back(matrix).toarray(), matrix.toarray())


def test_labelled_data_with_all_their_parts():
    times = xr.date_range("2000-01-01", periods=3, calendar="360_day", use_cftime=True)
    pairs = pd.MultiIndex.from_product([["a", "b"], [1, 2]], names=["letter", "number"])
    data = xr.DataArray(
        np.arange(12, dtype="float32").reshape(3, 4),
        {"time": times, **xr.Coordinates.from_pandas_multiindex(pairs, "pair"), "depth": ("pair", np.arange(4.0))},
        ["time", "pair"],
        name="y",
        attrs={"units": "K", "valid_range": np.array([0, 1]), "flag": np.int8(3)},
    )
    data.encoding = {"dtype": np.dtype("int16"), "_FillValue": np.int16(-1), "codec": object()}
    data["time"].attrs["axis"] = "T"
    data["time"].encoding = {"units": "days since 2000-01-01", "calendar": "360_day"}
    found = there_and_back(data)
    xr.testing.assert_identical(found, data)
    assert found.dtype == np.float32
    assert found.encoding == {"dtype": np.dtype("int16"), "_FillValue": np.int16(-1)}
    assert found["time"].encoding == data["time"].encoding
    assert found.indexes["pair"].names == ["letter", "number"]


@pytest.mark.parametrize(
    "value",
    [
        lambda x: x,
        pt.kernels.Custom(lambda d: jnp.exp(-d)),
        object(),
        Exception("a"),
        np.longdouble(1),
        np.zeros(2, [("a", int)]),
    ],
    ids=["function", "kernel", "object", "exception", "long double", "structured"],
)
def test_what_cannot_be_stored(value):
    with pytest.raises(pt.ModelError, match="cannot be stored"):
        described({"a": [value]}, {})


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        ({"kind": "array", "at": 3}, "cannot read"),
        ({"kind": "nonsense"}, "no kind 'nonsense'"),
        ({"kind": "_init__"}, "no kind"),
        ({"kind": "record", "class": "os:system", "fields": {}}, "no class that a store may hold"),
        ({"kind": "record", "class": "cli:DemoData", "fields": {}}, "no class that a store may hold"),
        ({"kind": "record", "class": "engines.absent:A", "fields": {}}, "knows no 'engines.absent:A'"),
        ({"kind": "record", "class": "../x:Y", "fields": {}}, "no name of a class"),
        ({"kind": "record", "class": "hyperparameters:Fixed", "fields": {"other": 1}}, "Fixed has no other"),
        ({"kind": "record", "class": "hyperparameters:Fixed", "fields": {}}, "Fixed needs value"),
        ({"kind": "distribution", "class": "os", "arguments": {}}, "cannot read|no distribution"),
        ({"kind": "again", "number": 0}, "cannot read"),
    ],
)
def test_trees_that_are_none(tree, text):
    with pytest.raises(FormatError, match=text):
        rebuilt(Stored(tree, []))


def test_defaults_of_fields_that_older_stores_do_not_have():
    found = classes.made(pt.Matern, {"nu": 1.5})
    assert found == pt.Matern(1.5)


def test_such_defaults_are_what_the_constructor_makes_of_them():
    found = classes.made(pt.Gaussian, {"sd": None, "transform": None})
    assert found == pt.Gaussian()
    assert found.mode_names() == () and found.additive
