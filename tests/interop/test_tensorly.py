"""Terms as tensorly's decompositions give what the terms contribute."""

import numpy as np
import pytest
import xarray as xr

import probtensor as pt
from tests.helpers import mostly_slow


def data():
    values = np.sin(np.arange(5.0))[:, None, None] * np.arange(1.0, 5.0)[:, None] + 0.1 * np.arange(3.0)
    coords = {"x": np.arange(5.0)[::-1], "name": list("dbca"), "z": np.arange(3.0)}
    return xr.DataArray(values, coords, ["x", "name", "z"]).transpose("z", "name", "x")


@pytest.mark.parametrize(
    "term",
    mostly_slow([pt.CP(2, modes=["name", "x"]), pt.Tucker({"x": 2, "name": 3}, modes=["x", "name"])]),
    ids=["cp", "tucker"],
)
def test_on_the_datas_grid(term):
    field = data()
    post = pt.fit(field, pt.Offset(over="z") + term, engine=pt.MessagePassing(max_sweeps=5))
    found = post.to_tensorly()
    expected = post.predict(field, terms=1)["mean"].transpose(*field.dims)
    np.testing.assert_allclose(found.to_tensor(), expected, atol=1e-10)
    assert [len(f) for f in found.factors] == list(field.shape)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("term", "words"),
    [
        (pt.TensorTrain(2), "a tensor train is no CP nor Tucker"),
        (pt.CP(1, modes={("x", "z"): None, "name": None}), "functions of x_z, and tensorly one factor a dimension"),
    ],
    ids=["train", "joined"],
)
def test_what_tensorly_has_no_form_for(term, words):
    post = pt.fit(data(), term, engine=pt.MessagePassing(max_sweeps=2))
    with pytest.raises(pt.ModelError, match=words):
        post.to_tensorly()


@pytest.mark.slow
def test_a_table_has_its_levels_in_ascending_order():
    table = pt.points({"x": [3.0, 1.0, 2.0, 1.0], "s": ["b", "a", "a", "b"]}, [1.0, 2.0, 3.0, 4.0])
    post = pt.fit(table, pt.CP(1), engine=pt.MessagePassing(max_sweeps=3))
    expected = post.predict({"x": [1.0, 2.0, 3.0], "s": ["a", "b"]}, terms=0)["mean"]
    np.testing.assert_allclose(post.to_tensorly().to_tensor(), expected, atol=1e-10)
